"""Words that messages, commands and reports have in common."""

from collections.abc import Iterable

WITH_NO_RESUME = "with --no-resume (no_resume: true in the execution's input)"
"""How a new run is asked for, on the command line and on AWS."""
WITH_ACCEPT_REJECTED = "with --accept-rejected (accept_rejected: true in the execution's input)"
WITH_ALLOW_SHRINK = "with --allow-shrink (allow_shrink: true in the execution's input)"

NOTHING_TO_LOAD = "none of its tables is enabled, so there is nothing to load"
"""Of a source that is among several, or in a config of the predecessor."""


def with_resume_run_id(run_id: str) -> str:
    """Return how that run is named to a start, on the command line and on AWS."""
    return f'with --resume-run-id {run_id} (resume_run_id: "{run_id}" in the execution\'s input)'


def counted(count: int, one: str, many: str | None = None) -> str:
    """``1 table``, ``1,234 tables``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


_MOST_OMISSIONS = 3


def omissions(tables: Iterable[tuple[str, str]]) -> str:
    """Return what does not arrive of tables, each with its clause, to follow what is said of them; or nothing."""
    said = [f"{table} {clause}" for table, clause in tables if clause]
    more = [f"{counted(len(said) - _MOST_OMISSIONS, 'more table')}"] if len(said) > _MOST_OMISSIONS else []
    return f"; not loaded or not kept: {'; '.join([*said[:_MOST_OMISSIONS], *more])}" if said else ""


def gave_way(rows: int) -> str:
    """Say how many rows of the source are not in the target because a newer one has the same key."""
    return f"{counted(rows, 'row')} gave way to a newer one of the same key"
