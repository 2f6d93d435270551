"""Target tables as PostgreSQL's catalog has them; one query for all of them, however many there are."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql as compose

from snowmelt import sql
from snowmelt.models import TableName, TargetColumn
from snowmelt.postgres.session import Cursor, Session, fetch_one


@dataclass(frozen=True)
class TargetTable:
    """A table of the target database, and what the user of this session may do to it."""

    name: TableName
    is_table: bool
    may_use_schema: bool
    may_insert: bool
    may_select: bool
    may_truncate: bool
    columns: tuple[TargetColumn, ...]


def read(session: Session, names: Sequence[TableName]) -> dict[TableName, TargetTable]:
    """Those of the named tables that are there."""
    wanted = {"schemas": [n.schema_name for n in names], "tables": [n.name for n in names]}
    columns: dict[TableName, list[TargetColumn]] = {}
    for row in session.rows(sql.query("target_columns"), **wanted):
        name = TableName(schema_name=row.pop("schema_name"), name=row.pop("table_name"))
        columns.setdefault(name, []).append(TargetColumn.model_validate(row))
    found = {}
    for row in session.rows(sql.query("target_tables"), **wanted):
        name = TableName(schema_name=row["schema_name"], name=row["name"])
        found[name] = TargetTable(
            name=name,
            is_table=row["kind"] in ("r", "p"),
            may_use_schema=row["may_use_schema"],
            may_insert=row["may_insert"],
            may_select=row["may_select"],
            may_truncate=row["may_truncate"],
            columns=tuple(columns.get(name, ())),
        )
    return found


def filled(session: Session, names: Sequence[TableName]) -> tuple[TableName, ...]:
    """Those of the tables that hold at least one row; one statement, which reads one row of each."""
    if not names:
        return ()
    probes = [
        compose.SQL("SELECT {} AS i WHERE EXISTS (SELECT FROM {})").format(compose.Literal(i), identifier(name))
        for i, name in enumerate(names)
    ]
    return tuple(names[row["i"]] for row in session.rows(compose.SQL(" UNION ALL ").join(probes)))


def is_filled(cursor: Cursor, name: TableName) -> bool:
    """Whether the table holds a row, as this transaction sees it."""
    probe = compose.SQL("SELECT 1 AS one FROM {} LIMIT 1").format(identifier(name))
    return fetch_one(cursor, probe) is not None


def truncate(cursor: Cursor, name: TableName) -> None:
    """Empty the table. Never CASCADE: what refers to it is someone's data."""
    cursor.execute(compose.SQL("TRUNCATE TABLE {}").format(identifier(name)))


def analyze(session: Session, name: TableName) -> None:
    """Let the planner of the database know what has arrived."""
    session.run(compose.SQL("ANALYZE {}").format(identifier(name)))


def identifier(name: TableName) -> compose.Identifier:
    """The quoted name."""
    return compose.Identifier(name.schema_name, name.name)
