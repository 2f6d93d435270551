"""Free what is dead, start and cut what is waiting, and hand out what can be loaded."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from snowmelt import manifest_store
from snowmelt.deadline import Deadline
from snowmelt.engine import connection_count, leases, rounds, status_store, work_items
from snowmelt.engine.connection_budget import Budget, budget
from snowmelt.engine.rounds import Before, Outlook, Step
from snowmelt.engine.status_store import PendingRow, RunRow, TableRow
from snowmelt.engine.work_items import PendingChunk
from snowmelt.errors import (
    AccessError,
    DataError,
    NoTimeTravelError,
    ResultLostError,
    RowsMissingError,
    SnowmeltError,
    TableFailedError,
    TooLargeError,
    TransientError,
)
from snowmelt.loading import load, targets
from snowmelt.loading.targets import Ready
from snowmelt.models import ChunkRead, KeySpec, Location, PlanChunksEvent, PlanChunksResult, ScanSlice, TablePlan
from snowmelt.planning import composite, one_scan, source_facts, statement
from snowmelt.planning.source_facts import Count
from snowmelt.postgres.session import Session
from snowmelt.snowflake_source import ScanDone, ScanFailed, ScanGone, ScanRunning, SnowflakeSource
from snowmelt.wiring import RunResources, Wiring
from snowmelt.wording import WITH_NO_RESUME

logger = logging.getLogger(__name__)

MOST_SCANS = 8
"""Statements under way in Snowflake at once; a warehouse runs eight and queues the rest."""
SHORT_SCAN_SECONDS = 10.0
"""How long a plan stays for scans that are about to end, rather than send the workflow into a wait."""
SPLIT_PARTS = 4
BUSY_WAIT_SECONDS = 5


def plan_chunks(event: PlanChunksEvent, wiring: Wiring, deadline: Deadline) -> PlanChunksResult:
    """What the workflow does next: process a manifest, wait, or finalize.

    Two calls at once do no harm: the second answers ``wait``. StalledError ends a run that no longer moves.
    """
    run = wiring.open_run(event.run_id)
    deadline = run.within_buffer(deadline)
    with run.target() as session, status_store.only_planner(session, event.run_id) as alone:
        row = run.drive(session, event.execution_id)
        if not alone:
            reason = status_store.planner_at_work(session, event.run_id)
            logger.warning(reason, extra={"run_id": event.run_id})
            return PlanChunksResult(next="wait", round=event.round + 1, wait_seconds=BUSY_WAIT_SECONDS, reason=reason)
        if row.status != "running":
            return PlanChunksResult(next="finalize", round=event.round + 1, reason=f"the run is {row.status}")
        return _Plan(run, session, deadline, event).result(row)


class _Plan:
    """One call, alone at work on its run."""

    def __init__(self, run: RunResources, session: Session, deadline: Deadline, event: PlanChunksEvent) -> None:
        self._run = run
        self._session = session
        self._deadline = deadline
        self._event = event
        self._allow_shrink = False

    def result(self, before: RunRow) -> PlanChunksResult:
        self._allow_shrink = before.allow_shrink
        living, freed = leases.free_dead(
            self._session, self._event.run_id, lambda table_id: self._run.table(table_id).max_retry_attempts
        )
        if freed:
            logger.warning("leases of dead workers freed", extra={"chunks": freed})
        status_store.close_left_behind(self._session, self._event.run_id)
        self._rescan_expired_results()
        self._fail_what_has_no_past()
        self._scan()
        self._split_what_does_not_fit()

        pending = status_store.pending_chunks(self._session, self._event.run_id)
        tallies = status_store.chunk_tallies(self._session, self._event.run_id)
        tables = status_store.read_tables(self._session, self._event.run_id)
        found = Outlook(
            claimable=len(pending),
            running=len(living),
            scanning=sum(t.status in ("pending", "scanning") for t in tables),
            progress_mark=sum(t.moved for t in tallies.values()) + _stages(tables),
            lease_seconds=min((lease.seconds_left for lease in living), default=None),
        )
        step = rounds.decide(
            self._event.run_id,
            self._event.round,
            Before(
                progress_mark=before.progress_mark,
                stalled_rounds=before.stalled_rounds,
                waits=before.waits,
                round_number=before.planned_round,
                last_error=before.error_text,
            ),
            found,
        )
        given = self._budget(len(pending)) if step.next == "process" else Budget(self._run.plan.parallel_threads)
        threads = min(self._run.plan.threads, given.workers)
        concurrency = given.workers // threads
        manifest, items = self._manifest(step, pending, before, concurrency=concurrency, threads=threads)
        status_store.record_round(
            self._session,
            self._event.run_id,
            waits=step.waits,
            stalled_rounds=step.stalled_rounds,
            round_number=self._event.round,
            progress_mark=found.progress_mark,
        )
        logger.info(
            "planned",
            extra={"next": step.next, "reason": step.reason, "items": items, "round": self._event.round},
        )
        return PlanChunksResult.model_validate(
            {
                "next": step.next,
                "round": self._event.round + 1,
                "manifest": manifest,
                "items": items,
                "max_concurrency": concurrency,
                "wait_seconds": step.wait_seconds,
                "reason": "; ".join(filter(None, (step.reason, given.reason))),
            }
        )

    def _rescan_expired_results(self) -> None:
        """Scan tables again whose result Snowflake no longer keeps, unless rows would be loaded twice by it."""
        by_id = {t.table_id: t for t in status_store.read_tables(self._session, self._event.run_id)}
        gone = status_store.tables_without_result(self._session, self._event.run_id)
        for table_id, completed in gone.items():
            table, plan = by_id[table_id], self._run.table(table_id)
            if completed and plan.when_result_is_gone == "stops":
                text = (
                    f"table {table.source_table}: Snowflake no longer keeps the result of query {table.query_id}, of "
                    f"which {completed} chunks were added to {plan.target}; what is left cannot be told from them: "
                    f"empty the target (TRUNCATE {plan.target}) and start again: a new run begins; or name "
                    f"uniqueness_columns or chunking_columns, and start {WITH_NO_RESUME}"
                )
                self._give_up(table, ResultLostError(text))
            elif status_store.restart_table(self._session, self._event.run_id, table_id):
                logger.warning(
                    "the scan's result is gone, the table restarts",
                    extra={"table": table.source_table, "query_id": table.query_id, "chunks": completed},
                )

    def _fail_what_has_no_past(self) -> None:
        """Fail tables of which no chunk can be read any more, rather than try every chunk that is left."""
        lost = status_store.tables_without_time_travel(self._session, self._event.run_id)
        by_id = {t.table_id: t for t in status_store.read_tables(self._session, self._event.run_id)} if lost else {}
        for table_id, text in lost.items():
            self._give_up(by_id[table_id], NoTimeTravelError(f"table {by_id[table_id].source_table}: {text}"))

    # --- scans ------------------------------------------------------------------------------------------------------

    def _scan(self) -> None:
        """Submit scans, and cut the results of those that have ended; stay a little for short ones."""
        if not self._waiting_tables():
            return
        began = time.monotonic()
        with self._run.source() as snowflake:
            while waiting := self._waiting_tables():
                self._submit(waiting, snowflake)
                self._poll(self._waiting_tables(), snowflake)
                waited = time.monotonic() - began
                # In proportion, so that no scan is noticed much later than it ended.
                pause = min(max(0.05, waited / 10), 1.0)
                out_of_time = not self._deadline.allows(5 * pause) or waited > SHORT_SCAN_SECONDS
                if out_of_time or status_store.pending_chunks(self._session, self._event.run_id):
                    # Whatever is ready is loaded while the other scans go on.
                    return
                time.sleep(pause)

    def _waiting_tables(self) -> Sequence[TableRow]:
        rows = status_store.read_tables(self._session, self._event.run_id)
        return [t for t in rows if t.status in ("pending", "scanning")]

    def _submit(self, waiting: Sequence[TableRow], snowflake: SnowflakeSource) -> None:
        under_way = sum(t.status == "scanning" for t in waiting)
        pending = [t for t in waiting if t.status == "pending"][: MOST_SCANS - under_way]
        began_at = snowflake.now() if pending else None
        for table in pending:
            try:
                plan = self._run.table(table.table_id)
                size = one_scan.batch_megabytes(plan.stored_bytes)
                query_id = snowflake.submit(_first_statement(plan), batch_megabytes=size)
            except TransientError:
                raise
            except SnowmeltError as error:
                self._give_up(table, error)
                continue
            key = self._session, self._event.run_id, table.table_id
            if not status_store.record_scan(*key, query_id, began_at):
                snowflake.cancel(query_id)
            logger.info("scan submitted", extra={"table": table.source_table, "query_id": query_id})

    def _poll(self, waiting: Sequence[TableRow], snowflake: SnowflakeSource) -> None:
        """Look after every scan that is under way; tables that are truncated together go on together."""
        scans = {t.table_id: t for t in waiting if t.status == "scanning" and t.query_id is not None}
        done: dict[int, Ready] = {}
        for table in scans.values():
            match snowflake.scan_state(str(table.second_query_id or table.query_id)):
                case ScanRunning():
                    continue
                case ScanDone(row_counts=row_counts, began_at=began_at):
                    if ready := self._cut(table, row_counts, snowflake):
                        done[table.table_id] = replace(ready, began_at=began_at)
                case ScanFailed(message=message, kind=kind):
                    status_store.forget_scan(self._session, self._event.run_id, table.table_id, str(table.query_id))
                    self._give_up(table, kind(f"table {table.source_table}: {message}"))
                case ScanGone():
                    # Nothing of it has been loaded yet, so another scan loses nothing.
                    status_store.forget_scan(self._session, self._event.run_id, table.table_id, str(table.query_id))
        groups = {self._together(table_id) for table_id in done}
        whole = [done[table_id] for group in groups if done.keys() >= set(group) for table_id in group]
        for table_id in self._fail_incomplete(whole, scans, snowflake):
            del done[table_id]
        for group in groups:
            if done.keys() >= set(group):
                self._start([done[table_id] for table_id in group], scans)
            else:
                self._give_up_if_one_failed(group, scans)

    def _fail_incomplete(
        self, ready: Sequence[Ready], scans: Mapping[int, TableRow], snowflake: SnowflakeSource
    ) -> list[int]:
        """Fail tables of which Snowflake's catalog counts other rows than were read; returns which.

        One statement asks for all of them. A table that was changed since its scan began is not compared, and none is
        where the catalog does not answer.
        """
        asked = [each for each in ready if each.plan.counted_as is not None]
        counts = self._counts({str(each.plan.counted_as) for each in asked}, snowflake) if asked else {}
        failed = []
        for each in asked:
            table, count = scans[each.plan.table_id], counts.get(str(each.plan.counted_as))
            began_at = min(filter(None, (table.scan_began_at, each.began_at)), default=None)
            if count is not None and source_facts.contradicts(count, rows=each.source_rows, began_at=began_at):
                self._give_up(table, _rows_missing(each, count.rows, self._run.plan.snowflake_role))
                failed.append(each.plan.table_id)
        return failed

    def _counts(self, names: Collection[str], snowflake: SnowflakeSource) -> Mapping[str, Count]:
        plan = self._run.plan
        query = source_facts.counts_query(plan.snowflake_database, plan.snowflake_schema, names)
        try:
            return source_facts.read_counts(snowflake.aggregate(query))
        except (AccessError, DataError) as error:
            logger.info("rows are not compared with Snowflake's catalog", extra={"reason": error.message})
            return {}

    def _together(self, table_id: int) -> tuple[int, ...]:
        return self._run.table(table_id).starts_with or (table_id,)

    def _cut(self, table: TableRow, row_counts: tuple[int, ...], snowflake: SnowflakeSource) -> Ready | None:
        """The table's chunks, or None when another query is needed to know them."""
        plan, query_id = self._run.table(table.table_id), str(table.query_id)
        if plan.keys is None:
            manifest_store.save_row_counts(self._run.store, self._event.run_id, query_id, row_counts)
            chunks = tuple(one_scan.plan(query_id, row_counts, plan.batch_size))
            return Ready(plan, query_id, sum(row_counts), chunks)
        try:
            return self._cut_by_keys(table, plan, plan.keys, snowflake)
        except DataError as error:
            self._give_up(table, error)
            return None

    def _cut_by_keys(self, table: TableRow, plan: TablePlan, spec: KeySpec, snowflake: SnowflakeSource) -> Ready | None:
        histogram = composite.read_histogram(spec, snowflake.rows(str(table.query_id)))
        second = composite.second_query(spec, histogram)
        if second is not None and table.second_query_id is None:
            query_id = snowflake.submit(second)
            if not status_store.record_second_query(self._session, self._event.run_id, table.table_id, query_id):
                snowflake.cancel(query_id)
            return None
        pieces = composite.read_pieces(spec, snowflake.rows(str(table.second_query_id))) if second else ()
        return Ready(plan, str(table.query_id), histogram.rows, composite.plan(spec, histogram, pieces))

    def _start(self, group: Sequence[Ready], scans: Mapping[int, TableRow]) -> None:
        try:
            targets.start_loading(self._session, self._event.run_id, group, allow_shrink=self._allow_shrink)
        except DataError as error:
            cause = load.cause_of(self._session, [ready.plan for ready in group], error)
            for ready in group:
                self._give_up(scans[ready.plan.table_id], cause)
            return
        for ready in group:
            logger.info(
                "table planned",
                extra={
                    "table": ready.plan.source,
                    "chunks": len(ready.chunks),
                    "rows": ready.source_rows,
                    "query_id": ready.query_id,
                },
            )

    def _give_up_if_one_failed(self, group: Sequence[int], scans: Mapping[int, TableRow]) -> None:
        """Tables whose TRUNCATE can never come, because one of those tied to them has failed."""
        rows = status_store.read_tables(self._session, self._event.run_id)
        failed = [t for t in rows if t.table_id in group and t.status == "failed"]
        for table_id in group if failed else ():
            if table_id in scans:
                text = (
                    f"table {scans[table_id].source_table}: it can only be truncated together with "
                    f"{failed[0].source_table}, which failed: {failed[0].error_text}"
                )
                self._give_up(scans[table_id], TableFailedError(text))

    def _give_up(self, table: TableRow, error: SnowmeltError) -> None:
        status_store.fail_table(self._session, self._event.run_id, table.table_id, error)
        logger.error(error.message, extra={"table": table.source_table, "error_code": error.code})

    # --- chunks -----------------------------------------------------------------------------------------------------

    def _split_what_does_not_fit(self) -> None:
        chunks = status_store.pending_chunks(self._session, self._event.run_id)
        too_long = [c for c in chunks if c.error_code == leases.TOO_LONG and c.reads.rows > 1]
        for chunk in too_long:
            plan = self._run.table(chunk.table_id)
            if plan.refers_to_itself:
                self._give_up_whole_table(plan)
                continue
            parts = self._parts(plan, chunk.reads)
            if len(parts) < 2:
                self._give_up_alike(plan, chunk)
                continue
            if status_store.split_chunk(self._session, self._event.run_id, plan, chunk.chunk_id, parts):
                logger.info(
                    "chunk split, as it does not fit in an invocation",
                    extra={"table": chunk.source_table, "chunk": chunk.chunk_id, "parts": len(parts)},
                )

    def _give_up_whole_table(self, plan: TablePlan) -> None:
        text = (
            f"table {plan.source}: its rows refer to each other by a foreign key and must come in one transaction, "
            "which does not fit in an invocation; raise the function's time-out, or drop the constraint for the load"
        )
        self._give_up_by_id(plan, TooLargeError(text))

    def _give_up_by_id(self, plan: TablePlan, error: SnowmeltError) -> None:
        status_store.fail_table(self._session, self._event.run_id, plan.table_id, error)
        logger.error(error.message, extra={"table": plan.source, "error_code": error.code})

    def _give_up_alike(self, plan: TablePlan, chunk: PendingRow) -> None:
        key = ", ".join(column.name for column in plan.keys.columns) if plan.keys else ""
        text = (
            f"table {plan.source}: chunk {chunk.chunk_id} does not fit in an invocation, and its {chunk.reads.rows} "
            f"rows cannot be told apart by chunking_columns ({key}); add a column that tells them apart, or set "
            f"chunking to one_scan, and start {WITH_NO_RESUME}"
        )
        self._give_up_by_id(plan, TooLargeError(text))

    def _parts(self, plan: TablePlan, reads: ChunkRead) -> Sequence[ChunkRead]:
        """The same rows in smaller chunks; a single one where they cannot be told apart by the key."""
        if isinstance(reads, ScanSlice):
            row_counts = manifest_store.load_row_counts(self._run.store, self._event.run_id, reads.query_id)
            return one_scan.split(reads, row_counts, SPLIT_PARTS)
        if plan.keys is None:
            return (reads,)
        spec = plan.keys.model_copy(update={"within": reads, "batch_size": -(-reads.rows // SPLIT_PARTS)})
        with self._run.source() as snowflake:
            histogram = composite.read_histogram(spec, snowflake.aggregate(composite.first_query(spec)))
            second = composite.second_query(spec, histogram)
            pieces = composite.read_pieces(spec, snowflake.aggregate(second)) if second else ()
        return composite.plan(spec, histogram, pieces)

    def _budget(self, chunks: int) -> Budget:
        """Return how many of the chunks are loaded at once, where PostgreSQL gives few connections."""
        workers = leases.worker_name(self._event.run_id)
        found = budget(connection_count.limits(self._session, workers=workers), self._run.plan.parallel_threads)
        if chunks <= found.workers:
            return Budget(found.workers)
        if found.reason:
            logger.warning(found.reason, extra={"run_id": self._event.run_id})
        return found

    def _manifest(
        self, step: Step, pending: Sequence[PendingRow], before: RunRow, *, concurrency: int, threads: int
    ) -> tuple[Location | None, int]:
        if step.next != "process":
            return None, 0
        items = tuple(
            work_items.plan(
                [PendingChunk(c.table_id, c.source_table, c.chunk_id) for c in pending],
                workers=concurrency,
                threads=threads,
                slowest_seconds=self._slowest_seconds(pending),
                most_at_once={c.table_id: self._invocations_of(c.table_id, threads) for c in pending},
            )
        )
        # The round of the run, not of the execution: no two plans write under one name.
        name = f"{before.rounds:06}"
        return manifest_store.save_manifest(self._run.store, self._event.run_id, name, items), len(items)

    def _invocations_of(self, table_id: int, threads: int) -> int:
        at_once = self._run.table(table_id).parallel_threads
        return at_once // min(threads, at_once)

    def _slowest_seconds(self, pending: Sequence[PendingRow]) -> Mapping[int, float]:
        slowest = status_store.slowest_chunks(self._session, self._event.run_id)
        for chunk in pending:
            if chunk.spent_seconds is not None:
                slowest[chunk.table_id] = max(slowest.get(chunk.table_id, 0.0), chunk.spent_seconds)
        return slowest


def _first_statement(plan: TablePlan) -> str:
    """What Snowflake is asked first: all rows, or how the key is spread."""
    return statement.of_chunk(plan) if plan.keys is None else composite.first_query(plan.keys)


def _rows_missing(ready: Ready, counted: int, role: str) -> RowsMissingError:
    return RowsMissingError(
        f"table {ready.plan.source}: query {ready.query_id} gave {ready.source_rows} rows, and Snowflake counts "
        f"{counted} in the table (INFORMATION_SCHEMA.TABLES), which nobody has changed since; none of them was loaded; "
        "see whether a setting of the account or the user cuts results (ROWS_PER_RESULTSET), or a row access policy "
        f"hides rows from role {role}, and start again: a new run begins; if role {role} is meant to read only these "
        f'rows, set source_filter to "TRUE", and start {WITH_NO_RESUME}; if neither is so, report it with the query id'
    )


def _stages(tables: Sequence[TableRow]) -> int:
    """A number that grows whenever a table reaches its next stage."""
    stage = {
        "pending": 0,
        "scanning": 1,
        "loading": 2,
        "finalizing": 3,
        "completed": 4,
        "failed": 4,
        "abandoned": 4,
    }
    return sum(stage[t.status] for t in tables)
