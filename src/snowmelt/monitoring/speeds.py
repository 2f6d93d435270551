"""How fast rows were loaded: the same number in every command, on the dashboard and in the report."""

from collections.abc import Iterable
from datetime import datetime

Span = tuple[datetime | None, datetime | None]
"""The first claim of a chunk and the last mark; None before there is one."""


def loading_seconds(spans: Iterable[Span]) -> float | None:
    """Return the seconds from the first claim to the last mark of all spans together; None before there are both.

    Waiting for Snowflake before it, and indexes and verification after it, are no part of it.
    """
    known = [(began, ended) for began, ended in spans if began is not None and ended is not None]
    if not known:
        return None
    return (max(ended for _, ended in known) - min(began for began, _ in known)).total_seconds()


def rows_per_second(rows: float, seconds: float | None) -> float | None:
    """Return rows over seconds; None where no row was loaded, or no time is known."""
    return rows / seconds if rows and seconds and seconds > 0 else None
