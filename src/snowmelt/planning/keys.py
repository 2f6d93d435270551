"""The values of cutting a table by its key: columns, ranges, and what a histogram of them looks like.

A key is one column or several. Rows are in order of the first, those equal in it in order of the second, and so
on; NULL comes last in every column, as in Snowflake's ORDER BY. A range is what lies in that order from ``start``
up to, not including, ``stop``. Either may name fewer columns than the key has: (5,) lies before (5, 1). So ranges
that follow each other hold every row once, whatever is NULL in it, and NULL in the first column is the last range.
"""

from dataclasses import dataclass

from snowmelt.errors import ConfigError
from snowmelt.models import Key, KeyColumn, KeyKind, KeyRange, KeySpec, SourceColumn

__all__ = [
    "KINDS",
    "Bucket",
    "Histogram",
    "Key",
    "KeyColumn",
    "KeyKind",
    "KeyRange",
    "KeySpec",
    "Piece",
    "full_rows",
    "key_column",
    "mergeable_rows",
]

KINDS: dict[str, KeyKind] = {
    "FIXED": "number",
    "TEXT": "text",
    "DATE": "date",
    "TIMESTAMP_NTZ": "timestamp_ntz",
    "TIMESTAMP_LTZ": "timestamp_ltz",
    "TIMESTAMP_TZ": "timestamp_tz",
}


@dataclass(frozen=True)
class Bucket:
    """Rows that lie next to each other in the order of the first column, NULLs in a bucket of their own.

    ``low`` and ``high`` are the first and the last value. ``full`` marks a cell of the grid that holds more than
    ``full_rows`` and so stands alone; other buckets are neighbouring cells taken together.
    """

    low: str | None
    high: str | None
    rows: int
    full: bool


@dataclass(frozen=True)
class Histogram:
    """The answer to the first query: the buckets in order, the grid they lie on, and COUNT(*) of the same statement."""

    buckets: tuple[Bucket, ...]
    width: int | None
    rows: int


@dataclass(frozen=True)
class Piece:
    """A row of the answer to the second query: part of the full bucket that begins with ``low``."""

    low: str | None
    start: Key
    rows: int


def full_rows(spec: KeySpec) -> int:
    """A cell of the first query with more rows than this is looked into by the second."""
    return spec.batch_size * 3 // 2


def mergeable_rows(spec: KeySpec) -> int:
    """Neighbours become one range up to here: a little more than asked for beats a half-empty range."""
    return spec.batch_size * 5 // 4


def key_column(column: SourceColumn) -> KeyColumn:
    """The column as part of a key; ConfigError where its type has no order to cut by.

    What counts is the type that Snowflake has, for that is what it compares.
    """
    kind = KINDS.get(column.type)
    if kind is None:
        raise ConfigError(
            f"chunking column {column.name} is {column.type}, which no range can cut; "
            "name a number, text, date or timestamp column in chunking_columns, or set chunking to one_scan"
        )
    return KeyColumn(name=column.name, kind=kind)
