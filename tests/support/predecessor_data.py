"""Rows for the tables of the predecessor's files, on both sides, and what each target must hold, in Python."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from psycopg2 import sql

from snowmelt_sandbox.postgres import Database
from snowmelt_sandbox.snowflake import LocalSnowflake

FILES = Path(__file__).parents[1] / "fixtures" / "predecessor"
"""As they are: no test changes a byte of them."""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
LATER = BEGAN + timedelta(days=90)
Row = dict[str, Any]


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Column:
    """A column of the source, and the one of the target that takes it; None where none does."""

    name: str
    source_type: str
    target_type: str | None
    value: Callable[[int], Any]
    target: str | None = None
    becomes: Callable[[Any], Any] = _same
    """What PostgreSQL makes of a value when it is assigned."""

    @property
    def target_name(self) -> str:
        return self.target or self.name


@dataclass
class Table:
    """A table of the config, with its rows as they are in the source now and in the target after a run."""

    database: str
    schema: str
    name: str
    target: str
    columns: Sequence[Column]
    count: int
    key: tuple[str, ...] = ()
    is_read: Callable[[Row], bool] = lambda _: True
    is_truncated: bool = False
    is_insert_only: bool = False
    rows: list[Row] = field(default_factory=list)
    held: dict[Any, Row] = field(default_factory=dict)

    @property
    def in_snowflake(self) -> str:
        return f'"{self.database}"."{self.schema}"."{self.name}"'

    def make(self, snowflake: LocalSnowflake, target: Database) -> None:
        """Make both sides; the target is empty."""
        snowflake.create_schema(self.database, self.schema)
        of = ", ".join(f'"{c.name}" {c.source_type}' for c in self.columns)
        snowflake.execute(f"CREATE OR REPLACE TABLE {self.in_snowflake} ({of})")
        self.insert(snowflake, [self.row(n) for n in range(self.count)])
        to = [
            sql.SQL("{} {}").format(sql.Identifier(c.target_name), sql.SQL(c.target_type))
            for c in self.columns
            if c.target_type
        ]
        if self.key:
            names = [sql.Identifier(c.target_name) for name in self.key for c in self.columns if c.name == name]
            to.append(sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(names)))
        schema, _, name = self.target.partition(".")
        target.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        target.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(schema, name), sql.SQL(", ").join(to)))

    def row(self, number: int, **changes: Any) -> Row:
        """The row of that number, but for changes by the column's place."""
        made = {c.name: c.value(number) for c in self.columns}
        return {**made, **{self.columns[int(place[1:])].name: value for place, value in changes.items()}}

    def insert(self, snowflake: LocalSnowflake, rows: Sequence[Row]) -> None:
        """Add rows to the source."""
        self.rows += rows
        lines = (", ".join(f"{_literal(row[c.name])}::{c.source_type}" for c in self.columns) for row in rows)
        snowflake.execute(f"INSERT INTO {self.in_snowflake} SELECT {' UNION ALL SELECT '.join(lines)}")

    def update(self, snowflake: LocalSnowflake, old: Row, new: Row) -> None:
        """Put a row in the place of another one of the source."""
        where = " AND ".join(f'"{name}" = {_literal(old[name])}' for name in self.key)
        snowflake.execute(f"DELETE FROM {self.in_snowflake} WHERE {where}")
        self.rows.remove(old)
        self.insert(snowflake, [new])

    def after_a_run(self) -> set[tuple[Any, ...]]:
        """What the target must hold once a run has ended."""
        if self.is_truncated:
            self.held.clear()
        for number, row in enumerate(filter(self.is_read, self.rows)):
            made = {c.target_name: c.becomes(row[c.name]) for c in self.columns if c.target_type}
            key = tuple(row[name] for name in self.key) if self.key else (number,)
            if not (self.is_insert_only and key in self.held):
                self.held[key] = made
        return {tuple(row.values()) for row in self.held.values()}

    def found(self, target: Database) -> list[tuple[Any, ...]]:
        """What it does hold."""
        names = sql.SQL(", ").join(sql.Identifier(c.target_name) for c in self.columns if c.target_type)
        return target.rows(sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier(*self.target.split("."))))

    def places(self, target: Database) -> set[tuple[str, str]]:
        """Where each row lies and which transaction wrote it: both change when it is written again."""
        query = sql.SQL("SELECT ctid::text, xmin::text FROM {}").format(sql.Identifier(*self.target.split(".")))
        with closing(target.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return set(cursor.fetchall())


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, datetime):
        return f"'{value:%Y-%m-%d %H:%M:%S.%f}{f' {value:%z}' if value.tzinfo else ''}'"
    return f"'{value!r}'" if isinstance(value, float) else f"'{value}'"


