"""One migration that is disturbed, resumed and compared."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import psycopg2

from fault_injection import modes
from fault_injection.difference import Difference, difference
from fault_injection.effects import Effects
from fault_injection.judging import false_failure, not_refused
from fault_injection.kinds import USUAL, Case, Condition, Strike
from fault_injection.machine import Execution, come_to_rest, invoke_again
from fault_injection.starts import COMPLETED, INVOCATION_SECONDS, Ended, Start
from fault_injection.traps import Blow, Struck, Trap, Traps
from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.postgres import Database
from snowmelt_sandbox.sandbox import Sandbox

BUFFER_SECONDS = 1.0
SHORT_SECONDS = BUFFER_SECONDS + 0.8
FUNCTION_SECONDS = 15.0
FIRST_SECONDS = 40.0
"""How long the start that is struck may stand still; what hangs is killed then, as a user would."""
TAKEN_OVER_SECONDS = 300.0
"""The same for one that is stopped until another has taken over and ended."""
RESUME_SECONDS = 60.0
HELD_SECONDS = 40.0
"""How long a user is refused before it counts: the server must first see that the driver is gone."""


@dataclass(frozen=True)
class Result:
    """What became of a case."""

    number: int
    case: str
    kind: str
    outcome: str
    """``unharmed``: the first start completed the run. ``resumed``: another one did. ``failed_clearly``: only after a
    fix that its error names. ``refused``: the first start was refused, as it must be. ``taken_over``: it was stopped,
    and another one completed the run. ``not_reached``: the fault found nothing to strike. ``stuck``: it never
    completed. ``left_out``: this machine has not what the case needs."""
    first: str
    struck: str
    starts: int
    seconds: float
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    false_completed: int = 0
    missing_indexes: int = 0
    false_failed: int = 0
    false_failure: str = ""
    """What said failed, or stood still, although nothing was wrong."""
    mode: str = ""
    met: int = 0
    """How many messages were such as the first fault waits for."""
    unexplained: str = ""
    """An error on the way that was none of Snowmelt's own."""

    @property
    def is_right(self) -> bool:
        """Whether it ended as it must."""
        wrong = self.lost, self.doubled, self.changed, self.false_completed, self.missing_indexes, self.false_failed
        return not any(wrong) and self.outcome != "stuck" and not self.unexplained


class Grounds(Protocol):
    """Where a trial takes place: the servers, the proxies before them, and the ways to start."""

    @property
    def sandbox(self) -> Sandbox:
        """Both servers, without the proxies."""
        ...

    @property
    def traps(self) -> Traps:
        """What both proxies ask."""
        ...

    def command(self, invocation_seconds: float = ..., **event: Any) -> Start:
        """``snowmelt migrate``."""
        ...

    def aws(self) -> LocalAws:
        """The deployment."""
        ...

    def under(self, condition: Condition) -> AbstractContextManager[None]:
        """Within, the condition holds; NotHereError where this server does not know it."""
        ...


