"""The grid on a number: cells of equal width.

Places are computed in floating point: rounding keeps the order of numbers, so a cell still holds neighbours, and no
span overflows. Where keys are so big and so close that many round to one place, the second query goes value by value.
"""

CELLS_PER_CHUNK = 8
FEWEST_CELLS = 512
"""Finer costs nothing up to about here, and makes ranges more even."""


def cells(row_count: str, batch_size: int) -> str:
    """SQL for the number of cells that cut so many rows finely enough."""
    return f"GREATEST({FEWEST_CELLS}, {CELLS_PER_CHUNK} * {row_count} / {batch_size:d})"


def width(low: str, high: str, row_count: str, batch_size: int) -> str:
    """SQL for the whole number that is the width of a cell."""
    span = f"({high}::FLOAT - {low}::FLOAT)"
    return f"CEIL(GREATEST({span} / {cells(row_count, batch_size)}, 1))::NUMBER(37, 0)"


def place(key: str, low: str, cell_width: str) -> str:
    """SQL for the cell of a key; it never falls as the key rises."""
    return f"FLOOR(({key}::FLOAT - {low}::FLOAT) / {cell_width}::FLOAT)"
