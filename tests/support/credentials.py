"""No test leaves a credential behind: not in its output, its files, the status schema or an error."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from snowmelt.errors import SnowmeltError
from support import left_behind


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that passed, but whose output, log lines or files hold a credential."""
    report = yield
    if report.passed and item.get_closest_marker("shows_credentials") is None:
        found = [where for where, text in report.sections if left_behind.MARK in text]
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        if report.when == "teardown" and isinstance(folder, Path):
            found += left_behind.in_folder(folder)
        if found:
            report.outcome = "failed"
            report.longrepr = f"credentials are in: {', '.join(found)}"
    return report


@pytest.fixture(autouse=True)
def errors_hold_no_credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever Snowmelt complains of in the test, also where that is expected, is searched for credentials."""
    messages: list[str] = []
    usual = SnowmeltError.__init__

    def noted(self: SnowmeltError, message: str) -> None:
        usual(self, message)
        messages.append(message)

    monkeypatch.setattr(SnowmeltError, "__init__", noted)
    yield
    assert not [message for message in messages if left_behind.MARK in message]
