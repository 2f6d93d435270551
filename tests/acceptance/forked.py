"""``snowmelt`` as a process of its own that need not load everything first: forked from one that has."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from acceptance.world import Ended
from snowmelt.local.faults.starts import LOADED_BEFOREHAND


class Command:
    """A command that is at work; what it prints goes to files in ``folder``."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], folder: Path, number: int) -> None:
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(LOADED_BEFOREHAND)
        self._printed = (folder / f"command-{number}.out", folder / f"command-{number}.err")
        given = (arguments, dict(environment), *(str(file) for file in self._printed))
        self._process = processes.Process(target=_run, args=given, daemon=True)
        self._process.start()

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


def _run(arguments: tuple[str, ...], environment: dict[str, str], out: str, err: str) -> None:
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["snowmelt", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from snowmelt import cli  # not before: it asks where it prints to

    cli.main()
