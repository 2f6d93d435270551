"""Compare a table with its source as soon as all of it is in; the sums of a big one take several invocations."""

import logging
import time
from collections.abc import Callable

from snowmelt.deadline import Deadline
from snowmelt.errors import AccessError, DataError, OutOfTimeError, TransientError
from snowmelt.models import TablePlan
from snowmelt.postgres.session import Session
from snowmelt.postgres.tables import identifier
from snowmelt.sql_text import queries
from snowmelt.verification import results, target_hashes
from snowmelt.verification.comparing import Tally
from snowmelt.verification.results import ALL_SUMMED, Begun
from snowmelt.verification.sides import SnowflakeSide
from snowmelt.verification.source_rows import Asked, Load, NotComparableError
from snowmelt.verification.source_sql import StatementTooLongError
from snowmelt.verification.table_check import AFTER_AN_ERROR, not_comparable, verify_table
from snowmelt.verification.target_hashes import TargetSide
from snowmelt.verification.verdicts import Mode, TableVerdict
from snowmelt.wiring import RunResources

logger = logging.getLogger(__name__)

LEAST_SECONDS = 1.0
"""With less than this left nothing is begun."""
FIRST_BLOCKS = 4_096
"""Of 8 kB, summed by the first statement; the next ones are made to take ``SLICE_SECONDS``."""
SLICE_SECONDS = 15.0
MOST_TRIES = 2
"""Invocations that may try what one must finish; the first of them may have had little time left."""
LONGEST_STATEMENT_SECONDS = 86_400.0
_NO_TIME = "what is left of the comparison does not fit in an invocation"
_MORE_TIME = "raise the function's time-out, or run `snowmelt verify`, which has no time limit"


def verify_at_end(run: RunResources, table_id: int, mode: Mode, deadline: Deadline) -> TableVerdict:
    """The verdict on a table whose rows are all in, which is kept in the status schema too.

    OutOfTimeError when another invocation must go on with it. What cannot be compared is called so, with the reason,
    and is no error.
    """
    plan = run.table(table_id)

    def check() -> None:
        if not deadline.allows(LEAST_SECONDS):
            raise OutOfTimeError(f"table {plan.source}: its verification goes on in the next invocation")

    if deadline.is_shorter_than(LEAST_SECONDS):  # no invocation would ever begin, and the run go on for ever
        verdict = not_comparable(plan.source, str(plan.target), run.run_id, mode, _NO_TIME, _MORE_TIME)
        with run.target() as session:
            results.begin(session, run.run_id, table_id, mode)
            results.save_verdict(session, run.run_id, table_id, verdict)
        return verdict
    check()
    with run.target() as session:
        (load,) = session.rows(queries.query("load_of_table"), run_id=run.run_id, table_id=table_id)
        asked = Asked(mode, ends_the_load=True)
        steps = _Steps(session, run.run_id, plan, mode, deadline, check)
        try:
            with run.source() as snowflake:
                if mode != "checksums":
                    steps.begin_last_stage()
                verdict = verify_table(session, snowflake.within(check), plan, Load(**load), asked, steps.summed)
        except NotComparableError as error:
            verdict = not_comparable(plan.source, str(plan.target), run.run_id, mode, str(error), error.advice)
        except (AccessError, DataError) as error:
            verdict = not_comparable(plan.source, str(plan.target), run.run_id, mode, error.message, AFTER_AN_ERROR)
        except TransientError:
            check()  # a statement may have been ended because time was over
            raise
        results.save_verdict(session, run.run_id, table_id, verdict)
    return verdict


class _Steps:
    """Sums both sides in steps that are remembered, so that an invocation goes on where the one before it stopped."""

    def __init__(
        self,
        session: Session,
        run_id: str,
        plan: TablePlan,
        mode: Mode,
        deadline: Deadline,
        check: Callable[[], None],
    ) -> None:
        self._session = session
        self._run_id = run_id
        self._plan = plan
        self._deadline = deadline
        self._check = check
        self._begun = results.begin(session, run_id, plan.table_id, mode)
        self._limit_statements()

    def summed(self, source: SnowflakeSide, target: TargetSide) -> tuple[Tally, Tally]:
        """The sums of both sides; where they differ, what follows is the last stage."""
        query_id = self._begun.source_query_id
        try:
            if query_id is None:
                query_id = source.submit_total()
                results.save_source_query(self._session, self._run_id, self._plan.table_id, query_id)
            here = self._of_target(target)
            there = source.submitted_total(query_id)
        except (DataError, StatementTooLongError):  # such as a text form that is too long: values are compared instead
            self.begin_last_stage()
            raise
        if there != here:
            self.begin_last_stage()
        return there, here

    def begin_last_stage(self) -> None:
        """Begin what one invocation must finish; NotComparableError when none could."""
        if results.count_try(self._session, self._run_id, self._plan.table_id) > MOST_TRIES:
            raise NotComparableError(_NO_TIME, _MORE_TIME)
        self._limit_statements()

    def _of_target(self, target: TargetSide) -> Tally:
        is_whole = target.relation == identifier(self._plan.target)
        blocks = target_hashes.blocks(self._session, self._plan.target) if is_whole else None
        if blocks is None:
            self.begin_last_stage()
            return target.total()
        return self._of_blocks(target, blocks, self._begun)

    def _of_blocks(self, target: TargetSide, blocks: int, begun: Begun) -> Tally:
        block, summed, step = begun.next_block, begun.summed, FIRST_BLOCKS
        while block != ALL_SUMMED:
            self._check()
            self._limit_statements()
            began = time.monotonic()
            stop = block + step if block + step < blocks else None
            summed += target.total_of_blocks(block, stop)
            block = ALL_SUMMED if stop is None else stop
            results.save_sums(self._session, self._run_id, self._plan.table_id, block, summed)
            took = max(0.01, time.monotonic() - began)
            step = max(1, int(step * min(4.0, min(SLICE_SECONDS, self._deadline.remaining_seconds() / 3) / took)))
        return summed

    def _limit_statements(self) -> None:
        """Have the server end what would outlast the invocation."""
        milliseconds = max(1, int(min(self._deadline.remaining_seconds(), LONGEST_STATEMENT_SECONDS) * 1000))
        self._session.run(queries.query("limit_statements"), milliseconds=str(milliseconds))
