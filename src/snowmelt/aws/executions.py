"""Ask AWS whether a Step Functions execution still runs."""

import re
from typing import Literal

import boto3
from botocore.exceptions import BotoCoreError, ClientError

_EXECUTION_ARN = re.compile(r"arn:[\w-]+:states:([\w-]+):\d*:execution:")


def state(execution_id: str) -> Literal["running", "ended", "unknown"]:
    """Whether the execution runs, has ended, or cannot be asked; then its own expiry decides.

    Only executions of Step Functions can be asked. One that AWS does not know has ended long ago.
    """
    match = _EXECUTION_ARN.match(execution_id)
    if match is None:
        return "unknown"
    try:
        client = boto3.client("stepfunctions", region_name=match[1])
        status = client.describe_execution(executionArn=execution_id)["status"]
    except ClientError as error:
        gone = error.response["Error"]["Code"] in ("ExecutionDoesNotExist", "ResourceNotFound")
        return "ended" if gone else "unknown"
    except BotoCoreError:
        return "unknown"
    return "running" if status == "RUNNING" else "ended"
