"""The Step Functions of one machine executes a definition as AWS does, over the function's real processes."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from snowmelt.errors import ConfigError, StalledError
from snowmelt_sandbox.aws import Execution, LocalAws, MotoService
from snowmelt_sandbox.aws.step_functions import fill_placeholders

HANDLER = """
import json, os, time

def handler(event, context):
    if event["action"] == "tolerate":
        return {}[event["n"]] if event["bad"] else {}
    if event["action"] == "sleep":
        time.sleep(event["seconds"])
        return {}
    import boto3  # half a second, and not all need it
    s3 = boto3.client("s3")
    if event["action"] == "plan":
        items = [{"action": "one", "n": n} for n in range(event["items"])]
        s3.put_object(Bucket="snowmelt", Key="manifest.json", Body=json.dumps(items))
        return {"bucket": "snowmelt", "key": "manifest.json"}
    if event["action"] == "one":
        s3.put_object(Bucket="snowmelt", Key=f"done/{event['n']}", Body=str(event["n"]))
        return {}
    if event["action"] == "secret":
        secret = boto3.client("secretsmanager").get_secret_value(SecretId="target")
        return {"secret": secret["SecretString"], "extra": os.environ["EXTRA"]}
    raise KeyError(event["action"])
"""

INVOKE = {
    "Type": "Task",
    "Resource": "arn:aws:states:::lambda:invoke",
    "Parameters": {"FunctionName": "${FunctionArn}", "Payload.$": "$"},
    "OutputPath": "$.Payload",
}
ONE_TASK = {"StartAt": "Task", "States": {"Task": {**INVOKE, "End": True}}}


def mapped(**tolerance: float) -> dict[str, Any]:
    """Return a machine that plans items into the bucket and maps over them, three at a time."""
    return {
        "StartAt": "Plan",
        "States": {
            "Plan": {**INVOKE, "Next": "Map"},
            "Map": {
                "Type": "Map",
                "MaxConcurrency": 3,
                **tolerance,
                "ItemReader": {
                    "Resource": "arn:aws:states:::s3:getObject",
                    "ReaderConfig": {"InputType": "JSON"},
                    "Parameters": {"Bucket.$": "$.bucket", "Key.$": "$.key"},
                },
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                    "StartAt": "One",
                    "States": {"One": {**INVOKE, "End": True}},
                },
                "ResultPath": None,
                "End": True,
            },
        },
    }


@contextmanager
def running(folder: Path, definition: Mapping[str, Any], **options: Any) -> Iterator[LocalAws]:
    (folder / "app.py").write_text(HANDLER)
    (folder / "machine.asl.json").write_text(json.dumps(definition))
    options = {"handler": "app.handler", "code_directory": folder, "timeout_seconds": 20, **options}
    with LocalAws({"EXTRA": "yes"}, folder / "machine.asl.json", **options) as aws:
        yield aws


def done(aws: LocalAws) -> set[int]:
    pages = aws.s3().get_paginator("list_objects_v2").paginate(Bucket=aws.bucket, Prefix="done/")
    return {int(item["Key"].partition("/")[2]) for page in pages for item in page.get("Contents", [])}


def test_a_map_runs_every_item_of_the_manifest_in_the_bucket_and_no_more_at_once_than_allowed(
    tmp_path: Path,
) -> None:
    with running(tmp_path, mapped()) as aws:
        execution = aws.step_functions.run({"action": "plan", "items": 30})

        assert execution.status == "SUCCEEDED"
        assert done(aws) == set(range(30))
        (map_run,) = aws.step_functions.map_runs(execution.arn)
        assert map_run["itemCounts"]["succeeded"] == 30
        counted = aws.functions.statistics()
        assert counted.invocations == 31
        assert counted.most_concurrent <= 3
        assert counted.throttles == 0


@pytest.mark.parametrize(
    ("tolerance", "status"),
    [
        ({}, "FAILED"),
        ({"ToleratedFailurePercentage": 100.0}, "SUCCEEDED"),
        ({"ToleratedFailurePercentage": 19.0}, "FAILED"),
        ({"ToleratedFailureCount": 2}, "SUCCEEDED"),
        ({"ToleratedFailureCount": 1}, "FAILED"),
    ],
)
def test_a_map_fails_when_more_items_fail_than_it_tolerates(
    tmp_path: Path, tolerance: dict[str, float], status: str
) -> None:
    """The engine underneath ignores tolerances; AWS does not."""
    machine = mapped(**tolerance)
    machine["StartAt"] = "Map"
    machine["States"]["Map"]["ItemsPath"] = "$.items"
    del machine["States"]["Plan"], machine["States"]["Map"]["ItemReader"]
    items = [{"action": "tolerate", "n": n, "bad": n in (3, 7)} for n in range(10)]
    with running(tmp_path, machine, concurrency=3) as aws:
        execution = aws.step_functions.run({"items": items})

        assert execution.status == status
        (map_run,) = aws.step_functions.map_runs(execution.arn)
        assert map_run["status"] == status
        assert (map_run["itemCounts"]["succeeded"], map_run["itemCounts"]["failed"]) == (8, 2)
        if status == "FAILED":
            assert execution.error == "States.ExceedToleratedFailureThreshold"
            events = [event["type"] for event in aws.step_functions.history(execution.arn)]
            assert events.count("MapRunFailed") == 1


def test_the_error_of_a_handler_reaches_the_execution_by_its_name(tmp_path: Path) -> None:
    with running(tmp_path, ONE_TASK) as aws:
        execution = aws.step_functions.run({"action": "unknown"})

        assert (execution.status, execution.error) == ("FAILED", "KeyError")
        assert json.loads(execution.cause or "")["errorMessage"] == "'unknown'"


def test_a_time_out_is_retried_by_the_name_that_aws_gives_it(tmp_path: Path) -> None:
    retried = {**INVOKE, "Retry": [{"ErrorEquals": ["Sandbox.Timedout"], "IntervalSeconds": 60, "MaxAttempts": 1}]}
    machine = {"StartAt": "Task", "States": {"Task": {**retried, "End": True}}}
    with running(tmp_path, machine, timeout_seconds=1, time_scale=0.001) as aws:
        execution = aws.step_functions.run({"action": "sleep", "seconds": 3600})

        assert (execution.status, execution.error) == ("FAILED", "Sandbox.Timedout")
        assert aws.functions.statistics().time_outs == 2


def test_throttled_tasks_are_retried_until_there_is_room(tmp_path: Path) -> None:
    machine = mapped()
    machine["States"]["Map"]["ItemProcessor"]["States"]["One"]["Retry"] = [
        {"ErrorEquals": ["Lambda.TooManyRequestsException"], "IntervalSeconds": 1, "MaxAttempts": 50}
    ]
    with running(tmp_path, machine, concurrency=2, time_scale=0.01) as aws:
        execution = aws.step_functions.run({"action": "plan", "items": 20})

        assert execution.status == "SUCCEEDED"
        assert done(aws) == set(range(20))
        assert aws.functions.statistics().throttles > 0


def test_waits_follow_the_time_scale(tmp_path: Path) -> None:
    machine = {
        "StartAt": "Wait",
        "States": {"Wait": {"Type": "Wait", "SecondsPath": "$.seconds", "Next": "End"}, "End": {"Type": "Succeed"}},
    }
    with running(tmp_path, machine, time_scale=0.00001) as aws:
        started = time.monotonic()
        assert aws.step_functions.run({"seconds": 100_000}).status == "SUCCEEDED"  # more than a day
        assert time.monotonic() - started >= 1.0


def test_a_loop_leaves_its_whole_history(tmp_path: Path) -> None:
    machine = {
        "StartAt": "Add",
        "States": {
            "Add": {"Type": "Pass", "Parameters": {"n.$": "States.MathAdd($.n, 1)"}, "Next": "Enough?"},
            "Enough?": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.n", "NumericGreaterThanEquals": 120, "Next": "End"}],
                "Default": "Add",
            },
            "End": {"Type": "Succeed"},
        },
    }
    with running(tmp_path, machine) as aws:
        execution = aws.step_functions.run({"n": 0})

        events = aws.step_functions.history(execution.arn)
        assert execution.output == {"n": 120}
        assert len(events) == 2 + 2 * 240 + 2
        assert [event["id"] for event in events] == list(range(1, len(events) + 1))


def test_handlers_find_bucket_and_secrets_through_their_environment(tmp_path: Path) -> None:
    with running(tmp_path, ONE_TASK) as aws:
        aws.secrets().create_secret(Name="target", SecretString="hidden")
        assert aws.step_functions.run({"action": "secret"}).output == {"secret": "hidden", "extra": "yes"}


def test_any_client_finds_the_services_through_the_environment(tmp_path: Path) -> None:
    program = (
        "import boto3, json\n"
        "boto3.client('s3').put_object(Bucket='snowmelt', Key='from-outside', Body=b'x')\n"
        "machines = boto3.client('stepfunctions').list_state_machines()['stateMachines']\n"
        "event = json.dumps({'action': 'plan', 'items': 1})\n"
        "answer = boto3.client('lambda').invoke(FunctionName='snowmelt', Payload=event)\n"
        "print(machines[0]['name'], answer['Payload'].read().decode())\n"
    )
    with running(tmp_path, ONE_TASK) as aws:
        ran = subprocess.run(
            [sys.executable, "-c", program], env=aws.environment(), capture_output=True, text=True, check=True
        )

        assert ran.stdout.startswith('migration {"bucket": "snowmelt"')
        assert aws.s3().get_object(Bucket="snowmelt", Key="from-outside")["Body"].read() == b"x"


def test_a_running_execution_is_looked_at_while_it_is_waited_for_and_ends_with_the_stack(tmp_path: Path) -> None:
    machine = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 600, "End": True}}}
    seen: list[Execution] = []
    with running(tmp_path, machine) as aws:
        arn = aws.step_functions.start_execution({}, name="by-hand")
        assert arn.endswith(":migration:by-hand")
        with pytest.raises(StalledError, match="by-hand is still running after 1 s"):
            aws.step_functions.wait(arn, 1, seen.append)
        assert {execution.status for execution in seen} == {"RUNNING"}

        aws.step_functions.stop_execution(arn)
        assert aws.step_functions.wait(arn, 10).status == "ABORTED"


@pytest.mark.full
def test_storage_of_another_process_outlives_the_stack(tmp_path: Path) -> None:
    program = (
        "import sys; from snowmelt_sandbox.aws import MotoService\n"
        "with MotoService() as service: print(service.url, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as storage:
        assert storage.stdout is not None
        url = storage.stdout.readline().strip()
        with running(tmp_path, mapped(), storage_url=url) as aws:
            aws.step_functions.run({"action": "plan", "items": 3})
        with running(tmp_path, mapped(), storage_url=url) as aws:
            assert done(aws) == {0, 1, 2}
        storage.terminate()


def test_a_moto_service_starts_empty(tmp_path: Path) -> None:
    for _ in range(2):
        with MotoService() as service:
            s3 = boto3.client("s3", endpoint_url=service.url, aws_access_key_id="local", aws_secret_access_key="local")
            assert s3.list_buckets()["Buckets"] == []
            s3.create_bucket(Bucket="mine")


def test_placeholders_are_filled_and_a_missing_one_is_named(tmp_path: Path) -> None:
    definition = tmp_path / "machine.asl.json"
    definition.write_text('{"a": "${FunctionArn}", "b": "${Bucket}/${Bucket}", "c": "$.x", "d": "$${}"}')

    assert json.loads(fill_placeholders(definition, {"FunctionArn": "arn", "Bucket": "b", "Unused": "u"})) == {
        "a": "arn",
        "b": "b/b",
        "c": "$.x",
        "d": "$${}",
    }
    with pytest.raises(ConfigError, match=r"machine\.asl\.json: no value is given for \$\{Bucket\}"):
        fill_placeholders(definition, {"FunctionArn": "arn"})


@pytest.mark.full
def test_a_map_of_thousands_of_items_ends(tmp_path: Path) -> None:
    """Beyond Python's own recursion limit the engine would hang."""
    with running(tmp_path, mapped()) as aws:
        assert aws.step_functions.run({"action": "plan", "items": 2_500}).status == "SUCCEEDED"
        assert done(aws) == set(range(2_500))
