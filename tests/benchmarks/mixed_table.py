"""The table that benches move: 25 mixed columns, as many rows as wanted."""

import json
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from snowmelt.config import PostgresConfig
from snowmelt_sandbox.postgres import LocalPostgres
from snowmelt_sandbox.sandbox import Sandbox

SOURCE_NAME = "bench"
DATABASE = "bench"


def config_path() -> Path:
    """The config that moves the table, in chunks of the default size; connections come from the environment."""
    return Path(str(files(__package__).joinpath("config.json")))


def write_config(folder: Path, *, table: str = "MIXED", batch_size: int | None = None, threads: int = 1) -> Path:
    """The same config in that folder, for another table of the schema, chunks of another size or more threads.

    The threads share one invocation.
    """
    config = json.loads(config_path().read_text(encoding="utf-8"))
    config |= {"parallel_threads": threads, "threads_per_invocation": threads}
    if batch_size is not None:
        config["batch_size"] = batch_size
    config["sources"][0]["tables"][0]["source"] = table
    path = folder / f"{table.lower()}-{batch_size or 'default'}-{threads}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def make_target(sandbox: Sandbox) -> None:
    """The database and the empty table to load into."""
    sandbox.postgres.create_database(DATABASE)
    sandbox.postgres.execute(_text("target.sql"), DATABASE)


def make_source(sandbox: Sandbox, rows: int) -> None:
    """The table in Snowflake with that many rows, in place of the one before."""
    sandbox.snowflake.create_schema("BENCH", "PUBLIC")
    with sandbox.snowflake.connect(database="BENCH", schema="PUBLIC") as connection:
        connection.cursor().execute(_text("snowflake.sql"), {"rows": rows})


def make_truth(sandbox: Sandbox, rows: int) -> None:
    """What the target is to hold when that many rows have been moved, in a table ``mixed_truth`` beside it."""
    with closing(sandbox.postgres.connect(DATABASE)) as connection, connection.cursor() as cursor:
        cursor.execute(_text("truth.sql"), {"rows": rows})
        cursor.execute("ANALYZE mixed_truth")


def postgres_config(server: LocalPostgres) -> PostgresConfig:
    """How a session of ours reaches the server."""
    return PostgresConfig(
        host=server.host, port=server.port, user=server.user, password=server.password, sslmode="disable"
    )


def target_rows(sandbox: Sandbox) -> int:
    """Rows that are in the target."""
    ((count,),) = sandbox.postgres.rows("SELECT count(*) FROM mixed", database=DATABASE)
    return int(count)


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
