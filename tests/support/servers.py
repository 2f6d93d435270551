"""Servers that tests share: one of each per worker of xdist, one database per test."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from snowmelt_sandbox.postgres import Database, LocalPostgres
from support import left_behind
from support.databases import Databases
from support.world import World

if TYPE_CHECKING:
    from snowmelt_sandbox.snowflake import LocalSnowflake


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


@pytest.fixture
def world(snowflake: "LocalSnowflake", databases: Databases, tmp_path: Path) -> Iterator[World]:
    """A world without tables."""
    with databases.lend() as database:
        snowflake.create_schema(database.name.upper(), "PUBLIC")
        try:
            given = World(snowflake, database, tmp_path)
            yield given
            assert given.leaks() == []
        finally:
            snowflake.set_delays()
