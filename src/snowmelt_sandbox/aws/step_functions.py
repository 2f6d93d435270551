"""AWS Step Functions on one machine: the definition that is deployed, executed by moto's engine."""

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from snowmelt.errors import ConfigError, StalledError
from snowmelt_sandbox.aws.execution_environment import ACCOUNT_ID
from snowmelt_sandbox.aws.moto_engine import engine
from snowmelt_sandbox.aws.moto_service import step_functions_client

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Execution:
    """An execution as it is at one moment."""

    arn: str
    status: str
    """RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED."""
    output: Any = None
    error: str | None = None
    cause: str | None = None

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.status == "RUNNING"


class LocalStepFunctions:
    """One state machine, made from an ASL file whose ``${Name}`` placeholders are filled as SAM fills them.

    ``url`` is a ``MotoService`` of this process. ``endpoints`` says where tasks go, by service, with
    ``""`` for all others. ``time_scale`` shortens what Wait states and retries sleep: at 0.01, five minutes
    are three seconds. One at a time per process.
    """

    def __init__(
        self,
        url: str,
        definition: Path,
        *,
        substitutions: Mapping[str, str],
        endpoints: Mapping[str, str],
        time_scale: float = 1.0,
        name: str = "migration",
    ) -> None:
        self._client: SFNClient = step_functions_client(url)
        self._definition = fill_placeholders(definition, substitutions)
        self._engine = engine(endpoints={"": url, **endpoints}, time_scale=time_scale)
        self._name = name
        self._context = ExitStack()
        self.state_machine_arn = ""

    # --- life ---

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Create the state machine."""
        self._context.enter_context(self._engine)
        try:
            created = self._client.create_state_machine(
                name=self._name,
                definition=self._definition,
                roleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/{self._name}",
            )
        except BaseException:
            self._context.close()
            raise
        self.state_machine_arn = created["stateMachineArn"]
        return self

    def stop(self) -> None:
        """Stop every execution that is still running."""
        running = self._client.list_executions(stateMachineArn=self.state_machine_arn, statusFilter="RUNNING")
        for execution in running["executions"]:
            self.stop_execution(execution["executionArn"])
        self._context.close()

    # --- executions ---

    def start_execution(self, event: Mapping[str, Any] | None = None, *, name: str | None = None) -> str:
        """Start an execution and return its ARN; it goes on in threads of this process."""
        started = self._client.start_execution(
            stateMachineArn=self.state_machine_arn,
            name=name or f"local-{uuid.uuid4().hex[:12]}",  # moto's own names break the ARNs of Map runs
            input=json.dumps(dict(event or {})),
        )
        return started["executionArn"]

    def stop_execution(self, arn: str) -> None:
        """Abort an execution. Functions that are running go on to their end, as on AWS."""
        self._client.stop_execution(executionArn=arn)

    def describe(self, arn: str) -> Execution:
        """Return an execution as it is now."""
        found = self._client.describe_execution(executionArn=arn)
        output = found.get("output")
        return Execution(
            arn=arn,
            status=found["status"],
            output=json.loads(output) if output else None,
            error=found.get("error"),
            cause=found.get("cause"),
        )

    def wait(
        self,
        arn: str,
        timeout_seconds: float = 300.0,
        on_poll: Callable[[Execution], None] | None = None,
        *,
        poll_seconds: float = _POLL_SECONDS,
    ) -> Execution:
        """Return an execution when it has ended, calling ``on_poll`` with each look that is taken at it."""
        until = time.monotonic() + timeout_seconds
        while (execution := self.describe(arn)).running:
            if on_poll is not None:
                on_poll(execution)
            if time.monotonic() >= until:
                raise StalledError(f"{arn} is still running after {timeout_seconds:.0f} s.")
            time.sleep(poll_seconds)
        return execution

    def run(self, event: Mapping[str, Any] | None = None, *, timeout_seconds: float = 300.0) -> Execution:
        """Start an execution and return it when it has ended."""
        return self.wait(self.start_execution(event), timeout_seconds)

    def history(self, arn: str) -> list[dict[str, Any]]:
        """Return all events of an execution, oldest first."""
        pages = self._client.get_paginator("get_execution_history").paginate(executionArn=arn)
        return [dict(event) for page in pages for event in page["events"]]

    def map_runs(self, arn: str) -> list[dict[str, Any]]:
        """Return the description of each Distributed Map run of an execution, oldest first."""
        runs = self._client.list_map_runs(executionArn=arn)["mapRuns"]
        described = [self._client.describe_map_run(mapRunArn=run["mapRunArn"]) for run in runs]
        return [dict(run) for run in sorted(described, key=lambda run: run["startDate"])]


def fill_placeholders(definition: Path, substitutions: Mapping[str, str]) -> str:
    """Return an ASL file's text with each ``${Name}`` replaced; a name without a value is an error."""
    text = definition.read_text(encoding="utf-8")
    missing = sorted(set(re.findall(r"\$\{(\w+)\}", text)) - set(substitutions))
    if missing:
        raise ConfigError(f"{definition}: no value is given for ${{{'}, ${'.join(missing)}}}")
    return re.sub(r"\$\{(\w+)\}", lambda placeholder: substitutions[placeholder[1]], text)
