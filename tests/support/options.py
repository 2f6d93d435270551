"""Options of the tests: which of the long ones are run, and how much the others try."""

import pytest

from support import long_tests


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
