"""A deployed stack: start its state machine, ask how executions are, stop them, read the function's log."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from snowmelt.errors import AccessError, ConfigError, DataError, TransientError
from snowmelt.models import Value

_GONE = {"ExecutionDoesNotExist", "ResourceNotFoundException", "ResourceNotFound"}
_TRANSIENT = {"ThrottlingException", "Throttling", "ServiceUnavailable", "InternalFailure", "InternalServerError"}


class RoundProgress(Value):
    """How far one round's Map Run is, by work items."""

    status: str
    max_concurrency: int
    total: int
    succeeded: int
    failed: int
    running: int
    pending: int


class RemoteExecution(Value):
    """An execution of the state machine."""

    arn: str
    name: str
    status: str
    """RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED."""
    started_at: datetime
    stopped_at: datetime | None = None
    error: str | None = None
    cause: str | None = None
    message: str | None = None
    """What the verdict of one that succeeded says."""
    rounds: tuple[RoundProgress, ...] = ()

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.status == "RUNNING"


@dataclass(frozen=True)
class RemoteStack:
    """A stack by its outputs."""

    name: str
    state_machine_arn: str
    log_group: str
    region: str | None
    config_location: str = ""
    """``s3://bucket/key`` of its config."""

    @classmethod
    def find(cls, name: str, region: str | None = None) -> "RemoteStack":
        """The stack of that name; ConfigError when there is none or it is another kind of stack."""
        with _explained(f"stack {name}"):
            try:
                (found,) = boto3.client("cloudformation", region_name=region).describe_stacks(StackName=name)["Stacks"]
            except ClientError as error:
                if error.response["Error"]["Code"] != "ValidationError":
                    raise
                raise ConfigError(f"there is no stack {name} in this account and region; name it by --stack") from error
        outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", ())}
        try:
            return cls(
                name,
                outputs["StateMachineArn"],
                outputs["FunctionLogGroupName"],
                region,
                outputs.get("ConfigLocation", ""),
            )
        except KeyError as error:
            raise ConfigError(
                f"stack {name} has no output {error}; it is not a stack of Snowmelt's template"
            ) from error

    def start(self, given: Mapping[str, object]) -> str:
        """Start an execution with that input, empty keys left out; its ARN."""
        event = {key: value for key, value in given.items() if value not in (None, False)}
        with _explained(f"state machine {self.state_machine_arn}"):
            started = self._client("stepfunctions").start_execution(
                stateMachineArn=self.state_machine_arn, name=f"cli-{uuid.uuid4().hex[:12]}", input=json.dumps(event)
            )
        return str(started["executionArn"])

    def executions(self, limit: int) -> tuple[RemoteExecution, ...]:
        """The latest executions, newest first, without their causes and rounds."""
        with _explained(f"state machine {self.state_machine_arn}"):
            found = self._client("stepfunctions").list_executions(
                stateMachineArn=self.state_machine_arn, maxResults=limit
            )
        return tuple(_execution(each) for each in found["executions"])

    def execution(self, arn: str | None) -> RemoteExecution:
        """That execution, or the latest one, with all there is to know of it. DataError when there is none."""
        arn = arn or self._latest()
        with _explained(f"execution {arn}"):
            client = self._client("stepfunctions")
            described = client.describe_execution(executionArn=arn)
            runs = client.list_map_runs(executionArn=arn).get("mapRuns", [])
            # The newest is what goes on; older ones only say what has been.
            runs = sorted(runs, key=lambda run: run["startDate"])[-3:]
            rounds = [client.describe_map_run(mapRunArn=run["mapRunArn"]) for run in runs]
        return _execution(described).model_copy(update={"rounds": tuple(_round(each) for each in rounds)})

    def stop(self, arn: str | None) -> RemoteExecution:
        """End that execution, or the latest one; DataError when it has ended already.

        Functions that are at work finish their chunks or their time. The run stays open, and a new start resumes it.
        """
        execution = self.execution(arn)
        if not execution.running:
            raise DataError(
                f"execution {execution.name} does not run, it has {execution.status}; there is nothing to stop"
            )
        with _explained(f"execution {execution.arn}"):
            self._client("stepfunctions").stop_execution(
                executionArn=execution.arn, error="Stopped", cause="stopped by snowmelt aws stop; a new start resumes"
            )
        return self.execution(execution.arn)

    def logs(self, *, since: datetime, pattern: str | None = None) -> Iterator[str]:
        """The function's log lines from then on, oldest first; ``pattern`` is one of CloudWatch's."""
        options: dict[str, Any] = {"logGroupName": self.log_group, "startTime": int(since.timestamp() * 1000)}
        if pattern:
            options["filterPattern"] = pattern
        with _explained(f"log group {self.log_group}"):
            pages = self._client("logs").get_paginator("filter_log_events").paginate(**options)
            for page in pages:
                yield from (event["message"].rstrip("\n") for event in page["events"])

    def _latest(self) -> str:
        latest = self.executions(1)
        if not latest:
            raise DataError(f"stack {self.name} has had no execution yet; begin one with snowmelt aws start")
        return latest[0].arn

    def _client(self, service: str) -> Any:
        return boto3.client(service, region_name=self.region)  # type: ignore[call-overload]


def _execution(found: Mapping[str, Any]) -> RemoteExecution:
    output = json.loads(found["output"]) if found.get("output") else {}
    return RemoteExecution(
        arn=found["executionArn"],
        name=found["name"],
        status=found["status"],
        started_at=found["startDate"],
        stopped_at=found.get("stopDate"),
        error=found.get("error"),
        cause=found.get("cause"),
        message=output.get("message"),
    )


def _round(found: Mapping[str, Any]) -> RoundProgress:
    counts = found["itemCounts"]
    return RoundProgress(
        status=found["status"],
        max_concurrency=int(found["maxConcurrency"]),
        **{name: int(counts[name]) for name in ("total", "succeeded", "failed", "running", "pending")},
    )


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """What AWS refuses, in one line that says what to do."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _GONE or code == "InvalidArn":
            raise DataError(f"{what} is not there ({code}); check its name, the account and the region") from error
        if code in _TRANSIENT:
            raise TransientError(f"{what}: AWS says {code}; try again") from error
        raise AccessError(
            f"{what}: {code}: {error.response['Error'].get('Message', '')}; check your permissions"
        ) from error
    except BotoCoreError as error:
        raise AccessError(f"{what}: {error}; set AWS_PROFILE and AWS_REGION, or sign in") from error
