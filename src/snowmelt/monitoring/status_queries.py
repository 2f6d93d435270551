"""What the status schema holds of a run at one moment, in a bounded number of statements."""

from datetime import datetime

from snowmelt.postgres.session import Row, Session
from snowmelt.sql_text import queries


def look_only(session: Session, *, statement_seconds: float) -> None:
    """From here on the session can change nothing, a transaction sees one state, and no statement takes longer."""
    session.look_only()
    session.run(queries.query("limit_session"), milliseconds=round(statement_seconds * 1000))


def runs(session: Session, source_name: str, *, limit: int) -> list[Row]:
    """The latest runs of a source, newest first."""
    return session.rows(queries.query("overview_runs"), source_name=source_name, limit=limit)


def run(session: Session, source_name: str, run_id: str) -> Row | None:
    """A run with its latest driver; None when the source has none of that name."""
    return session.row(queries.query("overview_run"), source_name=source_name, run_id=run_id)


def tables(session: Session, run_id: str, *, since: datetime) -> list[Row]:
    """Every table of a run, with a letter for each of its chunks; recent rows are those since that moment."""
    return session.rows(queries.query("overview_tables"), run_id=run_id, since=since)


def flows(session: Session, run_id: str, *, begin: datetime, step_seconds: float) -> list[Row]:
    """Rows by the steps of time, counted from ``begin``, in which their chunks began and ended."""
    return session.rows(queries.query("overview_flows"), run_id=run_id, begin=begin, step_seconds=step_seconds)


def workers(session: Session, run_id: str, *, limit: int) -> list[Row]:
    """Chunks that are being loaded and by whom, the longest first."""
    return session.rows(queries.query("overview_workers"), run_id=run_id, limit=limit)


def chunks(session: Session, source_name: str, run_id: str, table_id: int, *, position: int, limit: int) -> list[Row]:
    """Some chunks of a table, from a position in their order on."""
    return session.rows(
        queries.query("overview_chunks"),
        source_name=source_name,
        run_id=run_id,
        table_id=table_id,
        position=position,
        limit=limit,
    )
