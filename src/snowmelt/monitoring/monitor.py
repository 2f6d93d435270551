"""What the status schema says of runs, as values for people and pipes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from snowmelt import disclosure, errors
from snowmelt.config import Config, SourceConfig
from snowmelt.deadline import Deadline
from snowmelt.engine import status_store
from snowmelt.errors import MissingError
from snowmelt.loading import indexes
from snowmelt.models import Value, is_run_id
from snowmelt.monitoring import health, snapshot, status_queries
from snowmelt.monitoring.health import Pulse, Vitals
from snowmelt.monitoring.snapshot import RunOverview, RunSummary
from snowmelt.monitoring.speeds import loading_seconds, rows_per_second
from snowmelt.postgres.session import Session
from snowmelt.rejected_rows import store
from snowmelt.wiring import Wiring

INDEX_WORKERS = 2
_PATIENCE_SECONDS = 12 * 3600.0
_SHOWN_RUNS = 20
_SHOWN_WORKERS = 200


class TableProgress(Value):
    """How far one table of a run is. ``source_rows`` is None until its scan has ended."""

    table: str
    target: str
    status: str
    source_rows: int | None
    rows: int
    size_bytes: int
    chunks: int
    chunks_completed: int
    chunks_running: int
    chunks_failed: int
    seconds: float | None
    load_seconds: float | None = None
    """From the first claim of a chunk to the last mark; None before a chunk is loaded."""
    rows_per_second: float | None = None
    """Over ``load_seconds``."""
    rejected: int = 0
    """Rows that were rejected; each is kept with the reason."""
    kept_newer: int = 0
    """Rows that were not loaded because the target's row has a newer watermark."""
    gave_way: int = 0
    """Rows that are not in the target because a newer row of the source has the same key."""
    changed_values: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Values that were changed on the way: column, what was done, how many."""
    verdict: Literal["equal", "different", "not comparable"] | None = None
    """What its verification found; None before one has ended."""
    verdict_reason: str = ""
    """Why it is not comparable, and what to do."""
    omitted: str = ""
    """Source columns that are not loaded, and what pairs of types lose, in one clause."""
    error: str | None = None


class RunProgress(Value):
    """How far one run is."""

    run_id: str
    source_name: str
    status: str
    started_at: datetime
    completed_at: datetime | None
    seconds: float
    load_seconds: float | None = None
    """From the first claim of a chunk of any table to the last mark; None before a chunk is loaded."""
    rows_per_second: float | None = None
    """Over ``load_seconds``."""
    rounds: int
    tables: int
    tables_completed: int
    source_rows: int | None
    rows: int
    chunks: int
    chunks_completed: int
    chunks_failed: int
    error: str | None = None


class ErrorGroup(Value):
    """Errors of a run that are alike: how many, where the first of them is, and what to do."""

    code: str
    what: Literal["run", "table", "chunk", "row", "index"]
    table: str | None
    count: int
    first: str | None
    """The first chunk, row or index, if it is not the table or run itself."""
    example: str
    is_over: bool
    """Whether it was tried again since, or will be by itself."""
    remedy: str | None
    retried: str | None


class ChunkProgress(Value):
    """A chunk in all detail."""

    chunk_id: int
    status: str
    attempts: int
    estimated_rows: int
    actual_rows: int | None
    rejected_rows: int
    size_bytes: int | None
    load_mode: str | None
    inserted_rows: int | None
    updated_rows: int | None
    unchanged_rows: int | None
    kept_newer_rows: int | None
    deduplicated_rows: int | None
    """Gave way to a newer row of the same key."""
    backend_pid: int | None
    started_at: datetime | None
    completed_at: datetime | None
    seconds: float | None
    error_code: str | None
    error_text: str | None


class Monitor:
    """One session that looks and never touches."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def runs(self, source_name: str, limit: int = 20) -> tuple[RunProgress, ...]:
        """The latest runs of a source, newest first."""
        return tuple(_run(row) for row in status_store.list_runs(self._session, source_name=source_name, limit=limit))

    def run(self, run_id: str) -> RunProgress:
        """One run; DataError when there is none of that name."""
        if not is_run_id(run_id):
            raise MissingError(
                f"there is no run {run_id!r}, which is no id; `snowmelt status --all` lists the runs there are"
            )
        rows = status_store.list_runs(self._session, run_id=run_id, limit=1)
        if not rows:
            raise MissingError(f"there is no run {run_id}; `snowmelt status --all` lists the runs there are")
        return _run(rows[0])

    def asked(self, source_name: str, run_id: str | None) -> RunProgress | None:
        """The run of that name, or without one the source's latest; None when it has none yet."""
        return self.run(run_id) if run_id is not None else next(iter(self.runs(source_name, limit=1)), None)

    def tables(self, run_id: str) -> tuple[TableProgress, ...]:
        """The tables of a run."""
        return tuple(_table(row) for row in status_store.progress(self._session, run_id))

    def pulse(self, run: RunProgress) -> Pulse | None:
        """Whether a run that is on moves, waits or stands still; None when it is not on."""
        found = status_store.vitals(self._session, run.run_id) if run.status == "running" else None
        return None if found is None else health.judge(Vitals.model_validate(found))

    def errors(self, run_id: str) -> tuple[ErrorGroup, ...]:
        """What went wrong in a run, the most frequent first."""
        return tuple(_group(row) for row in status_store.error_groups(self._session, run_id))

    def recognise_values(self, run_id: str) -> None:
        """Let this process know the values behind fingerprints, as far as the database keeps them.

        They are those of rejected rows, and bounds. A process that shows values remembers whatever it takes a
        fingerprint of.
        """
        for row in store.read(self._session, run_id):
            for value in (*row.values.values(), *disclosure.quoted(row.reason_in_full)):
                disclosure.fingerprint("" if value is None else value)
        for bound in status_store.bounds(self._session, run_id):
            disclosure.fingerprint(bound)

    def latest(self, source_name: str) -> tuple[RunSummary, ...]:
        """The latest runs of a source, newest first, without a look at their chunks."""
        rows = status_queries.runs(self._session, source_name, limit=_SHOWN_RUNS)
        return tuple(snapshot.summary(row) for row in rows)

    def overview(self, source_name: str, run_id: str) -> RunOverview:
        """All of a run at one moment; DataError when the source has none of that name."""
        run = status_queries.run(self._session, source_name, run_id)
        if run is None:
            raise MissingError(f"source {source_name} has no run {run_id}; `snowmelt runs` lists those it has")
        begin, step_seconds = snapshot.span(run)
        vitals = status_store.vitals(self._session, run_id) if run["status"] == "running" else None
        return snapshot.shape(
            run,
            tables=status_queries.tables(self._session, run_id, since=snapshot.recent_since(run)),
            flows=status_queries.flows(self._session, run_id, begin=begin, step_seconds=step_seconds),
            workers=status_queries.workers(self._session, run_id, limit=_SHOWN_WORKERS),
            pulse=health.judge(Vitals.model_validate(vitals)) if vitals else None,
        )

    def chunks(
        self, source_name: str, run_id: str, table_id: int, *, position: int, limit: int
    ) -> tuple[ChunkProgress, ...]:
        """Some chunks of a table in all detail, from a position in their order on."""
        rows = status_queries.chunks(self._session, source_name, run_id, table_id, position=position, limit=limit)
        return tuple(ChunkProgress.model_validate(row) for row in rows)


