# ruff: noqa: S608 - the names of the catalog's own tables are constants, those of others are quoted
"""The tables there are, and what DuckDB's own catalog cannot say of them: declared types, earlier contents."""

import json
import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from snowmelt_sandbox.snowflake.declared_types import Column, DeclaredType, of_duckdb

HISTORY = "_SNOWMELT"
"""The attached database that holds the catalog's own tables and the copies of earlier contents."""

_OWN_TABLES = f"""
create table if not exists {HISTORY}.main.column_types (
    database_name varchar, schema_name varchar, table_name varchar, column_name varchar, declared varchar
);
create table if not exists {HISTORY}.main.versions (
    database_name varchar, schema_name varchar, table_name varchar,
    copy_name varchar, valid_from timestamp, valid_to timestamp
);
create table if not exists {HISTORY}.main.view_queries (
    database_name varchar, schema_name varchar, table_name varchar, query varchar
);
create table if not exists {HISTORY}.main.view_widths (
    database_name varchar, schema_name varchar, table_name varchar, columns integer
);
create table if not exists {HISTORY}.main.retentions (
    database_name varchar, schema_name varchar, table_name varchar, days integer
);
"""

_EVER = datetime(1, 1, 1)  # noqa: DTZ001 - moments are kept in UTC, without a zone
_SAME_TABLE = "lower(database_name) = lower(?) and lower(schema_name) = lower(?) and lower(table_name) = lower(?)"


@dataclass(frozen=True)
class TableRef:
    """A table or view by its full name."""

    database: str
    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.database}.{self.schema}.{self.name}"

    def quoted(self) -> str:
        """The name as SQL."""
        return ".".join(quote(part) for part in self.parts())

    def parts(self) -> list[str]:
        """Database, schema, name."""
        return [self.database, self.schema, self.name]


@dataclass(frozen=True)
class TableFacts:
    """What is known of a table without reading it."""

    rows: int | None
    altered_at: datetime
    kept_days: int


