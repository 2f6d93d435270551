"""What tests leave behind, searched for the credentials that they sign in with."""

from collections.abc import Iterator
from pathlib import Path

from psycopg2 import sql

from snowmelt_sandbox.postgres import Database

MARK = "h1dden"
"""Stands in every password, key's passphrase and token that a test signs in with."""
SNOWFLAKE_PASSWORD = f"{MARK}-in-snowflake"
POSTGRES_PASSWORD = f"{MARK}-in-postgres"

GIVEN = ("config.json", ".env", "deployment.json")
"""Files that a test writes credentials into, as a user would."""


def in_folder(folder: Path) -> Iterator[str]:
    """The files below it that hold a credential: logs, plans, manifests, reports."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in GIVEN and MARK.encode() in path.read_bytes():
            yield str(path)


def in_status(database: Database) -> Iterator[str]:
    """The tables of the status schema that hold a credential."""
    tables = database.rows(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'migration_status'"
    )
    for (table,) in tables:
        holds = sql.SQL("SELECT EXISTS (SELECT FROM {} AS t WHERE t::text LIKE {})").format(
            sql.SQL(table), sql.Literal(f"%{MARK}%")
        )
        if database.rows(holds) == [(True,)]:
            yield table