@contextmanager
def watch(wiring: Wiring, config: Config, source: SourceConfig) -> Iterator[Monitor]:
    """A monitor on the status schema of a source's target database."""
    with wiring.target(config, source.postgres_database, "snowmelt status") as session:
        status_store.require_installed(session)
        yield Monitor(session)


def install(wiring: Wiring, config: Config, source: SourceConfig) -> str:
    """Put the status schema in place; where that was."""
    with wiring.target(config, source.postgres_database, "snowmelt install") as session:
        status_store.install(session)
        return session.where


class Restored(Value):
    """What became of the indexes to rebuild; failed ones with the reason and what to do."""

    built: tuple[str, ...]
    unfinished: tuple[str, ...]
    failed: tuple[str, ...]
    loading: tuple[str, ...]


def restore_indexes(wiring: Wiring, config: Config, source: SourceConfig, *, run_id: str | None) -> Restored:
    """Rebuild the dropped indexes in a source's target database, those of one run or all; failed ones again."""

    def connect() -> Session:
        return wiring.connect_target(config, source.postgres_database, "snowmelt indexes")

    with connect() as session:
        status_store.require_installed(session)
        indexes.retry_failed(session, run_id)
    restored = indexes.restore(
        connect,
        run_id,
        workers=INDEX_WORKERS,
        deadline=Deadline.after(_PATIENCE_SECONDS),
        code_path=source.code_path,
    )
    return Restored(
        built=restored.built,
        unfinished=tuple(str(index) for index in (*restored.building, *restored.remaining)),
        failed=tuple(index.problem or str(index) for index in restored.failed),
        loading=tuple(str(index) for index in restored.loading),
    )


_CODES_OF = {"row": "RejectedRowsError", "index": "IndexNotRestoredError"}
"""What a SQLSTATE comes under that PostgreSQL gave for a row or an index."""


def _group(row: dict[str, object]) -> ErrorGroup:
    known = errors.code(str(row["code"])) or errors.code(_CODES_OF.get(str(row["what"]), ""))
    return ErrorGroup.model_validate(
        {**row, "remedy": known.remedy if known else None, "retried": known.retried if known else None}
    )


def _speed(row: dict[str, Any]) -> dict[str, float | None]:
    seconds = loading_seconds([(row["first_claimed_at"], row["last_loaded_at"])])
    return {"load_seconds": seconds, "rows_per_second": rows_per_second(row["rows_loaded"] or 0, seconds)}


def _run(row: dict[str, Any]) -> RunProgress:
    return RunProgress.model_validate(
        {
            **{
                k: row[k]
                for k in ("run_id", "source_name", "status", "started_at", "completed_at", "seconds", "rounds")
            },
            **{k: row[k] or 0 for k in ("tables", "tables_completed", "chunks", "chunks_completed", "chunks_failed")},
            "source_rows": row["source_rows"],
            "rows": row["rows_loaded"] or 0,
            **_speed(row),
            "error": row["error_text"],
        }
    )


def _table(row: dict[str, Any]) -> TableProgress:
    return TableProgress.model_validate(
        {
            **{k: row[k] for k in ("status", "source_rows", "size_bytes", "chunks", "chunks_completed", "seconds")},
            **{k: row[k] for k in ("chunks_running", "chunks_failed")},
            "table": row["source_table"],
            "target": f"{row['target_schema']}.{row['target_table']}",
            "rows": row["rows_loaded"],
            **_speed(row),
            "changed_values": row["changed_values"] or {},
            "rejected": row["rejected_rows"],
            "kept_newer": row["kept_newer_rows"],
            "gave_way": row["deduplicated_rows"],
            "verdict": row["verdict"],
            "omitted": row["omitted"],
            "verdict_reason": row["verdict_reason"] or "",
            "error": row["error_text"],
        }
    )
