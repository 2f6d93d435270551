"""Load the chunks of a work item."""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pyarrow as pa
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from snowmelt import manifest_store
from snowmelt.actions.stopwatch import Stopwatch
from snowmelt.deadline import Deadline
from snowmelt.engine import leases, status_store
from snowmelt.engine.leases import Lease, Loaded
from snowmelt.errors import (
    DuplicateKeyError,
    FencedError,
    OutOfTimeError,
    RejectedRowsError,
    SnowmeltError,
    SourceChangedError,
    TargetChangedError,
    TooLargeError,
    TransientError,
)
from snowmelt.loading import load
from snowmelt.models import KeyRange, ProcessChunkEvent, ProcessChunkResult, ScanSlice, TablePlan, WorkItem
from snowmelt.planning import statement
from snowmelt.postgres.session import Session
from snowmelt.rejected_rows import isolation
from snowmelt.snowflake_source import ScanResult, SnowflakeSource
from snowmelt.wiring import RunResources, Wiring

logger = logging.getLogger(__name__)

LEAST_SECONDS = 0.5
"""With less than this left, not even a first chunk is begun."""
TRIES = 4
"""Of a chunk, when what fails may pass: a deadlock, a lock that was not granted, an answer that did not come."""
LONGEST_PAUSE_SECONDS = 4.0


@dataclass(frozen=True)
class _Tally:
    completed: int = 0
    released: int = 0
    failed: int = 0
    skipped: int = 0
    rows: int = 0
    rejected: int = 0
    slowest_seconds: float = 0.0
    load_seconds: float = 0.0
    snowflake_seconds: float = 0.0

    def __add__(self, other: "_Tally") -> "_Tally":
        return _Tally(
            completed=self.completed + other.completed,
            released=self.released + other.released,
            failed=self.failed + other.failed,
            skipped=self.skipped + other.skipped,
            rows=self.rows + other.rows,
            rejected=self.rejected + other.rejected,
            load_seconds=self.load_seconds + other.load_seconds,
            snowflake_seconds=self.snowflake_seconds + other.snowflake_seconds,
        )

    def result(self) -> ProcessChunkResult:
        return ProcessChunkResult(
            completed=self.completed,
            released=self.released,
            failed=self.failed,
            skipped=self.skipped,
            rows=self.rows,
            rejected=self.rejected,
            load_seconds=round(self.load_seconds, 3),
            snowflake_seconds=round(self.snowflake_seconds, 3),
        )


def process_chunk(event: ProcessChunkEvent, wiring: Wiring, deadline: Deadline) -> ProcessChunkResult:
    """Load the item's chunks one by one, and stop in order before time runs out.

    However this call ends - deadline, lost connection, killed runtime - a chunk is either in the target with its
    mark or not there at all, and what is not there is planned again.
    """
    run = wiring.open_run(event.run_id)
    deadline = run.within_buffer(deadline)
    with run.warm_target() as session:
        status_store.touch_driver(session, event.run_id, deadline.lifetime_seconds())
        try:
            try:
                columns = load.refuse_changed_target(session, run.table(event.item.table_id))
            except TargetChangedError as error:
                return _fail_all(run, session, deadline, event.item, error).result()
            return _work(run, session, deadline, event.item, columns).result()
        except SnowmeltError as error:
            # A run whose workers cannot even start must be able to say why.
            if not session.closed:
                status_store.note_error(session, event.run_id, error)
            raise


def _fail_all(
    run: RunResources, session: Session, deadline: Deadline, item: WorkItem, error: TargetChangedError
) -> _Tally:
    """Fail the item's chunks, as every attempt would fail alike; other tables of the run go on."""
    failed = 0
    for chunk_id in item.chunks:
        lease = leases.claim(
            session,
            run_id=run.run_id,
            table_id=item.table_id,
            chunk_id=chunk_id,
            seconds=deadline.lifetime_seconds(),
        )
        if lease is not None:
            leases.fail(session, lease, max_attempts=1, code=error.code, text=error.message)
            failed += 1
    logger.error(
        error.message,
        extra={"run_id": run.run_id, "table": item.table, "chunks": failed, "error_code": error.code, "gives_up": True},
    )
    return _Tally(failed=failed, skipped=len(item.chunks) - failed)


def _work(
    run: RunResources, session: Session, deadline: Deadline, item: WorkItem, target_columns: str | None
) -> _Tally:
    """What became of the item's chunks: taken one by one by this thread and by as many others as the plan allows."""
    queue = _Queue(item.chunks)
    most = item.threads or run.plan.threads
    threads = min(most, run.table(item.table_id).parallel_threads, len(item.chunks))

    def help_along() -> _Tally:
        with run.warm_target() as own_session, run.warm_source() as own_snowflake:
            return _Worker(run, own_session, own_snowflake, deadline, item, queue, target_columns).work()

    with ExitStack() as stack:
        snowflake = stack.enter_context(run.warm_source())
        helpers = stack.enter_context(ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="worker"))
        helping = [helpers.submit(help_along) for _ in range(threads - 1)]
        tally = _Worker(run, session, snowflake, deadline, item, queue, target_columns).work()
        return sum((helped.result() for helped in helping), start=tally)


