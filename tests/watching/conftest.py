"""A database to watch, fresh for each test."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from snowmelt.sql_text import queries
from snowmelt_sandbox.postgres import LocalPostgres
from support import scenes
from support.scenes import Stage

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def template(postgres: LocalPostgres) -> Iterator[str]:
    """A database with nothing but the status schema."""
    with postgres.database() as database:
        database.execute(queries.text("engine/status_schema.sql"))
        yield database.name


@pytest.fixture
def stage(postgres: LocalPostgres, template: str, tmp_path: Path) -> Iterator[Stage]:
    """An empty status schema, and a config that finds it."""
    with postgres.database(template=template) as database:
        yield scenes.stage(database, tmp_path)


@pytest.fixture(scope="module")
def shared(postgres: LocalPostgres, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The same for all tests of a module that only look."""
    with postgres.database(template=template) as database:
        yield scenes.stage(database, tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A headless Chromium; where there is none the test fails, and says how to get one."""
    from playwright.sync_api import Error, sync_playwright

    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    program = os.environ.get("SNOWMELT_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox does not start as root
    with sync_playwright() as tools:
        try:
            opened = tools.chromium.launch(executable_path=program, args=arguments)
        except Error as error:
            pytest.fail(f"no headless Chromium, see scripts/set-up-browser: {error.message.splitlines()[0]}")
        yield opened
        opened.close()
