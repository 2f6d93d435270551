"""Rows that are known by their values, as a relation in Snowflake's SQL: of these, too, Snowflake can give the hashes.

A rejected row is in the source and not in the target. It is kept as text, and PostgreSQL cannot hold it; so Snowflake
hashes it by the very forms by which it hashes the table, and it is left out of both sides.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from snowmelt.columns.batch_conversion import arrow_type
from snowmelt.columns.type_pairs import quoted
from snowmelt.errors import DataError
from snowmelt.models import ColumnPlan
from snowmelt.rejected_rows import row_json
from snowmelt.rejected_rows.row_json import RowText
from snowmelt.sql_text import literals

MOST_CHARACTERS = 200_000
"""Of the rows of one statement."""
MOST_VALUES = 2_000
"""Of the rows of one statement, but for a single row: each is bound."""


def selects(rows: Sequence[RowText], columns: Sequence[ColumnPlan]) -> Iterator[str]:
    """Yield statements that give all rows which can be written, columns named and typed as the load's statement has
    them.
    """
    part: list[str] = []
    for row in rows:
        select = _select(row, columns)
        if select is None:
            continue
        is_full = (len(part) + 1) * len(columns) > MOST_VALUES or sum(map(len, part)) + len(select) > MOST_CHARACTERS
        if part and is_full:
            yield "\nUNION ALL\n".join(part)
            part = []
        part.append(select)
    if part:
        yield "\nUNION ALL\n".join(part)


def _select(row: RowText, columns: Sequence[ColumnPlan]) -> str | None:
    """The row as a SELECT without a table; None where a value of it cannot be written as a literal."""
    try:
        values = [f"{_literal(row[column.source.name], column)} AS {quoted(column.target.name)}" for column in columns]
    except (DataError, KeyError, UnicodeEncodeError):  # half a character, or a value that is not the column's
        return None
    return f"SELECT {', '.join(values)}"


def _literal(text: str | None, column: ColumnPlan) -> str:
    wire = column.wire
    if text is None:
        return f"NULL::{_type(column)}"
    text.encode()
    if wire == "string":
        # A literal may not hold NUL.
        return f"({' || CHR(0) || '.join(map(literals.text, text.split(chr(0))))})::VARCHAR"
    if wire == "binary":
        return f"TO_BINARY({literals.text(text)}, 'HEX')"
    if wire.startswith(("date", "time")):
        return _moment(text, column)
    return f"{literals.text(_FLOATS.get(text, text))}::{_type(column)}"


_FLOATS = {"nan": "NaN"}


def _moment(text: str, column: ColumnPlan) -> str:
    """A date or time by its distance from a known one: no text of Snowflake's names the years before 0."""
    (values,) = row_json.batch_of({1: {column.source.name: text}}, [column], where="a rejected row").columns
    if pa.types.is_date(values.type):
        days = values.cast(pa.int32())[0].as_py()
        return f"DATEADD('day', {literals.number(str(days))}, {literals.EPOCH_DATE})"
    seconds, rest = divmod(values.cast(pa.int64())[0].as_py(), 1_000_000)
    whole, part = literals.number(str(seconds)), literals.number(str(rest))
    start = literals.MIDNIGHT if pa.types.is_time(values.type) else literals.EPOCH
    return f"DATEADD('microsecond', {part}, DATEADD('second', {whole}, {start}))"


def _type(column: ColumnPlan) -> str:
    wire = arrow_type(column.wire)
    kinds = (
        (pa.types.is_floating, "FLOAT"),
        (pa.types.is_boolean, "BOOLEAN"),
        (pa.types.is_string, "VARCHAR"),
        (pa.types.is_binary, "BINARY"),
        (pa.types.is_date, "DATE"),
        (pa.types.is_time, "TIME"),
        (pa.types.is_timestamp, "TIMESTAMP_NTZ"),
    )
    source, digits = column.source, 38 if column.source.precision is None else column.source.precision
    scale = source.scale or 0
    if column.narrowed:
        digits, scale = 38, wire.scale if pa.types.is_decimal(wire) else 0
    return next((name for is_kind, name in kinds if is_kind(wire)), f"NUMBER({digits}, {scale})")
