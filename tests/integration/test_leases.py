"""However workers and planners interleave, a chunk's rows are in the target once if it is marked, else not at all."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg2 import sql as compose
from psycopg2.extensions import connection as Connection  # noqa: N812

from snowmelt.config import PostgresConfig
from snowmelt.engine import leases, status_store
from snowmelt.engine.leases import Lease, Loaded
from snowmelt.engine.status_store import Driver
from snowmelt.errors import FencedError, HeldError, TransientError, TruncationRefusedError
from snowmelt.loading import targets
from snowmelt.loading.copy import copy_batches
from snowmelt.loading.load import load_chunk
from snowmelt.models import ChunkRead, ColumnPlan, Consents, ScanSlice, SourceColumn, TableName, TablePlan, TargetColumn
from snowmelt.planning import one_scan
from snowmelt.postgres.session import Cursor, Session
from snowmelt.sql_text import queries
from snowmelt_sandbox.postgres import Database
from support.opened_run import RUN_PLAN, begin

TARGET = TableName(schema_name="public", name="target")
ROWS = 30
ROWS_PER_CHUNK = 10
TABLE_ID = 0
ATTEMPTS = 3
EXPIRED = -2 * leases.GRACE_SECONDS
"""Seconds of a lease that has ended when it is given: a worker that has slept through its time."""
LOST = (FencedError, TransientError)
"""What a worker sees whose chunk was taken away: the fence, or a session that is gone."""


def _column(name: str, snowflake: str, postgres: str, wire: str) -> ColumnPlan:
    return ColumnPlan(
        source=SourceColumn(name=name.upper(), type=snowflake, precision=18, scale=0),
        target=TargetColumn(name=name, type=postgres),
        select=f'"{name.upper()}"',
        wire=wire,
    )


PLAN = TablePlan(
    table_id=TABLE_ID,
    source="SOURCE",
    target=TARGET,
    columns=(_column("run_id", "TEXT", "text", "string"), _column("id", "FIXED", "int8", "int64")),
    reads_from="T",
    truncate_onstart=True,
    append=False,
    batch_size=ROWS_PER_CHUNK,
    max_retry_attempts=ATTEMPTS,
)


def slice_of(reads: ChunkRead) -> ScanSlice:
    """What a chunk of this table reads: there is one scan, and no key."""
    assert isinstance(reads, ScanSlice)
    return reads


def rows_of(run_id: str, chunk: ScanSlice) -> pa.RecordBatch:
    ids = range(chunk.offset, chunk.offset + chunk.rows)
    return pa.record_batch([pa.array([run_id] * chunk.rows), pa.array(ids, pa.int64())], names=["run_id", "id"])


@dataclass
class Scene:
    """A target, runs that load it one after the other, and what must always be true of both."""

    database: Database
    watcher: Connection
    """Reads the truth, in statements of their own."""
    opened: int = 0
    run_id: str = ""

    def session(self, name: str = "test") -> Session:
        server = self.database.server
        config = PostgresConfig(host=server.host, port=server.port, user=server.user)
        session = Session.connect(config, database=self.database.name, application_name=name)
        # Where all steps are of one thread, nobody lets go of a lock while another waits for it.
        session.run(compose.SQL("SET lock_timeout = '1s'"))
        return session

    def open_run(self, session: Session, *, closes: tuple[str, ...] = ()) -> str:
        """Open a run, which takes the target from the one before it."""
        run_id = f"run-{self.opened + 1}"
        plan = RUN_PLAN.model_copy(update={"run_id": run_id, "tables": (PLAN.source,)})
        begin(session, plan, PLAN, f"execution-{run_id}", closes=closes)
        self.opened += 1
        self.run_id = run_id
        return run_id

    def start_loading(self, session: Session) -> None:
        """Truncate, and make the chunks of the run claimable."""
        status_store.record_scan(session, self.run_id, TABLE_ID, "query")
        ready = targets.Ready(PLAN, "query", ROWS, tuple(one_scan.plan("query", [ROWS], ROWS_PER_CHUNK)))
        assert targets.start_loading(
            session,
            self.run_id,
            [ready],
            allow_shrink=False,
        )

    def begin(self, session: Session) -> str:
        run_id = self.open_run(session)
        self.start_loading(session)
        return run_id

    def claim(self, session: Session, chunk_id: int, *, seconds: float = 60) -> Lease:
        lease = self.try_claim(session, chunk_id, seconds=seconds)
        assert lease is not None
        return lease

    def try_claim(self, session: Session, chunk_id: int, *, seconds: float = 60) -> Lease | None:
        return leases.claim(session, run_id=self.run_id, table_id=TABLE_ID, chunk_id=chunk_id, seconds=seconds)

    def load(self, session: Session, lease: Lease) -> None:
        load_chunk(session, lease, PLAN, [rows_of(lease.run_id, slice_of(lease.reads))], check=lambda: None)

    def free_dead(self, session: Session) -> int:
        return leases.free_dead(session, self.run_id, lambda _: ATTEMPTS)[1]

    def resume(self, session: Session, execution_id: str = "another execution") -> None:
        known = {r.run_id: r for r in status_store.known_runs(session, "source", None, lambda _: "ended")}
        driver = Driver(execution_id, 600)
        status_store.resume_run(session, known[self.run_id], driver, lambda _: "ended", consents=Consents())

    def split(self, session: Session, chunk_id: int) -> bool:
        reads = {c.chunk_id: c.reads for c in status_store.pending_chunks(session, self.run_id)}
        if chunk_id not in reads or reads[chunk_id].rows < 2:
            return False
        parts = one_scan.split(slice_of(reads[chunk_id]), [ROWS], 2)
        return status_store.split_chunk(session, self.run_id, PLAN, chunk_id, parts)

    def finish(self, session: Session) -> None:
        """Take the run over from whoever is left, load what is missing, and complete it."""
        self.resume(session, "the last execution")
        while pending := status_store.pending_chunks(session, self.run_id):
            for chunk in pending:
                self.load(session, self.claim(session, chunk.chunk_id))
        assert status_store.start_finalizing(session, self.run_id, TABLE_ID)
        status_store.complete_table(session, self.run_id, "source", PLAN)
        status_store.finish_run(session, self.run_id, None)

    # --- the truth ---

    def check(self) -> None:
        """The target holds the rows of every chunk that is marked, of the run that truncated it last, and no others."""
        ((rows, marked),) = self._ask(
            "SELECT (SELECT array_agg(ARRAY[run_id, id::text]) FROM target),"
            " (SELECT array_agg(ARRAY[run_id, i::text])"
            "  FROM (SELECT run_id, reads FROM migration_status.chunks WHERE status = 'completed'"
            "        AND run_id = (SELECT run_id FROM migration_status.run_tables"
            "                      WHERE truncated_at IS NOT NULL ORDER BY truncated_at DESC LIMIT 1)) c,"
            "  generate_series((reads->>'offset')::integer,"
            "                  (reads->>'offset')::integer + (reads->>'rows')::integer - 1) i)"
        )
        assert Counter(map(tuple, rows or ())) == Counter(map(tuple, marked or ()))

    def check_complete(self) -> None:
        """Every row of the run is there once."""
        rows = self._ask("SELECT run_id, id FROM target")
        assert Counter(rows) == Counter((self.run_id, i) for i in range(ROWS))
        self.check()

    def chunk(self, chunk_id: int) -> dict[str, Any]:
        ((status, attempts, held),) = self._ask(
            "SELECT status, attempts, lease_token IS NOT NULL FROM migration_status.chunks"
            " WHERE run_id = %s AND chunk_id = %s",
            self.run_id,
            chunk_id,
        )
        return {"status": status, "attempts": attempts, "held": held}

    def _ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        with self.watcher.cursor() as cursor:
            cursor.execute(question, values)
            return cursor.fetchall()


@pytest.fixture
def scene(database: Database) -> Iterator[Scene]:
    database.execute("CREATE TABLE target (run_id text NOT NULL, id bigint NOT NULL)")
    with closing(database.connect()) as watcher:
        scene = Scene(database, watcher)
        with scene.session() as session:
            status_store.install(session)
        yield scene


@pytest.fixture
def planner(scene: Scene) -> Iterator[Session]:
    with scene.session("planner") as session:
        yield session


# --- one worker -----------------------------------------------------------------------------------------------------


def test_a_chunk_is_loaded_by_whoever_claims_it_and_by_nobody_after(scene: Scene, planner: Session) -> None:
    scene.begin(planner)
    with scene.session() as worker, scene.session() as other:
        lease = scene.claim(worker, 1)
        assert scene.try_claim(other, 1) is None
        scene.load(worker, lease)
        assert scene.try_claim(other, 1) is None

    assert scene.chunk(1) == {"status": "completed", "attempts": 1, "held": False}
    scene.check()


def test_a_released_chunk_costs_no_attempt_and_a_failed_one_does_until_they_are_used_up(
    scene: Scene, planner: Session
) -> None:
    scene.begin(planner)
    with scene.session() as worker:
        assert leases.release(worker, scene.claim(worker, 1))
        assert scene.chunk(1) == {"status": "pending", "attempts": 0, "held": False}
        ends = [
            leases.fail(worker, scene.claim(worker, 1), max_attempts=ATTEMPTS, code="DataError", text="no")
            for _ in range(ATTEMPTS)
        ]

    assert ends == ["pending"] * (ATTEMPTS - 1) + ["failed"]
    assert scene.chunk(1) == {"status": "failed", "attempts": ATTEMPTS, "held": False}
    scene.check()


def test_a_lease_dies_with_its_session_although_its_time_is_not_over(scene: Scene, planner: Session) -> None:
    scene.begin(planner)
    with scene.session() as worker:
        scene.claim(worker, 1, seconds=900)
        assert scene.free_dead(planner) == 0
    _until(lambda: scene.free_dead(planner) == 1)

    assert scene.chunk(1) == {"status": "pending", "attempts": 1, "held": False}


def test_an_expired_lease_is_freed_only_after_its_living_session_has_been_ended(scene: Scene, planner: Session) -> None:
    scene.begin(planner)
    with scene.session() as sleeper, scene.session() as worker:
        scene.claim(sleeper, 1, seconds=EXPIRED)
        scene.claim(worker, 2)

        assert scene.free_dead(planner) == 1
        assert not sleeper.alive()
        assert worker.alive()


def test_a_worker_that_dies_again_and_again_uses_up_the_attempts_of_its_chunk(scene: Scene, planner: Session) -> None:
    scene.begin(planner)
    for _ in range(ATTEMPTS):
        with scene.session() as worker:
            scene.claim(worker, 1, seconds=EXPIRED)
            scene.free_dead(planner)

    assert scene.chunk(1)["status"] == "failed"


def test_a_chunk_that_is_held_cannot_be_split(scene: Scene, planner: Session) -> None:
    scene.begin(planner)
    part = one_scan.plan("query", [ROWS], ROWS_PER_CHUNK)
    with scene.session() as worker:
        lease = scene.claim(worker, 1)
        assert not status_store.split_chunk(planner, scene.run_id, PLAN, 1, tuple(part)[:1])
        scene.load(worker, lease)
    scene.check()


def test_no_chunk_of_a_table_that_has_failed_can_be_claimed(scene: Scene, planner: Session) -> None:
    scene.begin(planner)
    status_store.fail_table(planner, scene.run_id, TABLE_ID, TransientError("no more"))
    with scene.session() as worker:
        assert scene.try_claim(worker, 1) is None


def test_a_worker_of_before_a_takeover_cannot_commit_although_its_chunk_is_still_its_own(
    scene: Scene, planner: Session
) -> None:
    scene.begin(planner)
    with scene.session() as worker:
        lease = scene.claim(worker, 1)
        planner.run(queries.query("fence_run"), run_id=scene.run_id)  # the first step of a takeover
        assert scene.chunk(1)["held"]
        with pytest.raises(FencedError, match="its table has moved on"):
            scene.load(worker, lease)
    scene.check()


@pytest.mark.parametrize(("held", "emptied"), [(2 * ROWS, True), (2 * ROWS + 1, False)])
def test_a_target_is_emptied_as_long_as_the_source_has_half_of_its_rows_and_not_one_row_below(
    scene: Scene, planner: Session, held: int, emptied: bool
) -> None:
    scene.database.execute(f"INSERT INTO target SELECT 'before', i FROM generate_series(1, {held}) AS i")
    scene.open_run(planner)
    with nullcontext() if emptied else pytest.raises(TruncationRefusedError, match=r"30 rows .* more than 60"):
        scene.start_loading(planner)
    assert scene.database.rows("SELECT count(*) FROM target") == [(0 if emptied else held,)]


# --- zombies --------------------------------------------------------------------------------------------------------

Way = Callable[[Scene, Session], None]


def _freed(scene: Scene, planner: Session) -> None:
    assert scene.free_dead(planner) == 1


def _freed_and_loaded_again(scene: Scene, planner: Session) -> None:
    _freed(scene, planner)
    scene.load(planner, scene.claim(planner, 1))


def _freed_and_claimed_again(scene: Scene, planner: Session) -> None:
    _freed(scene, planner)
    scene.claim(planner, 1)


def _freed_and_split(scene: Scene, planner: Session) -> None:
    _freed(scene, planner)
    assert scene.split(planner, 1)


def _finalized(scene: Scene, planner: Session) -> None:
    _freed(scene, planner)
    for chunk in status_store.pending_chunks(planner, scene.run_id):
        scene.load(planner, scene.claim(planner, chunk.chunk_id))
    assert status_store.start_finalizing(planner, scene.run_id, TABLE_ID)


def _resumed(scene: Scene, planner: Session) -> None:
    scene.resume(planner)


def _resumed_and_loaded_again(scene: Scene, planner: Session) -> None:
    scene.resume(planner)
    scene.load(planner, scene.claim(planner, 1))


def _given_up(scene: Scene, planner: Session) -> None:
    status_store.fail_table(planner, scene.run_id, TABLE_ID, FencedError("given up"))


def _taken_by_another_run(scene: Scene, planner: Session) -> None:
    scene.open_run(planner)


def _closed_by_name(scene: Scene, planner: Session) -> None:
    scene.open_run(planner, closes=(scene.run_id,))


def _truncated_by_another_run(scene: Scene, planner: Session) -> None:
    scene.begin(planner)


def _reloaded_by_another_run(scene: Scene, planner: Session) -> None:
    scene.begin(planner)
    scene.load(planner, scene.claim(planner, 1))


WAYS = {
    way.__name__.strip("_"): way
    for way in (
        _freed,
        _freed_and_loaded_again,
        _freed_and_claimed_again,
        _freed_and_split,
        _finalized,
        _resumed,
        _resumed_and_loaded_again,
        _given_up,
        _taken_by_another_run,
        _closed_by_name,
        _truncated_by_another_run,
        _reloaded_by_another_run,
    )
}


@contextmanager
def sleeper(scene: Scene) -> Iterator["Worker"]:
    """A worker whose time is over, although it lives, with a lease on the first chunk.

    While its time lasts, nobody takes a chunk from a living worker unless the whole run is taken.
    """
    with scene.session("sleeper") as session:
        worker = Worker(scene, session, scene.claim(session, 1, seconds=EXPIRED))
        try:
            yield worker
        finally:
            worker.roll_back()


@dataclass
class Worker:
    """A worker whose every step can be told apart: claim, copy, mark, commit."""

    scene: Scene
    session: Session
    lease: Lease | None = None
    marked: bool = False
    _load: AbstractContextManager[Cursor] | None = field(default=None, repr=False)
    _cursor: Cursor | None = field(default=None, repr=False)

    @property
    def loading(self) -> bool:
        return self._load is not None

    def claim(self, chunk_id: int, seconds: float) -> None:
        self.lease = self.scene.try_claim(self.session, chunk_id, seconds=seconds)

    def copy(self) -> None:
        """Send the rows, and keep the transaction open."""
        assert self.lease is not None
        self._load = self.session.transaction()
        self._cursor = cursor = self._load.__enter__()
        batches = [rows_of(self.lease.run_id, slice_of(self.lease.reads))]
        self._within(lambda: copy_batches(cursor, TARGET, PLAN.columns, batches))

    def mark(self) -> None:
        lease, cursor = self.lease, self._cursor
        assert lease is not None
        assert cursor is not None
        loaded = Loaded(lease.reads.rows, size_bytes=1, load_mode="copy", inserted=lease.reads.rows)
        self._within(lambda: leases.complete(cursor, lease, loaded))
        self.marked = True

    def commit(self) -> None:
        assert self._load is not None
        load, self._load, self.lease, self.marked = self._load, None, None, False
        load.__exit__(None, None, None)

    def roll_back(self) -> None:
        with suppress(_Undone, TransientError):
            self._within(_undo)

    def _within(self, do: Callable[[], object]) -> None:
        """Do it in the transaction that is open, which its failure ends."""
        try:
            do()
        except BaseException as error:
            load, self._load, self.marked = self._load, None, False
            if load is not None:
                load.__exit__(type(error), error, error.__traceback__)
            raise

    def step(self, do: Callable[[], None]) -> bool:
        """Do it; False when the worker finds that it has lost its chunk or its session."""
        try:
            do()
        except LOST:
            self.lease = None
            return False
        return True


class _Undone(Exception):  # noqa: N818
    """Why a transaction is rolled back."""


def _undo() -> None:
    raise _Undone


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("stage", ["before its first row", "in the middle of its rows"])
def test_a_worker_that_wakes_up_after_its_chunk_was_taken_cannot_commit(
    scene: Scene, planner: Session, way: Way, stage: str
) -> None:
    scene.begin(planner)
    with sleeper(scene) as zombie:
        if stage == "in the middle of its rows":
            zombie.copy()

        way(scene, planner)

        assert not zombie.step(lambda: _load_to_the_end(zombie))
    scene.check()
    if scene.run_id == "run-1" and way is not _finalized:
        scene.finish(planner)
        scene.check_complete()


@pytest.mark.parametrize(
    "way",
    [way for name, way in WAYS.items() if "another_run" not in name or name == "taken_by_another_run"],
    ids=lambda way: way.__name__.strip("_"),
)
def test_the_fence_alone_holds_where_a_session_cannot_be_ended(
    scene: Scene, planner: Session, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ender in ("end_sessions", "terminate_workers"):
        monkeypatch.setattr(leases, ender, lambda *_, **__: None)
    scene.begin(planner)
    with sleeper(scene) as zombie:
        zombie.copy()

        way(scene, planner)

        with pytest.raises(FencedError):
            zombie.mark()
        assert zombie.session.alive()
    scene.check()


@pytest.mark.parametrize("way", [_freed_and_loaded_again, _resumed_and_loaded_again, _reloaded_by_another_run])
def test_a_worker_that_sleeps_between_its_mark_and_its_commit_is_taken_from_and_blocks_nobody(
    scene: Scene, planner: Session, way: Way
) -> None:
    scene.begin(planner)
    with sleeper(scene) as zombie:
        zombie.copy()
        zombie.mark()

        way(scene, planner)

        assert not zombie.step(zombie.commit)
    scene.check()


def _load_to_the_end(worker: Worker) -> None:
    if not worker.loading:
        worker.copy()
    if not worker.marked:
        worker.mark()
    worker.commit()


def test_a_run_that_lost_its_table_to_another_cannot_be_resumed(scene: Scene, planner: Session) -> None:
    first = scene.begin(planner)
    scene.begin(planner)
    scene.run_id = first

    with pytest.raises(HeldError, match=f"run {first} was just ended: it is abandoned"):
        scene.resume(planner)


def test_a_table_is_not_finalized_while_one_of_its_chunks_is_held_or_missing(scene: Scene, planner: Session) -> None:
    scene.begin(planner)
    with scene.session() as worker:
        held = scene.claim(worker, 1)
        for chunk in status_store.pending_chunks(planner, scene.run_id):
            assert not status_store.start_finalizing(planner, scene.run_id, TABLE_ID)
            scene.load(planner, scene.claim(planner, chunk.chunk_id))
        assert not status_store.start_finalizing(planner, scene.run_id, TABLE_ID)
        scene.load(worker, held)
    assert status_store.start_finalizing(planner, scene.run_id, TABLE_ID)
    scene.check_complete()


# --- any order of steps ---------------------------------------------------------------------------------------------

WORKERS = st.integers(0, 2)
CHUNKS = st.integers(1, 4)


class Interleaving(RuleBasedStateMachine):
    """Three workers and a planner take steps in any order; the rows in the target are always those of the marks."""

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self.scene = scene
        self.planner = scene.session("planner")
        self.workers = [Worker(scene, scene.session("worker")) for _ in range(3)]
        self.over = False

    @initialize()
    def begin(self) -> None:
        self.new_run()

    # --- workers ---

    @rule(worker=WORKERS, chunk_id=CHUNKS, seconds=st.sampled_from([60.0, EXPIRED]))
    def take_a_step(self, worker: int, chunk_id: int, seconds: float) -> None:
        """Claim, copy, mark, commit: whatever comes next for this worker."""
        each = self._awake(worker)
        if each.lease is None:
            each.step(lambda: each.claim(chunk_id, seconds))
        elif not each.loading:
            each.step(each.copy)
        elif not each.marked:
            each.step(each.mark)
        else:
            each.step(each.commit)

    @rule(worker=WORKERS, chunk_id=CHUNKS, seconds=st.sampled_from([60.0, EXPIRED]))
    def load(self, worker: int, chunk_id: int, seconds: float) -> None:
        """Claim unless a chunk is held already, and go to the end with it."""
        each = self._awake(worker)
        if each.lease is None:
            each.step(lambda: each.claim(chunk_id, seconds))
        if each.lease is not None:
            each.step(lambda: _load_to_the_end(each))

    @rule(worker=WORKERS, gives_up=st.booleans())
    def hand_back(self, worker: int, gives_up: bool) -> None:
        each = self.workers[worker]
        each.roll_back()
        if each.lease is None:
            return
        lease, each.lease = each.lease, None
        if gives_up:
            each.step(
                lambda: _ignore(
                    leases.fail(each.session, lease, max_attempts=ATTEMPTS, code="DataError", text="refused")
                )
            )
        else:
            each.step(lambda: _ignore(leases.release(each.session, lease)))

    @rule(worker=WORKERS)
    def die(self, worker: int) -> None:
        self.workers[worker].session.close()
        self.workers[worker].roll_back()  # which the server has done already
        self.workers[worker] = Worker(self.scene, self.scene.session("worker"))

    def _awake(self, worker: int) -> Worker:
        if self.workers[worker].session.closed:
            self.workers[worker] = Worker(self.scene, self.scene.session("worker"))
        return self.workers[worker]

    # --- the planner ---

    @rule()
    def free_dead(self) -> None:
        self.scene.free_dead(self.planner)

    @rule(chunk_id=CHUNKS)
    def split(self, chunk_id: int) -> None:
        self.scene.split(self.planner, chunk_id)

    @precondition(lambda self: not self.over)
    @rule()
    def resume(self) -> None:
        self.scene.resume(self.planner)

    @precondition(lambda self: not self.over)
    @rule()
    def give_the_table_up(self) -> None:
        # A worker that has set its mark is about to commit; the planner waits for it, here in vain.
        self._unless_locked(
            lambda: status_store.fail_table(self.planner, self.scene.run_id, TABLE_ID, FencedError("given up"))
        )

    @rule()
    def new_run(self) -> None:
        self.scene.begin(self.planner)
        self.over = False

    @precondition(lambda self: not self.over)
    @rule()
    def finalize(self) -> None:
        if status_store.start_finalizing(self.planner, self.scene.run_id, TABLE_ID):
            self.scene.check_complete()
            status_store.complete_table(self.planner, self.scene.run_id, "source", PLAN)
            status_store.finish_run(self.planner, self.scene.run_id, None)
            self.over = True

    def _unless_locked(self, do: Callable[[], None]) -> None:
        if not any(each.marked for each in self.workers):
            do()

    # --- always ---

    @invariant()
    def the_rows_are_those_of_the_marks(self) -> None:
        if self.scene.run_id:
            self.scene.check()

    def teardown(self) -> None:
        if self.scene.run_id and not self.over:
            self.scene.finish(self.planner)
            self.scene.check_complete()
        for each in self.workers:
            each.step(lambda each=each: _load_to_the_end(each) if each.lease is not None else None)  # type: ignore[misc]
            each.session.close()
        if self.scene.run_id:
            self.scene.check_complete()
        self.planner.close()


def _ignore(value: object) -> None:
    """The worker does not care."""


def _interleave(scene: Scene, examples: int) -> None:
    def machine() -> Interleaving:
        return Interleaving(replace(scene, opened=_runs(scene)))

    run_state_machine_as_test(
        cast("type[Interleaving]", machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _runs(scene: Scene) -> int:
    ((runs,),) = scene.database.rows("SELECT count(*) FROM migration_status.runs")
    return int(runs)


def test_in_any_order_of_steps_the_rows_in_the_target_are_those_of_the_marks(scene: Scene) -> None:
    _interleave(scene, 25)


@pytest.mark.full
def test_in_very_many_orders_of_steps_the_rows_in_the_target_are_those_of_the_marks(scene: Scene) -> None:
    _interleave(scene, 300)


# --- at the same time -----------------------------------------------------------------------------------------------


def test_workers_at_the_same_time_with_planners_that_take_from_them_load_every_row_once(
    scene: Scene, planner: Session
) -> None:
    scene.begin(planner)
    stop = threading.Event()
    workers = [threading.Thread(target=_work_until, args=(scene, stop, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    try:
        for turn in range(12):
            time.sleep(0.05)
            if turn % 5 == 4:
                scene.resume(planner, f"execution {turn}")
            else:
                scene.free_dead(planner)
    finally:
        stop.set()
        for worker in workers:
            worker.join(120)
    scene.check()
    scene.finish(planner)
    scene.check_complete()


def _work_until(scene: Scene, stop: threading.Event, seed: int) -> None:
    chance = random.Random(seed)
    while not stop.is_set():
        try:
            with scene.session(f"worker {seed}") as session:
                _work(scene, session, chance, stop)
        except LOST:
            continue


def _work(scene: Scene, session: Session, chance: random.Random, stop: threading.Event) -> None:
    while not stop.is_set():
        lease = scene.try_claim(
            session, chance.randint(1, ROWS // ROWS_PER_CHUNK), seconds=chance.choice([60, EXPIRED])
        )
        if lease is None:
            time.sleep(0.001)
            continue
        match chance.randint(0, 4):
            case 0:
                leases.release(session, lease)
            case 1:
                return
            case _:
                time.sleep(chance.random() * 0.02)
                scene.load(session, lease)


def _until(happened: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
