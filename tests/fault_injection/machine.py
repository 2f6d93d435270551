"""A migration as Step Functions starts it, with the function's processes at hand for faults."""

import json
import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

from fault_injection.starts import Ended, MovedAt, Patience, never
from snowmelt import errors
from snowmelt.errors import StalledError
from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.aws.lambda_service import WorkerProcess

_POLL_SECONDS = 0.05
_EXPLAINED = frozenset(
    {"MigrationFailed", "HistoryFull", "FailedByAws"}
    | {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
)
"""The names of errors that the definition and the package give."""


class Execution:
    """One execution of the state machine; the counterpart of ``Start``."""

    def __init__(self, aws: LocalAws, **event: Any) -> None:
        self._aws = aws
        self._arn = aws.step_functions.start_execution(event)

    def stop(self) -> None:
        """Abort it; functions that are at work go on to their end, as on AWS."""
        self._aws.step_functions.stop_execution(self._arn)

    def wait(self, seconds: float, moved_at: MovedAt = never) -> Ended:
        """How it ended; one that stands still for that long is stopped."""
        patience = Patience(seconds, moved_at)
        while True:
            try:
                ended = self._aws.step_functions.wait(self._arn, patience.left(), poll_seconds=_POLL_SECONDS)
                break
            except StalledError:
                if patience.left() > 0:
                    continue
                self.stop()
                return Ended("hung")
        if ended.status == "SUCCEEDED":
            return Ended("completed")
        if ended.status == "ABORTED":
            return Ended("died")
        error, cause = ended.error or "", ended.cause or ""
        return Ended("failed" if error in _EXPLAINED else "crashed", error, cause[:500])


def at_work(aws: LocalAws) -> WorkerProcess | None:
    """A process that handles an event, one that loads before any other."""
    busy = [p for p in aws.functions.processes() if p.event is not None]
    loading = [p for p in busy if p.event.get("action") == "process_chunk"]
    return next(iter((*loading, *busy)), None)


def invoke_again(aws: LocalAws, event: Any, times: int) -> list[threading.Thread]:
    """Send an event so many times more, at once; the threads that wait for the answers."""
    body = json.dumps(event).encode()
    threads = [threading.Thread(target=aws.functions.invoke, args=(body,), daemon=True) for _ in range(times)]
    for thread in threads:
        thread.start()
    return threads


def come_to_rest(aws: LocalAws, seconds: float) -> None:
    """Let processes finish what they are at; what is still at it after that is killed, as by its time-out."""
    until = time.monotonic() + seconds
    while busy := [p.pid for p in aws.functions.processes() if p.event is not None]:
        if time.monotonic() > until:
            for pid in busy:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
            return
        time.sleep(0.02)
