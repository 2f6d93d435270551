"""A migration as the command line starts it, in a process that can be killed, forked from one that has all loaded."""

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from snowmelt import runner
from snowmelt.errors import SnowmeltError
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring

LOADED_BEFOREHAND = [
    "snowflake.connector",
    "snowmelt_sandbox.aws",
    "fault_injection.starts",
    "snowmelt_sandbox.sandbox",
]
INVOCATION_SECONDS = 60.0
_MOST_TIMES = 4
COMPLETED = ("completed", "completed_with_rejects")
"""Words for a run that is complete."""

Verdict = Literal["completed", "failed", "died", "hung", "crashed"]


MovedAt = Callable[[], float]


def never() -> float:
    """Nothing is known of when it moved."""
    return 0.0


class Patience:
    """How much longer to wait for a start: some seconds from when it moved last, and a few times that in all.

    On a machine that many share, a start that is only slow is not one that stands still.
    """

    def __init__(self, seconds: float, moved_at: MovedAt = never) -> None:
        self._seconds = seconds
        self._moved_at = moved_at
        self._began = time.monotonic()

    def left(self) -> float:
        """Seconds; none or fewer when it is over."""
        until = max(self._began, self._moved_at()) + self._seconds
        return min(until, self._began + _MOST_TIMES * self._seconds) - time.monotonic()


@dataclass(frozen=True)
class Ended:
    """How a start ended: with a verdict and its reason, without a word, not within its time, or with an error that
    explains nothing."""

    verdict: Verdict
    code: str = ""
    message: str = ""


class Start:
    """A process that begins or resumes a run."""

    def __init__(
        self,
        environment: Mapping[str, str],
        event: Mapping[str, Any],
        *,
        complaints: Path,
        invocation_seconds: float = INVOCATION_SECONDS,
    ) -> None:
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(LOADED_BEFOREHAND)
        self._told, tell = processes.Pipe(duplex=False)
        arguments = (dict(environment), dict(event), str(complaints), invocation_seconds, tell)
        self._process: BaseProcess = processes.Process(target=_migrate, args=arguments, daemon=True)
        self._process.start()
        tell.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self._process.is_alive() and self._process.pid is not None:
            os.kill(self._process.pid, number)

    @property
    def alive(self) -> bool:
        """Whether it goes on."""
        return self._process.is_alive()

    def wait(self, seconds: float, moved_at: MovedAt = never) -> Ended:
        """How it ended; a process that stands still for that long is killed, as one whose machine is switched off."""
        patience = Patience(seconds, moved_at)
        while self._process.is_alive() and (left := patience.left()) > 0:
            self._process.join(left)
        silent = Ended("died")
        if self._process.is_alive():
            silent = Ended("hung")
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            self._process.join()
        try:
            return Ended(*self._told.recv()) if self._told.poll() else silent
        except EOFError:
            return silent
        finally:
            self._told.close()


def _migrate(
    environment: dict[str, str], event: dict[str, Any], complaints: str, seconds: float, tell: Connection
) -> None:
    with Path(complaints).open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["HOME"] = environment["HOME"]
    settings = Settings(config=environment["SNOWMELT_CONFIG"], store=environment["SNOWMELT_STORE"])
    try:
        outcome = runner.migrate(
            event,
            Wiring(settings, environment),
            execution_id=f"process-{os.getpid()}",
            invocation_seconds=seconds,
        )
        verdict = "completed" if outcome.status in COMPLETED else "failed"
        tell.send((verdict, outcome.status, outcome.message))
    except SnowmeltError as error:
        tell.send(("failed", error.code, error.message))
    except KeyboardInterrupt:
        tell.send(("failed", "Interrupted", "stopped in order"))
    except BaseException as error:
        traceback.print_exc(file=sys.stderr)
        tell.send(("crashed", type(error).__name__, str(error)[:500]))
