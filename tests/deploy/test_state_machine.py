"""The definition that is deployed, executed: only the function behind it is scripted."""

from typing import Any

import pytest

from support.workflows import (
    BUCKET,
    COMPLETED,
    FUNCTION_ARN,
    REGION,
    RUN,
    TURNS_ALLOWED,
    Answer,
    Event,
    FunctionError,
    Migration,
    Refusal,
    Workflow,
    items,
    plan,
)

THROTTLED = Refusal("TooManyRequestsException", "Rate Exceeded.", 429)
NOT_FOUND = Refusal("ResourceNotFoundException", f"Function not found: {FUNCTION_ARN}", 404)


def one_round(engine: Workflow, count: int = 1) -> list[Any]:
    return [plan("process", 1, manifest=engine.put_manifest(items(count)), items=count), plan("finalize", 2)]


def test_rounds_go_on_until_the_plan_says_finalize(engine: Workflow) -> None:
    manifests = [engine.put_manifest(items(3)), engine.put_manifest(items(1))]
    engine.function.answers(
        Migration(
            plans=[
                plan("process", 1, manifest=manifests[0], items=3),
                plan("wait", 2),
                plan("process", 3, manifest=manifests[1], items=1),
                plan("finalize", 4),
            ]
        )
    )

    ended = engine.run()

    assert (ended.status, ended.output) == ("SUCCEEDED", COMPLETED)
    assert [event["round"] for event in engine.function.of("plan_chunks")] == [0, 1, 2, 3]
    work = engine.function.of("process_chunk")
    assert sorted(event["item"]["item_id"] for event in work) == [0, 0, 1, 2]
    assert all(event == {"action": "process_chunk", "run_id": "run-1", "item": event["item"]} for event in work)
    assert [run["itemCounts"]["succeeded"] for run in ended.map_runs] == [3, 1]


def test_every_turn_of_a_loop_passes_a_wait(engine: Workflow) -> None:
    more = {**COMPLETED, "next": "more", "status": "running", "wait_seconds": 1}
    engine.function.answers(Migration(plans=one_round(engine), verdicts=[more, COMPLETED]))

    ended = engine.run()

    order = [name for name in ended.states if name in {"PlanChunks", "WaitToPlan", "Finalize", "WaitToFinalize"}]
    assert order == ["PlanChunks", "WaitToPlan", "PlanChunks", "Finalize", "WaitToFinalize", "Finalize"]
    assert ended.status == "SUCCEEDED"


def test_every_action_of_the_driver_carries_the_execution_that_drives(engine: Workflow) -> None:
    engine.function.answers(Migration(plans=[plan("finalize", 1)]))

    engine.run()

    ids = {event["execution_id"] for event in engine.function.events}
    assert len(ids) == 1
    assert ids.pop().startswith(f"arn:aws:states:{REGION}:")


@pytest.mark.parametrize(
    "request_",
    [
        {"source_name": "flights"},
        {"source_name": "flights", "no_resume": True, "resume_run_id": "run-0", "tables": ["FLIGHTS"]},
        {"source_name": "flights", "colour": "blue"},
    ],
)
def test_the_input_reaches_validate_config_as_it_was_given(engine: Workflow, request_: dict[str, Any]) -> None:
    engine.function.answers(Migration(plans=[plan("finalize", 1)]))

    assert engine.run(request_).status == "SUCCEEDED"

    (event,) = engine.function.of("validate_config")
    assert event == {**request_, "action": "validate_config", "execution_id": event["execution_id"]}


def test_a_caller_cannot_pose_as_another_execution_or_ask_for_another_action(engine: Workflow) -> None:
    engine.function.answers(Migration(plans=[plan("finalize", 1)]))

    for source in ({"source_name": "flights"}, {}):
        engine.function.events.clear()
        engine.run({"action": "finalize", "execution_id": "someone", **source})

        assert not [e for e in engine.function.events[:-1] if e["action"] == "finalize"]
        assert {e["execution_id"] for e in engine.function.events}.isdisjoint({"someone"})


def test_a_dry_run_ends_after_validation(engine: Workflow) -> None:
    engine.function.answers(Migration(plans=[plan("finalize", 1)]))

    ended = engine.run({"source_name": "flights", "dry_run": True})

    assert ended.status == "SUCCEEDED"
    assert ended.output == {"run_id": "run-1", "resumed": False, "message": "opened", "tables": 1}
    assert [event["action"] for event in engine.function.events] == ["validate_config"]


