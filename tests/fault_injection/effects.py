"""What can happen to a migration from outside its connections, each as a method."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import psycopg2

from fault_injection.machine import Execution, at_work, invoke_again
from fault_injection.starts import Ended, MovedAt, Start, never
from fault_injection.traps import Struck
from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.postgres import Database
from snowmelt_sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOCK_SECONDS = 3
_GOES_ON_MEANWHILE_SECONDS = 0.6
"""A driver that was stopped goes on beside its successor where its case waits less than that."""
_SUCCESSOR_SECONDS = 60.0


class Effects:
    """The world of one case; what must be undone before a user would start again is kept in ``fixes``."""

    def __init__(self, sandbox: Sandbox, database: Database, table: str, *, seconds: float) -> None:
        self._sandbox = sandbox
        self._database = database
        self._table = table
        self._seconds = seconds
        self.start: Start | None = None
        self.execution: Execution | None = None
        self.aws: LocalAws | None = None
        self.rival_starts: Callable[[], Start] | None = None
        self.moved_at: MovedAt = never
        self.rivals: list[Start] = []
        self.rivals_ended: list[Ended] = []
        self.successors: list[Start] = []
        """Starts that are to take over, beside a driver that goes on."""
        self.taken_over: list[Ended] = []
        """How starts ended that took over from a driver that was stopped."""
        self.met: list[Ended] = []
        """How those ended beside which the driver went on."""
        self.events: list[Any] = []
        """Events of the function that were sent more than once."""
        self.fixes: list[str] = []
        self._threads: list[threading.Thread] = []
        self._struck: Struck | None = None

    def happen(self, name: str, struck: Struck) -> None:
        """What the method of that name does, to the connection that was struck."""
        self._struck = struck
        effect: Callable[[], None] = getattr(self, name)
        effect()

    def settle(self) -> None:
        """Wait until everything that was begun beside the migration has ended."""
        while self._threads:
            self._threads.pop().join(30)
        while self.rivals:
            self.rivals_ended.append(self.rivals.pop().wait(30))
        while self.successors:
            self.met.append(self.successors.pop().wait(_SUCCESSOR_SECONDS, self.moved_at))

    # --- PostgreSQL ---

    def terminate_backend(self) -> None:
        """As an administrator would."""
        self._signal_backend(signal.SIGTERM)

    def cancel_backend(self) -> None:
        """As an administrator would, who only wants the statement gone."""
        self._signal_backend(signal.SIGINT)

    def kill_backend(self) -> None:
        """As the system does when memory is short; the server then throws everyone out and recovers."""
        self._signal_backend(signal.SIGKILL)

    def restart_postgres(self) -> None:
        """A crash of the server, and its start."""
        self._sandbox.postgres.restart(immediate=True)

    def expire_lease(self) -> None:
        """An hour passes for every lease that is out, and for no one else."""
        self._try("UPDATE migration_status.chunks SET lease_until = now() - interval '1 hour' WHERE status = 'running'")

    def hold_lock(self) -> None:
        """For a while, someone else holds the target, as soon as its lock is to be had."""

        def hold() -> None:
            with suppress(psycopg2.Error), closing(self._database.connect()) as connection:
                connection.autocommit = False
                with connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
                    cursor.execute(f"LOCK TABLE {self._table} IN ACCESS EXCLUSIVE MODE")
                    time.sleep(self._seconds)

        self._beside(hold)
        time.sleep(0.1)

    def rename_column(self) -> None:
        """Someone renames a column of the target as soon as its lock is to be had."""
        self._alter("RENAME COLUMN note TO notes", fix="RENAME COLUMN notes TO note")

    def change_type(self) -> None:
        """Someone widens a column of the target as soon as its lock is to be had."""
        self._alter("ALTER COLUMN amount TYPE numeric(14,2)", fix="ALTER COLUMN amount TYPE numeric(12,2)")

    # --- Snowflake ---

    def expire_results(self) -> None:
        """A day passes for the results of this migration."""
        for query_id in self._query_ids():
            self._sandbox.snowflake.expire_results(query_id)

    def expire_urls(self) -> None:
        """Six hours pass for the URLs that were handed out."""
        for query_id in self._query_ids():
            self._sandbox.snowflake.expire_urls(query_id)

    # --- workers ---

    def kill_worker(self) -> None:
        """SIGKILL for the command, or for a process of the function that is at work."""
        self._signal_worker(signal.SIGKILL)

    def stop_worker(self) -> None:
        """SIGSTOP, and SIGCONT a while later."""
        pid = self._signal_worker(signal.SIGSTOP)

        def go_on() -> None:
            time.sleep(self._seconds)
            if self.start is not None:
                self.start.signal(signal.SIGCONT)
            elif pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

        self._beside(go_on)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._signal_worker(signal.SIGINT)

    def short_invocation(self) -> None:
        """Nothing more: the start was given little time."""

    def time_out(self) -> None:
        """Lambda reports that time is over, and the process does not know it yet."""
        if self.aws is not None and (process := at_work(self.aws)):
            with suppress(StopIteration):  # it has ended meanwhile
                self.aws.functions.abandon(process.pid)
        time.sleep(self._seconds)

    def throttle(self) -> None:
        """For a while, Lambda takes no event."""
        if self.aws is None:
            return
        functions = self.aws.functions
        usual, functions.concurrency = functions.concurrency, 0

        def go_on() -> None:
            time.sleep(self._seconds)
            functions.concurrency = usual

        self._beside(go_on)

    def duplicate(self) -> None:
        """The event that is at work is sent twice more."""
        if self.aws is None or (process := at_work(self.aws)) is None:
            return
        self.events.append(process.event)
        self._threads += invoke_again(self.aws, process.event, 2)
        time.sleep(self._seconds / 2)

    def stop_execution(self) -> None:
        """The execution is aborted; its workers do not know it."""
        if self.execution is not None:
            self.execution.stop()

    def rival(self) -> None:
        """Someone starts the same migration again."""
        if self.rival_starts is not None:
            self.rivals.append(self.rival_starts())
        time.sleep(self._seconds)

    def take_over(self) -> None:
        """SIGSTOP; then a day passes for all that the driver holds, and someone starts the migration again. The first
        goes on when the other has ended, or while it is at work."""
        if self.start is None or self.rival_starts is None:
            return
        self.start.signal(signal.SIGSTOP)
        expired = self._try(
            "UPDATE migration_status.run_executions SET expires_at = now() - interval '1 day' WHERE ended_at IS NULL"
        )
        if expired is None:  # the driver has that row locked, and a day cannot be made to pass
            self.start.signal(signal.SIGCONT)
            return
        self.expire_lease()
        successor = self.rival_starts()
        if self._seconds > _GOES_ON_MEANWHILE_SECONDS:
            self.taken_over.append(successor.wait(_SUCCESSOR_SECONDS, self.moved_at))
        else:
            time.sleep(self._seconds)
            self.successors.append(successor)
        self.start.signal(signal.SIGCONT)

    # --- inside ---

    def _signal_backend(self, number: signal.Signals) -> None:
        if self._struck is not None and self._struck.backend_pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._struck.backend_pid, number)
        time.sleep(0.05)

    def _signal_worker(self, number: signal.Signals) -> int | None:
        if self.start is not None:
            self.start.signal(number)
            return None
        process = at_work(self.aws) if self.aws is not None else None
        if process is None:
            return None
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        return process.pid

    def _query_ids(self) -> "Sequence[str]":
        rows = self._try(
            "SELECT query_id FROM migration_status.run_tables WHERE query_id IS NOT NULL UNION "
            "SELECT DISTINCT reads->>'query_id' FROM migration_status.chunks WHERE reads ? 'query_id'"
        )
        return [query_id for (query_id,) in rows or ()]

    def _alter(self, change: str, *, fix: str) -> None:
        def alter() -> None:
            statement = f"ALTER TABLE {self._table} {change}"
            if self._try(statement) is not None:
                self.fixes.append(f"ALTER TABLE {self._table} {fix}")

        self._beside(alter)
        time.sleep(0.1)

    def _try(self, statement: str) -> list[tuple[Any, ...]] | None:
        """Its rows; None when a lock is not to be had, or what it names is not there yet."""
        with suppress(psycopg2.Error), closing(self._database.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
        return None

    def _beside(self, do: Callable[[], None]) -> None:
        thread = threading.Thread(target=do, daemon=True)
        self._threads.append(thread)
        thread.start()
