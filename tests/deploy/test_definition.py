"""What is true of the state machine's definition before it runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snowmelt import errors

State = dict[str, Any]

DEFINITION = json.loads((Path(__file__).parents[2] / "statemachine" / "migration.asl.json").read_text())
LAMBDA_MAX_SECONDS = 900

OWN_ERRORS = {kind.__name__ for kind in errors.SnowmeltError.__subclasses__()}
AWS_ERRORS = {
    "Lambda.AWSLambdaException",
    "Lambda.EC2ThrottledException",
    "Lambda.ResourceNotReadyException",
    "Lambda.SdkClientException",
    "Lambda.ServiceException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
    "States.ALL",
    "States.ItemReaderFailed",
    "States.Timeout",
}


def machines(machine: dict[str, Any]) -> Iterator[dict[str, State]]:
    """The states of the machine, then those of the processor in each of its Maps."""
    yield machine["States"]
    for state in machine["States"].values():
        if "ItemProcessor" in state:
            yield from machines(state["ItemProcessor"])


STATES = {name: state for states in machines(DEFINITION) for name, state in states.items()}
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
(MAP,) = (state for state in STATES.values() if state["Type"] == "Map")


def successors(state: State) -> Iterator[str]:
    for rule in [state, *state.get("Choices", []), *state.get("Catch", [])]:
        if "Next" in rule:
            yield rule["Next"]
    if "Default" in state:
        yield state["Default"]


def reached(machine: dict[str, Any]) -> set[str]:
    """The states of the machine that some path from its start enters."""
    seen: set[str] = set()
    ahead = [machine["StartAt"]]
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead.extend(successors(machine["States"][name]))
    return seen


def loops_without_a_wait(states: dict[str, State]) -> set[str]:
    """States from which a path leads back to themselves and passes no Wait."""

    def onward(name: str) -> set[str]:
        seen: set[str] = set()
        ahead = list(successors(states[name]))
        while ahead:
            following = ahead.pop()
            if following not in seen and states[following]["Type"] != "Wait":
                seen.add(following)
                ahead.extend(successors(states[following]))
        return seen

    return {name for name in states if name in onward(name)}


@pytest.mark.parametrize("machine", [DEFINITION, MAP["ItemProcessor"]], ids=["run", "iteration"])
def test_every_state_is_reached_and_every_next_exists(machine: dict[str, Any]) -> None:
    assert reached(machine) == set(machine["States"])


def test_every_loop_passes_a_wait() -> None:
    assert loops_without_a_wait(DEFINITION["States"]) == set()


@pytest.mark.parametrize("name", STATES)
def test_every_state_says_what_it_is_for(name: str) -> None:
    assert STATES[name]["Comment"].endswith(".")


def test_every_choice_has_a_default() -> None:
    assert all("Default" in state for state in STATES.values() if state["Type"] == "Choice")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_outwaits_its_function(name: str) -> None:
    assert TASKS[name]["TimeoutSeconds"] > LAMBDA_MAX_SECONDS


@pytest.mark.parametrize("name", TASKS)
def test_every_task_calls_the_one_function(name: str) -> None:
    assert TASKS[name]["Resource"] == "arn:aws:states:::lambda:invoke"
    assert TASKS[name]["Parameters"]["FunctionName"] == "${FunctionArn}"


def test_every_error_name_is_ours_or_documented() -> None:
    named = {
        error
        for state in STATES.values()
        for rule in [*state.get("Retry", []), *state.get("Catch", [])]
        for error in rule["ErrorEquals"]
    }
    assert named <= OWN_ERRORS | AWS_ERRORS


@pytest.mark.parametrize("name", TASKS)
def test_tasks_try_again_when_lambda_throttles_or_a_server_was_away(name: str) -> None:
    retried = {error for rule in TASKS[name]["Retry"] for error in rule["ErrorEquals"]}
    assert {"Lambda.TooManyRequestsException", "Lambda.ServiceException", "TransientError"} <= retried


def test_retries_back_off_with_jitter_and_a_cap() -> None:
    for state in STATES.values():
        for rule in state.get("Retry", []):
            assert rule["BackoffRate"] > 1
            assert rule["JitterStrategy"] == "FULL"
            assert rule["IntervalSeconds"] < rule["MaxDelaySeconds"] <= 120
            assert 0 < rule["MaxAttempts"] <= 10


def test_errors_that_trying_again_does_not_mend_are_not_retried() -> None:
    retried = {error for state in STATES.values() for rule in state.get("Retry", []) for error in rule["ErrorEquals"]}
    assert retried & (OWN_ERRORS | {"States.ALL", "States.TaskFailed"}) == {"TransientError"}


def test_whatever_fails_outside_the_map_is_caught_and_explained() -> None:
    for name, state in DEFINITION["States"].items():
        if state["Type"] in {"Task", "Map"}:
            assert [rule["ErrorEquals"] for rule in state["Catch"]] == [["States.ALL"]], name
            assert {rule["Next"] for rule in state["Catch"]} == {"ReadFailure"}, name


def test_every_fail_names_an_error_and_a_cause() -> None:
    for state in STATES.values():
        if state["Type"] == "Fail":
            assert {"Error", "ErrorPath"} & set(state)
            assert {"Cause", "CausePath"} & set(state)


def test_the_map_is_distributed_and_leaves_the_verdict_to_finalize() -> None:
    processor = MAP["ItemProcessor"]
    assert processor["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert MAP["ToleratedFailurePercentage"] == 100
    assert MAP["ResultPath"] is None
    assert "MaxConcurrencyPath" in MAP


def test_an_iteration_answers_nothing_and_hides_no_failure() -> None:
    ((state,),) = (list(states.values()) for states in [MAP["ItemProcessor"]["States"]])
    assert state["ResultSelector"] == {}
    assert "Catch" not in state
    retried = {error for rule in state["Retry"] for error in rule["ErrorEquals"]}
    assert retried.isdisjoint({"Sandbox.Timedout", "Lambda.Unknown", "Runtime.ExitError", "States.Timeout"})
