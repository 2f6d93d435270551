"""``snowmelt aws`` against the deployed stack: what it starts, says and stops."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from snowmelt import cli
from snowmelt.aws.stack import RemoteStack
from snowmelt.errors import ConfigError, DataError
from support.deployed_stack import EVERYTHING, Stack, client, deployed


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The stack, whose executions run for ever, as nothing executes them."""
    with deployed(EVERYTHING) as stack:
        yield stack


def aws(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["aws", *arguments], catch_exceptions=True)


def started(*arguments: str) -> dict[str, Any]:
    """The execution that a start has begun, as AWS describes it."""
    arn = json.loads(aws("start", *arguments, "--json").stdout)["execution"]
    found: dict[str, Any] = client("stepfunctions").describe_execution(executionArn=arn)
    return found


def test_a_start_passes_on_what_was_given_and_nothing_else(stack: Stack) -> None:
    plain = started("--source", "flights")
    assert plain["stateMachineArn"] == stack.resources["StateMachine"]
    assert json.loads(plain["input"]) == {"source_name": "flights"}
    full = started(
        "-s", "flights", "--no-resume", "--tables", "A, B", "--allow-shrink", "--accept-rejected", "--dry-run"
    )
    assert json.loads(full["input"]) == {
        "source_name": "flights",
        "no_resume": True,
        "tables": ["A", "B"],
        "allow_shrink": True,
        "accept_rejected": True,
        "dry_run": True,
    }


def test_status_and_stop_mean_the_latest_execution_unless_one_is_named(stack: Stack) -> None:
    first = started("--source", "a")["executionArn"]
    time.sleep(0.01)
    second = started("--source", "b")["executionArn"]

    assert json.loads(aws("status", first, "--json").stdout)["arn"] == first
    latest = aws("status")
    assert latest.exit_code == 0
    assert latest.stdout.startswith("RUNNING")

    stopped = json.loads(aws("stop", second, "--json").stdout)
    assert (stopped["arn"], stopped["status"]) == (second, "ABORTED")
    assert aws("status", second).exit_code == 1
    assert aws("status", first).exit_code == 0
    lines = aws("status", "--latest", "2").stdout.splitlines()
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [("ABORTED", second), ("RUNNING", first)]


def test_what_has_ended_cannot_be_stopped_again(stack: Stack) -> None:
    arn = started("--source", "a")["executionArn"]
    aws("stop", arn)

    again = aws("stop", arn)

    assert isinstance(again.exception, DataError)
    assert "nothing to stop" in again.exception.message


def test_a_stack_that_has_never_been_started_says_so(stack: Stack) -> None:
    role = "arn:aws:iam::123456789012:role/x"
    definition = json.dumps({"StartAt": "Idle", "States": {"Idle": {"Type": "Succeed"}}})
    machine = client("stepfunctions").create_state_machine(name="idle", definition=definition, roleArn=role)
    idle = RemoteStack("idle", machine["stateMachineArn"], "none", None)
    with pytest.raises(DataError, match="has had no execution yet; begin one with snowmelt aws start"):
        idle.execution(None)


def test_logs_are_those_of_the_function_since_then(stack: Stack) -> None:
    group = stack.resources["FunctionLogGroup"]
    logs = client("logs")
    logs.create_log_stream(logGroupName=group, logStreamName="one")
    now = int(time.time() * 1000)
    events = [
        {"timestamp": now - 7_200_000, "message": '{"message": "old"}'},
        {"timestamp": now - 60_000, "message": '{"message": "new"}\n'},
    ]
    logs.put_log_events(logGroupName=group, logStreamName="one", logEvents=events)

    assert aws("logs", "--since", "1h").stdout.splitlines() == ['{"message": "new"}']
    assert len(aws("logs", "--since", "1d").stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (("status", "--stack", "snowmlet"), ConfigError, "there is no stack snowmlet"),
        (("status", "arn:aws:states:us-east-1:123456789012:execution:snowmelt:none"), DataError, "is not there"),
        (("logs", "--since", "yesterday"), ConfigError, "write a number and s, m, h or d"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    stack: Stack, arguments: tuple[str, ...], kind: type[ConfigError | DataError], said: str
) -> None:
    error = aws(*arguments).exception
    assert isinstance(error, kind)
    assert said in error.message
    assert "\n" not in error.message