def quote(name: str) -> str:
    """The name as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


class Catalog:
    """Looks tables up on the caller's connection and keeps its own records on one of its own.

    Its own connection sees what is committed, so a copy never holds what a transaction may still roll back.
    """

    def __init__(self, duck: Any) -> None:
        self._duck = duck
        self._lock = threading.Lock()
        self.copies = 0
        """How many copies were kept so far; each before the change that it precedes."""
        self._began_at = datetime.now(UTC)
        self._altered: dict[TableRef, datetime | None] = {}
        self._duck.execute(_OWN_TABLES)

    def find(self, duck: Any, table: TableRef) -> TableRef | None:
        """The table's exact name, whatever case it was asked for in."""
        rows = duck.execute(
            "select database_name, schema_name, table_name from ("
            "  select database_name, schema_name, table_name from duckdb_tables()"
            "  union all select database_name, schema_name, view_name from duckdb_views()) "
            f"where {_SAME_TABLE}",
            table.parts(),
        ).fetchall()
        return TableRef(*rows[0]) if rows else None

    def columns(self, duck: Any, table: TableRef) -> list[Column]:
        """The columns of a table or view with their declared types, in order; none for an unknown table."""
        try:
            found = duck.execute(f"describe {table.quoted()}").fetchall()
        except (duckdb.CatalogException, duckdb.BinderException):
            return []
        declared = self._declared(table)
        columns = []
        for name, data_type, nullable, *_ in found:
            stored = of_duckdb(data_type)
            wanted = declared.get(name)
            columns.append(Column(name, wanted if wanted and wanted.accepts(stored) else stored, nullable == "YES"))
        return columns

    def declare(self, table: TableRef, columns: Sequence[Column], *, replace: bool = True) -> None:
        """Remember the declared types; ``replace`` forgets what was known of the table before."""
        rows = [[*table.parts(), c.name, json.dumps(c.type.as_dict())] for c in columns]
        with self._lock:
            if replace:
                self._duck.execute(f"delete from {HISTORY}.main.column_types where {_SAME_TABLE}", table.parts())
            if rows:
                self._duck.executemany(f"insert into {HISTORY}.main.column_types values (?, ?, ?, ?, ?)", rows)

    def rename(self, table: TableRef, new: TableRef) -> None:
        """Carry the records over to a table's new name."""
        with self._lock:
            for own in ("column_types", "versions"):
                self._duck.execute(
                    f"update {HISTORY}.main.{own} set database_name = ?, schema_name = ?, table_name = ? "
                    f"where {_SAME_TABLE}",
                    [*new.parts(), *table.parts()],
                )

    def rename_column(self, table: TableRef, old: str, new: str) -> None:
        """Carry a column's declared type over to its new name."""
        with self._lock:
            self._duck.execute(
                f"update {HISTORY}.main.column_types set column_name = ? where column_name = ? and {_SAME_TABLE}",
                [new, old, *table.parts()],
            )

    def born(self, table: TableRef, moment: datetime) -> None:
        """A table was created: nothing of an earlier one by that name can be read any more."""
        with self._lock:
            self._forget(table)
            self._add_version(table, None, moment)

    def gone(self, table: TableRef) -> None:
        """A table was dropped."""
        with self._lock:
            self._forget(table)

    def keep_copy(self, table: TableRef, moment: datetime) -> None:
        """Copy the table's committed rows, which a statement is about to change, as what it held until now."""
        with self._lock:
            exact = self.find(self._duck, table)
            if exact is None:
                return
            copy = TableRef(HISTORY, "main", f"copy_{secrets.token_hex(8)}")
            columns = [*self.columns(self._duck, exact)]
            self._duck.execute(f"create table {copy.quoted()} as from {exact.quoted()}")
            living = f"{_SAME_TABLE} and copy_name is null"
            known = self._duck.execute(
                f"update {HISTORY}.main.versions set copy_name = ?, valid_to = ? where {living}",
                [copy.name, moment, *table.parts()],
            ).fetchall()[0][0]
            if not known:  # it was there before anything was recorded
                self._add_version(exact, copy.name, _EVER, moment)
            self._add_version(exact, None, moment)
            self.copies += 1
        self.declare(copy, columns)

    def version_at(self, table: TableRef, moment: datetime, *, before: bool = False) -> TableRef | None:
        """What holds the rows the table had at that moment (UTC), or None when it was not there yet.

        A change at exactly that moment counts unless ``before``.
        """
        first, last = ("<", ">=") if before else ("<=", ">")
        rows = self._duck.cursor().execute(
            f"select copy_name, valid_from {first} ? and (valid_to is null or valid_to {last} ?) "
            f"from {HISTORY}.main.versions where {_SAME_TABLE}",
            [moment, moment, *table.parts()],
        ).fetchall()  # fmt: skip
        if not rows:
            return table
        for copy_name, covers in rows:
            if covers:
                return TableRef(HISTORY, "main", copy_name) if copy_name else table
        return None

    def altering(self, tables: Iterable[TableRef]) -> None:
        """Somebody is about to change these tables: until that has ended, they count as changed just now."""
        self._altered.update(dict.fromkeys(map(_folded, tables)))

    def altered(self, tables: Iterable[TableRef]) -> None:
        """A change of these tables has ended, and can be seen by others, or was undone."""
        self._altered.update(dict.fromkeys(map(_folded, tables), datetime.now(UTC)))

    def facts(self, tables: Sequence[TableRef]) -> list[TableFacts]:
        """What is known of these tables; no rows of one that is gone meanwhile.

        Rows are counted before the moments are read: a change in between makes the moment the later one. After a
        restart every table counts as changed by it, as Snowflake's own upkeep counts as a change.
        """
        rows = [self._count(table) for table in tables]
        return [
            TableFacts(count, self._altered.get(_folded(table), self._began_at) or datetime.now(UTC), kept)
            for table, count, kept in zip(tables, rows, map(self.kept_days, tables), strict=True)
        ]

    def _count(self, table: TableRef) -> int | None:
        try:
            return int(self._duck.cursor().execute(f"select count(*) from {table.quoted()}").fetchone()[0])
        except duckdb.CatalogException:
            return None

    def define_view(self, view: TableRef, query: str) -> None:
        """Remember a view's query, in Snowflake's SQL with full names."""
        with self._lock:
            self._duck.execute(f"delete from {HISTORY}.main.view_queries where {_SAME_TABLE}", view.parts())
            self._duck.execute(f"insert into {HISTORY}.main.view_queries values (?, ?, ?, ?)", [*view.parts(), query])

    def declare_width(self, view: TableRef, columns: int) -> None:
        """Remember how many columns a view had when it was created."""
        with self._lock:
            self._duck.execute(f"delete from {HISTORY}.main.view_widths where {_SAME_TABLE}", view.parts())
            self._duck.execute(f"insert into {HISTORY}.main.view_widths values (?, ?, ?, ?)", [*view.parts(), columns])

    def declared_width(self, view: TableRef) -> int | None:
        """Return how many columns a view had when it was created; None for a table."""
        rows = self._duck.cursor().execute(
            f"select columns from {HISTORY}.main.view_widths where {_SAME_TABLE}", view.parts()
        ).fetchall()  # fmt: skip
        return int(rows[0][0]) if rows else None

    def keep_for(self, table: TableRef, days: int) -> None:
        """Remember for how many days the table's earlier contents can be read."""
        with self._lock:
            self._duck.execute(f"delete from {HISTORY}.main.retentions where {_SAME_TABLE}", table.parts())
            self._duck.execute(f"insert into {HISTORY}.main.retentions values (?, ?, ?, ?)", [*table.parts(), days])

    def kept_days(self, table: TableRef) -> int:
        """Return for how many days the table's earlier contents can be read; one unless it was said otherwise."""
        rows = self._duck.cursor().execute(
            f"select days from {HISTORY}.main.retentions where {_SAME_TABLE}", table.parts()
        ).fetchall()  # fmt: skip
        return int(rows[0][0]) if rows else 1

    def view_query(self, view: TableRef) -> str | None:
        """The query of a view, None for a table."""
        rows = self._duck.cursor().execute(
            f"select query from {HISTORY}.main.view_queries where {_SAME_TABLE}", view.parts()
        ).fetchall()  # fmt: skip
        return str(rows[0][0]) if rows else None

    def _declared(self, table: TableRef) -> dict[str, DeclaredType]:
        rows = self._duck.cursor().execute(
            f"select column_name, declared from {HISTORY}.main.column_types where {_SAME_TABLE}", table.parts()
        ).fetchall()  # fmt: skip
        return {name: DeclaredType(**json.loads(declared)) for name, declared in rows}

    def _forget(self, table: TableRef) -> None:
        for own in ("view_widths", "retentions"):
            self._duck.execute(f"delete from {HISTORY}.main.{own} where {_SAME_TABLE}", table.parts())
        self._duck.execute(f"delete from {HISTORY}.main.view_queries where {_SAME_TABLE}", table.parts())
        copies = self._duck.execute(
            f"delete from {HISTORY}.main.versions where {_SAME_TABLE} returning copy_name", table.parts()
        ).fetchall()
        for (copy_name,) in copies:
            if copy_name:
                copy = TableRef(HISTORY, "main", copy_name)
                self._duck.execute(f"drop table if exists {copy.quoted()}")
                self._duck.execute(f"delete from {HISTORY}.main.column_types where {_SAME_TABLE}", copy.parts())

    def _add_version(
        self, table: TableRef, copy_name: str | None, valid_from: datetime, valid_to: datetime | None = None
    ) -> None:
        self._duck.execute(
            f"insert into {HISTORY}.main.versions values (?, ?, ?, ?, ?, ?)",
            [*table.parts(), copy_name, valid_from, valid_to],
        )


def _folded(table: TableRef) -> TableRef:
    return TableRef(*(part.lower() for part in table.parts()))
