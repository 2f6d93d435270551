"""What a session pins, as an account, a user or a role may have another default for it.

Formats of dates and times are not among them: every text that is read or written here names its own, while a
``source_filter`` may count on the account's.
"""

from dataclasses import dataclass
from typing import Any

from snowmelt.planning.one_scan import SMALL_BATCH_MB


@dataclass(frozen=True)
class Pinned:
    """A parameter with the value that every session has, and why."""

    name: str
    value: Any
    reason: str


ALWAYS = (
    Pinned("TIMEZONE", "UTC", "moments are written and compared in UTC"),
    Pinned("ROWS_PER_RESULTSET", 0, "any other number cuts every result after so many rows, without a word"),
    Pinned("QUOTED_IDENTIFIERS_IGNORE_CASE", False, "quoted names are exact; else columns of other case are not found"),
    Pinned("PYTHON_CONNECTOR_QUERY_RESULT_FORMAT", "ARROW", "batches are read as Arrow; JSON has other types"),
    Pinned("MULTI_STATEMENT_COUNT", 1, "a source_filter can never begin a second statement"),
    Pinned("STATEMENT_QUEUED_TIMEOUT_IN_SECONDS", 0, "a busy warehouse is waited for; the run has its own deadlines"),
    Pinned("ABORT_DETACHED_QUERY", False, "a scan goes on when the function that submitted it has ended"),
    Pinned("AUTOCOMMIT", True, "no transaction stays open, whose reads would see one moment"),
    Pinned("CLIENT_SESSION_KEEP_ALIVE", False, "no thread keeps a session alive that a frozen function has left"),
    Pinned("CLIENT_RESULT_CHUNK_SIZE", SMALL_BATCH_MB, "megabytes of a batch: what a worker holds in memory at a time"),
    Pinned("CLIENT_TELEMETRY_ENABLED", False, "nothing about a run is sent anywhere else"),
)


def pinned(*, query_tag: str, statement_seconds: int) -> dict[str, Any]:
    """Return the parameters of a session, with what differs from run to run."""
    return {each.name: each.value for each in ALWAYS} | {
        "QUERY_TAG": query_tag,
        "STATEMENT_TIMEOUT_IN_SECONDS": statement_seconds,
    }
