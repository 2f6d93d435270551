"""Both servers on this machine, to try any config against."""

import json
import shlex
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snowmelt import private_files
from snowmelt.cli import console
from snowmelt.config import names
from snowmelt.errors import ConfigError
from snowmelt_sandbox.postgres import LocalPostgres, new_password
from snowmelt_sandbox.snowflake import LocalSnowflake


@dataclass(frozen=True)
class Sandbox:
    """A stand-in for Snowflake and a real PostgreSQL, both running."""

    snowflake: LocalSnowflake
    postgres: LocalPostgres

    def environment(self) -> Mapping[str, str]:
        """What a config without connection sections needs to reach them."""
        return {**self.snowflake.environment(), **self.postgres.environment()}


@contextmanager
def started(directory: Path | None = None, *, account_parameters: Mapping[str, Any] | None = None) -> Iterator[Sandbox]:
    """Start a sandbox that stops with the block; its data are kept only in a given directory.

    Each start has new passwords, so that nobody else on the machine gets in by knowing how a sandbox is made.
    """
    homes = (directory / "snowflake", directory / "postgres") if directory else (None, None)
    if directory is not None:  # each server closes its own folder in it; PostgreSQL may run as another user
        directory.mkdir(parents=True, exist_ok=True)
    with (
        LocalSnowflake(directory=homes[0], account_parameters=account_parameters) as snowflake,
        LocalPostgres(directory=homes[1], password=new_password()) as postgres,
    ):
        yield Sandbox(snowflake, postgres)


def run(
    *, load: Path | None, into: str, env_file: Path | None, config_file: Path | None, directory: Path | None
) -> None:
    """Start the sandbox, load data if asked, print its environment on stdout, and stay until SIGINT or SIGTERM."""
    database, _, schema = into.partition(".")
    if not database or not schema or "." in schema:
        raise ConfigError(f"--into {into}: write DATABASE.SCHEMA, such as SANDBOX.PUBLIC")
    if config_file is not None and load is None:
        raise ConfigError("--config-file is for what --load brings; name a folder by --load")
    for option, file in (("--env-file", env_file), ("--config-file", config_file)):
        if file is not None:
            _write(option, file, "")  # before minutes are spent on what could then not be told
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with started(directory) as sandbox:
        loaded = sandbox.snowflake.load_folder(load, database, schema) if load is not None else {}
        for table, rows in loaded.items():
            console.err.print(f'loaded {rows:,} rows into {database}.{schema}."{table}"')
        lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in sandbox.environment().items())
        with suppress(KeyboardInterrupt):
            if config_file is not None:
                _write("--config-file", config_file, json.dumps(_config(database, schema, loaded), indent=2) + "\n")
            if env_file is not None:
                _write("--env-file", env_file, lines)
            console.out.print(lines, end="")
            console.err.print("both servers run; put these lines into the .env beside your config. Ctrl-C stops them.")
            threading.Event().wait()
        console.err.print("stopping")


def _config(database: str, schema: str, tables: Iterable[str]) -> dict[str, Any]:
    """A config of one source that moves the tables into PostgreSQL's own first database, as often as it is asked to."""
    return {
        "sources": [
            {
                "source_name": "sandbox",
                "source_sf_database": database,
                "source_sf_schema": schema,
                "target_pg_database": "postgres",
                "target_pg_schema": "public",
                "tables": [{"source": names.quoted(table), "truncate_onstart": True} for table in tables],
            }
        ]
    }


def _write(option: str, file: Path, text: str) -> None:
    try:
        private_files.write(file, text.encode())
    except OSError as error:
        raise ConfigError(f"{option} {file} cannot be written: {error.strerror}; name another file") from error
