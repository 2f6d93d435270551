"""Servers that tests share: one of each per xdist worker, one database per test."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

from snowmelt.local.postgres import Database, LocalPostgres

if TYPE_CHECKING:
    from snowmelt.local.snowflake import LocalSnowflake

# Examples are small, and how long one takes says more about who else is using the machine.
hypothesis.settings.register_profile("snowmelt", deadline=None)
hypothesis.settings.load_profile("snowmelt")


SECRET = "h1dden-in-every-test"
"""The password by which tests sign in to Snowflake: whatever they leave behind is searched for it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the long enumerations, marked `full`")
    parser.addoption(
        "--values", type=int, default=100_000, help="how many values of each pair of types make a round trip"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "faults" not in item.path.parts)  # the longest first, or all would wait for them
    if config.getoption("--full"):
        return
    long_ones = [item for item in items if item.get_closest_marker("full")]
    if long_ones:
        config.hook.pytest_deselected(items=long_ones)
        items[:] = [item for item in items if item not in long_ones]


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """A PostgreSQL server; tests that stop it, or change what all sessions see, start their own."""
    with LocalPostgres(durable=False) as server:
        yield server


@pytest.fixture
def database(postgres: LocalPostgres) -> Iterator[Database]:
    """An empty database of the shared server, gone after the test with every connection to it."""
    with postgres.database() as fresh:
        yield fresh


@pytest.fixture(scope="session")
def snowflake() -> "Iterator[LocalSnowflake]":
    """A stand-in for Snowflake; tests use databases of their own in it."""
    from snowmelt.local.snowflake import LocalSnowflake, User  # here: it takes a second, and most tests need none

    with LocalSnowflake(users=[User(name="SANDBOX", password=SECRET)]) as server:
        yield server
