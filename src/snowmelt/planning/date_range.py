"""The grid on dates and on time stamps.

Dates are cells themselves, and hours (in UTC) those of time stamps: cells without rows cost nothing, so neither needs
to know the first and the last key, and a 9999-12-31 among the dates of one year makes no cell too full. Sparse cells
are put together to ranges of days, weeks and months when they are packed. An hour that is too full gets cells as short
as its density asks for, down to a microsecond, that begin with the second or the minute.
"""

DAYS = "1"
HOURS = "3600000000"
"""The widths of the first grids, in their units."""

_SECOND = 1_000_000
_STEPS = tuple(_SECOND * seconds for seconds in (1, 5, 15, 60, 300, 900))
_HOUR = _SECOND * 3_600


def date_extent(low: str, high: str) -> str:  # noqa: ARG001 - a cell is a day, however many there are
    """SQL for the distance between two dates, which does not matter."""
    return "0"


def date_width(extent: str, cells: str) -> str:  # noqa: ARG001
    """SQL for the width of a cell, in days."""
    return "1"


def date_place(key: str, step: str) -> str:  # noqa: ARG001 - the date itself
    """SQL for the cell of a date."""
    return key


def timestamp_extent(low: str, high: str) -> str:
    """SQL for the microseconds between two time stamps."""
    return f"DATEDIFF('MICROSECOND', {low}, {high})"


def timestamp_width(extent: str, cells: str) -> str:
    """SQL for the width of a cell, in microseconds: the least of the steps that makes no more cells than that."""
    steps = " ".join(f"WHEN {extent} / {cells} <= {step} THEN {step}" for step in _STEPS)
    finest = f"WHEN {extent} <= {cells} THEN 1 WHEN {extent} / {cells} <= {_SECOND // 5} THEN CEIL({extent} / {cells})"
    return f"(CASE {finest} {steps} ELSE {_HOUR} END)::NUMBER(18, 0)"


def timestamp_place(key: str, step: str) -> str:
    """SQL for the cell of a time stamp; it never falls as time goes on."""
    return f"FLOOR(DATE_PART(EPOCH_MICROSECOND, {key}) / {step})::INTEGER"
