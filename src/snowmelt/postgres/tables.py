"""Target tables as PostgreSQL's catalog has them; a query for all of them, however many there are."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql as compose

from snowmelt.models import TableName, TargetColumn
from snowmelt.planning.ties import ForeignKey
from snowmelt.postgres.session import Cursor, Session, code_of_targets, fetch_one
from snowmelt.sql_text import queries


@dataclass(frozen=True)
class UniqueIndex:
    """A unique index of a target, which refuses rows."""

    name: str
    definition: str
    columns: frozenset[str]
    nulls_are_equal: bool
    """NULLS NOT DISTINCT."""
    is_immediate: bool
    """False where it is compared when the transaction ends."""
    is_partial: bool
    is_on_expression: bool
    is_of_partition: bool
    compares_otherwise: bool = False
    """Of two texts that the columns call different it calls some equal, or the other way round."""

    @property
    def is_of_columns(self) -> bool:
        """Whether it compares all rows by their columns, as Snowflake can be asked to."""
        return not (self.is_partial or self.is_on_expression or self.is_of_partition)


@dataclass(frozen=True)
class TargetTable:
    """A table of the target database, and what the user of this session may do to it."""

    name: TableName
    is_table: bool
    may_use_schema: bool
    may_insert: bool
    may_select: bool
    may_update: bool
    may_truncate: bool
    columns: tuple[TargetColumn, ...]
    role: str = ""
    """The user, who may do all this."""
    unique_indexes: tuple[UniqueIndex, ...] = ()

    @property
    def unique_keys(self) -> tuple[frozenset[str], ...]:
        """Column sets of which no two rows may ever have the same values: what a merge can find its rows by."""
        return tuple(
            index.columns
            for index in self.unique_indexes
            if index.is_of_columns and index.is_immediate and not index.compares_otherwise
        )

    @property
    def kept_apart(self) -> tuple[frozenset[str], ...]:
        """The same, with what is only compared when a transaction ends."""
        return tuple(index.columns for index in self.unique_indexes if index.is_of_columns)

    @property
    def equal_nulls(self) -> frozenset[frozenset[str]]:
        """Those of them in which a NULL is like any other value."""
        return frozenset(index.columns for index in self.unique_indexes if index.nulls_are_equal)


def read(session: Session, names: Sequence[TableName]) -> dict[TableName, TargetTable]:
    """Those of the named tables that are there; a name may come twice, as where two tables share a target."""
    wanted = _by_name(names)
    columns: dict[TableName, list[TargetColumn]] = {}
    for row in session.rows(queries.query("target_columns"), **wanted):
        name = TableName(schema_name=row.pop("schema_name"), name=row.pop("table_name"))
        columns.setdefault(name, []).append(TargetColumn.model_validate(row))
    indexes: dict[TableName, list[UniqueIndex]] = {}
    for row in session.rows(queries.query("unique_indexes"), **wanted):
        name = TableName(schema_name=row.pop("schema_name"), name=row.pop("table_name"))
        indexes.setdefault(name, []).append(UniqueIndex(**{**row, "columns": frozenset(row["columns"])}))
    found = {}
    for row in session.rows(queries.query("target_tables"), **wanted):
        name = TableName(schema_name=row["schema_name"], name=row["name"])
        found[name] = TargetTable(
            name=name,
            is_table=row["kind"] in ("r", "p"),
            may_use_schema=row["may_use_schema"],
            may_insert=row["may_insert"],
            may_select=row["may_select"],
            may_update=row["may_update"],
            may_truncate=row["may_truncate"],
            columns=tuple(columns.get(name, ())),
            role=row["role"],
            unique_indexes=tuple(indexes.get(name, ())),
        )
    return found


def same_key(columns: Sequence[TargetColumn], one: str, other: str) -> compose.Composable:
    """Compare two rows by the columns of a key, with the operators that their types' own indexes use."""
    return compose.SQL(" AND ").join(
        compose.SQL("{one}.{name} OPERATOR({operators}.=) {other}.{name}").format(
            one=compose.Identifier(one),
            other=compose.Identifier(other),
            name=compose.Identifier(column.name),
            operators=compose.Identifier(column.operators),
        )
        for column in columns
    )


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


def truncate(cursor: Cursor, names: Sequence[TableName]) -> None:
    """Empty the tables in one statement. Never CASCADE: what else refers to them is someone's data."""
    cursor.execute(compose.SQL("TRUNCATE TABLE {}").format(compose.SQL(", ").join(map(identifier, names))))


def has_more_rows_than(cursor: Cursor, name: TableName, rows: int) -> bool:
    """Whether the table holds more than that many rows; reads no more of it than it takes to know."""
    probe = compose.SQL("SELECT 1 AS one FROM {} OFFSET {} LIMIT 1").format(identifier(name), compose.Literal(rows))
    return fetch_one(cursor, probe) is not None


def foreign_keys(session: Session, names: Sequence[TableName]) -> tuple[ForeignKey, ...]:
    """The foreign keys from or to the tables."""
    return tuple(
        ForeignKey(
            name=row["name"],
            child=TableName(schema_name=row["child_schema"], name=row["child_table"]),
            parent=TableName(schema_name=row["parent_schema"], name=row["parent_table"]),
            child_columns=tuple(row["child_columns"]),
            parent_columns=tuple(row["parent_columns"]),
        )
        for row in session.rows(queries.query("foreign_keys"), **_by_name(names))
    )


def analyze(session: Session, name: TableName, code_path: Sequence[str] = ()) -> None:
    """Let the planner of the database know what has arrived."""
    with session.transaction() as cursor, code_of_targets(cursor, code_path):
        cursor.execute(compose.SQL("ANALYZE {}").format(identifier(name)))


def _by_name(names: Sequence[TableName]) -> dict[str, list[str]]:
    once = list(dict.fromkeys(names))
    return {"schemas": [n.schema_name for n in once], "tables": [n.name for n in once]}


def identifier(name: TableName) -> compose.Identifier:
    """The quoted name."""
    return compose.Identifier(name.schema_name, name.name)


def has_schema(session: Session, name: str) -> bool:
    """Whether the database has the schema."""
    row = session.row(queries.query("schema_is_there"), schema=name)
    return bool(row and row["is_there"])


def create(session: Session, statements: Sequence[str]) -> None:
    """Execute DDL that was put together from quoted names: all of it, or nothing."""
    with session.transaction() as cursor:
        for statement in statements:
            cursor.execute(compose.SQL(statement))
