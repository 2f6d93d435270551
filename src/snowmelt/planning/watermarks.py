"""Which rows an incremental run reads: those between a stored low watermark and a high one frozen when it is planned.

The bounds are text, with nine digits of a second, as Snowflake compares them; times are in UTC. The lower bound reaches
back by an overlap: a transaction that set its watermark before the last run's upper bound and committed after it was
not seen then. Rows read twice are found unchanged and left untouched. Rows without a watermark are read each time.

A watermark beyond the clock, such as 9999-12-31, is no moment of a change. With a limit it counts as none: such rows
are read each time, and the high bound is the highest of the others.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from snowmelt import disclosure
from snowmelt.columns.type_pairs import quoted
from snowmelt.errors import ConfigError
from snowmelt.models import ColumnPlan, SourceColumn, WatermarkPlan
from snowmelt.planning import calendar_text
from snowmelt.sql_text import literals
from snowmelt.sql_text.lexer import bracketed

Kind = Literal["number", "date", "timestamp", "moment", "text"]
_KINDS: dict[str, Kind] = {
    "FIXED": "number",
    "DATE": "date",
    "TIMESTAMP_NTZ": "timestamp",
    "TIMESTAMP_LTZ": "moment",
    "TIMESTAMP_TZ": "moment",
    "TEXT": "text",
}
_TIMES = ("date", "timestamp", "moment")
"""Kinds that a clock can be compared with."""
_TIME_DIGITS = "HH24:MI:SS.FF9"
_EASTERNMOST = timedelta(hours=14)
"""Where a column does not say its zone, no clock on earth is further ahead of UTC."""
_NAMED_YEARS = range(1, 10_000)
"""Years that Snowflake reads in a literal."""
_LEAP_YEAR = 2000
_SENTINEL = re.compile(r"9{4,}(-?12-?31\D?.*|9*)|2147483647|9223372036854775807")


@dataclass(frozen=True)
class Found:
    """What the source's rows have for watermarks."""

    highest: str | None
    within: str | None
    """The highest that is not beyond the clock; None where none is, or where there is no clock to compare with."""
    null_rows: int
    beyond_rows: int = 0
    """Rows whose watermark is beyond the clock."""


def kind_of(column: SourceColumn) -> Kind | None:
    """How values of the column are ordered and written, or None when they cannot serve as a watermark."""
    return _KINDS.get(column.type)


# --- the source's watermarks ------------------------------------------------------------------------------------------


def clock_limit(kind: Kind, now: datetime) -> str | None:
    """Return the last watermark that is not beyond the clock; None for kinds that no clock can be compared with."""
    if kind not in _TIMES:
        return None
    return _written(kind, calendar_text.of_clock(now if kind == "moment" else now + _EASTERNMOST))


def bounds_query(column: SourceColumn, *, limit: str | None, source_table: str, source_filter: str | None) -> str:
    """Build the query for the highest watermark, the highest within the limit, and rows without one or beyond it.

    Of a time two columns come for each, the year and what follows it: text of a year with other than four digits is not
    the same everywhere.
    """
    name, kind = quoted(column.name), kind_of(column)
    highest = [f"MAX({name})"]
    counts = [f"COUNT_IF({name} IS NULL) AS NULL_ROWS"]
    if limit is not None and kind is not None:
        highest.append(f"MAX(IFF({name} <= {literal(kind, limit)}, {name}, NULL))")
        counts.append(f"COUNT_IF({name} > {literal(kind, limit)}) AS BEYOND_ROWS")
    texts = [f"{text} AS HIGH_{i}" for i, text in enumerate(t for value in highest for t in _as_texts(column, value))]
    where = f"\nWHERE {bracketed(source_filter)}" if source_filter else ""
    selected = ",\n       ".join((*texts, *counts))
    return f"SELECT {selected}\nFROM {source_table}{where}"


def read_bounds(column: SourceColumn, row: Sequence[object]) -> Found:
    """Read the answer to ``bounds_query``."""
    kind = kind_of(column)
    if kind not in _TIMES:
        high, null_rows = row
        return Found(None if high is None else str(high), None, int(str(null_rows)))
    *texts, null_rows, beyond_rows = row
    highest, within = (_joined(kind, *texts[i : i + 2]) for i in (0, 2))
    return Found(highest, within, int(str(null_rows)), int(str(beyond_rows)))


def _as_texts(column: SourceColumn, value: str) -> Iterator[str]:
    kind = kind_of(column)
    if kind == "moment":
        value = f"CONVERT_TIMEZONE('UTC', {value})"
    if kind in ("moment", "timestamp"):
        value = f"{value}::TIMESTAMP_NTZ"
    if kind in _TIMES:
        yield f"YEAR({value})"
        yield f"TO_VARCHAR({value}, 'MM-DD{'' if kind == 'date' else f' {_TIME_DIGITS}'}')"
    else:
        yield f"TO_VARCHAR({value})"


def _joined(kind: Kind | None, year: object, rest: object) -> str | None:
    if year is None or kind is None:
        return None
    return _written(kind, calendar_text.parse(f"{int(str(year)):04}-{rest}"))


# --- the bounds of a run ----------------------------------------------------------------------------------------------


