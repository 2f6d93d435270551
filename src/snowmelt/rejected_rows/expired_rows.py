"""Rejected rows that were kept as long as ``rejects_retention`` says."""

from dataclasses import dataclass
from datetime import timedelta

from snowmelt.postgres.session import Row, Session
from snowmelt.sql_text import queries
from snowmelt.wording import counted


@dataclass(frozen=True)
class ExpiredRows:
    """Rejected rows of a table of a run that ``rejects_retention`` has removed; they still count as rejected."""

    run_id: str
    table: str
    rows: int

    def __str__(self) -> str:
        return (
            f"{self.table}: {counted(self.rows, 'rejected row')} of run {self.run_id} had waited longer than "
            "rejects_retention and cannot be replayed any more; a new run reads what the source has in their place"
        )


def remove(session: Session, source_name: str, older_than: timedelta) -> tuple[ExpiredRows, ...]:
    """Remove what runs of a source that have ended rejected longer ago than that, and return how much of which table.

    The session's role removes only what is its own.
    """
    rows = session.rows(queries.query("expire_rejected_rows"), source_name=source_name, older_than=older_than)
    return tuple(map(_expired_rows, rows))


def read(
    session: Session, run_id: str, *, table: str | None = None, table_id: int | None = None
) -> tuple[ExpiredRows, ...]:
    """Return how many rejected rows of a run, or of one table of it, are not kept any more."""
    rows = session.rows(queries.query("expired_rows"), run_id=run_id, table=table, table_id=table_id)
    return tuple(map(_expired_rows, rows))


def _expired_rows(row: Row) -> ExpiredRows:
    return ExpiredRows(run_id=row["run_id"], table=row["source_table"], rows=row["rows"])
