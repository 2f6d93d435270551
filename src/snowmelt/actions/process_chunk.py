"""Load the chunks of a work item."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from snowmelt import manifest_store
from snowmelt.deadline import Deadline
from snowmelt.errors import DataError, FencedError, SnowmeltError
from snowmelt.models import KeyRange, ProcessChunkEvent, ProcessChunkResult, ScanSlice, WorkItem
from snowmelt.planning import statement
from snowmelt.postgres import leases, load, status_store
from snowmelt.postgres.leases import Lease, Loaded
from snowmelt.postgres.session import DuplicateKeyError, Session
from snowmelt.snowflake_source import ScanResult, SnowflakeSource
from snowmelt.wiring import RunResources, Wiring

logger = logging.getLogger(__name__)

LEAST_SECONDS = 0.5
"""With less than this left, not even a first chunk is begun."""


class OutOfTimeError(SnowmeltError):
    """The invocation's time ran out in the middle of a chunk."""


@dataclass(frozen=True)
class _Tally:
    completed: int = 0
    released: int = 0
    failed: int = 0
    skipped: int = 0
    rows: int = 0
    slowest_seconds: float = 0.0

    def result(self) -> ProcessChunkResult:
        return ProcessChunkResult(
            completed=self.completed,
            released=self.released,
            failed=self.failed,
            skipped=self.skipped,
            rows=self.rows,
        )


def process_chunk(event: ProcessChunkEvent, wiring: Wiring, deadline: Deadline) -> ProcessChunkResult:
    """Load the item's chunks one by one, and stop in order before time runs out.

    However this call ends - deadline, lost connection, killed runtime - a chunk is either in the target with its
    mark or not there at all, and what is not there is planned again.
    """
    run = wiring.open_run(event.run_id)
    deadline = run.within_buffer(deadline)
    with run.target() as session:
        status_store.touch_driver(session, event.run_id, deadline.lifetime_seconds())
        try:
            load.refuse_changed_target(session, run.table(event.item.table_id))
            with run.source() as snowflake:
                return _Worker(run, session, snowflake, deadline, event.item).work()
        except SnowmeltError as error:
            # A run whose workers cannot even start must be able to say why.
            if not session.closed:
                status_store.note_error(session, event.run_id, error)
            raise


class _Worker:
    """One invocation at work on one item, with one connection to each side."""

    def __init__(
        self,
        run: RunResources,
        session: Session,
        snowflake: SnowflakeSource,
        deadline: Deadline,
        item: WorkItem,
    ) -> None:
        self._run = run
        self._session = session
        self._snowflake = snowflake
        self._deadline = deadline
        self._item = item
        self._plan = run.table(item.table_id)
        self._results: dict[str, ScanResult] = {}
        self._has_begun = False
        self._budget_seconds = deadline.remaining_seconds()

    def work(self) -> ProcessChunkResult:
        tally = _Tally(slowest_seconds=self._item.slowest_seconds)
        for position, chunk_id in enumerate(self._item.chunks):
            if not self._may_begin(tally):
                left = len(self._item.chunks) - position
                logger.info("out of time, the rest is handed back", extra=self._keys(chunks=left))
                return replace(tally, released=tally.released + left).result()
            lease = leases.claim(
                self._session,
                run_id=self._run.run_id,
                table_id=self._item.table_id,
                chunk_id=chunk_id,
                seconds=self._deadline.lifetime_seconds(),
            )
            if lease is None:  # done already, or held by a living worker
                tally = replace(tally, skipped=tally.skipped + 1)
                continue
            tally = self._load(lease, tally)
        return tally.result()

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
                rows=loaded.rows,
                size_bytes=loaded.size_bytes,
                seconds=round(seconds, 3),
                attempt=lease.attempts,
            ),
        )
        return replace(
            tally,
            completed=tally.completed + 1,
            rows=tally.rows + loaded.rows,
            slowest_seconds=max(tally.slowest_seconds, seconds),
        )

    def _loaded(self, lease: Lease) -> Loaded:
        """The chunk loaded as the plan says; where COPY meets a duplicate and the key is known, by a merge."""
        try:
            return load.load_chunk(self._session, lease, self._plan, self._batches(lease), check=self._stop_in_time)
        except DuplicateKeyError as error:
            if not self._plan.key:
                raise
            logger.warning(
                "COPY met a duplicate, the chunk is merged instead",
                extra=self._keys(chunk=lease.chunk_id, duplicate=error.message),
            )
        return load.merge_duplicates(self._session, lease, self._plan, self._batches(lease), check=self._stop_in_time)

    def _batches(self, lease: Lease) -> Iterator[pa.RecordBatch]:
        """The chunk's rows; DataError when the result is not the one that was planned."""
        if isinstance(lease.reads, KeyRange):
            result = self._snowflake.run(statement.of_chunk(self._plan, lease.reads), self._stop_in_time)
            whole = ScanSlice(query_id=result.query_id, first_batch=0, offset=0, rows=sum(result.row_counts))
            return result.read(whole, self._plan.columns)
        query_id = lease.reads.query_id
        if query_id not in self._results:
            result = self._snowflake.open_result(query_id)
            planned = manifest_store.load_row_counts(self._run.store, self._run.run_id, query_id)
            if result.row_counts != planned:
                raise DataError(
                    f"table {self._plan.source}: the result of query {query_id} is cut into other batches than when it "
                    f"was planned ({len(result.row_counts)} with {sum(result.row_counts)} rows, planned "
                    f"{len(planned)} with {sum(planned)}); start again with no_resume"
                )
            self._results[query_id] = result
        return self._results[query_id].read(lease.reads, self._plan.columns)

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
            return self._record_failure(lease, tally, DataError(text))
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
        status = leases.fail(
            self._session,
            lease,
            max_attempts=self._plan.max_retry_attempts,
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
