"""The grid on dates and on time stamps.

Dates are cells themselves. Cells of time stamps are as long as the density asks for, from a microsecond to a day,
and counted from midnight, so that ranges tend to begin with an hour or a day. A day is the longest: cells without
rows cost nothing, and so a 9999-12-31 among the dates of one year makes no cell too full. Sparse days are put
together to ranges of weeks and months when cells are packed.
"""

from snowmelt.planning.key_range import cells

_SECOND = 1_000_000
_CELL_MICROSECONDS = tuple(
    _SECOND * seconds for seconds in (1, 5, 15, 60, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400)
)


def date_width(low: str, high: str, row_count: str, batch_size: int) -> str:  # noqa: ARG001 - a cell is a day
    """SQL for the width of a cell, in days."""
    return "1"


def date_place(key: str, low: str, cell_width: str) -> str:  # noqa: ARG001 - the date itself
    """SQL for the cell of a date."""
    return key


def timestamp_width(low: str, high: str, row_count: str, batch_size: int) -> str:
    """SQL for the width of a cell, in microseconds."""
    wanted = f"DATEDIFF('MICROSECOND', {low}, {high}) / {cells(row_count, batch_size)}"
    steps = " ".join(f"WHEN {wanted} <= {step} THEN {step}" for step in _CELL_MICROSECONDS)
    finest = f"WHEN {wanted} <= {_SECOND // 10} THEN CEIL(GREATEST({wanted}, 1))"
    return f"(CASE {finest} {steps} ELSE {_CELL_MICROSECONDS[-1]} END)::NUMBER(18, 0)"


def timestamp_place(key: str, low: str, cell_width: str) -> str:
    """SQL for the cell of a time stamp; it never falls as time goes on."""
    return f"FLOOR(DATEDIFF('MICROSECOND', DATE_TRUNC('DAY', {low}), {key}) / {cell_width}::FLOAT)::INTEGER"
