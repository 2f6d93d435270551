"""What Snowflake knows of the tables of a schema without reading them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


def query(database: str, schema: str) -> str:
    """Build the one statement that tells it of all tables of a schema."""
    return (
        "SELECT TABLE_NAME, ROW_COUNT, BYTES, RETENTION_TIME, TABLE_TYPE\n"
        f"FROM {quoted(database)}.INFORMATION_SCHEMA.TABLES\nWHERE TABLE_SCHEMA = {constant(schema)}"
    )


def read(rows: Iterable[Sequence[Any]]) -> dict[str, SourceFacts]:
    """Return what the answer to ``query`` says, by the exact name of the table."""
    return {
        str(name): SourceFacts(_number(count), _number(size), _number(days), is_view=kind == "VIEW")
        for name, count, size, days, kind in rows
    }


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
