"""Which rows an incremental run reads: those between a stored low watermark and a high one frozen when it is planned.

The bounds are text, with nine digits of a second, as Snowflake compares them; times are in UTC. The lower bound reaches
back by an overlap: a transaction that set its watermark before the last run's upper bound and committed after it was
not seen then. Rows read twice are found unchanged and left untouched. Rows without a watermark are read each time.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Literal

from snowmelt import disclosure
from snowmelt.errors import ConfigError
from snowmelt.models import ColumnPlan, SourceColumn, WatermarkPlan
from snowmelt.snowflake_lexer import bracketed
from snowmelt.types import quoted

Kind = Literal["number", "date", "timestamp", "moment", "text"]
_KINDS: dict[str, Kind] = {
    "FIXED": "number",
    "DATE": "date",
    "TIMESTAMP_NTZ": "timestamp",
    "TIMESTAMP_LTZ": "moment",
    "TIMESTAMP_TZ": "moment",
    "TEXT": "text",
}
_NINE_DIGITS = "YYYY-MM-DD HH24:MI:SS.FF9"
_DATE_LENGTH = len("2024-01-01")
_MICROSECOND_LENGTH = len("2024-01-01 00:00:00.000000")


def kind_of(column: SourceColumn) -> Kind | None:
    """How values of the column are ordered and written, or None when they cannot serve as a watermark."""
    return _KINDS.get(column.type)


def bounds_query(column: SourceColumn, *, source_table: str, source_filter: str | None) -> str:
    """The highest watermark as text, and how many rows have none; one row."""
    name = quoted(column.name)
    where = f"\nWHERE {bracketed(source_filter)}" if source_filter else ""
    return (
        f"SELECT {_as_text(column, f'MAX({name})')} AS HIGH, COUNT_IF({name} IS NULL) AS NULL_ROWS\n"
        f"FROM {source_table}{where}"
    )


def plan(
    column: SourceColumn, target: str, *, stored: str | None, high: str | None, null_rows: int, overlap: timedelta
) -> WatermarkPlan:
    """The bounds of this run; without a stored watermark every row up to the high one is read."""
    kind = kind_of(column)
    if kind is None:
        raise ConfigError(
            f"column {column.name} of type {column.type} cannot be a watermark; name a number, date or time"
        )
    low = None if stored is None else _earlier(kind, stored, overlap)
    return WatermarkPlan(source=column.name, target=target, kind=kind, low=low, high=high, null_rows=null_rows)


def predicate(bounds: WatermarkPlan) -> str:
    """The condition that the run's rows meet, in Snowflake's SQL."""
    name = quoted(bounds.source)
    if bounds.high is None:
        return f"{name} IS NULL"
    between = f"{name} <= {literal(bounds.kind, bounds.high)}"
    if bounds.low is not None:
        between = f"{name} >= {literal(bounds.kind, bounds.low)} AND {between}"
    return f"({between}) OR {name} IS NULL"


def later(kind: Kind, one: str | None, other: str | None) -> str | None:
    """The later of two watermarks; a watermark never moves back."""
    if one is None or other is None:
        return other if one is None else one
    if kind == "number":
        return max(one, other, key=Decimal)
    return max(one, other)  # dates and times are written so that text sorts as they do


def literal(kind: Kind, value: str) -> str:
    """The value as an SQL literal of its own type; ConfigError when it is no such value."""
    quoted = "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    try:
        match kind:
            case "number":
                return format(Decimal(value), "f")
            case "date":
                date.fromisoformat(value)
                return f"{quoted}::DATE"
            case "timestamp":
                datetime.fromisoformat(value[:_MICROSECOND_LENGTH])
                return f"{quoted}::TIMESTAMP_NTZ"
            case "moment":
                datetime.fromisoformat(value[:_MICROSECOND_LENGTH])
                return f"'{value} +0000'::TIMESTAMP_TZ"
            case "text":
                return quoted
    except (ValueError, InvalidOperation) as error:
        raise ConfigError(
            f"the watermark {disclosure.fingerprint(value)} is no {kind}; look at migration_status.watermarks, "
            "correct or delete its row"
        ) from error


def target_column(columns: Sequence[ColumnPlan], source: str, target: str | None) -> str | None:
    """The loaded target column that holds the watermark, or None when there is no such column.

    ``source`` is exact. ``target`` may differ from the column's name in case, if only one column does.
    """
    if target is None:
        return next((c.target.name for c in columns if c.source.name == source), None)
    names = [c.target.name for c in columns]
    alike = [n for n in names if n == target] or [n for n in names if n.casefold() == target.casefold()]
    return alike[0] if len(alike) == 1 else None


def _as_text(column: SourceColumn, value: str) -> str:
    match kind_of(column):
        case "timestamp":
            return f"TO_VARCHAR({value}::TIMESTAMP_NTZ, '{_NINE_DIGITS}')"
        case "moment":
            return f"TO_VARCHAR(CONVERT_TIMEZONE('UTC', {value})::TIMESTAMP_NTZ, '{_NINE_DIGITS}')"
        case "date":
            return f"TO_VARCHAR({value}, 'YYYY-MM-DD')"
        case _:
            return f"TO_VARCHAR({value})"


def _earlier(kind: Kind, value: str, overlap: timedelta) -> str:
    match kind:
        case "date":
            days = -(-overlap // timedelta(days=1))
            return (date.fromisoformat(value[:_DATE_LENGTH]) - timedelta(days=days)).isoformat()
        case "timestamp" | "moment":
            value = value.removesuffix("+00")  # PostgreSQL's own text names the zone, which is UTC in all our sessions
            rest = value[_MICROSECOND_LENGTH:]
            moment = datetime.fromisoformat(value[:_MICROSECOND_LENGTH]) - overlap
            return f"{moment.isoformat(sep=' ', timespec='microseconds')}{rest}"
        case _:
            return value
