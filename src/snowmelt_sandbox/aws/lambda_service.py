"""AWS Lambda for one function on one machine: the Invoke API over real ``awslambdaric`` processes.

Clients see what AWS would show them: time-outs, exits, throttling, size limits, error JSON.
"""

import json
import os
import shutil
import tempfile
import threading
import time
import urllib.parse
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from snowmelt_sandbox.aws.execution_environment import Ending, ExecutionEnvironment, Function, Outcome, Request

MAX_REQUEST_BYTES = 6 * 1024 * 1024
MAX_RESPONSE_BYTES = 6_291_556
_MEMORY_CHECK_SECONDS = 0.05


@dataclass(frozen=True)
class WorkerProcess:
    """A process of the function, and the event it is handling."""

    pid: int
    request_id: str | None = None
    event: Any = None


@dataclass
class Statistics:
    """What happened since the service was started."""

    invocations: int = 0
    errors: int = 0
    """Exceptions that handlers raised."""
    time_outs: int = 0
    exit_errors: int = 0
    """Processes that ended in the middle of an event or of their start, whoever ended them."""
    out_of_memory: int = 0
    """Processes that were ended because they took more than ``memory_mb``; they count as exits too."""
    throttles: int = 0
    cold_starts: int = 0
    slowest_init_seconds: float = 0.0
    most_concurrent: int = 0
    peak_rss_bytes: dict[int, int] = field(default_factory=dict)
    """By process id."""
    largest_event_bytes: dict[str, int] = field(default_factory=dict)
    """By the event's ``action``; the empty string for events without."""
    largest_result_bytes: dict[str, int] = field(default_factory=dict)
    """By the event's ``action``; results and error objects alike."""


