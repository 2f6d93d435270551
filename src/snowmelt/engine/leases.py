"""Claims on chunks: who may complete one, and how the claim of a dead worker is freed.

The protocol. A *claim* commits at once: it counts the attempt, draws a token, and binds the lease to this very
session. The *load* is one transaction: the rows, then the table row held FOR SHARE under the epoch the claim saw,
then the mark, which needs the token. Whoever takes a chunk or a table away changes one of those rows in the
transaction that does it, so a worker that wakes up late finds nothing to hold and rolls its rows back.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from snowmelt.columns.batch_conversion import Changes
from snowmelt.errors import FencedError, HeldError, TargetChangedError
from snowmelt.models import ChunkRead, LoadMode, chunk_read
from snowmelt.postgres.session import Cursor, Row, Session, fetch_one
from snowmelt.sql_text import queries
from snowmelt.wording import WITH_NO_RESUME

GRACE_SECONDS = 5.0
"""How much longer than the invocation its lease lasts: the runtime is killed a moment after its time."""
TOO_LONG = "TooLong"
"""Error code of a chunk that did not fit into a whole invocation; the next plan splits it."""
INTERRUPTED = "Interrupted"
"""Error code of a chunk that was begun too late in its invocation."""
_TERMINATE_TRIES = 50
_TERMINATE_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Lease:
    """The right to complete a chunk."""

    run_id: str
    table_id: int
    chunk_id: int
    token: str
    load_epoch: int
    attempts: int
    reads: ChunkRead
    target_columns: str | None = None
    """What ``load.refuse_changed_target`` saw; None compares the chunk with nothing."""

    def __str__(self) -> str:
        return f"chunk {self.chunk_id} (attempt {self.attempts})"

    @property
    def _key(self) -> dict[str, object]:
        return {
            "run_id": self.run_id,
            "table_id": self.table_id,
            "chunk_id": self.chunk_id,
            "lease_token": self.token,
        }


def claim(
    session: Session,
    *,
    run_id: str,
    table_id: int,
    chunk_id: int,
    seconds: float,
    target_columns: str | None = None,
) -> Lease | None:
    """A lease bound to this session, or None when the chunk is done, held, or no longer wanted."""
    row = session.row(
        queries.query("claim_chunk"),
        run_id=run_id,
        table_id=table_id,
        chunk_id=chunk_id,
        seconds=seconds + GRACE_SECONDS,
    )
    if row is None:
        return None
    return Lease(
        run_id=run_id,
        table_id=table_id,
        chunk_id=chunk_id,
        token=row["lease_token"],
        load_epoch=row["load_epoch"],
        attempts=row["attempts"],
        reads=chunk_read(row["reads"]),
        target_columns=target_columns,
    )


@dataclass(frozen=True)
class Loaded:
    """What a load did with a chunk: ``rows`` were read, and the six counts after ``load_mode`` add up to them."""

    rows: int
    size_bytes: int
    load_mode: LoadMode
    inserted: int
    updated: int = 0
    unchanged: int = 0
    deduplicated: int = 0
    kept_newer: int = 0
    rejected: int = 0
    changes: Changes = field(default_factory=Changes)


def complete(cursor: Cursor, lease: Lease, loaded: Loaded) -> None:
    """Mark the chunk as in, in the transaction that loaded it.

    FencedError when the lease is no longer valid, TargetChangedError when the target was altered since the worker
    looked.
    """
    held = fetch_one(
        cursor,
        queries.query("hold_table"),
        run_id=lease.run_id,
        table_id=lease.table_id,
        load_epoch=lease.load_epoch,
        target_columns=lease.target_columns,
    )
    if held is None:
        raise FencedError(
            f"run {lease.run_id}, {lease}: its table has moved on; the rows of this attempt are rolled back"
        )
    if not held["is_same"]:
        raise TargetChangedError(
            f"run {lease.run_id}, {lease}: since its load began the target was dropped and made again, or lost a "
            f"column and got it again; the rows of this attempt are rolled back; start {WITH_NO_RESUME}: a new run "
            "loads all of it"
        )
    if not held["is_unaltered"]:
        raise TargetChangedError(
            f"run {lease.run_id}, {lease}: columns of the target were altered while it was loaded; the rows of this "
            f"attempt are rolled back; undo the change and start again, or start {WITH_NO_RESUME}"
        )
    marked = fetch_one(cursor, queries.query("complete_chunk"), **lease._key, **_as_row(loaded))
    if marked is None:
        raise FencedError(
            f"run {lease.run_id}, {lease}: it was given to another worker; the rows of this attempt are rolled back"
        )


def _as_row(loaded: Loaded) -> dict[str, object]:
    changed: dict[str, dict[str, int]] = {}
    for (column, change), count in loaded.changes.items():
        if count:
            changed.setdefault(column, {})[change] = count
    return {**asdict(replace(loaded, changes=Changes())), "changes": json.dumps(changed) if changed else None}


def release(session: Session, lease: Lease, *, spent_seconds: float | None = None, code: str | None = None) -> bool:
    """Hand the chunk back without counting the attempt; False when the lease was no longer valid."""
    row = session.row(queries.query("release_chunk"), **lease._key, spent_seconds=spent_seconds, error_code=code)
    return row is not None


def fail(session: Session, lease: Lease, *, max_attempts: int, code: str, text: str) -> str | None:
    """Record why the attempt failed; the chunk's new status, or None when the lease was no longer valid."""
    row = session.row(
        queries.query("fail_attempt"), **lease._key, max_attempts=max_attempts, error_code=code, error_text=text
    )
    return None if row is None else str(row["status"])