class _Queue:
    """The chunks that no thread has taken yet."""

    def __init__(self, chunks: Sequence[int]) -> None:
        self._chunks = deque(chunks)
        self._lock = threading.Lock()

    def take(self) -> int | None:
        """The next chunk, None when there is none left."""
        with self._lock:
            return self._chunks.popleft() if self._chunks else None

    def take_all(self) -> int:
        """Leave nothing for anyone; how many chunks that were."""
        with self._lock:
            left = len(self._chunks)
            self._chunks.clear()
            return left


class _Worker:
    """One thread at work on an item, with one connection to each side."""

    def __init__(
        self,
        run: RunResources,
        session: Session,
        snowflake: SnowflakeSource,
        deadline: Deadline,
        item: WorkItem,
        queue: _Queue,
        target_columns: str | None,
    ) -> None:
        self._target_columns = target_columns
        self._run = run
        self._session = session
        self._snowflake = snowflake.within(self._stop_in_time)
        self._deadline = deadline
        self._item = item
        self._queue = queue
        self._is_fenced = False
        self._plan = run.table(item.table_id)
        self._results: dict[str, ScanResult] = {}
        self._has_begun = False
        self._fetching = Stopwatch()
        self._budget_seconds = deadline.remaining_seconds()

    def work(self) -> _Tally:
        """What became of the chunks this thread took, until there are none or no time is left."""
        began = time.monotonic()
        tally = replace(
            self._take_chunks(),
            load_seconds=time.monotonic() - began,
            snowflake_seconds=self._fetching.seconds,
        )
        if self._is_fenced:
            # The chunk stays with this session until it ends, and whoever plans waits for that.
            self._session.close()
        return tally

    def _take_chunks(self) -> _Tally:
        tally = _Tally(slowest_seconds=self._item.slowest_seconds)
        while (chunk_id := self._queue.take()) is not None:
            if not self._may_begin(tally):
                left = 1 + self._queue.take_all()
                logger.info("out of time, the rest is handed back", extra=self._keys(chunks=left))
                return replace(tally, released=tally.released + left)
            lease = leases.claim(
                self._session,
                run_id=self._run.run_id,
                table_id=self._item.table_id,
                chunk_id=chunk_id,
                seconds=self._deadline.lifetime_seconds(),
                target_columns=self._target_columns,
            )
            if lease is None:  # done already, or held by a living worker
                tally = replace(tally, skipped=tally.skipped + 1)
                continue
            tally = self._load(lease, tally)
        return tally

    def _may_begin(self, tally: _Tally) -> bool:
        """Whether the next chunk fits, judged by the slowest so far; the first one is tried in any case."""
        return self._deadline.allows(tally.slowest_seconds if self._has_begun else LEAST_SECONDS)

    def _load(self, lease: Lease, tally: _Tally) -> _Tally:
        alone, self._has_begun = not self._has_begun, True
        began = time.monotonic()
        try:
            loaded = self._loaded(lease)
        except FencedError as error:
            logger.warning(error.message, extra=self._keys(chunk=lease.chunk_id))
            self._is_fenced = True
            return replace(tally, skipped=tally.skipped + 1)
        except OutOfTimeError:
            return self._hand_back(lease, tally, spent_seconds=time.monotonic() - began, alone=alone)
        except SnowmeltError as error:
            return self._record_failure(lease, tally, error)
        seconds = time.monotonic() - began
        logger.info(
            "chunk completed",
            extra=self._keys(
                chunk=lease.chunk_id,
                rows=loaded.rows - loaded.rejected,
                rejected=loaded.rejected,
                size_bytes=loaded.size_bytes,
                seconds=round(seconds, 3),
                attempt=lease.attempts,
            ),
        )
        return replace(
            tally,
            completed=tally.completed + 1,
            rows=tally.rows + loaded.rows - loaded.rejected,
            rejected=tally.rejected + loaded.rejected,
            slowest_seconds=max(tally.slowest_seconds, seconds),
        )

    def _loaded(self, lease: Lease) -> Loaded:
        """The chunk loaded; tried again within the same lease when what failed may pass, and time allows."""
        tries = Retrying(
            retry=retry_if_exception(self._may_pass),
            wait=wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE_SECONDS),
            stop=stop_after_attempt(TRIES),
            before_sleep=lambda state: self._log_retry(lease, state),
            reraise=True,
        )
        return tries(self._loaded_once, lease)

    def _may_pass(self, error: BaseException) -> bool:
        """Whether another try may help: not without the session, with which the lease has died."""
        return (
            isinstance(error, TransientError)
            and not self._session.closed
            and self._deadline.allows(LONGEST_PAUSE_SECONDS + LEAST_SECONDS)
        )

    def _log_retry(self, lease: Lease, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning(
            "chunk is tried again",
            extra=self._keys(chunk=lease.chunk_id, reason=error.message if isinstance(error, SnowmeltError) else ""),
        )

    def _loaded_once(self, lease: Lease) -> Loaded:
        """The chunk loaded as the plan says: by one statement, or, when rows of it are rejected, without these.

        Where COPY meets a duplicate of the key that the config names, by a merge.
        """
        plan = self._plan
        try:
            return self._loaded_by(plan, lease)
        except DuplicateKeyError as error:
            if plan.load_mode != "copy" or not load.merges_duplicates(plan):
                raise
            logger.warning(
                "COPY met a duplicate, the chunk is merged instead",
                extra=self._keys(chunk=lease.chunk_id, duplicate=error.message),
            )
        return self._loaded_by(load.merging_duplicates(plan), lease)

    def _loaded_by(self, plan: TablePlan, lease: Lease) -> Loaded:
        try:
            return load.load_chunk(self._session, lease, plan, self._batches(lease), check=self._stop_in_time)
        except (RejectedRowsError, DuplicateKeyError) as error:
            if isinstance(error, DuplicateKeyError) and not isolation.isolates_duplicates(plan):
                raise
            if plan.refers_to_itself:  # slice by slice a child would be rejected that comes before its parent
                raise
            logger.warning(
                "rows are rejected, the chunk is loaded without them",
                extra=self._keys(chunk=lease.chunk_id, reason=error.message),
            )
        return isolation.load_without_rejected(
            self._session, lease, plan, self._batches(lease), check=self._stop_in_time
        )

    def _batches(self, lease: Lease) -> Iterator[pa.RecordBatch]:
        with self._fetching.running():
            batches = self._read(lease)
        return self._fetching.while_taking(batches)

    def _read(self, lease: Lease) -> Iterator[pa.RecordBatch]:
        """The chunk's rows; DataError when the result is not the one that was planned."""
        if isinstance(lease.reads, KeyRange):
            result = self._snowflake.run(statement.of_chunk(self._plan, lease.reads))
            whole = ScanSlice(query_id=result.query_id, first_batch=0, offset=0, rows=sum(result.row_counts))
            return result.read(whole)
        query_id = lease.reads.query_id
        if query_id not in self._results:
            result = self._snowflake.shared_result(query_id)
            planned = manifest_store.load_row_counts(self._run.store, self._run.run_id, query_id)
            if result.row_counts != planned:
                raise SourceChangedError(
                    f"table {self._plan.source}: the result of query {query_id} is cut into other batches than when it "
                    f"was planned ({len(result.row_counts)} with {sum(result.row_counts)} rows, planned "
                    f"{len(planned)} with {sum(planned)}); start again: a new run begins"
                )
            self._results[query_id] = result
        return self._results[query_id].read(lease.reads)

    def _stop_in_time(self) -> None:
        if not self._deadline.allows(0):
            raise OutOfTimeError("the invocation's time is over")

    def _hand_back(self, lease: Lease, tally: _Tally, *, spent_seconds: float, alone: bool) -> _Tally:
        """Release a chunk that ran out of time; one that had a whole invocation to itself is marked to be split."""
        had_it_all = alone and spent_seconds > self._budget_seconds / 2
        if had_it_all and lease.reads.rows == 1:
            text = (
                f"one row did not load in {spent_seconds:.0f} s, a whole invocation; raise the function's time-out, "
                "or lower lambda_timeout_buffer_seconds"
            )
            return self._record_failure(lease, tally, TooLargeError(text))
        leases.release(
            self._session,
            lease,
            spent_seconds=spent_seconds,
            code=leases.TOO_LONG if had_it_all else leases.INTERRUPTED,
        )
        logger.warning(
            "chunk handed back, out of time",
            extra=self._keys(chunk=lease.chunk_id, seconds=round(spent_seconds, 3), will_be_split=had_it_all),
        )
        return replace(tally, released=tally.released + 1, slowest_seconds=max(tally.slowest_seconds, spent_seconds))

    def _record_failure(self, lease: Lease, tally: _Tally, error: SnowmeltError) -> _Tally:
        if self._session.closed:
            # The lease died with its session, and the next plan sees that; this worker can do no more.
            raise error
        error = load.cause_of(self._session, [self._plan], error)
        status = leases.fail(
            self._session,
            lease,
            max_attempts=1 if error.is_final else self._plan.max_retry_attempts,
            code=error.code,
            text=error.message,
        )
        logger.error(
            error.message,
            extra=self._keys(
                chunk=lease.chunk_id,
                attempt=lease.attempts,
                error_code=error.code,
                gives_up=status == "failed",
            ),
        )
        return replace(tally, failed=tally.failed + 1)

    def _keys(self, **more: object) -> dict[str, object]:
        return {"run_id": self._run.run_id, "table": self._item.table, **more}