def _rounded(digits: int) -> Callable[[Any], Any]:
    def round_it(value: Any) -> Any:
        return None if value is None else Decimal(str(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)

    return round_it


def _moment(number: int) -> datetime:
    return (BEGAN + timedelta(minutes=number, microseconds=number)).replace(tzinfo=None)


def _zoned(number: int) -> datetime:
    zone = timezone(timedelta(hours=number % 5 - 2))
    return (BEGAN + timedelta(hours=number * 7, microseconds=number)).astimezone(zone)


def _day(value: datetime) -> date:
    return value.astimezone(UTC).date()


def _text(word: str) -> Callable[[int], str]:
    return lambda n: f"{word} {n}"


def _plus(further: int) -> Callable[[int], int]:
    return lambda n: n + further


def tables() -> list[Table]:
    """The enabled tables of the config, in its order."""
    narrow = _rounded(8)
    shared = [
        Column(f"Visit {what}", "VARCHAR", "varchar(60)", _text(what))
        for what in ("Type", "Status", "Note", "Caregiver")
    ] + [Column(f"Visit Minutes {n}", "NUMBER(9,0)", "integer", _plus(n)) for n in range(7)]
    absent = [Column(f"Not Wanted {n}", "VARCHAR" if n % 2 else "NUMBER(12,2)", None, str) for n in range(12)]
    return [
        Table(
            *("ANALYTICS", "BI", "DIMCLINIC", "reporting_dev.dimclinic"),
            [
                Column("Clinic Id", "VARCHAR", "varchar(36)", lambda n: f"clinic-{n:04}"),
                Column("Clinic Name", "VARCHAR", "varchar(100)", lambda n: f"Größe {n}"),
                Column("Is Active", "BOOLEAN", "boolean", lambda n: n % 4 != 0),
                Column("Source System", "VARCHAR", "varchar(20)", lambda n: "main" if n % 5 else "other"),
                Column("Updated Datatimestamp", "TIMESTAMP_NTZ(9)", "timestamp", _moment),
            ],
            60,
            key=("Clinic Id",),
            is_read=lambda row: row["Is Active"] is True and row["Source System"] == "main",
        ),
        Table(
            *("ANALYTICS", "BI", "DIMADDRESS", "reporting_dev.dimaddress"),
            [
                Column("Address Id", "VARCHAR", "varchar(36)", lambda n: f"address-{n:04}"),
                Column("Latitude", "FLOAT", "numeric(12,8)", lambda n: 40.123456789012 + n / 3, becomes=narrow),
                Column("Longitude", "FLOAT", "numeric(12,8)", lambda n: -73.5 - n, becomes=narrow),
                Column("Updated Timestamp", "TIMESTAMP_NTZ(9)", "timestamp", _moment, "Updated Datatimestamp"),
            ],
            50,
            key=("Address Id",),
        ),
        Table(
            *("ANALYTICS", "BI", "FACTABSENCE", "reporting_dev.factabsence"),
            [
                Column(
                    *("Absence Id", "NUMBER(38,5)", "numeric(38,0)"),
                    lambda n: Decimal(n) + (Decimal("0.40000") if n % 10 == 3 else Decimal("0.00000")),
                    becomes=_rounded(0),
                ),
                Column("Environment", "VARCHAR", "varchar(10)", lambda n: f"env{n % 3}"),
                Column("Hours", "NUMBER(12,2)", "numeric(12,2)", lambda n: Decimal(n * 25).scaleb(-2)),
                Column("Updated Date", "TIMESTAMP_TZ(9)", "timestamptz", _zoned, "Updated Datatimestamp"),
            ],
            70,
            key=("Absence Id", "Environment"),
        ),
        Table(
            *("ANALYTICS", "BI", "FACTVISIT", "reporting_dev.factvisit"),
            [
                Column("Visit Id", "VARCHAR", "varchar(36)", lambda n: f"visit-{n:04}"),
                Column("Visit Updated Timestamp", "TIMESTAMP_NTZ(9)", "timestamp", _moment),
                *shared,
                *absent,
            ],
            80,
            key=("Visit Id",),
            is_truncated=True,
        ),
        Table(
            *("CONFLICTREPORT", "PUBLIC", "CONFLICTS", "conflict_dev.conflicts"),
            [
                Column("CONFLICTID", "NUMBER(38,0)", "bigint", _same, "conflictid"),
                Column("VISITID", "NUMBER(38,0)", "bigint", lambda n: n * 10**12, "visitid"),
                Column("STATUS", "VARCHAR", "varchar(20)", _text("status"), "status"),
            ],
            90,
            key=("CONFLICTID",),
            is_insert_only=True,
        ),
        Table(
            *("CONFLICTREPORT", "PUBLIC", "DELETED_ROWS", "conflict_dev.deleted_rows"),
            [
                Column("ID", "NUMBER(38,0)", "bigint", _same, "id"),
                Column("Start Date", "TIMESTAMP_TZ(9)", "date", _zoned, becomes=_day),
                Column("End Date", "TIMESTAMP_TZ(9)", "date", lambda n: _zoned(n + 9), becomes=_day),
            ],
            40,
            is_truncated=True,
        ),
    ]


NARROWED = {
    "DIMADDRESS": ("Latitude",),
    "FACTABSENCE": ("Absence Id",),
    "DELETED_ROWS": ("Start Date", "End Date"),
}
"""Columns whose values change on their way to the target, by table."""


def changed_values(table: Table) -> dict[str, int]:
    """How many values of each narrowed column are not in the target as they were in the source."""

    def is_changed(column: Column, value: Any) -> bool:
        became = column.becomes(value)
        if isinstance(became, date) and not isinstance(became, datetime):
            return bool(value.astimezone(UTC) != datetime.combine(became, datetime.min.time(), UTC))
        return bool(Decimal(str(value)) != became)

    named = [c for c in table.columns if c.name in NARROWED.get(table.name, ())]
    return {c.target_name: sum(is_changed(c, row[c.name]) for row in table.rows) for c in named}
