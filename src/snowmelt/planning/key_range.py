"""The grid on a number: cells of equal width.

Places are computed in floating point: rounding keeps the order of numbers, so a cell still holds neighbours, and no
span overflows. Where keys are so big and so close that many round to one place, the second query goes value by value.
"""

CELLS_PER_CHUNK = 8
FEWEST_CELLS = 512
"""Finer costs nothing up to about here, and makes ranges more even."""


def extent(low: str, high: str) -> str:
    """SQL for the distance between two keys."""
    return f"{high}::FLOAT - {low}::FLOAT"


def width(extent: str, cells: str) -> str:
    """SQL for the whole number that is the width of so many cells over that distance."""
    return f"IFF({extent} <= {cells}, 1, CEIL({extent} / {cells}))::NUMBER(37, 0)"


def place(key: str, step: str) -> str:
    """SQL for the cell of a key on a grid of that width; it never falls as the key rises."""
    return f"FLOOR({key}::FLOAT / {step})"
