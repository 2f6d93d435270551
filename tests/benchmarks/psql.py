"""PostgreSQL's own client, which benches compare with."""

import os
import subprocess

from psycopg2.extensions import make_dsn

from benchmarks import mixed_table
from snowmelt.errors import ConfigError, DataError
from snowmelt_sandbox.postgres import LocalPostgres
from snowmelt_sandbox.postgres_programs import find_programs


def copy(server: LocalPostgres, command: str) -> int:
    """How many rows a ``\\copy`` in the benches' database says it copied. ConfigError where there is no psql."""
    program = find_programs() / "psql"
    if not program.exists():
        raise ConfigError(f"psql is not beside the server's programs in {program.parent}; install the client")
    target = make_dsn(host=server.host, port=server.port, user=server.user, dbname=mixed_table.DATABASE)
    done = subprocess.run(
        [program, "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--command", command, target],
        # Not in the arguments, which every user of the machine sees.
        env={"PATH": os.defpath, "PGCLIENTENCODING": "UTF8", "PGPASSWORD": server.password or ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DataError(f"psql could not do {command}: {done.stderr.strip()}")
    return int(done.stdout.removeprefix("COPY "))