# --- several sources ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [{}, {"input": {"source_name": "flights"}}, {"source_name": None}])
def test_an_input_that_comes_to_one_source_ends_as_that_source_does(engine: Workflow, request_: dict[str, Any]) -> None:
    engine.function.answers(Migration(plans=[plan("finalize", 1)]))

    ended = engine.run(request_)

    assert (ended.status, ended.output) == ("SUCCEEDED", COMPLETED)
    assert len(engine.function.of("next_source")) == 1
    assert engine.function.of("next_source")[0]["given"] == request_
    assert engine.function.of("validate_config")[0]["source_name"] == "flights"


def test_sources_are_run_one_after_another_and_the_output_lists_their_runs(engine: Workflow) -> None:
    other = {**RUN, "run_id": "run-2"}
    plans = [plan("wait", 1), plan("finalize", 2), plan("finalize", 1)]
    engine.function.answers(Migration(plans=plans, validate=[RUN, other], sources=("flights", "ledger")))

    ended = engine.run({"source_name": "flights,ledger"})

    assert ended.status == "SUCCEEDED"
    assert ended.output == {"runs": [{"run_id": run, "verdict": COMPLETED} for run in ("run-1", "run-2")]}
    assert [event["source_name"] for event in engine.function.of("validate_config")] == ["flights", "ledger"]
    assert [(e["run_id"], e["round"]) for e in engine.function.of("plan_chunks")] == [
        ("run-1", 0),
        ("run-1", 1),
        ("run-2", 0),
    ]


@pytest.mark.parametrize("action", ["validate_config", "plan_chunks", "finalize"])
def test_a_source_that_an_error_ends_does_not_stop_the_next_and_fails_the_execution(
    engine: Workflow, action: str
) -> None:
    raised = FunctionError("DataError", "what went wrong")
    answers = {"validate_config": RUN, "plan_chunks": plan("finalize", 1), "finalize": COMPLETED}
    faulty = {name: [raised, answer] if name == action else [answer] for name, answer in answers.items()}
    script = Migration(
        plans=faulty["plan_chunks"],
        validate=faulty["validate_config"],
        verdicts=faulty["finalize"],
        sources=("flights", "ledger"),
    )
    engine.function.answers(script)

    ended = engine.run({"source_name": "flights,ledger"})

    assert (ended.status, ended.error, ended.cause) == ("FAILED", "MigrationFailed", "said by the function")
    first, second = engine.function.of("next_source")[1:]
    assert first["outcome"]["failure"]["Error"] == "DataError"
    assert first["outcome"]["run_id"] == (None if action == "validate_config" else "run-1")
    assert second["outcome"] == {"run_id": "run-1", "verdict": COMPLETED}
    assert second["done"] == [first["outcome"]]


def test_a_dry_run_of_several_sources_touches_none_and_lists_all(engine: Workflow) -> None:
    engine.function.answers(Migration(plans=[plan("finalize", 1)], sources=("flights", "ledger")))

    ended = engine.run({"dry_run": True})

    said = {"run_id": "run-1", "resumed": False, "message": "opened", "tables": 1}
    assert (ended.status, ended.output) == ("SUCCEEDED", {"runs": [{"run": said}, {"run": said}]})
    assert engine.function.of("plan_chunks") == []


@pytest.mark.parametrize("asked_before", [0, 1])
def test_an_error_of_the_choice_of_sources_is_the_cause(engine: Workflow, asked_before: int) -> None:
    script = Migration(plans=[plan("finalize", 1)], sources=("flights", "ledger"))

    def answer(event: Event) -> Answer:
        is_wrong = event["action"] == "next_source" and len(engine.function.of("next_source")) > asked_before
        return FunctionError("ConfigError", "the config has no source nothing") if is_wrong else script(event)

    engine.function.answers(answer)

    ended = engine.run({"source_name": "nothing, flights"})

    assert (ended.status, ended.error, ended.cause) == ("FAILED", "ConfigError", "the config has no source nothing")


def test_a_failed_verdict_fails_the_execution_with_its_message(engine: Workflow) -> None:
    message = 'Run run-1 failed: unique index "pk" has duplicates, e.g. (7); remove them and start again.'
    failed = {**COMPLETED, "status": "failed", "message": message}
    engine.function.answers(Migration(plans=[plan("finalize", 1)], verdicts=[failed]))

    ended = engine.run()

    assert (ended.status, ended.error, ended.cause) == ("FAILED", "MigrationFailed", message)


