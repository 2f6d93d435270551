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


def select(columns: Sequence[ColumnPlan], *, database: str, schema: str, table: str, source_filter: str | None) -> str:
    """Read the columns in their order, converted for the wire, of the rows the filter lets through.

    The filter is the user's own SQL. It stands in brackets on lines of its own, so that neither an OR nor a
    comment in it reaches beyond them; and Snowflake refuses a second statement in one request.
    """
    wanted = ",\n       ".join(f"{c.select} AS {snowflake_identifier(c.target.name)}" for c in columns)
    text = f"SELECT {wanted}\nFROM {source_table(database, schema, table)}"
    return f"{text}\nWHERE (\n{source_filter}\n)" if source_filter else text
