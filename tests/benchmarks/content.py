"""What became of values on their way: tables compared with the rows they are to hold, column by column."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg2
from psycopg2 import sql

from benchmarks import mixed_table
from snowmelt_sandbox.postgres import LocalPostgres


@dataclass(frozen=True)
class Difference:
    """What became of a column."""

    column: str
    what: str


@dataclass(frozen=True)
class Table:
    """A table of the benches' database, with a column ``id`` that tells its rows apart."""

    name: str
    schema: str = "public"

    @property
    def identifier(self) -> sql.Identifier:
        """Its name as SQL."""
        return sql.Identifier(self.schema, self.name)


def differences(
    postgres: LocalPostgres, truth: Table, found: Table, columns: Sequence[str] | None = None
) -> Iterator[Difference]:
    """Yield each column, of those or of all, whose values or type are not those of the truth.

    Values are read as the true type, in whatever type they are now: 1.5 and 1.50 are the same number, and of a
    timestamptz it is its time in UTC that counts.
    """
    true_types, types = _types(postgres, truth), _types(postgres, found)
    wanted = [column for column in columns or true_types if column != "id"]
    readable = []
    for column in wanted:
        if column not in types:
            yield Difference(column, "it is not there")
            continue
        if types[column] != true_types[column]:
            yield Difference(column, f"type {types[column]} for {true_types[column]}")
            if why := _unreadable(postgres, found, column, true_types[column], types[column]):
                yield Difference(column, f"cannot be read as {true_types[column]}: {why}")
                continue
        readable.append(column)
    yield from _other_values(postgres, truth, found, {c: (true_types[c], types[c]) for c in readable})


def _types(postgres: LocalPostgres, table: Table) -> dict[str, str]:
    query = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = format('%%I.%%I', %s, %s)::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    return dict(postgres.rows(query, [table.schema, table.name], database=mixed_table.DATABASE))


def _unreadable(postgres: LocalPostgres, found: Table, column: str, true_type: str, type_: str) -> str:
    """Why values of the column cannot be read as the true type; nothing if they can."""
    query = sql.SQL("SELECT count({}) FROM {} AS t").format(_read("t", column, true_type, type_), found.identifier)
    try:
        postgres.rows(query, database=mixed_table.DATABASE)
    except psycopg2.Error as error:
        return str(error).splitlines()[0]
    return ""


def _other_values(
    postgres: LocalPostgres, truth: Table, found: Table, columns: Mapping[str, tuple[str, str]]
) -> Iterator[Difference]:
    if not columns:
        return
    pairs = {
        column: (_read("truth", column, true_type, true_type), _read("found", column, true_type, type_))
        for column, (true_type, type_) in columns.items()
    }
    # A row that is on one side alone counts for all columns, whatever it holds.
    unequal = {
        column: sql.SQL("truth.id IS NULL OR found.id IS NULL OR {} IS DISTINCT FROM {}").format(*pair)
        for column, pair in pairs.items()
    }
    joined = sql.SQL("FROM {} AS truth FULL JOIN {} AS found ON found.id::bigint = truth.id").format(
        truth.identifier, found.identifier
    )
    counts = [sql.SQL("count(*) FILTER (WHERE {})").format(condition) for condition in unequal.values()]
    query = sql.SQL("SELECT {} {}").format(sql.SQL(", ").join(counts), joined)
    (numbers,) = postgres.rows(query, database=mixed_table.DATABASE)
    for column, number in zip(columns, numbers, strict=True):
        if number:
            query = sql.SQL("SELECT {}, {} {} WHERE {} ORDER BY truth.id LIMIT 1").format(
                *pairs[column], joined, unequal[column]
            )
            ((before, after),) = postgres.rows(query, database=mixed_table.DATABASE)
            yield Difference(column, f"{number:,} values differ: {_short(before)} became {_short(after)}")


def _read(table: str, column: str, true_type: str, type_: str) -> sql.Composable:
    """A column's value as text that is the same for the same value of the true type."""
    name, plain = sql.Identifier(table, column), true_type.partition("(")[0]
    if plain == "bytea" and type_ != "bytea":
        return sql.SQL("decode({}, 'hex')::text").format(name)
    form = "trim_scale({}::numeric)::text" if plain == "numeric" else "{}::" + plain + "::text"
    return sql.SQL(form).format(name)


def _short(text: str | None) -> str:
    if text is None:
        return "NULL"
    return repr(text) if len(text) <= 60 else f"{text[:60]!r}…"