@pytest.mark.parametrize("name", ["ConfigError", "AccessError", "HeldError", "DataError", "StalledError", "KeyError"])
@pytest.mark.parametrize("action", ["validate_config", "plan_chunks", "finalize"])
def test_an_error_of_an_action_is_the_cause_in_one_line(engine: Workflow, name: str, action: str) -> None:
    message = 'source_name "flihgts" is not in the config; did you mean "flights"? {braces} "errorMessage": 1'
    raised = FunctionError(name, message)
    broken = Migration(plans=[plan("finalize", 1)])
    engine.function.answers(lambda event: raised if event["action"] == action else broken(event))

    ended = engine.run()

    assert (ended.status, ended.error, ended.cause) == ("FAILED", name, message)
    assert len(engine.function.of(action)) == 1


def test_a_transient_error_is_tried_again(engine: Workflow) -> None:
    lost = FunctionError("TransientError", "PostgreSQL at db:5432 closed the connection.")
    engine.function.answers(Migration(plans=[plan("finalize", 1)], validate=[lost, RUN]))

    assert engine.run().status == "SUCCEEDED"
    assert len(engine.function.of("validate_config")) == 2


def test_an_action_that_timed_out_is_tried_again(engine: Workflow) -> None:
    late = FunctionError("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 5.00 seconds")
    engine.function.answers(Migration(plans=[late, plan("finalize", 1)]))

    assert engine.run().status == "SUCCEEDED"
    assert len(engine.function.of("plan_chunks")) == 2


@pytest.mark.parametrize("action", ["validate_config", "process_chunk"])
def test_throttling_is_waited_out(engine: Workflow, action: str) -> None:
    refusals = [THROTTLED, THROTTLED]
    script = Migration(plans=one_round(engine))
    engine.function.answers(lambda event: refusals.pop() if refusals and event["action"] == action else script(event))

    ended = engine.run()

    assert ended.status == "SUCCEEDED"
    assert len(engine.function.of(action)) == 3
    assert [run["itemCounts"]["failed"] for run in ended.map_runs] == [0]


@pytest.mark.parametrize("name", ["Sandbox.Timedout", "Runtime.ExitError", "DataError"])
def test_iterations_that_die_are_seen_and_do_not_fail_the_run(engine: Workflow, name: str) -> None:
    died = FunctionError(name, "RequestId: 1 Error: Task timed out after 5.00 seconds")
    engine.function.answers(Migration(plans=one_round(engine, count=3), chunk=lambda event: died))

    ended = engine.run()

    assert ended.status == "SUCCEEDED"
    assert [run["itemCounts"]["failed"] for run in ended.map_runs] == [3]
    assert len(engine.function.of("process_chunk")) == 3
    assert len(engine.function.of("plan_chunks")) == 2


def test_a_manifest_that_is_gone_ends_readably(engine: Workflow) -> None:
    nowhere = {"bucket": BUCKET, "key": "nowhere.json"}
    engine.function.answers(Migration(plans=[plan("process", 1, manifest=nowhere)]))

    ended = engine.run()

    assert (ended.status, ended.error) == ("FAILED", "FailedByAws")
    assert str(ended.cause).startswith("States.")


def test_an_answer_of_another_version_ends_readably(engine: Workflow) -> None:
    engine.function.answers(Migration(plans=[plan("ponder", 1)]))

    ended = engine.run()

    assert (ended.status, ended.error) == ("FAILED", "UnknownAnswer")
    assert "deploy both" in str(ended.cause)


def test_an_error_of_lambda_itself_keeps_its_name_in_the_cause(engine: Workflow) -> None:
    engine.function.answers(lambda event: NOT_FOUND)

    ended = engine.run()

    assert (ended.status, ended.error) == ("FAILED", "FailedByAws")
    assert str(ended.cause).startswith("Lambda.ResourceNotFoundException: Function not found")


@pytest.mark.parametrize(
    "script",
    [
        Migration(plans=[plan("wait", n) for n in range(1, 99)]),
        Migration(plans=[plan("finalize", 1)], verdicts=[{**COMPLETED, "next": "more", "status": "running"}]),
    ],
    ids=["planning", "finalizing"],
)
def test_an_execution_ends_in_order_before_its_history_is_full(engine: Workflow, script: Migration) -> None:
    engine.function.answers(script)

    ended = engine.allowing(turns=3).run()

    assert (ended.status, ended.error) == ("FAILED", "HistoryFull")
    assert ended.cause == (
        "Run run-1 is not finished, but this execution has used up its history; "
        "start the state machine again with the same input and the run resumes."
    )


def test_as_many_turns_as_are_allowed_fit_in_a_history(engine: Workflow) -> None:
    manifest = engine.put_manifest(items(1))
    engine.function.answers(Migration(plans=[plan("process", 1, manifest=manifest)]))

    short, long = (engine.allowing(turns=turns).run().events for turns in (2, 7))

    assert (long - short) / 5 * TURNS_ALLOWED <= 20_000
