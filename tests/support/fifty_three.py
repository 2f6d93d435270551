"""A warehouse of 53 tables as a care provider has it: dimensions, facts, reference tables, all with made-up rows.

The settings are those of a config that has grown over years: keys in either case, a filter here, a batch size there.
Rows come from their number alone, so that every call gives the same; sizes are small, shapes are not.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

Values = Callable[[int], Any]
"""The value of a column in the row of that number."""

BEGAN = datetime(2024, 1, 1)  # noqa: DTZ001 - a TIMESTAMP_NTZ has no zone
BIG = "FACT_CLAIM_LINE"
BIG_ROWS = 60_000
BIG_DAYS = 199
BUSY_DAY = 120
BUSY_ROWS = 9_000
"""What one day of the big fact holds: 15 %."""


@dataclass(frozen=True)
class Column:
    """A column on both sides; the target's name is the source's in lower case unless it is given."""

    source_type: str
    target_type: str
    values: Values
    target: str | None = None
    narrowed: str | None = None
    """What a value becomes where the target has fewer digits, in Snowflake's SQL over ``{c}``."""


@dataclass(frozen=True)
class Table:
    """A table of the warehouse, its settings in the config, and what changes between the two runs.

    ``key`` are the source's columns that identify a row; ``repeated`` are rows that come again with the same key and a
    later watermark. ``changes`` are statements, in which ``{t}`` stands for the table; they update, insert and delete
    so many rows that a run reads.
    """

    source: str
    rows: int
    columns: Mapping[str, Column]
    key: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    repeated: Sequence[int] = ()
    references: tuple[str, str] | None = None
    indexes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    updated: int = 0
    inserted: int = 0

    @property
    def target(self) -> str:
        """The exact name of the table in PostgreSQL."""
        return self.source.lower()

    @property
    def is_truncated(self) -> bool:
        """Whether each run empties it and loads it again."""
        return bool(self.settings.get("truncate_onstart"))

    def config(self) -> dict[str, Any]:
        """Its entry in the config."""
        written = f'"{self.source}"' if self.source != self.source.upper() else self.source
        unique = {"uniqueness_columns": list(self.key)} if self.key and not self.is_truncated else {}
        return {"source": written, **unique, **self.settings}

    def arrow(self) -> pa.Table:
        """Its rows before the first run."""
        numbers = [*range(self.rows), *self.repeated]
        return pa.table({name: _array(column, numbers, self.rows) for name, column in self.columns.items()})

    def source_types(self) -> dict[str, str]:
        """Its columns' types in Snowflake."""
        return {name: column.source_type for name, column in self.columns.items()}

    def target_columns(self) -> dict[str, str]:
        """Its columns' types in PostgreSQL, by their names there."""
        return {self.column(name): column.target_type for name, column in self.columns.items()}

    def column(self, name: str) -> str:
        """The target's name of a source column."""
        return self.columns[name].target or name.lower()


def tables() -> list[Table]:
    """The 53 tables, children before their parents, as a config in no particular order has them."""
    return [*_facts(), *_dimensions(), *_numbered_dimensions(), *_references(), _payers()]


# --- values ---------------------------------------------------------------------------------------------------------

_LATER = timedelta(days=400)
_WORDS = ("", None, "\\N", "NULL", "tab\tand\nline", "Größe ⛄", 'quoted "x", y')


def uuid_like(family: str) -> Values:
    """Text that looks like a UUID, in no order."""

    def value(number: int) -> str:
        digits = hashlib.md5(f"{family} {number}".encode()).hexdigest()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    return value


