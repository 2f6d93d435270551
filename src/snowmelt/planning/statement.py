"""The statement that reads a table."""

from collections.abc import Sequence

from snowmelt.models import ColumnPlan
from snowmelt.types import snowflake_identifier


def source_table(database: str, schema: str, table: str) -> str:
    """The table's full name, every part quoted."""
    return ".".join(snowflake_identifier(part) for part in (database, schema, table))


def describe(database: str, schema: str, table: str) -> str:
    """Every column of a table or view; for the server to describe, not to run."""
    return f"SELECT * FROM {source_table(database, schema, table)}"  # noqa: S608 - quoted above


def select(columns: Sequence[ColumnPlan], *, source: str, conditions: Sequence[str]) -> str:
    """Read the columns in their order, converted for the wire, of the rows that meet every condition.

    ``source`` is the table's full name, quoted. A condition may be the user's own SQL: each stands in brackets on
    lines of its own, so that neither an OR nor a comment in it reaches beyond them, and Snowflake refuses a second
    statement in one request.
    """
    wanted = ",\n       ".join(f"{c.select} AS {snowflake_identifier(c.target.name)}" for c in columns)
    text = f"SELECT {wanted}\nFROM {source}"
    return f"{text}\nWHERE {all_of(conditions)}" if conditions else text


def duplicates(key: Sequence[str], *, source: str, conditions: Sequence[str]) -> str:
    """A few of the keys that more than one row has."""
    names = ", ".join(map(snowflake_identifier, key))
    where = f"\nWHERE {all_of(conditions)}" if conditions else ""
    return f"SELECT {names}\nFROM {source}{where}\nGROUP BY {names}\nHAVING COUNT(*) > 1\nLIMIT 3"


def all_of(conditions: Sequence[str]) -> str:
    """The conditions together, each on lines of its own."""
    return "\n  AND ".join(f"(\n{condition}\n)" for condition in conditions)
