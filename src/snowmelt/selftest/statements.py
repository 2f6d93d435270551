"""Statements that read no table: one that gives many rows, and one that runs for seconds and costs next to nothing."""

import uuid

ROWS = 3_000
"""Enough for several result batches."""


def numbers() -> str:
    """Return a SELECT of the numbers from 0 on, in a column N."""
    return f"SELECT ROW_NUMBER() OVER (ORDER BY SEQ4()) - 1 AS N FROM TABLE(GENERATOR(ROWCOUNT => {ROWS:d}))"  # noqa: S608


def for_seconds(seconds: int, selected: str = "COUNT(*)") -> str:
    """Return a SELECT that Snowflake runs for so long; ``selected`` is what it gives, an aggregate.

    No two are the same, or Snowflake would answer with the result that it has.
    """
    return f"SELECT {selected}, '{uuid.uuid4().hex}' FROM TABLE(GENERATOR(TIMELIMIT => {seconds:d}))"  # noqa: S608 - a number
