"""The state machine, run by an engine on this machine, with a function that says what a test has it say."""

import json
import time
import urllib.parse
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
