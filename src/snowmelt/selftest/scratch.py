"""A schema that is made for a while: created, read, dropped."""

from contextlib import suppress

import psycopg2
import psycopg2.errors
from psycopg2 import sql as compose

from snowmelt.columns.type_pairs import quoted
from snowmelt.models import ColumnPlan, TableName
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt.verification import forms


def create_schema(session: Session, name: str) -> None:
    """Make a schema of that exact name; AccessError where the role may not."""
    session.run(compose.SQL("CREATE SCHEMA {}").format(compose.Identifier(name)))


def drop_schema(session: Session, name: str) -> None:
    """Drop the schema with all that is in it, where it is there."""
    session.run(compose.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(compose.Identifier(name)))


def drop_table(session: Session, name: TableName) -> None:
    """Drop the table where it is there."""
    session.run(compose.SQL("DROP TABLE IF EXISTS {}").format(tables.identifier(name)))


def texts(session: Session, name: TableName, column: ColumnPlan, key: ColumnPlan) -> dict[str, str]:
    """Return the text by which each row's value of a column is compared, by the text of its key."""
    of_key, of_value = (forms.form(each, quoted(each.target.name)).target for each in (key, column))
    statement = compose.SQL("SELECT ROW({})::text AS of_key, ROW({})::text AS of_value FROM {}").format(
        compose.SQL(of_key), compose.SQL(of_value), tables.identifier(name)
    )
    return {row["of_key"]: row["of_value"] for row in session.rows(statement)}


def rows(session: Session, name: TableName) -> int:
    """Return how many rows the table has."""
    row = session.row(compose.SQL("SELECT count(*) AS rows FROM {}").format(tables.identifier(name)))
    return int(row["rows"]) if row else 0


def differing_rows(session: Session, one: TableName, other: TableName) -> int:
    """Return how many rows one of the tables has, by their texts, that the other lacks."""
    statement = compose.SQL(
        "SELECT count(*) AS rows FROM ("
        "(SELECT ROW(x.*)::text FROM {one} x EXCEPT ALL SELECT ROW(x.*)::text FROM {other} x) UNION ALL "
        "(SELECT ROW(x.*)::text FROM {other} x EXCEPT ALL SELECT ROW(x.*)::text FROM {one} x)) AS differing"
    ).format(one=tables.identifier(one), other=tables.identifier(other))
    row = session.row(statement)
    return int(row["rows"]) if row else 0


def forget_runs(session: Session, source_name: str) -> None:
    """Delete what the status schema has of a source's runs."""
    statement = compose.SQL("DELETE FROM {} WHERE source_name = %(source_name)s").format(
        compose.Identifier(session.status_schema, "runs")
    )
    session.run(statement, source_name=source_name)


def version(session: Session) -> str:
    """Return the server's version."""
    row = session.row(compose.SQL("SELECT current_setting('server_version') AS version"))
    return str(row["version"]) if row else ""


# --- grants -----------------------------------------------------------------------------------------------------------

GRANTS = (
    "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}",
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
)
"""Those of ``sql/grants_postgres.sql`` on the targets, before PostgreSQL 17."""
_AS_LOADING = (
    "CREATE TEMPORARY TABLE snowmelt_selftest_stage (LIKE {table}) ON COMMIT DROP",
    "INSERT INTO snowmelt_selftest_stage (id) VALUES (-1)",
    "TRUNCATE {table}",
    "INSERT INTO {table} SELECT * FROM snowmelt_selftest_stage",
    "UPDATE {table} SET id = -2 WHERE id = -1",
    "DELETE FROM {table} WHERE id = -2",
)
"""What a load, a merge and a repair do."""


class _RolledBack(Exception):  # noqa: N818 - the way out of a transaction that is to leave no trace
    """All is tried."""


def try_grants(session: Session, table: TableName, role: str) -> str:
    """Do with a role that has just the grants what a load does, and return what it was refused; nothing stays of it.

    AccessError where this role may not create another.
    """
    database = session.row(compose.SQL("SELECT current_database() AS name"))
    names = {
        "database": compose.Identifier(str(database["name"]) if database else ""),
        "schema": compose.Identifier(table.schema_name),
        "role": compose.Identifier(role),
        "table": tables.identifier(table),
    }
    refused = ""
    with suppress(_RolledBack), session.transaction() as cursor:
        for statement in ("CREATE ROLE {role}", *GRANTS, "GRANT {role} TO CURRENT_USER", "SET LOCAL ROLE {role}"):
            cursor.execute(compose.SQL(statement).format(**names))
        cursor.execute(compose.SQL("SET LOCAL search_path = pg_temp"))
        for statement in _AS_LOADING:
            try:
                cursor.execute(compose.SQL(statement).format(**names))
            except psycopg2.errors.InsufficientPrivilege as error:
                refused = f"{statement.split('{')[0].strip()}: {str(error).splitlines()[0]}"
                break
        raise _RolledBack
    return refused
