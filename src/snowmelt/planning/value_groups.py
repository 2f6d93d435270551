"""The grid on text, UUIDs among it: groups of values that begin alike.

What all values begin with says nothing, so a group is named by that and a few characters more. Ranges of groups are
cut between values as Snowflake orders them, never by lists of values.
"""

LONGEST_COMMON_START = 64
"""Values that are alike beyond this many characters are taken one by one, by the second query."""
_MORE_CHARACTERS = ((128, 3), (2_048, 4))
"""Up to so many chunks, so many characters: enough when a character is one of sixteen, as in a UUID."""
_MOST_CHARACTERS = 5


def width(low: str, high: str, row_count: str, batch_size: int) -> str:
    """SQL for the number of characters that name a group."""
    alike = " ".join(
        f"WHEN LEFT({low}, {length}) <> LEFT({high}, {length}) THEN {length - 1}"
        for length in range(1, LONGEST_COMMON_START + 1)
    )
    more = " ".join(f"WHEN {row_count} <= {chunks * batch_size:d} THEN {n}" for chunks, n in _MORE_CHARACTERS)
    return f"(CASE {alike} ELSE {LONGEST_COMMON_START} END + CASE {more} ELSE {_MOST_CHARACTERS} END)"


def place(key: str, low: str, cell_width: str) -> str:  # noqa: ARG001 - what it begins with is enough
    """SQL for the group of a value; groups are in the order of their values."""
    return f"LEFT({key}, {cell_width})"
