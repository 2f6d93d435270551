"""Where the marks of a chart lie; the page draws them. All places are percentages, so that a chart fits any width."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import floor, log10

from snowmelt.reports.facts import Durations, Pace, Table
from snowmelt.reports.words import duration, number, rate

MOST_LANES = 60
"""Tables of the timeline; of more, those that took longest."""
_NARROWEST = 0.4


@dataclass(frozen=True)
class Bar:
    """A column of a chart, or a part of a lane: ``x`` from the left, ``y`` from the top."""

    x: float
    width: float
    y: float
    height: float
    says: str


@dataclass(frozen=True)
class Line:
    """A line across a chart, and what is written on it."""

    place: float
    label: str


@dataclass(frozen=True)
class Columns:
    """Columns side by side, horizontal lines behind them, marks below."""

    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    marks: tuple[Line, ...]


@dataclass(frozen=True)
class Phase:
    """What a table was at, from when to when."""

    kind: str
    bar: Bar


@dataclass(frozen=True)
class Lane:
    """A table of the timeline."""

    table: str
    note: str
    status: str
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class Timeline:
    """Tables one below the other, on one clock."""

    lanes: tuple[Lane, ...]
    marks: tuple[Line, ...]
    left_out: int


def pace(parts: Sequence[Pace]) -> Columns | None:
    """Rows per second over time."""
    if not parts:
        return None
    start, stop = parts[0].starts_at, parts[-1].starts_at
    seconds = (stop - start).total_seconds() + parts[-1].seconds
    top, lines = _scale(max(part.rows_per_second for part in parts))
    bars = []
    for part in parts:
        x = (part.starts_at - start).total_seconds() / seconds * 100
        says = (
            f"{duration((part.starts_at - start).total_seconds())} after the first chunk: "
            f"{rate(part.rows_per_second)}, {part.chunks_at_once:.1f} chunks at once"
        )
        bars.append(_column(x, part.seconds / seconds * 100, part.rows_per_second / top, says))
    return Columns(tuple(bars), tuple(Line(place, f"{label} rows/s") for place, label in lines), _marks(start, seconds))


def durations(parts: Sequence[Durations]) -> Columns | None:
    """How many chunks took how long; each column is as many times longer than the one before."""
    if not parts:
        return None
    low, high = parts[0].low_seconds, parts[-1].high_seconds
    if high / low < 1.01:  # all took the same
        says = f"{number(parts[0].chunks)} in {duration(low)}"
        return Columns((Bar(40, 20, 10, 90, says),), (), (Line(50, duration(low)),))
    width = log10(parts[0].high_seconds / low) / log10(high / low) * 100
    top, lines = _scale(max(part.chunks for part in parts))
    bars = tuple(
        _column(
            log10(part.low_seconds / low) / log10(high / low) * 100,
            width,
            part.chunks / top,
            f"{number(part.chunks)} in {duration(part.low_seconds)} to {duration(part.high_seconds)}",
        )
        for part in parts
    )
    marks = tuple(Line(place, duration(low * (high / low) ** (place / 100))) for place in (0, 50, 100))
    return Columns(bars, tuple(Line(place, f"{label} chunk{'s' * (label != '1')}") for place, label in lines), marks)


def timeline(tables: Sequence[Table], until: datetime) -> Timeline | None:
    """When each table was scanned, loaded and finished."""
    begun = [table for table in tables if table.started_at is not None]
    if not begun:
        return None
    longest = sorted(begun, key=lambda table: table.seconds or 0.0, reverse=True)[:MOST_LANES]
    start = min(_begin(table) for table in longest)
    seconds = max((max(_end(table, until) for table in longest) - start).total_seconds(), 0.001)
    lanes = tuple(
        _lane(table, start, seconds, until) for table in sorted(longest, key=lambda t: (_begin(t), t.table_id))
    )
    return Timeline(lanes, _marks(start, seconds), len(begun) - len(longest))


def _begin(table: Table) -> datetime:
    if table.started_at is None:
        raise ValueError(f"table {table.table} has not begun")
    return table.started_at


def _end(table: Table, until: datetime) -> datetime:
    return table.completed_at or until


def _lane(table: Table, start: datetime, seconds: float, until: datetime) -> Lane:
    end = _end(table, until)
    claimed = min(table.first_claimed_at or end, end)
    is_over = table.status in ("completed", "failed", "abandoned", "finalizing")
    loaded = min(table.last_loaded_at or claimed, end) if is_over else end
    spans = (
        ("scan", "scanned and planned", _begin(table), claimed),
        ("load", "loaded", claimed, max(claimed, loaded)),
        ("finish", "waits for the last table, then indexes, statistics, checks", max(claimed, loaded), end),
    )
    phases = []
    for kind, words, low, high in spans:
        length = (high - low).total_seconds()
        if length > 0:
            x = (low - start).total_seconds() / seconds * 100
            width = min(max(length / seconds * 100, _NARROWEST), 100 - x)
            phases.append(Phase(kind, Bar(x, width, 0, 100, f"{table.table}: {words}, {duration(length)}")))
    note = f"{duration(table.seconds)} · {number(table.rows)} rows"
    return Lane(table.table, note, table.status, tuple(phases))


def _column(x: float, width: float, part: float, says: str) -> Bar:
    """A column with a gap to the next one; what is not nothing is seen."""
    height = max(part * 100, 0.7) if part > 0 else 0.0
    gap = min(width * 0.15, 0.3)
    return Bar(round(x + gap / 2, 3), round(width - gap, 3), round(100 - height, 3), round(height, 3), says)


def _scale(most: float) -> tuple[float, tuple[tuple[float, str], ...]]:
    """The top of the scale, and two to four round numbers with their places from the top."""
    if most <= 0:
        return 1.0, ()
    step = 10 ** floor(log10(most))
    step = next(s for s in (step / 4, step / 2, step, step * 2, step * 5) if most / s <= 4)
    if most >= 1:
        step = max(1, step)
    top = most * 1.08
    ticks = [step * n for n in range(1, floor(most / step + 1e-9) + 1)]
    return top, tuple((round(100 - tick / top * 100, 3), f"{tick:,.10g}") for tick in ticks)


def _marks(start: datetime, seconds: float) -> tuple[Line, ...]:
    """Time since the start, at both ends and in the middle; the moment it began at the first."""
    begin = Line(0, f"{start:%H:%M:%S}")
    return (begin, *(Line(place, f"+{duration(seconds * place / 100)}") for place in (50, 100)))
