"""``snowmelt``, and the function, as processes that need not load everything first: forked from one that has."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from fault_injection.starts import LOADED_BEFOREHAND
from snowmelt_sandbox.aws.execution_environment import Function
from snowmelt_sandbox.child_process import end_with_parent

_LOADED_BEFOREHAND = [
    *LOADED_BEFOREHAND,
    "aws_lambda_powertools.metrics",
    "aws_lambda_powertools.utilities.typing",
    "rich.progress",
    "snowmelt.preflight.checks",
    "snowmelt.reports",
    "typer",
]
"""Nothing that looks at its environment, or asks where it prints to, while it is imported."""


def _processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED_BEFOREHAND)
    return context


# --- commands -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    exit_code: int
    out: str
    err: str


class Command:
    """A command that is at work, in that folder if one is given; what it prints goes to files beside ``printed``."""

    def __init__(
        self, *arguments: str, environment: Mapping[str, str], printed: Path, folder: Path | None = None
    ) -> None:
        self._printed = (printed.with_suffix(".out"), printed.with_suffix(".err"))
        given = (arguments, dict(environment), *self._printed, folder or Path.cwd())
        self._process = _processes().Process(target=_run_command, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it goes on."""
        return self._process.is_alive()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """End it as a machine does that is switched off."""
        self._process.kill()
        self._process.join()

    def wait(self, within_seconds: float = 120.0) -> Ended:
        """How it ended, and what it said; one that takes too long is killed, and that is a failure."""
        self._process.join(within_seconds)
        if self._process.exitcode is None:
            self.kill()
            raise AssertionError(f"the command took more than {within_seconds:g} s")
        out, err = (file.read_text(encoding="utf-8") for file in self._printed)
        return Ended(self._process.exitcode, out, err)


def _run_command(arguments: tuple[str, ...], environment: dict[str, str], out: Path, err: Path, folder: Path) -> None:
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.chdir(folder)
    sys.argv = ["snowmelt", *arguments]
    _begin(environment)
    from snowmelt import cli

    cli.main()


# --- the function ---------------------------------------------------------------------------------------------------


class Runtime:
    """A process of the function, in Lambda's own runtime."""

    def __init__(self, function: Function, environment: Mapping[str, str], log: int) -> None:
        given = (function.handler, str(function.code_directory), dict(environment), DupFd(log))
        self._process = _processes().Process(target=_run_function, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self.returncode: int | None = None
        self._waiting = threading.Lock()

    def wait(self) -> int:
        """Wait for its end; how it ended."""
        with self._waiting:
            self._process.join()
            assert self._process.exitcode is not None
            self.returncode = self._process.exitcode
            return self.returncode


def _run_function(handler: str, folder: str, environment: dict[str, str], log: Any) -> None:
    os.setsid()
    descriptor = log.detach()
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.chdir(folder)
    sys.argv = ["awslambdaric", handler]
    _begin(environment)
    from awslambdaric import __main__ as runtime

    runtime.main(sys.argv)


def _begin(environment: Mapping[str, str]) -> None:
    end_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
