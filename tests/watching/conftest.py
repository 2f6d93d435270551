"""A database to watch, fresh for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from snowmelt import sql
from snowmelt.local.postgres import LocalPostgres
from watching import scenes
from watching.scenes import Stage


@pytest.fixture(scope="session")
def template(postgres: LocalPostgres) -> Iterator[str]:
    """A database with nothing but the status schema."""
    with postgres.database() as database:
        database.execute(sql.text("status_schema.sql"))
        yield database.name


@pytest.fixture
def stage(postgres: LocalPostgres, template: str, tmp_path: Path) -> Iterator[Stage]:
    """An empty status schema, and a config that finds it."""
    with postgres.database(template=template) as database:
        yield scenes.stage(database, tmp_path)
