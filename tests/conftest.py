"""Servers that tests share: one of each per xdist worker, one database per test."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

import left_behind
import long_tests
from databases import Databases
from snowmelt.errors import SnowmeltError
from snowmelt_sandbox.postgres import Database, LocalPostgres

if TYPE_CHECKING:
    from snowmelt_sandbox.snowflake import LocalSnowflake

# Examples are small, and how long one takes says more about who else is using the machine.
hypothesis.settings.register_profile("snowmelt", deadline=None)
hypothesis.settings.load_profile("snowmelt")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the long enumerations, marked `full`")
    parser.addoption("--fifth", metavar="COMMIT", help="run only the fifth of the long tests that falls to the commit")
    parser.addoption(
        "--until", metavar="SECONDS", type=float, help="begin no long test that could not end by then, since 1970"
    )
    parser.addoption(
        "--values", type=int, default=100_000, help="how many values of each pair of types make a round trip"
    )
    parser.addoption("--write-incidents", action="store_true", help="write what docs/incidents.md shows again")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "faults" not in item.path.parts)  # the longest first, or all would wait for them
    commit = config.getoption("--fifth")
    if commit:
        mine = long_tests.chosen(items, commit)
        config.hook.pytest_deselected(items=[item for item in items if item not in mine])
        items[:] = mine
    if commit or config.getoption("--full"):
        return
    long_ones = [item for item in items if item.get_closest_marker("full")]
    if long_ones:
        config.hook.pytest_deselected(items=long_ones)
        items[:] = [item for item in items if item not in long_ones]


def pytest_report_header(config: pytest.Config) -> str | None:
    commit = config.getoption("--fifth")
    if not commit:
        return None
    return f"long tests: part {long_tests.part_of_commit(commit) + 1} of {long_tests.PARTS}, which falls to {commit}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    until = item.config.getoption("--until")
    if until:
        long_tests.skip_if_late(item, until)


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """A PostgreSQL server; tests that stop it, or change what all sessions see, start their own."""
    with LocalPostgres(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: LocalPostgres) -> Databases:
    """Empty databases of the shared server."""
    return Databases(postgres)


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """An empty database of the shared server; after the test every connection to it is ended."""
    with databases.lend() as fresh:
        yield fresh
        assert [*left_behind.in_status(fresh)] == []


@pytest.fixture(scope="session")
def snowflake() -> "Iterator[LocalSnowflake]":
    """A stand-in for Snowflake whose account has hostile defaults; tests use databases of their own in it."""
    from snowmelt_sandbox.snowflake import (  # here: it takes a second; most tests need none
        HOSTILE,
        LocalSnowflake,
        User,
    )

    known = User(name="SANDBOX", password=left_behind.SNOWFLAKE_PASSWORD)
    with LocalSnowflake(users=[known], account_parameters=HOSTILE) as server:
        yield server