class Trial:
    """One case at work."""

    def __init__(self, grounds: Grounds, case: Case, database: Database) -> None:
        self._grounds = grounds
        self._case = case
        self._database = database
        self._indexes = _indexes(database, case.mode.table)
        self._effects = Effects(grounds.sandbox, database, case.mode.table, seconds=case.strikes[0].seconds)
        self._effects.moved_at = self._moved_at
        self._by_machine = case.driver == "state machine"
        self._earlier = self._runs()
        self._starts = 0
        self._unexplained = ""
        self._false = False
        self._run_failed = False
        self._afterwards: list[Ended] = []

    def result(self) -> Result:
        """What became of it."""
        traps = [self._trap(strike) for strike in self._case.strikes]
        with ExitStack() as conditions:
            for strike in self._case.strikes:
                conditions.enter_context(self._grounds.under(strike.condition))
            first = self._first(traps)
            self._grounds.traps.put()
            self._come_to_rest()
        last, corrected = first, self._fix()
        if self._is_complete(first):
            self._note_if_untrue()
            last = Ended("completed")
        else:
            last, needed_fix = self._resume()
            corrected = corrected or needed_fix
        self._come_to_rest()
        self._late_events()
        return self._judged(traps, first, last, corrected=corrected)

    def _is_complete(self, first: Ended) -> bool:
        """Whether the run is complete, although whoever started it may have died before it was told."""
        self._note_failed_run()
        return first.verdict == "completed" or self._has_verdict()

    def _first(self, traps: Sequence[Trap]) -> Ended:
        effects = self._effects
        if self._by_machine:
            effects.aws = self._grounds.aws()
            self._grounds.traps.put(*traps)
            self._starts += 1
            effects.execution = Execution(effects.aws)
            ended = effects.execution.wait(FIRST_SECONDS, self._moved_at)
        else:
            effects.rival_starts = self._grounds.command
            self._grounds.traps.put(*traps)
            self._starts += 1
            effects.start = self._grounds.command(SHORT_SECONDS if self._case.is_short else INVOCATION_SECONDS)
            ended = effects.start.wait(
                TAKEN_OVER_SECONDS if self._case.is_taken_over else FIRST_SECONDS, self._moved_at
            )
        return self._noted(ended)

    def _moved_at(self) -> float:
        return self._grounds.traps.moved_at

    def _trap(self, strike: Strike) -> Trap:
        def effect(struck: Struck) -> None:
            if strike.kind.effect:
                self._effects.happen(strike.kind.effect, struck)

        blow = Blow(strike.way, seconds=strike.seconds, code=strike.code, message=strike.message, effect=effect)
        return Trap(strike.moment, blow)

    def _noted(self, ended: Ended) -> Ended:
        if ended.verdict == "crashed":
            self._unexplained = f"{ended.code}: {ended.message}"
        return ended

    def _start_again(self, **event: Any) -> Ended:
        self._starts += 1
        start = Execution(self._grounds.aws(), **event) if self._by_machine else self._grounds.command(**event)
        self._afterwards.append(self._noted(start.wait(RESUME_SECONDS, self._moved_at)))
        self._note_failed_run(of_start=self._afterwards[-1])
        return self._afterwards[-1]

    def _resume(self) -> tuple[Ended, bool]:
        """Start again until it completes or says what must be corrected; whether something had to be."""
        until = time.monotonic() + HELD_SECONDS
        ended = self._start_again()
        while ended.verdict != "completed" and time.monotonic() < until:
            if self._case.mode.adds_once and "empty the target" in ended.message:
                self._database.execute(f"TRUNCATE {self._case.mode.table}")
                return self._start_again(), True
            time.sleep(0.3)
            ended = self._start_again()
        return ended, False

    def _runs(self) -> dict[str, str]:
        """The status of every run there is; none before the status schema is installed."""
        with suppress(psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
            return dict(self._database.rows("SELECT run_id, status FROM migration_status.runs"))
        return {}

    def _has_verdict(self) -> bool:
        return any(status in COMPLETED for status in self._statuses())

    def _statuses(self) -> list[str]:
        return [status for run_id, status in self._runs().items() if run_id not in self._earlier]

    def _note_failed_run(self, of_start: Ended | None = None) -> None:
        """Remember that a run was marked failed; what a later start makes of it does not undo that."""
        said = of_start is None or (of_start.verdict, of_start.code) == ("failed", "failed")
        self._run_failed = self._run_failed or (said and "failed" in self._statuses())

    def _fix(self) -> bool:
        for statement in self._effects.fixes:
            self._database.execute(statement)
        return bool(self._effects.fixes)

    def _come_to_rest(self) -> None:
        """No worker is at work any more, and PostgreSQL lets everyone in."""
        self._effects.settle()
        for ended in (*self._effects.rivals_ended, *self._effects.taken_over, *self._effects.met):
            self._noted(ended)
        if self._by_machine:
            come_to_rest(self._grounds.aws(), FUNCTION_SECONDS + 2)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with suppress(psycopg2.Error):
                busy = self._database.rows(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name LIKE 'snowmelt%' AND state <> 'idle'"
                )
                if not busy:
                    return
            time.sleep(0.05)

    def _late_events(self) -> None:
        """What was sent more than once is sent once again, long after."""
        for event in self._effects.events:
            for thread in invoke_again(self._grounds.aws(), event, 1):
                thread.join(30)

    # --- what became of it ---

    def _difference(self) -> Difference:
        found = self._database.rows(f"SELECT {modes.COLUMNS} FROM {self._case.mode.table}")
        return difference(self._case.mode.expected(), found)

    def _missing_indexes(self) -> int:
        return len(self._indexes - _indexes(self._database, self._case.mode.table))

    def _note_if_untrue(self) -> None:
        self._false = bool(self._difference()) or bool(self._missing_indexes())

    def _judged(self, traps: Sequence[Trap], first: Ended, last: Ended, *, corrected: bool) -> Result:
        differs, missing = self._difference(), self._missing_indexes()
        completed = last.verdict == "completed"
        falsely = false_failure(
            self._case,
            first,
            run_failed=self._run_failed,
            taken_over=self._effects.taken_over,
            met=self._effects.met,
            afterwards=self._afterwards,
            corrected=corrected,
        )
        return Result(
            number=self._case.number,
            case=str(self._case),
            kind=self._case.strikes[0].kind.name,
            outcome=self._outcome(traps, first, completed=completed, corrected=corrected),
            mode=self._case.mode.name,
            first=" ".join((first.verdict, first.code, first.message)).strip()[:400]
            + ("" if completed else f"; last: {last.verdict} {last.code} {last.message}"[:600]),
            struck="; ".join(trap.struck or "nothing" for trap in traps),
            starts=self._starts,
            seconds=0.0,
            **asdict(differs),
            false_completed=int(self._false or (completed and (bool(differs) or bool(missing)))),
            missing_indexes=missing,
            false_failed=int(bool(falsely)),
            false_failure=falsely,
            met=traps[0].met,
            unexplained=self._unexplained or not_refused(self._case, first),
        )

    def _outcome(self, traps: Sequence[Trap], first: Ended, *, completed: bool, corrected: bool) -> str:
        if not completed:
            return "stuck"
        if self._case.refused_for and first.verdict == "failed":
            return "refused"
        if self._effects.taken_over or self._effects.met:
            return "taken_over"
        if not any(trap.struck for trap in traps) and all(s.condition == USUAL for s in self._case.strikes):
            return "not_reached"
        if self._starts == 1:
            return "unharmed"
        return "failed_clearly" if corrected else "resumed"


def _indexes(database: Database, table: str) -> frozenset[tuple[Any, ...]]:
    found = database.rows(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass AND indisvalid", (table,)
    )
    return frozenset(found)
