"""Both servers on this machine, to try any config against."""

import shlex
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from snowmelt import console
from snowmelt.errors import ConfigError
from snowmelt.local.postgres import LocalPostgres
from snowmelt.local.snowflake import LocalSnowflake


@dataclass(frozen=True)
class Sandbox:
    """A stand-in for Snowflake and a real PostgreSQL, both running."""

    snowflake: LocalSnowflake
    postgres: LocalPostgres

    def environment(self) -> Mapping[str, str]:
        """What a config without connection sections needs to reach them."""
        return {**self.snowflake.environment(), **self.postgres.environment()}


@contextmanager
def started(directory: Path | None = None) -> Iterator[Sandbox]:
    """A sandbox that stops with the block; its data are kept only in a given directory."""
    homes = (directory / "snowflake", directory / "postgres") if directory else (None, None)
    for home in homes:
        if home is not None:
            home.mkdir(parents=True, exist_ok=True)
    with LocalSnowflake(directory=homes[0]) as snowflake, LocalPostgres(directory=homes[1]) as postgres:
        yield Sandbox(snowflake, postgres)


def run(*, load: Path | None, into: str, env_file: Path | None, directory: Path | None) -> None:
    """Start the sandbox, load data if asked, print its environment on stdout, and stay until SIGINT or SIGTERM."""
    database, _, schema = into.partition(".")
    if not database or not schema or "." in schema:
        raise ConfigError(f"--into {into}: write DATABASE.SCHEMA, such as SANDBOX.PUBLIC")
    if env_file is not None:
        _write(env_file, "")  # before minutes are spent on what could then not be told
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with started(directory) as sandbox:
        if load is not None:
            for table, rows in sandbox.snowflake.load_folder(load, database, schema).items():
                console.err.print(f'loaded {rows:,} rows into {database}.{schema}."{table}"')
        lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in sandbox.environment().items())
        with suppress(KeyboardInterrupt):
            if env_file is not None:
                _write(env_file, lines)
            console.out.print(lines, end="")
            console.err.print("both servers run; put these lines into the .env beside your config. Ctrl-C stops them.")
            threading.Event().wait()
        console.err.print("stopping")


def _write(env_file: Path, lines: str) -> None:
    try:
        env_file.write_text(lines, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--env-file {env_file} cannot be written: {error.strerror}; name another file") from error
