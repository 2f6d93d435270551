"""The grid on text, UUIDs among it: groups of values that begin alike.

What all values begin with says nothing, so a group is named by that and a few characters more. Ranges of groups are
cut between values as Snowflake orders them, never by lists of values.
"""

LONGEST_COMMON_START = 64
"""Values that are alike beyond this many characters are taken one by one, by the second query."""
_MORE_CHARACTERS = ((4_096, 3), (65_536, 4))
"""For up to so many cells, so many characters: enough when a character is one of sixteen, as in a UUID."""
_MOST_CHARACTERS = 5

LENGTHS = f"TABLE(GENERATOR(ROWCOUNT => {LONGEST_COMMON_START:d}))"
"""SQL for as many rows as there are lengths to compare."""


def extent(low: str, high: str) -> str:
    """SQL, an aggregate over lengths n, for the number of characters that both values begin with."""
    return f"COUNT_IF(LEFT({low}, n) = LEFT({high}, n))"


def width(extent: str, cells: str) -> str:
    """SQL for the number of characters that name a group."""
    more = " ".join(f"WHEN {cells} <= {most} THEN {n}" for most, n in _MORE_CHARACTERS)
    return f"{extent} + CASE {more} ELSE {_MOST_CHARACTERS} END"


def place(key: str, step: str) -> str:
    """SQL for the group of a value; groups are in the order of their values."""
    return f"LEFT({key}, {step})"
