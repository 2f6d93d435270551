"""One execution environment of a Lambda function: a real ``awslambdaric`` process and its Runtime API."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol, cast

from snowmelt_sandbox.child_process import start_child

ACCOUNT_ID = "123456789012"


class RuntimeProcess(Protocol):
    """A process in which ``awslambdaric`` runs a handler."""

    @property
    def pid(self) -> int:
        """It leads a process group of that number."""

    @property
    def returncode(self) -> int | None:
        """How it ended, or minus the signal that ended it; None before ``wait`` has returned."""

    def wait(self) -> int:
        """Wait for its end; ``returncode``."""


@dataclass(frozen=True)
class Function:
    """What is deployed: a handler, and what Lambda grants it."""

    handler: str
    """Module and function, as in ``app.handler``."""
    code_directory: Path
    """The working directory, which is on the import path."""
    interpreter: tuple[str, ...] = (sys.executable,)
    """What starts Python; more than one word where something is to be done first."""
    name: str = "snowmelt"
    timeout_seconds: float = 900.0
    init_seconds: float = 10.0
    """How long a process may take until it asks for its first event."""
    memory_mb: int = 1024
    environment: Mapping[str, str] = field(default_factory=dict)
    region: str = "us-east-1"
    start: "Callable[[Function, Mapping[str, str], int], RuntimeProcess] | None" = None
    """Starts a process some other way, with that environment and the file descriptor that it prints to."""

    @property
    def arn(self) -> str:
        """The name by which Step Functions calls it."""
        return f"arn:aws:lambda:{self.region}:{ACCOUNT_ID}:function:{self.name}"

    def process_environment(self, runtime_api: str) -> dict[str, str]:
        """Return the whole environment of a process: Lambda's, and nothing of this machine's."""
        return {
            "PATH": os.defpath,
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PYTHONDONTWRITEBYTECODE": "1",  # the code directory is read-only on Lambda
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": time.strftime("%Y/%m/%d/[$LATEST]local", time.gmtime()),
            "LAMBDA_TASK_ROOT": str(self.code_directory),
            "LAMBDA_RUNTIME_DIR": str(self.code_directory),
            **self.environment,
            "AWS_LAMBDA_RUNTIME_API": runtime_api,
            "_HANDLER": self.handler,
        }


class Ending(Enum):
    """How an invocation ended."""

    RESULT = "result"
    ERROR = "error"
    TIME_OUT = "time-out"
    EXIT = "exit"
    ABANDONED = "abandoned"


@dataclass(frozen=True)
class Outcome:
    """What the caller of an invocation is told."""

    ending: Ending
    payload: bytes

    @property
    def reusable(self) -> bool:
        """Whether the environment can take the next event."""
        return self.ending in (Ending.RESULT, Ending.ERROR)


@dataclass(frozen=True)
class Request:
    """An event on its way to a handler."""

    request_id: str
    body: bytes
    timeout_seconds: float


class ExecutionEnvironment:
    """A process that handles one event at a time, from its first event until it is closed."""

    def __init__(self, function: Function, log: int) -> None:
        self.function = function
        self.started_at = time.monotonic()
        self.peak_rss_bytes = 0
        self._changed = threading.Condition()
        self._ready = False
        self._exited = False
        self._closed = False
        self._abandoned = False
        self._init_error: bytes | None = None
        self._waiting: Request | None = None
        self._current: Request | None = None
        self._deadline: float | None = None
        self._answer: Outcome | None = None
        self._api = _RuntimeApi(self)
        try:
            self._process = (function.start or _start)(function, function.process_environment(self._api.address), log)
        except BaseException:
            self._api.close()
            raise
        threading.Thread(target=self._watch_exit, name="lambda-exit", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process of the handler."""
        return self._process.pid

    @property
    def current(self) -> Request | None:
        """The event that is being handled."""
        with self._changed:
            return self._current

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        with self._changed:
            return not self._exited

    def initialise(self, request_id: str) -> Outcome | None:
        """Wait until the process asks for its first event; return what went wrong, if anything did.

        AWS would start one that takes too long once more, within the function's time-out; here it fails.
        """
        limit = self.started_at + self.function.init_seconds
        with self._changed:
            while not self._ready:
                if self._exited:
                    return self._exit_outcome(request_id)
                if not self._changed.wait(limit - time.monotonic()) and time.monotonic() >= limit:
                    return _time_out(request_id, f"Init timed out after {self.function.init_seconds:.2f} seconds")
        return None

    def invoke(self, request: Request) -> Outcome:
        """Hand over an event and wait for its end. The time-out starts when the process takes the event."""
        taken_by = time.monotonic() + request.timeout_seconds
        with self._changed:
            self._answer, self._deadline, self._waiting = None, None, request
            self._changed.notify_all()
            try:
                while True:
                    outcome = self._ended(request, taken_by)
                    if outcome is not None:
                        return outcome
                    self._changed.wait((self._deadline or taken_by) - time.monotonic())
            finally:
                self._waiting = self._current = None
                self.sample_memory()

    def abandon(self) -> None:
        """Tell the caller that time is out and leave the process to go on: an answer lost on its way."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def sample_memory(self) -> None:
        """Note the largest resident size that the process has had so far."""
        self.peak_rss_bytes = max(self.peak_rss_bytes, _peak_rss_bytes(self.pid))

    def kill(self) -> None:
        """End the process and what it started, as the kernel does when memory runs out."""
        if self._process.returncode is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def close(self) -> None:
        """End the process and the API; an invocation that is going on gets an exit error."""
        self.kill()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while not self._exited:
                self._changed.wait()
        self._api.close()

    # --- what the process says through the Runtime API ---

    def next_request(self) -> Request | None:
        """Wait for the next event; None when there will be no more."""
        with self._changed:
            self._ready = True
            self._changed.notify_all()
            while self._waiting is None and not self._closed:
                self._changed.wait()
            if self._waiting is None:
                return None
            self._current, self._waiting = self._waiting, None
            self._deadline = time.monotonic() + self._current.timeout_seconds
            self._changed.notify_all()
            return self._current

    def answer(self, request_id: str, outcome: Outcome) -> None:
        """Take the answer to the current event; one that comes too late is dropped."""
        with self._changed:
            if self._current is not None and self._current.request_id == request_id:
                self._answer = outcome
                self._changed.notify_all()

    def fail_init(self, payload: bytes) -> None:
        """Take the reason why there will be no first event."""
        with self._changed:
            self._init_error = payload

    # --- inside ---

    def _ended(self, request: Request, taken_by: float) -> Outcome | None:
        if self._answer is not None:
            return self._answer
        if self._exited:
            return self._exit_outcome(request.request_id)
        task_timed_out = f"Task timed out after {request.timeout_seconds:.2f} seconds"
        if self._abandoned:
            return Outcome(Ending.ABANDONED, _time_out(request.request_id, task_timed_out).payload)
        if time.monotonic() >= (self._deadline or taken_by):
            return _time_out(request.request_id, task_timed_out)
        return None

    def _exit_outcome(self, request_id: str) -> Outcome:
        if self._init_error is not None:
            return Outcome(Ending.EXIT, self._init_error)
        code = self._process.returncode
        assert code is not None, "the end of a process is known when it has been waited for"  # noqa: S101
        if code == -signal.SIGKILL:
            reason = "signal: killed"
        elif code < 0:
            reason = f"signal: {signal.strsignal(-code) or -code}".lower()
        else:
            reason = f"exit status {code}"
        return Outcome(Ending.EXIT, _error("Runtime.ExitError", request_id, f"Runtime exited with error: {reason}"))

    def _watch_exit(self) -> None:
        self._process.wait()
        with self._changed:
            self._exited = True
            self._changed.notify_all()


def _start(function: Function, environment: Mapping[str, str], log: int) -> RuntimeProcess:
    return start_child(
        [*function.interpreter, "-m", "awslambdaric", function.handler],
        cwd=function.code_directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


class _RuntimeApi(ThreadingHTTPServer):
    """The Runtime API of one environment, 2018-06-01, as far as a handler needs it."""

    daemon_threads = True

    def __init__(self, environment: ExecutionEnvironment) -> None:
        super().__init__(("127.0.0.1", 0), _RuntimeApiRequest)
        self.environment = environment
        self.address = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), name="runtime-api", daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that broke: a process that was killed breaks them all."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _RuntimeApiRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    @property
    def environment(self) -> ExecutionEnvironment:
        return cast("_RuntimeApi", self.server).environment

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep stderr for those who run this."""

    def do_GET(self) -> None:
        if not self.path.endswith("/runtime/invocation/next"):
            self._respond(404)
            return
        request = self.environment.next_request()
        if request is None:
            self.close_connection = True
            return
        deadline = time.time() + request.timeout_seconds
        self._respond(
            200,
            request.body,
            {
                "Content-Type": "application/json",
                "Lambda-Runtime-Aws-Request-Id": request.request_id,
                "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": self.environment.function.arn,
            },
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match self.path.split("/")[2:]:
            case ["runtime", "init", "error"]:
                self.environment.fail_init(body)
            case ["runtime", "invocation", request_id, "response"]:
                self.environment.answer(request_id, Outcome(Ending.RESULT, body))
            case ["runtime", "invocation", request_id, "error"]:
                self.environment.answer(request_id, Outcome(Ending.ERROR, body))
            case _:
                self._respond(404)
                return
        self._respond(202, b'{"status":"OK"}')

    def _respond(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _time_out(request_id: str, message: str) -> Outcome:
    return Outcome(Ending.TIME_OUT, _error("Sandbox.Timedout", request_id, message))


def _error(kind: str, request_id: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": f"RequestId: {request_id} Error: {message}"}).encode()


def _peak_rss_bytes(pid: int) -> int:
    """Return the kernel's high-water mark of a process's resident size; 0 where there is none to read."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)