def _words(number: int) -> str | None:
    return f"entry {number}" if number % 5 else _WORDS[number // 5 % len(_WORDS)]


def _money(number: int) -> Decimal | None:
    return None if number % 17 == 3 else Decimal(number * 37 - 999).scaleb(-2)


def _moment(number: int) -> datetime:
    return BEGAN + timedelta(minutes=7 * number, microseconds=number)


def _moment_or_null(number: int) -> datetime | None:
    return None if number % 41 == 7 else _moment(number)


def _day(number: int) -> date | None:
    return None if number % 29 == 11 else (BEGAN + timedelta(days=number * number % 700)).date()


def _flag(number: int) -> str:
    return "N" if number % 9 == 4 else "Y"


def _number(number: int) -> int:
    return number


def _busy_moment(number: int) -> datetime:
    """Over 199 days, one of which holds 9,000 rows more than its share."""
    if number < BUSY_ROWS:
        return BEGAN + timedelta(days=BUSY_DAY, seconds=number * 9, microseconds=number)
    spread = (number - BUSY_ROWS) * BIG_DAYS * 86_400 // (BIG_ROWS - BUSY_ROWS)
    return BEGAN + timedelta(seconds=spread, microseconds=number % 1_000)


def _array(column: Column, numbers: Sequence[int], rows: int) -> "pa.Array[Any]":
    """The values; rows that come again have the same key and a watermark so much later."""
    values = [column.values(n) for n in numbers]
    if column.source_type.startswith("TIMESTAMP"):
        again = (v + _LATER if v is not None else None for v in values[rows:])
        return pa.array([*values[:rows], *again], pa.timestamp("us"))
    if "," in column.source_type:
        return pa.array(values, pa.decimal128(14, 2) if "2)" in column.source_type else pa.int64())
    return pa.array(values, pa.date32() if column.source_type == "DATE" else pa.string())


# --- families -------------------------------------------------------------------------------------------------------

_NOTE = Column("VARCHAR", "text", _words)
_AMOUNT = Column("NUMBER(14,2)", "numeric(14,2)", _money)
_TENTHS = replace(_AMOUNT, target_type="numeric(14,1)", narrowed="ROUND({c}, 1)::NUMBER(14,1)")
"""Amounts whose last digit the target does not have."""
_MOMENT = Column("TIMESTAMP_NTZ(6)", "timestamp", _moment)
_ACTIVE = Column("VARCHAR(1)", "varchar(1)", _flag)

_DIMENSIONS = (
    *("PATIENT", "PROVIDER", "FACILITY", "DEPARTMENT", "EMPLOYER", "MEMBER", "SUBSCRIBER", "PHARMACY"),
    *("LAB", "DEVICE", "REFERRAL", "CARE_TEAM", "CONTRACT", "NETWORK", "REGION", "CAMPAIGN"),
)


def _dimensions() -> list[Table]:
    """Sixteen by keys that look like UUIDs, read whole by every run."""
    return [_dimension(i, name) for i, name in enumerate(_DIMENSIONS)]


def _dimension(number: int, name: str) -> Table:
    key = f"{name}_KEY"
    settings: tuple[Mapping[str, Any], ...] = (
        {},
        {"chunking_columns": [key], "chunking_column_types": ["uuid"], "batch_size": 300},
        {
            "chunking_columns": [key],
            "chunking_column_types": ["varchar"],
            "sort_columns": [key],
            "batch_size": 250,
            "max_retry_attempts": 5,
        },
        {"uniqueness_columns": [key.lower()], "parallel_threads": 2, "batch_size": 200},
    )
    columns = {
        key: Column("VARCHAR(36)", "uuid" if number % 4 == 1 else "varchar(36)", uuid_like(name)),
        "NAME": _NOTE,
        "BALANCE": _TENTHS if number % 4 == 2 else _AMOUNT,
        "VALID_FROM": Column("DATE", "date", _day),
    }
    table = Table(f"DIM_{name}", 300 + 40 * number, columns, key=(key,), settings=settings[number % 4])
    if number % 3:
        return table
    first, second = columns[key].values(1), columns[key].values(2)
    return _changed(
        table,
        f"UPDATE {{t}} SET NAME = 'fixed' WHERE {key} IN ('{first}', '{second}')",
        f"INSERT INTO {{t}} SELECT '{columns[key].values(-1)}', 'new', BALANCE, VALID_FROM FROM {{t}} LIMIT 1",
        updated=2,
        inserted=1,
    )


_NUMBERED = ("DATE", "TIME_BAND", "AGE_BAND", "PLAN", "PRODUCT", "SERVICE_LINE", "CHANNEL", "COST_CENTER")


def _numbered_dimensions() -> list[Table]:
    """Eight by numbers; of every other one a filter keeps what is active."""
    return [_numbered_dimension(i, name) for i, name in enumerate(_NUMBERED)]


def _numbered_dimension(number: int, name: str) -> Table:
    key = f"{name}_ID"
    is_small = number % 2 == 0
    settings: dict[str, Any] = {
        "chunking_columns": [key],
        "chunking_column_types": ["int" if is_small else "bigint"],
        "batch_size": 150,
    }
    if number % 2:
        settings["source_filter"] = "ACTIVE = 'Y' -- the others are history"
    columns = {
        key: Column("NUMBER(9,0)" if is_small else "NUMBER(18,0)", "int" if is_small else "bigint", _number),
        "LABEL": _NOTE,
        "ACTIVE": _ACTIVE,
        "LOADED_AT": _MOMENT,
    }
    table = Table(f"DIM_{name}", 200 + 90 * number, columns, key=(key,), settings=settings)
    if number != 3:
        return table
    # Of what changes, the filter lets one row through.
    return _changed(table, f"UPDATE {{t}} SET LABEL = 'fixed' WHERE {key} IN (4, 5)", updated=1)


_FACTS = (
    *("ENCOUNTER", "CLAIM", "PAYMENT", "ADJUSTMENT", "DENIAL", "PRESCRIPTION", "LAB_RESULT", "VITAL"),
    *("APPOINTMENT", "REFERRAL_STEP", "ELIGIBILITY", "AUTHORIZATION", "STATEMENT"),
)


def _facts() -> list[Table]:
    """Fifteen by composite keys, with watermarks: thirteen alike, the big one, and a log that only grows."""
    return [_big_fact(), _log(), *(_fact(i, name) for i, name in enumerate(_FACTS))]


def _fact(number: int, name: str) -> Table:
    watermark = "UPDATED_AT" if number % 2 else "updated_at"
    stored_as = "changed_at" if number % 4 == 1 else "updated_at"
    settings: dict[str, Any] = {"source_watermark": watermark, "target_watermark": stored_as}
    settings |= (
        {"chunking_columns": ["SERVICE_DATE"], "chunking_column_types": ["date"], "batch_size": 400},
        {"chunking_columns": ["UPDATED_AT"], "chunking_column_types": ["timestamp"], "batch_size": 500},
        {
            "chunking_columns": ["CLAIM_ID", "LINE_NO"],
            "chunking_column_types": ["varchar", "int"],
            "sort_columns": ["UPDATED_AT"],
            "batch_size": 600,
        },
        {"parallel_threads": 3, "batch_size": 350},
        {"chunking_columns": ["SEQUENCE_NO"], "chunking_column_types": ["bigint"], "max_retry_attempts": 4},
    )[number % 5]
    parent = _DIMENSIONS[number]
    columns = {
        "CLAIM_ID": Column("VARCHAR(36)", "varchar(36)", lambda n: uuid_like(name)(n // 3)),
        "LINE_NO": Column("NUMBER(9,0)", "int", lambda n: n % 3 + 1),
        "SEQUENCE_NO": Column("NUMBER(18,0)", "bigint", lambda n: None if n % 31 == 8 else n * 1_000_003 - 10**8),
        f"{parent}_KEY": Column(
            "VARCHAR(36)",
            "uuid" if number % 4 == 1 else "varchar(36)",
            lambda n: None if n % 23 == 5 else uuid_like(parent)(n % 300),
        ),
        "SERVICE_DATE": Column("DATE", "date", _day),
        "AMOUNT": _AMOUNT,
        "STATUS": _NOTE,
        "CLOSED_ON": Column(
            *("TIMESTAMP_NTZ(6)", "date" if number % 3 else "timestamp", _moment_or_null),
            narrowed="{c}::DATE" if number % 3 else None,
        ),
        "UPDATED_AT": Column(
            "TIMESTAMP_NTZ(6)", "timestamp", _moment_or_null if number % 4 == 3 else _moment, target=stored_as
        ),
    }
    table = Table(
        f"FACT_{name}",
        900 + 100 * number,
        columns,
        key=("CLAIM_ID", "LINE_NO"),
        settings=settings,
        repeated=range(100, 110) if number % 3 == 0 else (),
        references=(f"{parent.lower()}_key", f"dim_{parent.lower()}") if number < 4 else None,
    )
    if number % 3 == 2:
        return table
    claim, new = columns["CLAIM_ID"].values(30), columns["CLAIM_ID"].values(-3)
    rest = f"SEQUENCE_NO, {parent}_KEY, SERVICE_DATE, AMOUNT, STATUS, CLOSED_ON"
    return _changed(
        table,
        f"UPDATE {{t}} SET AMOUNT = 1, UPDATED_AT = '2026-01-01' WHERE CLAIM_ID = '{claim}'",
        f"INSERT INTO {{t}} SELECT '{new}', LINE_NO, {rest}, '2026-01-02' FROM {{t}} WHERE CLAIM_ID = '{claim}'",
        f"INSERT INTO {{t}} SELECT '{new}', LINE_NO, {rest}, '2026-01-03' FROM {{t}} WHERE CLAIM_ID = '{claim}'",
        updated=3,
        inserted=3,
    )


def _big_fact() -> Table:
    """The one by whose size the others are nothing; each of its days is several chunks at most."""
    columns = {
        "CLAIM_NO": Column("NUMBER(18,0)", "bigint", lambda n: n // 4),
        "LINE_NO": Column("NUMBER(9,0)", "int", lambda n: n % 4 + 1),
        "AMOUNT": _AMOUNT,
        "CODE": Column("VARCHAR(16)", "varchar(16)", lambda n: f"C{n % 977:05}"),
        "LOADED_AT": Column("TIMESTAMP_NTZ(6)", "timestamp", _busy_moment),
    }
    table = Table(
        BIG,
        BIG_ROWS,
        columns,
        key=("CLAIM_NO", "LINE_NO"),
        settings={
            "source_watermark": "LOADED_AT",
            "target_watermark": "loaded_at",
            "watermark_overlap": "2h",
            "chunking_columns": ["LOADED_AT"],
            "chunking_column_types": ["timestamp"],
            "sort_columns": ["LOADED_AT", "CLAIM_NO"],
            "disable_index": True,
            "batch_size": 2_500,
            "parallel_threads": 4,
            "max_retry_attempts": 5,
        },
        indexes=("code", "loaded_at"),
    )
    return _changed(
        table,
        "UPDATE {t} SET AMOUNT = 2, LOADED_AT = '2026-01-01' WHERE CLAIM_NO IN (7, 9999)",
        "INSERT INTO {t} SELECT CLAIM_NO + 1000000, LINE_NO, AMOUNT, CODE, '2026-01-02' FROM {t} WHERE CLAIM_NO < 25",
        updated=8,
        inserted=100,
    )


def _log() -> Table:
    columns = {
        "EVENT_ID": Column("NUMBER(18,0)", "bigint", _number),
        "SOURCE_SYSTEM": Column("VARCHAR(8)", "varchar(8)", lambda n: f"S{n % 3}"),
        "PAYLOAD": _NOTE,
        "LOGGED_AT": _MOMENT,
    }
    table = Table(
        "FACT_EVENT_LOG",
        2_000,
        columns,
        key=("EVENT_ID", "SOURCE_SYSTEM"),
        settings={
            "insert_only_mode": True,
            "chunking_columns": ["EVENT_ID"],
            "chunking_column_types": ["bigint"],
            "batch_size": 500,
        },
    )
    return _changed(
        table,
        "UPDATE {t} SET PAYLOAD = 'history may not change' WHERE EVENT_ID IN (11, 12)",
        "INSERT INTO {t} SELECT EVENT_ID + 5000, SOURCE_SYSTEM, PAYLOAD, LOGGED_AT FROM {t} WHERE EVENT_ID < 5",
        inserted=5,
    )


_REFERENCES = (
    *("STATE", "GENDER", "LANGUAGE", "CURRENCY", "DIAGNOSIS", "PROCEDURE", "MODIFIER", "DRG"),
    *("PLACE_OF_SERVICE", "REVENUE_CODE", "DENIAL_REASON", "RATE", "TAXONOMY"),
)


def _references() -> list[Table]:
    """Thirteen without any key: emptied and loaded again by every run."""
    return [_reference(i, name) for i, name in enumerate(_REFERENCES)]


def _reference(number: int, name: str) -> Table:
    columns = {
        "CODE": Column("VARCHAR(12)", "varchar(12)", lambda n: None if n % 50 == 49 else f"{name[:3]}{n // 2}"),
        "DESCRIPTION": _NOTE,
        "RATE": _AMOUNT,
    }
    settings: dict[str, Any] = {"truncate_onstart": True}
    if number % 4 == 1:
        settings["source_filter"] = "RATE IS NOT NULL AND DESCRIPTION NOT LIKE '%7%'"
    table = Table(f"REF_{name}", 8 + 17 * number, columns, settings=settings)
    if number != 8:
        return table
    return _changed(table, "DELETE FROM {t} WHERE CODE LIKE '%4'", "INSERT INTO {t} SELECT 'NEW', NULL, 3.14")


def _payers() -> Table:
    """A table that someone made with quotes: a name in lower case, columns with blanks."""
    columns = {
        "Payer Id": Column("VARCHAR(36)", "varchar(36)", uuid_like("payer"), target="Payer Id"),
        "Payer Name": Column("VARCHAR", "text", _words, target="payer name"),
        "effective date": Column("DATE", "date", _day, target="effective date"),
    }
    table = Table("multipayer_payer", 450, columns, key=("Payer Id",), settings={"batch_size": 100})
    return _changed(table, 'UPDATE {t} SET "Payer Name" = \'fixed\' WHERE "effective date" IS NULL', updated=16)


def _changed(table: Table, *statements: str, updated: int = 0, inserted: int = 0) -> Table:
    return replace(table, changes=statements, updated=updated, inserted=inserted)
