"""The values of cutting a table by its key: columns, ranges, and what a histogram of them looks like.

A key is one column or several. Rows are in order of the first, those equal in it in order of the second, and so
on; NULL comes last in every column, as in Snowflake's ORDER BY. A range is what lies in that order from ``start``
up to, not including, ``stop``. Either may name fewer columns than the key has: (5,) lies before (5, 1). So ranges
that follow each other hold every row once, whatever is NULL in it, and NULL in the first column is the last range.
"""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from snowmelt.errors import ConfigError
from snowmelt.models import SourceColumn, Value

KeyKind = Literal["number", "text", "date", "timestamp_ntz", "timestamp_ltz", "timestamp_tz"]

Key = tuple[str | None, ...]
"""A place in the order: the values of the first columns in their exact text, None for NULL.

Numbers are decimal digits, dates are 2026-01-31, times are 2026-01-31 23:59:59.123456789 and in UTC if they have a zone.
"""

_KINDS: dict[str, KeyKind] = {
    "FIXED": "number",
    "TEXT": "text",
    "DATE": "date",
    "TIMESTAMP_NTZ": "timestamp_ntz",
    "TIMESTAMP_LTZ": "timestamp_ltz",
    "TIMESTAMP_TZ": "timestamp_tz",
}


class KeyColumn(Value):
    """A column of the key, its name exact."""

    name: str = Field(min_length=1)
    kind: KeyKind


class KeyRange(Value):
    """Rows from ``start`` up to, not including, ``stop``; None is the very beginning or the very end, NULLs included.

    The columns are those of the table's plan: thousands of ranges would only repeat them.
    """

    start: Key | None = None
    stop: Key | None = None
    rows: int = Field(ge=0)
    """How many there were when the range was planned."""

    @property
    def nulls(self) -> bool:
        """Whether it holds the rows, or some of them, whose first column is NULL, and no others."""
        return self.start is not None and self.start[0] is None


class KeySpec(Value):
    """What is to be cut, and how."""

    table: str
    """The table's full name as SQL, every part quoted."""
    columns: tuple[KeyColumn, ...] = Field(min_length=1)
    batch_size: int = Field(ge=1)
    at: str = ""
    """The clause after the name that freezes what is read, or nothing."""
    source_filter: str | None = None
    """The user's own condition."""
    within: KeyRange | None = None
    """Only these rows: a range that turned out too big for one invocation."""

    @model_validator(mode="after")
    def _distinct_columns(self) -> Self:
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"chunking_columns names a column twice: {', '.join(names)}")
        return self


@dataclass(frozen=True)
class Bucket:
    """Rows that lie next to each other in the order of the first column, NULLs in a bucket of their own.

    ``low`` and ``high`` are the first and the last value. ``full`` marks a cell of the grid that holds more than
    ``batch_size`` rows and so stands alone; other buckets are neighbouring cells taken together.
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


def key_column(column: SourceColumn) -> KeyColumn:
    """The column as part of a key; ConfigError where its type has no order to cut by.

    What counts is the type that Snowflake has, for that is what it compares.
    """
    kind = _KINDS.get(column.type)
    if kind is None:
        raise ConfigError(
            f"chunking column {column.name} is {column.type}, which no range can cut; "
            "name a number, text, date or timestamp column in chunking_columns, or set chunking to one_scan"
        )
    return KeyColumn(name=column.name, kind=kind)
