"""What Snowflake knows of the tables of a schema without reading them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from snowmelt.columns.type_pairs import quoted
from snowmelt.sql_text.literals import constant

UNPACKED = 3
"""How much larger rows are than what Snowflake stores of them, which it packs by columns."""


@dataclass(frozen=True)
class SourceFacts:
    """What is known of one table or view; None where the account does not say."""

    rows: int | None
    size_bytes: int | None
    retention_days: int | None
    is_view: bool = False
    clustering_key: str | None = None
    """As it was declared."""


def query(database: str, schema: str) -> str:
    """Build the one statement that tells it of all tables of a schema."""
    return (
        "SELECT TABLE_NAME, ROW_COUNT, BYTES, RETENTION_TIME, TABLE_TYPE, CLUSTERING_KEY\n"
        f"FROM {quoted(database)}.INFORMATION_SCHEMA.TABLES\nWHERE TABLE_SCHEMA = {constant(schema)}"
    )


def read(rows: Iterable[Sequence[Any]]) -> dict[str, SourceFacts]:
    """Return what the answer to ``query`` says, by the exact name of the table."""
    return {
        str(name): SourceFacts(_number(count), _number(size), _number(days), kind == "VIEW", clustering_key)
        for name, count, size, days, kind, clustering_key in rows
    }


@dataclass(frozen=True)
class Count:
    """How many rows Snowflake's catalog says that a table has, and when it was last changed."""

    rows: int
    altered_at: datetime


def counts_query(database: str, schema: str, names: Collection[str]) -> str:
    """Build the one statement that tells how many rows these tables have, of those whose catalog is exact.

    It is not of views, of external, hybrid and Iceberg tables, and of a shared database, whose tables have no owner.
    """
    return (
        "SELECT TABLE_NAME, ROW_COUNT, LAST_ALTERED\n"
        f"FROM {quoted(database)}.INFORMATION_SCHEMA.TABLES\nWHERE TABLE_SCHEMA = {constant(schema)}\n"
        f"  AND TABLE_NAME IN ({', '.join(map(constant, sorted(names)))})\n"
        "  AND TABLE_TYPE = 'BASE TABLE' AND TABLE_OWNER <> '' AND IS_ICEBERG = 'NO' AND IS_HYBRID = 'NO'"
    )


def read_counts(rows: Iterable[Sequence[Any]]) -> Mapping[str, Count]:
    """Return what the answer to ``counts_query`` says, by the exact name of the table."""
    return {
        str(name): Count(int(count), altered_at)
        for name, count, altered_at in rows
        if count is not None and isinstance(altered_at, datetime)
    }


def contradicts(count: Count, *, rows: int, began_at: datetime | None) -> bool:
    """Whether a scan that began then, and gave so many rows, cannot have given all of them.

    Nothing can be said where the table was changed since then, or where the moment is not known.
    """
    return began_at is not None and count.altered_at < began_at and count.rows != rows


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
