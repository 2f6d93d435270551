"""Cases one after another, on servers of their own; several lanes run beside each other without meeting.

A process: numbers of cases come in on stdin, a line of JSON for each goes out on stdout.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2

from snowmelt.errors import SnowmeltError
from snowmelt.local.aws import LocalAws
from snowmelt.local.faults import modes
from snowmelt.local.faults.difference import Difference, Row, difference
from snowmelt.local.faults.effects import Effects
from snowmelt.local.faults.kinds import Case, Strike, case
from snowmelt.local.faults.machine import Execution, come_to_rest, invoke_again
from snowmelt.local.faults.modes import Mode
from snowmelt.local.faults.postgres_wire import PostgresLink
from snowmelt.local.faults.proxy import Proxy
from snowmelt.local.faults.snowflake_wire import SnowflakeLink
from snowmelt.local.faults.starts import INVOCATION_SECONDS, Ended, Start
from snowmelt.local.faults.traps import Blow, Struck, Trap, Traps
from snowmelt.local.postgres import Database, LocalPostgres
from snowmelt.local.sandbox import Sandbox
from snowmelt.local.snowflake import LocalSnowflake

SOURCE_DATABASE = "FAULTS"
BUFFER_SECONDS = 1.0
SHORT_SECONDS = BUFFER_SECONDS + 0.8
FIRST_SECONDS = 25.0
"""How long the start that is struck may take; what hangs is killed then, as a user would."""
RESUME_SECONDS = 60.0
HELD_SECONDS = 40.0
"""How long a user is refused before it counts: the server must first see that the driver is gone."""
FUNCTION_SECONDS = 15.0
TIME_SCALE = 0.05


@dataclass(frozen=True)
class Result:
    """What became of a case."""

    number: int
    case: str
    kind: str
    outcome: str
    """``unharmed``: the first start completed. ``resumed``: another one did. ``failed_clearly``: only after a mend that
    its error names. ``not_reached``: the fault found nothing to strike. ``stuck``: it never completed."""
    first: str
    struck: str
    starts: int
    seconds: float
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    false_completed: int = 0
    missing_indexes: int = 0
    met: int = 0
    """How many messages were such as the first fault waits for."""
    unexplained: str = ""
    """An error on the way that was none of Snowmelt's own."""

    @property
    def is_right(self) -> bool:
        """Whether it ended as it must."""
        wrong = self.lost, self.doubled, self.changed, self.false_completed, self.missing_indexes
        return not any(wrong) and self.outcome != "stuck" and not self.unexplained


