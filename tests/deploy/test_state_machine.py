"""The definition that is deployed, executed: only the function behind it is scripted."""

import json
import logging
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

DEFINITION = Path(__file__).parents[2] / "statemachine" / "migration.asl.json"
REGION = "us-east-1"
FUNCTION_ARN = f"arn:aws:lambda:{REGION}:123456789012:function:scripted"
BUCKET = "manifests"

Event = dict[str, Any]

TURNS_ALLOWED = 1100
"""How often the loops may turn, by the definition."""


@dataclass(frozen=True)
class FunctionError:
    """What Lambda answers when the handler raised, or died."""

    name: str
    message: str

    def body(self) -> dict[str, Any]:
        return {"errorMessage": self.message, "errorType": self.name, "stackTrace": ['File "x.py", line 1\n']}


@dataclass(frozen=True)
class Refusal:
    """What Lambda answers when it does not even call the handler."""

    name: str
    message: str
    http_status: int


THROTTLED = Refusal("TooManyRequestsException", "Rate Exceeded.", 429)
NOT_FOUND = Refusal("ResourceNotFoundException", f"Function not found: {FUNCTION_ARN}", 404)

Answer = dict[str, Any] | FunctionError | Refusal
Script = Callable[[Event], Answer]


@dataclass
class ScriptedFunction:
    """Lambda's Invoke API over a script that answers each event; keeps the events it was given."""

    script: Script = lambda event: {}
    events: list[Event] = field(default_factory=list)

    def answers(self, script: Script) -> None:
        self.script, self.events = script, []

    def of(self, action: str) -> list[Event]:
        """The events of that action, oldest first."""
        return [event for event in self.events if event.get("action") == action]


