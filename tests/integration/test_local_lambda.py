"""The Lambda of one machine treats a handler as AWS does."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from snowmelt_sandbox.aws import Function, LocalLambda

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

HANDLER = """
import os, pathlib, time

def handler(event, context):
    if "touch" in event:
        pathlib.Path(event["touch"]).write_text(str(os.getpid()))
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "until" in event:
        while not pathlib.Path(event["until"]).exists():
            time.sleep(0.01)
        pathlib.Path(event["until"] + ".seen").touch()
    if "exit" in event:
        os._exit(event["exit"])
    if "raise" in event:
        raise ValueError(event["raise"])
    if "megabytes" in event:
        kept = bytearray(b"x") * (event["megabytes"] * 2**20)
        time.sleep(5)
    return {
        "pid": os.getpid(),
        "left": context.get_remaining_time_in_millis(),
        "arn": context.invoked_function_arn,
        "memory": context.memory_limit_in_mb,
        "environment": dict(os.environ),
        "padding": "x" * event.get("padding", 0),
    }
"""


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Function:
    folder = tmp_path_factory.mktemp("code")
    (folder / "app.py").write_text(HANDLER)
    (folder / "broken.py").write_text("import no_such_module")
    (folder / "endless.py").write_text("import time; time.sleep(60)")
    (folder / "suicidal.py").write_text("import os; os._exit(9)")
    return Function("app.handler", folder, timeout_seconds=20, environment={"COLOUR": "blue"})


@pytest.fixture
def service(function: Function) -> Iterator[LocalLambda]:
    with LocalLambda(function, concurrency=2) as running:
        yield running


def client_of(service: LocalLambda) -> "LambdaClient":
    return boto3.client(
        "lambda",
        endpoint_url=service.url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}),
    )


def invoke(service: LocalLambda, **event: Any) -> dict[str, Any]:
    """Return the result of a handler, or its error object with the key ``error``."""
    response = client_of(service).invoke(FunctionName=service.function.arn, Payload=json.dumps(event))
    payload: dict[str, Any] = json.load(response["Payload"])
    return {**payload, "error": response["FunctionError"]} if "FunctionError" in response else payload


PATIENCE_SECONDS = 60.0
"""Longer than a start from nothing takes on a machine with other things to do."""


def wait_for(condition: Any) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until, f"it did not happen within {PATIENCE_SECONDS:g} s"
        time.sleep(0.01)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_handler_sees_the_context_and_environment_of_lambda_and_nothing_else(
    service: LocalLambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THIS_MACHINE", "1")
    result = invoke(service)

    assert 19_000 < result["left"] <= 20_000
    assert result["arn"] == service.function.arn
    assert result["memory"] == "1024"
    environment = result["environment"]
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "snowmelt"
    assert environment["TZ"] == ":UTC"
    assert environment["COLOUR"] == "blue"
    assert "OF_THIS_MACHINE" not in environment


def test_a_process_is_used_again_and_events_at_once_get_one_each(service: LocalLambda) -> None:
    first = invoke(service)["pid"]
    assert invoke(service)["pid"] == first

    with ThreadPoolExecutor(2) as threads:
        pids = {result["pid"] for result in threads.map(lambda _: invoke(service, sleep=0.5), range(2))}

    assert len(pids) == 2
    assert first in pids
    assert service.statistics().cold_starts == 2
    assert service.statistics().most_concurrent == 2


def test_beyond_its_concurrency_events_are_throttled(service: LocalLambda, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        for _ in range(2):
            threads.submit(invoke, service, until=str(tmp_path / "go"))
        wait_for(lambda: sum(process.event is not None for process in service.processes()) == 2)
        with pytest.raises(ClientError) as refused:
            invoke(service)
        (tmp_path / "go").touch()

    assert refused.value.response["Error"]["Code"] == "TooManyRequestsException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert service.statistics().throttles == 1


def test_a_handler_that_outlives_its_time_out_is_killed_and_the_next_event_starts_afresh(
    function: Function,
) -> None:
    with LocalLambda(replace(function, timeout_seconds=1)) as service:
        warm = invoke(service)["pid"]
        started = time.monotonic()
        error = invoke(service, sleep=3600)

        assert time.monotonic() - started >= 1
        assert error["error"] == "Unhandled"
        assert error["errorType"] == "Sandbox.Timedout"
        assert error["errorMessage"].endswith("Error: Task timed out after 1.00 seconds")
        assert not exists(warm)
        assert invoke(service)["pid"] != warm
        assert service.statistics().time_outs == 1


def test_the_time_out_starts_when_the_handler_gets_the_event(function: Function) -> None:
    """Not when the process is started: on AWS the start has a limit of its own."""
    slow_start = function.code_directory / "slow.py"
    slow_start.write_text("import time\ntime.sleep(1.2)\nfrom app import handler")
    with LocalLambda(replace(function, handler="slow.handler", timeout_seconds=1)) as service:
        assert invoke(service)["left"] > 900
        assert service.statistics().slowest_init_seconds > 1.2


def test_a_process_that_does_not_come_up_is_an_error_of_the_first_event(function: Function) -> None:
    with LocalLambda(replace(function, handler="broken.handler")) as service:
        error = invoke(service)
        assert (error["errorType"], error["error"]) == ("Runtime.ImportModuleError", "Unhandled")
        assert "no_such_module" in error["errorMessage"]
    with LocalLambda(replace(function, handler="endless.handler", init_seconds=0.5)) as service:
        error = invoke(service)
        assert error["errorType"] == "Sandbox.Timedout"
        assert error["errorMessage"].endswith("Init timed out after 0.50 seconds")
        assert service.processes() == ()
    with LocalLambda(replace(function, handler="suicidal.handler")) as service:
        assert invoke(service)["errorMessage"].endswith("Runtime exited with error: exit status 9")


def test_an_exception_becomes_an_error_object_and_the_process_lives_on(service: LocalLambda) -> None:
    pid = invoke(service)["pid"]
    error = invoke(service, **{"raise": "no such luck"})

    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no such luck")
    assert error["error"] == "Unhandled"
    assert invoke(service)["pid"] == pid
    assert service.statistics().errors == 1


def test_a_process_that_ends_in_the_middle_is_an_exit_error(service: LocalLambda, tmp_path: Path) -> None:
    error = invoke(service, exit=7)
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"].endswith("Error: Runtime exited with error: exit status 7")

    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(invoke, service, action="copy", until=str(tmp_path / "never"))
        wait_for(lambda: [process.event for process in service.processes() if process.event])
        (worker,) = service.processes()
        assert worker.event["action"] == "copy"
        os.kill(worker.pid, signal.SIGKILL)
        assert answer.result()["errorMessage"].endswith("Runtime exited with error: signal: killed")

    assert "left" in invoke(service)
    assert service.statistics().exit_errors == 2


def test_a_process_killed_while_idle_is_replaced_unnoticed(service: LocalLambda) -> None:
    pid = invoke(service)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: service.processes() == ())

    assert invoke(service)["pid"] != pid


def test_a_process_that_grows_beyond_its_memory_is_killed(function: Function) -> None:
    with LocalLambda(replace(function, memory_mb=128)) as service:
        assert "pid" in invoke(service)
        error = invoke(service, megabytes=200)

        assert error["errorMessage"].endswith("Runtime exited with error: signal: killed")
        counted = service.statistics()
        assert counted.out_of_memory == counted.exit_errors == 1
        assert max(counted.peak_rss_bytes.values()) > 128 * 2**20


def test_sizes_are_limited_as_on_aws_and_noted_by_action(service: LocalLambda) -> None:
    error = invoke(service, action="big", padding=6_291_557)
    assert error["errorType"] == "Function.ResponseSizeTooLarge"
    with pytest.raises(ClientError, match="must be smaller than 6291456 bytes"):
        invoke(service, action="big", text="x" * 6_291_456)

    invoke(service, action="small", padding=5_000)
    invoke(service, action="small", text="x" * 3_000)
    counted = service.statistics()
    assert 3_000 < counted.largest_event_bytes["small"] < 3_100
    assert 5_000 < counted.largest_result_bytes["small"] < 7_000
    assert counted.largest_result_bytes["big"] > 6_291_556


def test_a_function_that_does_not_exist_and_a_body_that_is_no_json_are_refused(service: LocalLambda) -> None:
    client = client_of(service)
    with pytest.raises(ClientError, match="Function not found: other"):
        client.invoke(FunctionName="other")
    with pytest.raises(ClientError, match="Could not parse request body"):
        client.invoke(FunctionName="snowmelt", Payload=b"{")


def test_an_abandoned_process_goes_on_while_its_caller_believes_it_dead(service: LocalLambda, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(invoke, service, until=str(tmp_path / "go"))
        wait_for(lambda: [process.event for process in service.processes() if process.event])
        (zombie,) = service.processes()
        os.kill(zombie.pid, signal.SIGSTOP)
        service.abandon(zombie.pid)
        assert answer.result()["errorType"] == "Sandbox.Timedout"

    assert invoke(service)["pid"] != zombie.pid
    (tmp_path / "go").touch()
    os.kill(zombie.pid, signal.SIGCONT)
    wait_for((tmp_path / "go.seen").exists)
    assert service.statistics().time_outs == 1


def test_a_redeployed_function_serves_the_next_event(service: LocalLambda, tmp_path: Path) -> None:
    assert invoke(service)["environment"]["COLOUR"] == "blue"
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(invoke, service, until=str(tmp_path / "go"))
        wait_for(lambda: [process.event for process in service.processes() if process.event])
        service.redeploy(replace(service.function, environment={"COLOUR": "red"}))
        assert invoke(service)["environment"]["COLOUR"] == "red"
        (tmp_path / "go").touch()
        assert busy.result()["environment"]["COLOUR"] == "blue"

    assert invoke(service)["environment"]["COLOUR"] == "red"


def test_the_log_holds_what_handlers_print_and_a_report_of_each_event(service: LocalLambda) -> None:
    invoke(service, **{"raise": "written to the log"})

    log = service.log_file.read_text()
    assert "ValueError: written to the log" in log
    assert "START RequestId: " in log
    assert "Ended: error" in log


def test_stopping_in_the_middle_of_an_event_leaves_no_process(function: Function) -> None:
    service = LocalLambda(function).start()
    caller = threading.Thread(target=service.invoke, args=(b'{"sleep": 30}',))
    caller.start()
    wait_for(lambda: [process.event for process in service.processes() if process.event])
    (worker,) = service.processes()
    service.stop()
    caller.join(120)

    assert not caller.is_alive()
    assert not exists(worker.pid)


def test_processes_die_with_their_owner_even_by_sigkill(function: Function, tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from snowmelt_sandbox.aws import Function, LocalLambda\n"
        "function = Function('app.handler', pathlib.Path(sys.argv[1]))\n"
        "service = LocalLambda(function, log_file=pathlib.Path(sys.argv[2] + '.log')).start()\n"
        'service.invoke(b\'{"touch": "%s", "sleep": 60}\' % sys.argv[2].encode())\n'
    )
    pid_file = tmp_path / "pid"
    arguments = [sys.executable, "-c", program, str(function.code_directory), str(pid_file)]
    with subprocess.Popen(arguments) as owner:
        wait_for(lambda: pid_file.exists() and pid_file.read_text())
        worker = int(pid_file.read_text())
        assert exists(worker)
        owner.kill()

    wait_for(lambda: not exists(worker))
