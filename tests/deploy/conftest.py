"""The state machine's engine, one for all tests of a module."""

import logging
import sys
import threading
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from support.workflows import BUCKET, DEFINITION, REGION, InvokeServer, ScriptedFunction, Workflow, create, invoke_api


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