class Lane:
    """Both servers behind proxies, and a template of the target for each mode."""

    def __init__(
        self, folder: Path, definition: Path, *, rows_per_chunk: int = modes.ROWS_PER_CHUNK, threads: int = 2
    ) -> None:
        self._folder = folder
        self._definition = definition
        self._rows_per_chunk = rows_per_chunk
        self._threads = threads
        self._traps = Traps()
        self._context = ExitStack()
        self._aws: LocalAws | None = None
        self._templates: dict[str, str] = {}

    def __enter__(self) -> "Lane":
        enter = self._context.enter_context
        snowflake = enter(LocalSnowflake(inline_rows=300, first_rows=400))
        postgres = enter(LocalPostgres(durable=False))
        self._sandbox = Sandbox(snowflake, postgres)
        self._postgres_proxy = enter(Proxy(PostgresLink, postgres.host, postgres.port, self._traps))
        self._snowflake_proxy = enter(Proxy(SnowflakeLink, snowflake.host, snowflake.port, self._traps))
        snowflake.create_schema(SOURCE_DATABASE, "PUBLIC")
        snowflake.set_time_travel(enabled=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    # --- one case ---

    def run(self, case: Case) -> Result:
        """Strike, let it finish as a user would, and compare."""
        began = time.monotonic()
        database = self._put_up(case.mode)
        try:
            return replace(_Trial(self, case, database).result(), seconds=round(time.monotonic() - began, 2))
        finally:
            self._traps.put()
            self._sandbox.postgres.drop_database(database.name)

    def _put_up(self, mode: Mode) -> Database:
        """The target as it stands before, in a database of its own, and the config that names it."""
        postgres = self._sandbox.postgres
        if mode.name not in self._templates:
            self._templates[mode.name] = self._make_template(mode)
        database = Database(postgres, "faulted")
        postgres.drop_database(database.name)
        postgres.create_database(database.name, template=self._templates[mode.name])
        self.configure(mode, database.name)
        return database

    def _make_template(self, mode: Mode) -> str:
        postgres, name = self._sandbox.postgres, f"before_{mode.name}"
        postgres.create_database(name)
        target = Database(postgres, name)
        target.execute(modes.TARGET.format(mode.table))
        for statement in mode.before:
            target.execute(statement.format(mode.table))
        _insert(target, mode.table, mode.held)
        if mode.earlier:
            self._load(mode, mode.earlier)
            self.configure(mode, name)
            ended = self.command().wait(RESUME_SECONDS)
            if ended.verdict != "completed":
                raise RuntimeError(f"the run before all faults did not complete: {ended}")
        self._load(mode, mode.source())
        return name

    def _load(self, mode: Mode, rows: Sequence[Row]) -> None:
        self._sandbox.snowflake.load_table(
            SOURCE_DATABASE, "PUBLIC", mode.table.upper(), modes.as_arrow(rows), types=modes.TYPES
        )

    def configure(self, mode: Mode, database: str) -> None:
        """Write the config of a mode."""
        source = {
            "source_name": mode.name,
            "source_sf_database": SOURCE_DATABASE,
            "source_sf_schema": "PUBLIC",
            "target_pg_database": database,
            "target_pg_schema": "public",
            "tables": [{"source": mode.table.upper(), **mode.settings}],
        }
        config = {
            "snowflake": {},
            "postgres": {},
            "lambda_timeout_buffer_seconds": BUFFER_SECONDS,
            "parallel_threads": self._threads,
            "batch_size": self._rows_per_chunk,
            "sources": [source],
        }
        new = self._folder / "config.new"
        new.write_text(json.dumps(config), encoding="utf-8")
        new.replace(self._folder / "config.json")

    # --- starts ---

    def environment(self, store: str) -> dict[str, str]:
        """What the command and the function need to know; both servers are behind their proxies."""
        return {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "SNOWMELT_CONFIG": str(self._folder / "config.json"),
            "SNOWMELT_STORE": store,
            **self._sandbox.environment(),
            "POSTGRES_PORT": str(self._postgres_proxy.port),
            "SNOWFLAKE_PORT": str(self._snowflake_proxy.port),
        }

    def command(self, invocation_seconds: float = INVOCATION_SECONDS, **event: Any) -> Start:
        """``snowmelt migrate``."""
        return Start(
            self.environment(str(self._folder / "store")),
            event,
            complaints=self._folder / "complaints.log",
            invocation_seconds=invocation_seconds,
        )

    def aws(self) -> LocalAws:
        """The deployment; started when it is first asked for."""
        if self._aws is None:
            environment = self.environment("s3://snowmelt/store")
            del environment["PATH"], environment["HOME"]
            self._aws = self._context.enter_context(
                LocalAws(
                    environment,
                    self._definition,
                    timeout_seconds=FUNCTION_SECONDS,
                    concurrency=6,
                    log_file=self._folder / "function.log",
                    time_scale=TIME_SCALE,
                )
            )
        return self._aws

    @property
    def sandbox(self) -> Sandbox:
        """Both servers, without the proxies."""
        return self._sandbox

    @property
    def traps(self) -> Traps:
        """What both proxies ask."""
        return self._traps


class _Trial:
    """One case at work."""

    def __init__(self, lane: Lane, case: Case, database: Database) -> None:
        self._lane = lane
        self._case = case
        self._database = database
        self._indexes = _indexes(database, case.mode.table)
        self._effects = Effects(lane.sandbox, database, case.mode.table, seconds=case.strikes[0].seconds)
        self._by_machine = case.driver == "state machine"
        self._starts = 0
        self._unexplained = ""
        self._false = False

    def result(self) -> Result:
        """What became of it."""
        traps = [self._trap(strike) for strike in self._case.strikes]
        first = self._first(traps)
        self._lane.traps.put()
        self._come_to_rest()
        last, mended = first, self._mend()
        if first.verdict == "completed":
            self._note_if_untrue()
        else:
            last, needed_mend = self._resume()
            mended = mended or needed_mend
        self._come_to_rest()
        self._late_events()
        return self._judged(traps, first, last, mended=mended)

    def _first(self, traps: Sequence[Trap]) -> Ended:
        effects = self._effects
        if self._by_machine:
            effects.aws = self._lane.aws()
            self._lane.traps.put(*traps)
            self._starts += 1
            effects.execution = Execution(effects.aws)
            ended = effects.execution.wait(FIRST_SECONDS)
        else:
            effects.rival_starts = self._lane.command
            self._lane.traps.put(*traps)
            self._starts += 1
            effects.start = self._lane.command(SHORT_SECONDS if self._case.is_short else INVOCATION_SECONDS)
            ended = effects.start.wait(FIRST_SECONDS)
        return self._noted(ended)

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
        start = Execution(self._lane.aws(), **event) if self._by_machine else self._lane.command(**event)
        return self._noted(start.wait(RESUME_SECONDS))

    def _resume(self) -> tuple[Ended, bool]:
        """Start again until it completes or says what must be mended; whether something had to be."""
        until = time.monotonic() + HELD_SECONDS
        ended = self._start_again()
        while ended.verdict != "completed" and time.monotonic() < until:
            if "empty the target and start again with no_resume" in ended.message:
                self._database.execute(f"TRUNCATE {self._case.mode.table}")
                return self._start_again(no_resume=True), True
            time.sleep(0.3)
            ended = self._start_again()
        return ended, False

    def _mend(self) -> bool:
        for statement in self._effects.mends:
            self._database.execute(statement)
        return bool(self._effects.mends)

    def _come_to_rest(self) -> None:
        """No worker is at work any more, and PostgreSQL lets everyone in."""
        self._effects.settle()
        for ended in self._effects.rivals_ended:
            self._noted(ended)
        if self._by_machine:
            come_to_rest(self._lane.aws(), FUNCTION_SECONDS + 2)
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
            for thread in invoke_again(self._lane.aws(), event, 1):
                thread.join(30)

    # --- what became of it ---

    def _difference(self) -> Difference:
        found = self._database.rows(f"SELECT {modes.COLUMNS} FROM {self._case.mode.table}")  # noqa: S608
        return difference(self._case.mode.expected(), found)

    def _missing_indexes(self) -> int:
        return len(self._indexes - _indexes(self._database, self._case.mode.table))

    def _note_if_untrue(self) -> None:
        self._false = bool(self._difference()) or bool(self._missing_indexes())

    def _judged(self, traps: Sequence[Trap], first: Ended, last: Ended, *, mended: bool) -> Result:
        differs, missing = self._difference(), self._missing_indexes()
        completed = last.verdict == "completed"
        if not completed:
            outcome = "stuck"
        elif not any(trap.struck for trap in traps):
            outcome = "not_reached"
        elif first.verdict == "completed":
            outcome = "unharmed"
        else:
            outcome = "failed_clearly" if mended else "resumed"
        return Result(
            number=self._case.number,
            case=str(self._case),
            kind=self._case.strikes[0].kind.name,
            outcome=outcome,
            first=" ".join((first.verdict, first.code, first.message)).strip()[:400]
            + ("" if completed else f"; last: {last.verdict} {last.code} {last.message}"[:600]),
            struck="; ".join(trap.struck or "nothing" for trap in traps),
            starts=self._starts,
            seconds=0.0,
            **asdict(differs),
            false_completed=int(self._false or (completed and (bool(differs) or bool(missing)))),
            missing_indexes=missing,
            met=traps[0].met,
            unexplained=self._unexplained,
        )


def _insert(target: Database, table: str, rows: Sequence[Row]) -> None:
    with closing(target.connect()) as connection, connection.cursor() as cursor:
        for row in rows:
            cursor.execute(f"INSERT INTO {table} ({modes.COLUMNS}) VALUES (%s, %s, %s, %s)", row)  # noqa: S608


def _indexes(database: Database, table: str) -> frozenset[tuple[Any, ...]]:
    found = database.rows(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass AND indisvalid", (table,)
    )
    return frozenset(found)


def main() -> None:
    """Serve until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--definition", type=Path, required=True)
    options = parser.parse_args()
    with Lane(options.folder, options.definition) as lane:
        for line in sys.stdin:
            drawn = case(options.seed, int(line))
            try:
                answer = asdict(lane.run(drawn))
            except (SnowmeltError, psycopg2.Error, OSError, RuntimeError) as error:
                traceback.print_exc()
                answer = {"number": drawn.number, "case": str(drawn), "broken": f"{type(error).__name__}: {error}"}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
