"""Child processes that end when their parent does, however the parent ends."""

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

_PR_SET_PDEATHSIG = 1
# Looked up before any fork: a child that has changed its user may not be able to read the interpreter.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def start_child(
    arguments: list[str], *, at_parent_death: signal.Signals = signal.SIGKILL, **options: Any
) -> "subprocess.Popen[bytes]":
    """Start a process that gets ``at_parent_death`` when this process is gone, even by SIGKILL.

    ``options`` are those of ``subprocess.Popen``. Only Linux can promise this; elsewhere the
    child is a plain one, and ends when its owner stops it.
    """
    outcome: Future[subprocess.Popen[bytes]] = Future()
    tie = _tie_to_parent(at_parent_death, os.getpid())

    def start() -> None:
        try:
            outcome.set_result(subprocess.Popen(arguments, preexec_fn=tie, **options))  # noqa: PLW1509
        except BaseException as error:
            outcome.set_exception(error)

    _starter().put(start)
    return outcome.result()


def end_with_parent() -> None:
    """From now on this process gets SIGKILL when the one that forked it is gone; on Linux."""
    tie = _tie_to_parent(signal.SIGKILL, os.getppid())
    if tie is not None:
        tie()


def _tie_to_parent(at_parent_death: signal.Signals, parent_pid: int) -> Callable[[], None] | None:
    if _prctl is None:
        return None
    prctl = _prctl

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, int(at_parent_death))
        if os.getppid() != parent_pid:  # it died before the tie was made
            os._exit(1)

    return tie


_starters: dict[int, "queue.SimpleQueue[Callable[[], None]]"] = {}
_starters_lock = threading.Lock()


def _starter() -> "queue.SimpleQueue[Callable[[], None]]":
    """Return the queue of the one thread that starts children.

    Linux sends the signal when the *thread* that forked ends, so children are started by one that lives as
    long as the process: started by a thread that serves a request, they would die with the request.
    """
    with _starters_lock:
        starts = _starters.get(os.getpid())
        if starts is None:
            starts = _starters[os.getpid()] = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(starts,), name="child-starter", daemon=True).start()
        return starts


def _serve(starts: "queue.SimpleQueue[Callable[[], None]]") -> None:
    while True:
        starts.get()()
