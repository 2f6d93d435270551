"""A fresh world per test, on the servers that all tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.world import World
from databases import Databases
from snowmelt_sandbox.snowflake import LocalSnowflake


@pytest.fixture
def world(snowflake: LocalSnowflake, databases: Databases, tmp_path: Path) -> Iterator[World]:
    """A world without tables."""
    with databases.lend() as database:
        snowflake.create_schema(database.name.upper(), "PUBLIC")
        try:
            given = World(snowflake, database, tmp_path)
            yield given
            assert given.leaks() == []
        finally:
            snowflake.set_delays()