def invoke_api(function: ScriptedFunction) -> type[BaseHTTPRequestHandler]:
    class InvokeApi(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert urllib.parse.unquote(self.path).split("/")[3] in (FUNCTION_ARN, "scripted")
            function.events.append(event)
            answer = function.script(event)
            if isinstance(answer, Refusal):
                body = {"Type": "User", "message": answer.message}
                self.reply(answer.http_status, body, {"x-amzn-ErrorType": answer.name})
            elif isinstance(answer, FunctionError):
                self.reply(200, answer.body(), {"X-Amz-Function-Error": "Unhandled"})
            else:
                self.reply(200, answer, {})

        def reply(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
            payload = json.dumps(body).encode()
            self.send_response(status)
            headers |= {"Content-Length": str(len(payload)), "x-amzn-RequestId": str(uuid.uuid4())}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)

    return InvokeApi


@dataclass(frozen=True)
class Ended:
    """An execution that has ended."""

    status: str
    output: Any
    error: str | None
    cause: str | None
    events: int
    states: list[str]
    history: list[dict[str, Any]]
    map_runs: list[dict[str, Any]]


@dataclass(frozen=True)
class Workflow:
    """The deployed definition on an engine that executes it."""

    function: ScriptedFunction
    stepfunctions: Any
    s3: Any
    arn: str

    def put_manifest(self, items: list[dict[str, Any]]) -> dict[str, str]:
        key = f"{uuid.uuid4().hex}.json"
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(items))
        return {"bucket": BUCKET, "key": key}

    def allowing(self, *, turns: int) -> "Workflow":
        """The same workflow, but its history is full after so many turns."""
        definition = DEFINITION.read_text()
        assert f'"NumericGreaterThanEquals": {TURNS_ALLOWED}' in definition
        shorter = definition.replace(str(TURNS_ALLOWED), str(turns))
        return replace(self, arn=create(self.stepfunctions, uuid.uuid4().hex, shorter))

    def run(self, request: dict[str, Any] | None = None, *, seconds: float = 60) -> Ended:
        """Start an execution and wait for its end."""
        given = {"source_name": "flights"} if request is None else request
        started = self.stepfunctions.start_execution(
            stateMachineArn=self.arn, name=uuid.uuid4().hex, input=json.dumps(given)
        )
        arn, until = started["executionArn"], time.monotonic() + seconds
        while (seen := self.stepfunctions.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < until, "the execution did not end"
            time.sleep(0.05)
        history = self.stepfunctions.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        assert len(history) < 1000, "and more, which are not read"
        map_runs = self.stepfunctions.list_map_runs(executionArn=arn)["mapRuns"]
        return Ended(
            status=seen["status"],
            output=json.loads(seen["output"]) if "output" in seen else None,
            error=seen.get("error"),
            cause=seen.get("cause"),
            events=len(history),
            states=[e["stateEnteredEventDetails"]["name"] for e in history if "stateEnteredEventDetails" in e],
            history=history,
            map_runs=[self.stepfunctions.describe_map_run(mapRunArn=m["mapRunArn"]) for m in map_runs],
        )


def create(stepfunctions: Any, name: str, definition: str) -> str:
    """Create the state machine as a deployment does, and return its ARN."""
    machine = stepfunctions.create_state_machine(
        name=name,
        definition=definition.replace("${FunctionArn}", FUNCTION_ARN).replace("${Partition}", "aws"),
        roleArn="arn:aws:iam::123456789012:role/migration",
    )
    return str(machine["stateMachineArn"])


class InvokeServer(ThreadingHTTPServer):
    request_queue_size = 128  # as many callers may come at once, and none is to be turned away by the kernel


@pytest.fixture(scope="module")
def engine() -> Iterator[Workflow]:
    function = ScriptedFunction()
    server = InvokeServer(("127.0.0.1", 0), invoke_api(function))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    recursion_limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    logging.getLogger("moto").setLevel(logging.CRITICAL)
    with (
        pytest.MonkeyPatch.context() as patch,
        mock_aws(config={"stepfunctions": {"execute_state_machine": True}}),
    ):
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{server.server_address[1]}")
        s3 = boto3.client("s3", region_name=REGION)
        s3.create_bucket(Bucket=BUCKET)
        stepfunctions = boto3.client("stepfunctions", region_name=REGION)
        yield Workflow(function, stepfunctions, s3, create(stepfunctions, "migration", DEFINITION.read_text()))
    sys.setrecursionlimit(recursion_limit)
    server.shutdown()
    server.server_close()


RUN = {"run_id": "run-1", "resumed": False, "message": "opened", "tables": 1, "warnings": []}
COMPLETED = {"next": "done", "status": "completed", "message": "all in", "report": None, "wait_seconds": 0}
COUNTS = {"completed": 1, "released": 0, "failed": 0, "skipped": 0, "rows": 7}


def plan(answer: str, round_: int, **more: Any) -> dict[str, Any]:
    base = {"manifest": None, "items": 0, "max_concurrency": 2, "wait_seconds": 0, "reason": ""}
    return {**base, "next": answer, "round": round_, **more}


def items(count: int) -> list[dict[str, Any]]:
    return [
        {"item_id": n, "table_id": 0, "table": "FLIGHTS", "chunks": [n], "slowest_seconds": 0.0} for n in range(count)
    ]


def next_of(event: Event, sources: tuple[str, ...]) -> dict[str, Any]:
    """Answer as the function does: the next of these sources, or what they came to."""
    is_first = event["left"] is None
    left = list(sources) if is_first else event["left"]
    done = event["done"] if is_first else [*event["done"], event["outcome"]]
    failed = any("failure" in outcome for outcome in done)
    return {
        "next": "source" if left else "failed" if failed else "completed",
        "sources": "several" if len(done) + len(left) > 1 else "one",
        "start": {**event["given"], "source_name": left[0]} if left else {},
        "done": done,
        "left": left[1:],
        "message": "said by the function",
        "result": None if left else {"runs": done},
    }


@dataclass
class Migration:
    """A script of a run: each list holds the answers of one action, in order; the last one stays."""

    plans: list[Any]
    validate: list[Any] = field(default_factory=lambda: [RUN])
    verdicts: list[Any] = field(default_factory=lambda: [COMPLETED])
    chunk: Script = lambda event: COUNTS
    sources: tuple[str, ...] = ("flights",)

    def __call__(self, event: Event) -> Answer:
        if event["action"] == "process_chunk":
            return self.chunk(event)
        if event["action"] == "next_source":
            return next_of(event, self.sources)
        answers: list[Any] = {
            "validate_config": self.validate,
            "plan_chunks": self.plans,
            "finalize": self.verdicts,
        }[event["action"]]
        answer: Answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer


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