def plan(
    column: SourceColumn,
    target: str,
    *,
    stored: str | None,
    high: str | None,
    null_rows: int,
    overlap: timedelta,
    limit: str | None = None,
) -> WatermarkPlan:
    """The bounds of this run; without a stored watermark every row up to the high one is read."""
    kind = kind_of(column)
    if kind is None:
        raise ConfigError(
            f"column {column.name} of type {column.type} cannot be a watermark; name a number, date or time"
        )
    low = None if stored is None else _earlier(kind, stored, overlap)
    return WatermarkPlan(
        source=column.name, target=target, kind=kind, low=low, high=high, null_rows=null_rows, limit=limit
    )


def predicate(bounds: WatermarkPlan) -> str:
    """The condition that the run's rows meet, in Snowflake's SQL."""
    name = quoted(bounds.source)
    always = f"{name} IS NULL"
    if bounds.limit is not None:
        always = f"{name} > {literal(bounds.kind, bounds.limit)} OR {always}"
    if bounds.high is None:
        return always
    between = f"{name} <= {literal(bounds.kind, bounds.high)}"
    if bounds.low is not None:
        between = f"{name} >= {literal(bounds.kind, bounds.low)} AND {between}"
    return f"({between}) OR {always}"


def is_value(kind: Kind, text: str) -> bool:
    """Say whether a text is a watermark of that kind."""
    try:
        _order(kind, text)
    except (ValueError, InvalidOperation):
        return False
    return True


def is_after(kind: Kind, one: str, other: str) -> bool:
    """Say whether one watermark is higher than another."""
    return bool(_order(kind, one) > _order(kind, other))


def later(kind: Kind, one: str | None, other: str | None) -> str | None:
    """The later of two watermarks; a watermark never moves back."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other, key=lambda value: _order(kind, value))


def to_store(bounds: WatermarkPlan, stored: str | None) -> str | None:
    """Return the watermark to store when all of the run's rows are in; None where nothing is to be stored.

    What is stored gives way where it is beyond the limit, or no value of the kind, as after a change of the column.
    """
    if bounds.high is None or stored is None or not is_value(bounds.kind, stored):
        return bounds.high
    if bounds.limit is not None and is_after(bounds.kind, stored, bounds.limit):
        return bounds.high
    return later(bounds.kind, stored, bounds.high)


def looks_like_a_sentinel(kind: Kind, highest: str) -> bool:
    """Say whether a number or a text stands for no end rather than for a change; times are compared with the clock."""
    return kind in ("number", "text") and _SENTINEL.fullmatch(highest) is not None


def literal(kind: Kind, value: str) -> str:
    """Write the value as SQL of its own type, to be bound where it is sent; ConfigError when it is no such value."""
    try:
        match kind:
            case "number":
                return literals.number(format(_order(kind, value), "f"))
            case "text":
                return literals.text(value)
            case _:
                return _time_literal(kind, calendar_text.parse(value))
    except (ValueError, InvalidOperation) as error:
        raise ConfigError(f"the watermark {disclosure.fingerprint(value)} is no {kind}") from error


def in_postgres(kind: Kind, value: str) -> str:
    """Write a bound as the target has it: digits below the microsecond are cut off, where PostgreSQL would round."""
    return calendar_text.parse(value).in_postgres(is_date=kind == "date") if kind in _TIMES else value


def target_column(columns: Sequence[ColumnPlan], source: str, target: str | None) -> str | None:
    """The loaded target column that holds the watermark, or None when there is no such column.

    ``source`` is exact. ``target`` may differ from the column's name in case, if only one column does.
    """
    if target is None:
        return next((c.target.name for c in columns if c.source.name == source), None)
    names = [c.target.name for c in columns]
    alike = [n for n in names if n == target] or [n for n in names if n.casefold() == target.casefold()]
    return alike[0] if len(alike) == 1 else None


def _time_literal(kind: Kind, moment: calendar_text.Moment) -> str:
    """Write the moment; another year than Snowflake reads is counted from a leap year, which has every day."""
    is_named = moment.year in _NAMED_YEARS
    day = moment.day_text(None if is_named else _LEAP_YEAR)
    match kind:
        case "date":
            text = literals.date(day)
        case "timestamp":
            text = literals.timestamp_ntz(f"{day} {moment.time_text()}")
        case _:
            text = literals.timestamp_tz(f"{day} {moment.time_text()}")
    return text if is_named else f"DATEADD(year, {moment.year - _LEAP_YEAR}, {text})"


def _order(kind: Kind, value: str) -> Any:
    """What values of the kind are compared by; ValueError, or InvalidOperation, for what is none."""
    if kind in _TIMES:
        return calendar_text.parse(value)
    if kind == "text":
        return value.encode()
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError(f"{value!r} is no number")
    return number


def _written(kind: Kind, moment: calendar_text.Moment) -> str:
    return moment.day_text() if kind == "date" else f"{moment.day_text()} {moment.time_text()}"


def _earlier(kind: Kind, value: str, overlap: timedelta) -> str:
    match kind:
        case "date":
            days = -(-overlap // timedelta(days=1))
            return _written(kind, calendar_text.parse(value).minus(timedelta(days=days)))
        case "timestamp" | "moment":
            return _written(kind, calendar_text.parse(value).minus(overlap))
        case _:
            return value