class LocalLambda:
    """One function, reached at ``url`` by any Lambda client.

    Each of at most ``concurrency`` execution environments is a process that handles one event at a time and
    is used again. A process that outlives its time-out or grows beyond ``memory_mb`` is killed. All processes
    end with this one, even when it is killed. What they print goes to ``log_file``.
    """

    def __init__(self, function: Function, *, concurrency: int = 10, log_file: Path | None = None) -> None:
        self.function = function
        self.concurrency = concurrency
        self._kept_log_file = log_file
        self._temporary: Path | None = None
        self._log: int = -1
        self._front: _InvokeApi | None = None
        self._lock = threading.Lock()
        self._idle: list[ExecutionEnvironment] = []
        self._environments: set[ExecutionEnvironment] = set()
        self._abandoned: list[ExecutionEnvironment] = []
        self._busy = 0
        self._statistics = Statistics()
        # Each process of Lambda starts on a processor of its own; here, no more start at once than there are.
        self._starting = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._closed = threading.Event()

    # --- life ---

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Open the Invoke API; processes start with the first events."""
        log_file = self._kept_log_file
        if log_file is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="snowmelt-lambda-"))
            log_file = self._kept_log_file = self._temporary / "function.log"
        self._log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._front = _InvokeApi(self)
        threading.Thread(target=self._watch_memory, name="lambda-memory", daemon=True).start()
        return self

    def stop(self) -> None:
        """End every process and the API."""
        self._closed.set()
        front, self._front = self._front, None
        if front is None:
            return
        front.shutdown()
        front.server_close()
        with self._lock:
            environments = [*self._environments, *self._abandoned]
            self._idle.clear()
        for environment in environments:
            environment.close()
        with self._lock:
            os.close(self._log)
            self._log = -1
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    # --- what tests look at and do ---

    @property
    def url(self) -> str:
        """The endpoint for Lambda clients."""
        assert self._front is not None, "start() first"  # noqa: S101
        return f"http://127.0.0.1:{self._front.server_address[1]}"

    @property
    def log_file(self) -> Path:
        """What all processes printed, and a line for the start and end of each event."""
        assert self._kept_log_file is not None, "start() first"  # noqa: S101
        return self._kept_log_file

    def statistics(self) -> Statistics:
        """Return a copy of the counters, with the memory peaks as they are now."""
        with self._lock:
            for environment in (*self._environments, *self._abandoned):
                environment.sample_memory()
                self._note_memory(environment)
            counted = self._statistics
            return replace(
                counted,
                peak_rss_bytes=dict(counted.peak_rss_bytes),
                largest_event_bytes=dict(counted.largest_event_bytes),
                largest_result_bytes=dict(counted.largest_result_bytes),
            )

    def processes(self) -> tuple[WorkerProcess, ...]:
        """Return the living processes, abandoned ones included, with the event each is handling."""
        with self._lock:
            living = [each for each in (*self._environments, *self._abandoned) if each.alive]
        return tuple(
            WorkerProcess(each.pid, request.request_id, json.loads(request.body))
            if (request := each.current)
            else WorkerProcess(each.pid)
            for each in living
        )

    def abandon(self, pid: int) -> None:
        """Tell the caller of a process's invocation that it timed out, and let the process go on.

        So a worker becomes a zombie: others believe it dead. It can be stopped and continued by signals.
        """
        with self._lock:
            environment = next(each for each in self._environments if each.pid == pid)
        environment.abandon()

    def redeploy(self, function: Function) -> None:
        """Change the function: idle processes end now, busy ones after their event."""
        with self._lock:
            self.function = function
            outdated, self._idle = self._idle, []
            self._environments.difference_update(outdated)
        for environment in outdated:
            environment.close()

    # --- invocations ---

    def invoke(self, body: bytes) -> Outcome | None:
        """Handle an event and return how it ended; None when all environments are busy."""
        request = Request(str(uuid.uuid4()), body, self.function.timeout_seconds)
        action = _action(body)
        with self._lock:
            if self._busy >= self.concurrency:
                self._statistics.throttles += 1
                return None
            self._busy += 1
            self._statistics.invocations += 1
            self._statistics.most_concurrent = max(self._statistics.most_concurrent, self._busy)
            _note_largest(self._statistics.largest_event_bytes, action, len(body))
        try:
            outcome = self._run(request)
        finally:
            with self._lock:
                self._busy -= 1
        with self._lock:
            self._count(outcome)
            _note_largest(self._statistics.largest_result_bytes, action, len(outcome.payload))
        return outcome

    def _run(self, request: Request) -> Outcome:
        environment = self._warm()
        if environment is None:
            environment, failure = self._cold_start(request.request_id)
            if failure is not None:
                self._retire(environment)
                return failure
        self._write(f"START RequestId: {request.request_id} Process: {environment.pid}")
        started_at = time.monotonic()
        outcome = environment.invoke(request)
        self._write(
            f"REPORT RequestId: {request.request_id} Process: {environment.pid} "
            f"Ended: {outcome.ending.value} "
            f"Duration: {(time.monotonic() - started_at) * 1000:.0f} ms "
            f"Max Memory Used: {environment.peak_rss_bytes // 2**20} MB"
        )
        if outcome.ending is Ending.ABANDONED:
            self._set_aside(environment)
        elif outcome.reusable and environment.function is self.function:
            self._reuse(environment)
        else:
            self._retire(environment)
        return outcome

    def _warm(self) -> ExecutionEnvironment | None:
        with self._lock:
            warm = self._idle.pop() if self._idle else None
        if warm is None or warm.alive:
            return warm
        self._retire(warm)  # it was killed while it had nothing to do
        return self._warm()

    def _cold_start(self, request_id: str) -> tuple[ExecutionEnvironment, Outcome | None]:
        with self._starting:
            environment = ExecutionEnvironment(self.function, self._log)
            with self._lock:
                self._environments.add(environment)
            failure = environment.initialise(request_id)
        with self._lock:
            self._statistics.cold_starts += 1
            seconds = time.monotonic() - environment.started_at
            self._statistics.slowest_init_seconds = max(self._statistics.slowest_init_seconds, seconds)
        return environment, failure

    def _reuse(self, environment: ExecutionEnvironment) -> None:
        with self._lock:
            self._note_memory(environment)
            self._idle.append(environment)

    def _set_aside(self, environment: ExecutionEnvironment) -> None:
        with self._lock:
            self._environments.discard(environment)
            self._abandoned.append(environment)

    def _retire(self, environment: ExecutionEnvironment) -> None:
        environment.close()
        with self._lock:
            self._note_memory(environment)
            self._environments.discard(environment)

    def _watch_memory(self) -> None:
        """Kill what grows beyond its memory. Resident size is what counts: address space costs nothing."""
        killed: set[ExecutionEnvironment] = set()
        while not self._closed.wait(_MEMORY_CHECK_SECONDS):
            with self._lock:
                watched = self._environments - killed
            for environment in watched:
                environment.sample_memory()
                if environment.peak_rss_bytes > environment.function.memory_mb * 2**20:
                    killed.add(environment)
                    environment.kill()
                    with self._lock:
                        self._statistics.out_of_memory += 1

    # --- counting ---

    def _count(self, outcome: Outcome) -> None:
        match outcome.ending:
            case Ending.ERROR:
                self._statistics.errors += 1
            case Ending.TIME_OUT | Ending.ABANDONED:
                self._statistics.time_outs += 1
            case Ending.EXIT:
                self._statistics.exit_errors += 1

    def _note_memory(self, environment: ExecutionEnvironment) -> None:
        self._statistics.peak_rss_bytes[environment.pid] = environment.peak_rss_bytes

    def _write(self, line: str) -> None:
        with self._lock:
            if self._log >= 0:
                os.write(self._log, f"{line}\n".encode())


class _InvokeApi(ThreadingHTTPServer):
    """The front: what a Lambda client calls."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service: LocalLambda) -> None:
        super().__init__(("127.0.0.1", 0), _InvokeRequest)
        self.service = service
        threading.Thread(target=self.serve_forever, args=(0.05,), name="lambda-api", daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away before their answer came."""


class _InvokeRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    @property
    def service(self) -> LocalLambda:
        return cast("_InvokeApi", self.server).service

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep stderr for those who run this."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}"
        name = _function_name(self.path)
        if name != self.service.function.name:
            self._refuse(404, "ResourceNotFoundException", f"Function not found: {name}")
        elif self.headers.get("X-Amz-Invocation-Type", "RequestResponse") != "RequestResponse":
            self._refuse(400, "InvalidParameterValueException", "Only RequestResponse works on one machine.")
        elif len(body) > MAX_REQUEST_BYTES:
            self._refuse(
                413,
                "RequestTooLargeException",
                f"Request must be smaller than {MAX_REQUEST_BYTES} bytes for the InvokeFunction operation",
            )
        elif not _is_json(body):
            self._refuse(400, "InvalidRequestContentException", "Could not parse request body into json.")
        elif (outcome := self.service.invoke(body)) is None:
            self._refuse(429, "TooManyRequestsException", "Rate Exceeded.")
        else:
            outcome = _within_size(outcome)
            failed = outcome.ending is not Ending.RESULT
            self._respond(200, outcome.payload, {"X-Amz-Function-Error": "Unhandled"} if failed else {})

    def _refuse(self, status: int, kind: str, message: str) -> None:
        error = {"Type": "User", "Message": message, "message": message}
        self._respond(status, json.dumps(error).encode(), {"x-amzn-ErrorType": kind})

    def _respond(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        all_headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "X-Amz-Executed-Version": "$LATEST",
            "x-amzn-RequestId": str(uuid.uuid4()),
            **headers,
        }
        for name, value in all_headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _within_size(outcome: Outcome) -> Outcome:
    if outcome.ending is not Ending.RESULT or len(outcome.payload) <= MAX_RESPONSE_BYTES:
        return outcome
    error = {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes).",
    }
    return Outcome(Ending.ERROR, json.dumps(error).encode())


def _function_name(path: str) -> str:
    """Return the name from ``/2015-03-31/functions/NAME/invocations``, where NAME may also be an ARN."""
    parts = urllib.parse.urlsplit(path).path.split("/")
    if len(parts) != 5 or parts[2] != "functions" or parts[4] != "invocations":
        return path
    name = urllib.parse.unquote(parts[3])
    return name.partition(":function:")[2].split(":")[0] if ":function:" in name else name.split(":")[0]


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def _action(body: bytes) -> str:
    event = json.loads(body)
    return str(event.get("action", "")) if isinstance(event, dict) else ""


def _note_largest(largest: dict[str, int], action: str, size: int) -> None:
    largest[action] = max(largest.get(action, 0), size)
