"""Moto's Step Functions engine, with the differences from AWS fixed that a migration would meet.

Everything here reaches into moto and names what it changes; a moto that has moved it fails at once, by name.
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from botocore.client import BaseClient
from botocore.config import Config
from moto.stepfunctions.parser.api import ExecutionStatus, HistoryEventType, MapRunFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration import (
    distributed_iteration_component,
)
from moto.stepfunctions.parser.asl.component.state.wait.wait_function import wait_function
from moto.stepfunctions.parser.asl.utils import boto_client
from moto.stepfunctions.parser.backend.execution import Execution

from snowmelt_sandbox.aws.moto_service import aws_session

_DistributedMap = distributed_iteration_component.DistributedIterationComponent
_RECURSION_LIMIT = 100_000


@contextmanager
def engine(*, endpoints: Mapping[str, str], time_scale: float = 1.0) -> Iterator[None]:
    """Make moto's engine behave like AWS while the context lasts.

    ``endpoints`` says by service where tasks go (``lambda``, ``s3`` ...), with ``""`` for all others.
    ``time_scale`` stretches or shortens what Wait states and retries sleep; time-outs keep their length.
    """
    with ExitStack() as changes:
        changes.enter_context(patch.object(boto_client, "boto3", _Clients(endpoints)))
        changes.enter_context(patch.object(_DistributedMap, "_map_run", _map_run_within_tolerance()))
        changes.enter_context(patch.object(Execution, "stop", _stop_at_once()))
        changes.enter_context(patch.object(wait_function.WaitFunction, "_wait_interval", _wait(time_scale)))
        sleep = SimpleNamespace(sleep=lambda seconds: time.sleep(seconds * time_scale))
        changes.enter_context(patch.object(retrier_decl, "time", sleep))
        changes.enter_context(_deep_recursion())
        yield


class _Clients:
    """Stands where the engine expects ``boto3``: each service at its endpoint, one client for all tasks."""

    def __init__(self, endpoints: Mapping[str, str]) -> None:
        self._endpoints = endpoints
        self._clients: dict[tuple[str, str], BaseClient] = {}
        self._lock = threading.Lock()

    def client(self, *, service_name: str, region_name: str, config: Config, **options: Any) -> BaseClient:
        options["endpoint_url"] = self._endpoints.get(service_name, self._endpoints[""])
        pooled = config.merge(Config(max_pool_connections=200))
        with self._lock:
            key = (service_name, region_name)
            if key not in self._clients:
                session: Any = aws_session()
                self._clients[key] = session.client(service_name, region_name=region_name, config=pooled, **options)
            return self._clients[key]


def _map_run_within_tolerance() -> Any:
    """Return a Map run that fails when more items fail than the definition tolerates, which moto ignores.

    AWS stops as soon as the threshold is crossed; here all items have run by then.
    """
    original = _DistributedMap._map_run

    def map_run(self: Any, env: Any, eval_input: Any) -> None:
        original(self, env, eval_input)
        record = eval_input.map_run_record
        if not _tolerated(
            failed=record.item_counter.failed.get(),
            total=record.item_counter.total.get(),
            count=record.tolerated_failure_count,
            percentage=record.tolerated_failure_percentage,
        ):
            raise _exceeded(env)

    return map_run


def _tolerated(*, failed: int, total: int, count: int, percentage: float) -> bool:
    """Whether a Map run goes on: no threshold that is set may be crossed, and none set tolerates nothing."""
    if not failed:
        return True
    crossed = [failed > count] if count else []
    crossed += [100 * failed / total > percentage] if percentage else []
    return bool(crossed) and not any(crossed)


def _exceeded(env: Any) -> FailureEventException:
    kind = StatesErrorNameType.StatesExceedToleratedFailureThreshold
    failed = MapRunFailedEventDetails(
        error=kind.to_name(), cause="The specified tolerated failure threshold was exceeded"
    )
    details: Any = {"mapRunFailedEventDetails": failed}
    return FailureEventException(
        FailureEvent(
            env=env,
            error_name=StatesErrorName(typ=kind),
            event_type=HistoryEventType.MapRunFailed,
            event_details=details,
        )
    )


def _stop_at_once() -> Any:
    """Return a stop after which an execution is ABORTED; moto says RUNNING until the task under way has ended."""
    original = Execution.stop

    def stop(self: Any, **reason: Any) -> None:
        original(self, **reason)
        if self.exec_status == ExecutionStatus.RUNNING:
            self.exec_status = ExecutionStatus.ABORTED
            self.stop_date = reason["stop_date"]

    return stop


def _wait(time_scale: float) -> Any:
    def wait_interval(_: Any, env: Any, wait_seconds: float) -> None:
        until = time.monotonic() + wait_seconds * time_scale
        while env.is_running() and (left := until - time.monotonic()) > 0:
            env.program_state_event.wait(left)

    return wait_interval


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Let the engine recurse once per item: at Python's own limit, a Map of a thousand items hangs."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _RECURSION_LIMIT))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