@dataclass(frozen=True)
class LivingLease:
    """A lease whose worker may still complete it."""

    table_id: int
    chunk_id: int
    seconds_left: float


def free_dead(session: Session, run_id: str, max_attempts: Callable[[int], int]) -> tuple[tuple[LivingLease, ...], int]:
    """Free every lease whose worker is gone; what is left out, and how many were freed.

    A lease whose session is gone is dead at once. One that has expired with a living session is ended first: a COPY
    with a silent client ignores time-outs and cancels, and only termination makes sure that it never commits.
    """
    rows = session.rows(queries.query("running_chunks"), run_id=run_id)
    end_sessions(session, [r for r in rows if r["backend_alive"] and r["expired"]])
    living, freed = [], 0
    for row in rows:
        if row["backend_alive"] and not row["expired"]:
            living.append(LivingLease(row["table_id"], row["chunk_id"], row["seconds_left"]))
            continue
        done = session.row(
            queries.query("free_dead_lease"),
            run_id=run_id,
            table_id=row["table_id"],
            chunk_id=row["chunk_id"],
            lease_token=row["lease_token"],
            max_attempts=max_attempts(row["table_id"]),
        )
        freed += done is not None
    return tuple(living), freed


def free_all(session: Session, run_id: str) -> int:
    """End every worker of the run, dead or alive, and free its chunks; how many there were. For takeovers.

    The caller has raised the epochs before, so a worker that slips through cannot commit.
    """
    rows = session.rows(queries.query("running_chunks"), run_id=run_id)
    end_sessions(session, [r for r in rows if r["backend_alive"]])
    for row in rows:
        session.run(
            queries.query("free_dead_lease"),
            run_id=run_id,
            table_id=row["table_id"],
            chunk_id=row["chunk_id"],
            lease_token=row["lease_token"],
            max_attempts=2**31 - 1,
        )
    return len(rows)


def terminate_workers(cursor: Cursor, run_id: str) -> None:
    """Tell every worker session of the run to end, in the transaction that is about to fence them.

    A worker that fell asleep between its mark and its commit holds its table's row, and no fence could be set.
    """
    cursor.execute(queries.query("terminate_workers"), {"run_id": run_id})


def end_idle_workers(session: Session, run_id: str) -> None:
    """Close the sessions that workers of the run keep for more work, once there is none."""
    session.rows(queries.query("end_idle_workers"), name=worker_name(run_id))


def worker_name(run_id: str) -> str:
    """How PostgreSQL knows the sessions of a run's workers, as far as 63 characters go."""
    return f"snowmelt worker {run_id}"


def end_sessions(session: Session, rows: Sequence[Row], *, of: str = "workers whose time is over") -> None:
    """Terminate the sessions, and see them gone; HeldError when one will not go."""
    if not rows:
        return
    bound: list[tuple[int, datetime]] = [(r["backend_pid"], r["backend_start"]) for r in rows]
    for pid, start in bound:
        session.rows(queries.query("terminate_backend"), backend_pid=pid, backend_start=start)
    for _ in range(_TERMINATE_TRIES):
        row = session.row(
            queries.query("backends_alive"), pids=[pid for pid, _ in bound], starts=[start for _, start in bound]
        )
        if row is None or not row["alive"]:
            return
        time.sleep(_TERMINATE_PAUSE_SECONDS)
    raise HeldError(
        f"the sessions {', '.join(str(pid) for pid, _ in bound)} of {of} do not end; "
        "pg_stat_activity shows what holds them"
    )
