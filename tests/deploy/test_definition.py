"""What is true of the state machine's definition before it runs, and that a mistake in it would be seen."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from support.asl_rules import OWN_ERRORS, State, machines, problems

DEFINITION = json.loads((Path(__file__).parents[2] / "statemachine" / "migration.asl.json").read_text())
STATES = {name: state for states in machines(DEFINITION) for name, state in states.items()}
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
(MAP,) = (state for state in STATES.values() if state["Type"] == "Map")


def test_the_definition_keeps_every_rule() -> None:
    assert problems(DEFINITION) == []


# --- mistakes -------------------------------------------------------------------------------------------------------

Mistake = Callable[[dict[str, State]], object]


def iteration(states: dict[str, State]) -> State:
    processor: dict[str, dict[str, State]] = states["ProcessChunks"]["ItemProcessor"]
    return processor["States"]["ProcessChunk"]


MISTAKES: dict[str, tuple[Mistake, str]] = {
    "a Next that names no state": (
        lambda s: s["ValidateConfig"].update(Next="IsDryRunn"),
        "no state is named IsDryRunn",
    ),
    "a Default that names no state": (lambda s: s["Verdict"].update(Default="Unknown"), "no state is named Unknown"),
    "a Catch to nowhere": (lambda s: s["Finalize"]["Catch"][0].update(Next="Failed"), "no state is named Failed"),
    "a state that nothing leads to": (
        lambda s: s["IsDryRun"].update(Choices=s["Verdict"]["Choices"]),
        "DryRunDone: no path",
    ),
    "neither Next nor End": (lambda s: s["WaitToPlan"].pop("Next"), "WaitToPlan: it needs either Next or End"),
    "both Next and End": (lambda s: s["Finalize"].update(End=True), "Finalize: it needs either Next or End"),
    "a field that is misspelt": (
        lambda s: s["PlanChunks"].update(TimeOutSeconds=960),
        "a Task has no field TimeOutSeconds",
    ),
    "a field of another type": (lambda s: s["WaitToPlan"].update(Retry=[]), "a Wait has no field Retry"),
    "a field of an iteration": (lambda s: iteration(s).update(Timeout=9), "ProcessChunks.ProcessChunk: a Task has no"),
    "a field of a retry": (lambda s: s["PlanChunks"]["Retry"][0].update(Backoff=2), "a Retry has no field Backoff"),
    "a Type that does not exist": (lambda s: s["Completed"].update(Type="Success"), "there is no Type Success"),
    "an error of ours that does not exist": (
        lambda s: iteration(s)["Retry"][1].update(ErrorEquals=["TransientFailure"]),
        "no error is named TransientFailure",
    ),
    "an error of AWS that does not exist": (
        lambda s: s["ProcessChunks"]["Retry"][0].update(ErrorEquals=["States.ItemReaderFailure"]),
        "no error is named States.ItemReaderFailure",
    ),
    "a Catch of all that is not alone": (
        lambda s: s["Finalize"]["Catch"][0].update(ErrorEquals=["States.ALL", "States.Timeout"]),
        "States.ALL must be alone",
    ),
    "a Task without a time-out": (lambda s: s["Finalize"].pop("TimeoutSeconds"), "Finalize: TimeoutSeconds"),
    "a Task that gives up before its function": (lambda s: iteration(s).update(TimeoutSeconds=900), "TimeoutSeconds"),
    "a Task of another service": (
        lambda s: s["Finalize"].update(Resource="arn:${Partition}:states:::sns:publish"),
        "Resource arn:${Partition}:states:::sns:publish",
    ),
    "a Task of another function": (
        lambda s: s["Finalize"]["Parameters"].update(FunctionName="${Function}"),
        "does not call the one function",
    ),
    "a Choice without a default": (lambda s: s["WhatNext"].pop("Default"), "WhatNext: a Choice without a Default"),
    "a comparison that does not exist": (
        lambda s: s["WhatNext"]["Choices"][0].update(StringEqual="x"),
        "no comparison of the language",
    ),
    "a loop that does not wait": (lambda s: s["WhatNext"].update(Default="PlanChunks"), "a loop without a Wait"),
    "a path in a field that takes it for text": (
        lambda s: s["PlanChunks"]["Parameters"]["Payload"].update(run_id="$.run.run_id"),
        "does not end in .$",
    ),
    "text in a field that takes it for a path": (
        lambda s: s["PlanChunks"]["Parameters"]["Payload"].update({"round.$": "plan.round"}),
        "plan.round is no path",
    ),
    "a function that does not exist": (
        lambda s: s["CountPlanTurn"]["Parameters"].update({"taken.$": "States.Add($.turns.taken, 1)"}),
        "there is no function States.Add",
    ),
    "a Wait for nothing": (lambda s: s["WaitToPlan"].pop("SecondsPath"), "a Wait needs one of"),
    "a Fail without a cause": (lambda s: s["HistoryFull"].pop("CausePath"), "either Cause or CausePath"),
    "an inline Map": (
        lambda s: s["ProcessChunks"]["ItemProcessor"]["ProcessorConfig"].update(Mode="INLINE"),
        "not that of a Distributed Map",
    ),
    "a state that nobody explains": (lambda s: s["Finalize"].pop("Comment"), "Finalize: no Comment"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_seen_and_named(name: str) -> None:
    make, said = MISTAKES[name]
    wrong: dict[str, Any] = deepcopy(DEFINITION)
    make(wrong["States"])
    assert [problem for problem in problems(wrong) if said in problem], problems(wrong)


def test_a_start_that_names_no_state_is_seen() -> None:
    assert problems({**DEFINITION, "StartAt": "Begin"}) == ["definition: StartAt names no state: Begin"]


# --- what this definition promises ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_tasks_try_again_when_lambda_throttles_or_a_server_was_away(name: str) -> None:
    retried = {error for rule in TASKS[name]["Retry"] for error in rule["ErrorEquals"]}
    assert {"Lambda.TooManyRequestsException", "Lambda.ServiceException", "TransientError"} <= retried


@pytest.mark.parametrize("name", TASKS)
def test_tasks_try_again_after_every_error_of_lambda_that_aws_says_to_retry(name: str) -> None:
    """As "Handle transient Lambda service exceptions" of Step Functions' best practices lists them."""
    retried = {error for rule in TASKS[name]["Retry"] for error in rule["ErrorEquals"]}
    named_by_aws = ("ClientExecutionTimeoutException", "ServiceException", "AWSLambdaException", "SdkClientException")
    assert {f"Lambda.{error}" for error in named_by_aws} <= retried


def test_retries_back_off_with_jitter_and_a_cap() -> None:
    for state in STATES.values():
        for rule in state.get("Retry", []):
            assert rule["BackoffRate"] > 1
            assert rule["JitterStrategy"] == "FULL"
            assert rule["IntervalSeconds"] < rule["MaxDelaySeconds"] <= 120
            assert 0 < rule["MaxAttempts"] <= 10


def test_errors_that_trying_again_does_not_fix_are_not_retried() -> None:
    retried = {error for state in STATES.values() for rule in state.get("Retry", []) for error in rule["ErrorEquals"]}
    assert retried & (OWN_ERRORS | {"States.ALL", "States.TaskFailed"}) == {"TransientError"}


def test_whatever_fails_outside_the_map_is_caught_and_explained() -> None:
    for name, state in DEFINITION["States"].items():
        if state["Type"] in {"Task", "Map"}:
            assert [rule["ErrorEquals"] for rule in state["Catch"]] == [["States.ALL"]], name
            assert {rule["Next"] for rule in state["Catch"]} == {"ReadFailure"}, name


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
