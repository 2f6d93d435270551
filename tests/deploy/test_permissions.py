"""What the roles of the deployed stack allow: all that is needed, and each action of it is.

The function's own calls are those that its code makes here, recorded. What AWS does in the name of a role cannot be
recorded without AWS: each such action stands in a table with the feature that needs it, and goes when the feature goes.
"""

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from moto.iam.access_control import IAMPolicy, PermissionResult

from snowmelt import manifest_store
from snowmelt.aws import executions
from snowmelt.errors import DataError
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from support.deployed_stack import (
    ACCOUNT,
    DATA_KEY_ARN,
    DATABASE_USER_ARN,
    EVERYTHING,
    POSTGRES_SECRET_ARN,
    REGION,
    SECRET_ARN,
    SECRET_KEY_ARN,
    Policy,
    Stack,
    client,
    deployed,
)

TEMPLATE = (Path(__file__).parents[2] / "template.yaml").read_text()
DEFINITION = json.loads((Path(__file__).parents[2] / "statemachine" / "migration.asl.json").read_text())
ROLES = ("FunctionRole", "StateMachineRole")
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:snowmelt"
EXECUTION = f"arn:aws:states:{REGION}:{ACCOUNT}:execution:snowmelt:one"
ITERATION = f"arn:aws:states:{REGION}:{ACCOUNT}:execution:snowmelt/ProcessChunks:two"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:snowmelt"
LOGS = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/snowmelt:log-stream:x"


class Use(NamedTuple):
    """Something that is done in the name of a role."""

    action: str
    resource: str


def permits(policy: Policy, use: Use) -> bool:
    """Whether the policy's statements let it happen, their conditions aside."""
    bare = deepcopy(policy)
    for statement in bare["Statement"]:
        statement.pop("Condition", None)
    return IAMPolicy(json.dumps(bare)).is_action_permitted(*use) is PermissionResult.PERMITTED


def actions(policy: Policy) -> set[str]:
    each = (statement["Action"] for statement in policy["Statement"])
    return {name for action in each for name in ([action] if isinstance(action, str) else action)}


def without(policy: Policy, action: str) -> Policy:
    less = deepcopy(policy)
    for statement in less["Statement"]:
        named = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        statement["Action"] = [name for name in named if name != action]
    less["Statement"] = [statement for statement in less["Statement"] if statement["Action"]]
    return less


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with deployed() as stack:
        yield stack


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> str:
    return stack.resources["Bucket"]


# --- what is done ---------------------------------------------------------------------------------------------------

API_CALLS: dict[str, Callable[[dict[str, Any]], Use]] = {
    "s3.GetObject": lambda given: Use("s3:GetObject", f"arn:aws:s3:::{given['Bucket']}/{given['Key']}"),
    "s3.PutObject": lambda given: Use("s3:PutObject", f"arn:aws:s3:::{given['Bucket']}/{given['Key']}"),
    "secretsmanager.GetSecretValue": lambda given: Use("secretsmanager:GetSecretValue", given["SecretId"]),
    "sfn.DescribeExecution": lambda given: Use("states:DescribeExecution", given["executionArn"]),
}


@pytest.fixture(scope="module")
def calls_of_the_function(stack: Stack, bucket: str) -> set[Use]:
    """What AWS is asked while the function reads its config and secret, keeps a run and asks for another execution."""
    secret = client("secretsmanager").create_secret(Name="snowmelt", SecretString='{"POSTGRES_USER": "u"}')["ARN"]
    recorded: set[Use] = set()
    original = BaseClient._make_api_call  # type: ignore[attr-defined]

    def record(self: Any, operation: str, given: dict[str, Any]) -> Any:
        use = API_CALLS[f"{self.meta.service_model.service_id.lower().replace(' ', '')}.{operation}"](given)
        # The secret that moto made has a suffix of its own.
        recorded.add(Use(use.action, use.resource.replace(secret, SECRET_ARN)))
        try:
            return original(self, operation, given)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                # S3 says so only to those who may list; to others it says AccessDenied.
                recorded.add(Use("s3:ListBucket", f"arn:aws:s3:::{given['Bucket']}"))
            raise

    policy = client("s3").get_bucket_policy(Bucket=bucket)["Policy"]
    client("s3").delete_bucket_policy(Bucket=bucket)  # moto refuses whatever a Deny names, its condition or not
    client("s3").put_object(Bucket=bucket, Key="config.json", Body=b"{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", record)
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        wiring = Wiring(
            Settings(config=f"s3://{bucket}/config.json", store=f"s3://{bucket}/store", secret_id=secret), {}
        )
        assert wiring.environment["POSTGRES_USER"] == "u"
        assert manifest_store.read_s3(bucket, "config.json") == b"{}"
        kept = wiring.store.put("runs/1/run.json", b"{}")
        assert wiring.store.at(kept) == b"{}"
        with pytest.raises(DataError, match="is not there"):
            wiring.store.get("runs/2/run.json")
        assert executions.state(EXECUTION) == "ended"
    client("s3").put_bucket_policy(Bucket=bucket, Policy=policy)
    return recorded


def in_the_function_s_name(bucket: str) -> dict[Use, str]:
    """What AWS does for the function, and what the template has that needs it."""
    assert bucket
    return {
        Use("logs:CreateLogStream", LOGS): "LoggingConfig",
        Use("logs:PutLogEvents", LOGS): "LoggingConfig",
        Use("xray:PutTraceSegments", "*"): "Tracing: Active",
        Use("xray:PutTelemetryRecords", "*"): "Tracing: Active",
        Use("kms:Decrypt", SECRET_KEY_ARN): "SecretKeyArn",
        # No call of an API: the server asks whether the identity that signed the token may.
        Use("rds-db:connect", DATABASE_USER_ARN): "POSTGRES_IAM_AUTH",
        Use("secretsmanager:GetSecretValue", POSTGRES_SECRET_ARN): "SNOWMELT_POSTGRES_SECRET_ID",
        Use("kms:Decrypt", DATA_KEY_ARN): 'SSEAlgorithm: "aws:kms"',
        Use("kms:GenerateDataKey", DATA_KEY_ARN): 'SSEAlgorithm: "aws:kms"',
    }


def in_the_state_machine_s_name(bucket: str) -> dict[Use, str]:
    """What Step Functions does, and what the template or the definition has that needs it."""
    manifest = f"arn:aws:s3:::{bucket}/store/runs/1/manifests/1.json"
    deliveries = ("Create", "Get", "Update", "Delete", "List")
    return {
        Use("lambda:InvokeFunction", f"{FUNCTION}:7"): "states:::lambda:invoke",
        Use("s3:GetObject", manifest): "states:::s3:getObject",
        Use("s3:ListBucket", f"arn:aws:s3:::{bucket}"): "states:::s3:getObject",
        Use("states:StartExecution", MACHINE): "DISTRIBUTED",
        Use("states:DescribeExecution", ITERATION): "DISTRIBUTED",
        Use("states:DescribeExecution", EXECUTION): "DISTRIBUTED",
        Use("states:StopExecution", ITERATION): "DISTRIBUTED",
        Use("states:RedriveExecution", ITERATION): "DISTRIBUTED",
        Use("kms:Decrypt", DATA_KEY_ARN): 'SSEAlgorithm: "aws:kms"',
        **{Use(f"xray:{name}", "*"): "Tracing: {Enabled: true}" for name in TRACING},
        **{Use(f"logs:{verb}LogDeliver{'ies' if verb == 'List' else 'y'}", "*"): "Logging" for verb in deliveries},
        Use("logs:PutResourcePolicy", "*"): "Logging",
        Use("logs:DescribeResourcePolicies", "*"): "Logging",
        Use("logs:DescribeLogGroups", "*"): "Logging",
    }


TRACING = ("PutTraceSegments", "PutTelemetryRecords", "GetSamplingRules", "GetSamplingTargets")


@pytest.fixture(scope="module")
def uses(bucket: str, calls_of_the_function: set[Use]) -> dict[str, set[Use]]:
    """All that is done in the name of each role."""
    return {
        "FunctionRole": calls_of_the_function | set(in_the_function_s_name(bucket)),
        "StateMachineRole": set(in_the_state_machine_s_name(bucket)),
    }


# --- what is allowed ------------------------------------------------------------------------------------------------


def test_the_function_calls_aws_for_nothing_else_and_each_call_is_seen(
    calls_of_the_function: set[Use], bucket: str
) -> None:
    assert calls_of_the_function == {
        Use("s3:GetObject", f"arn:aws:s3:::{bucket}/config.json"),
        Use("s3:GetObject", f"arn:aws:s3:::{bucket}/store/runs/1/run.json"),
        Use("s3:GetObject", f"arn:aws:s3:::{bucket}/store/runs/2/run.json"),
        Use("s3:PutObject", f"arn:aws:s3:::{bucket}/store/runs/1/run.json"),
        Use("s3:ListBucket", f"arn:aws:s3:::{bucket}"),
        Use("secretsmanager:GetSecretValue", SECRET_ARN),
        Use("states:DescribeExecution", EXECUTION),
    }


def test_the_code_that_is_deployed_has_no_other_client_of_aws() -> None:
    package = Path(__file__).parents[2] / "src" / "snowmelt"
    deployed_files = [f for f in package.rglob("*.py") if f != package / "aws" / "stack.py"]
    clients = {name for f in deployed_files for name in re.findall(r"\.client\(\s*\"(\w+)\"", f.read_text())}
    assert clients == {"s3", "secretsmanager", "stepfunctions"}
    signers = {name for f in deployed_files for name in re.findall(r"create_client\(\s*\"(\w+)\"", f.read_text())}
    assert signers == {"rds"}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_allows_all_that_is_done_in_its_name(stack: Stack, uses: dict[str, set[Use]], role: str) -> None:
    policy = stack.policy(role)
    assert {use for use in uses[role] if not permits(policy, use)} == set()


@pytest.mark.parametrize("role", ROLES)
def test_without_any_one_of_its_actions_a_role_does_not_suffice(
    stack: Stack, uses: dict[str, set[Use]], role: str
) -> None:
    policy = stack.policy(role)
    idle = {a for a in actions(policy) if all(permits(without(policy, a), use) for use in uses[role])}
    assert idle == set()


@pytest.mark.parametrize("role", ROLES)
def test_without_any_one_of_its_statements_a_role_does_not_suffice(
    stack: Stack, uses: dict[str, set[Use]], role: str
) -> None:
    policy = stack.policy(role)
    for statement in policy["Statement"]:
        less = {**policy, "Statement": [other for other in policy["Statement"] if other is not statement]}
        assert not all(permits(less, use) for use in uses[role]), statement["Sid"]


def test_what_aws_does_for_a_role_is_still_asked_for(bucket: str) -> None:
    definition = json.dumps(DEFINITION)
    for reason in {*in_the_function_s_name(bucket).values(), *in_the_state_machine_s_name(bucket).values()}:
        assert reason in TEMPLATE or reason in definition, reason


FORBIDDEN = {
    "FunctionRole": [
        Use("s3:DeleteObject", "arn:aws:s3:::{bucket}/store/runs/1/run.json"),
        Use("s3:PutObject", "arn:aws:s3:::{bucket}/config.json"),
        Use("s3:GetObject", "arn:aws:s3:::{bucket}/other.json"),
        Use("s3:GetObject", "arn:aws:s3:::another/store/runs/1/run.json"),
        Use("s3:ListBucket", "arn:aws:s3:::another"),
        Use("secretsmanager:GetSecretValue", SECRET_ARN.replace("AbCdEf", "GhIjKl")),
        Use("secretsmanager:PutSecretValue", SECRET_ARN),
        Use("rds-db:connect", DATABASE_USER_ARN.replace("/snowmelt", "/postgres")),
        Use("rds-db:connect", DATABASE_USER_ARN.replace("01234", "56789")),
        Use("states:StartExecution", MACHINE),
        Use("states:StopExecution", EXECUTION),
        Use("states:DescribeExecution", EXECUTION.replace(":snowmelt:", ":another:")),
        Use("lambda:InvokeFunction", f"{FUNCTION}:7"),
        Use("logs:CreateLogGroup", LOGS),
        Use("logs:PutLogEvents", LOGS.replace("snowmelt", "another")),
        Use("kms:Decrypt", DATA_KEY_ARN.replace("2222", "3333")),
        Use("kms:GenerateDataKey", SECRET_KEY_ARN),
        Use("iam:PassRole", "*"),
    ],
    "StateMachineRole": [
        Use("lambda:InvokeFunction", FUNCTION.replace("snowmelt", "another") + ":7"),
        Use("lambda:InvokeFunction", FUNCTION),
        Use("lambda:UpdateFunctionCode", FUNCTION),
        Use("s3:PutObject", "arn:aws:s3:::{bucket}/store/runs/1/manifests/1.json"),
        Use("s3:GetObject", "arn:aws:s3:::{bucket}/config.json"),
        Use("secretsmanager:GetSecretValue", SECRET_ARN),
        Use("states:StartExecution", MACHINE.replace("snowmelt", "another")),
        Use("states:StopExecution", EXECUTION.replace(":snowmelt:", ":another:")),
        Use("states:RedriveExecution", EXECUTION),
        Use("kms:GenerateDataKey", DATA_KEY_ARN),
        Use("iam:PassRole", "*"),
    ],
}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_allows_nothing_beside(stack: Stack, bucket: str, role: str) -> None:
    policy = stack.policy(role)
    for use in FORBIDDEN[role]:
        assert not permits(policy, Use(use.action, use.resource.format(bucket=bucket))), use


@pytest.mark.parametrize("role", ROLES)
def test_no_role_names_a_whole_service_and_keys_serve_one_purpose_only(stack: Stack, role: str) -> None:
    policy = stack.policy(role)
    assert not any("*" in action for action in actions(policy))
    for statement in policy["Statement"]:
        if any(action.startswith("kms:") for action in actions({"Statement": [statement]})):
            assert set(statement["Condition"]["StringEquals"]) == {"kms:ViaService"}


def test_every_statement_about_all_resources_says_why() -> None:
    lines = TEMPLATE.splitlines()
    said = 0
    for number, line in enumerate(lines):
        if line.strip() == 'Resource: "*"':
            sid = max(n for n in range(number) if lines[n].strip().startswith("- Sid:"))
            before = next(lines[n] for n in range(sid - 1, 0, -1) if lines[n].strip() != "- !If")
            assert before.strip().startswith("#"), line
            said += 1
    assert said == 3


@pytest.mark.parametrize(
    ("role", "service"), [("FunctionRole", "lambda.amazonaws.com"), ("StateMachineRole", "states.amazonaws.com")]
)
def test_a_role_is_taken_on_by_its_service_alone(stack: Stack, role: str, service: str) -> None:
    (statement,) = stack.trust(role)["Statement"]
    assert statement["Principal"] == {"Service": service}
    assert statement["Action"] == "sts:AssumeRole"


# --- what others may do ---------------------------------------------------------------------------------------------


def test_the_bucket_refuses_what_comes_in_the_clear_or_by_old_tls_and_is_encrypted(bucket: str) -> None:
    s3 = client("s3")
    policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Deny"}
    assert [statement["Condition"] for statement in policy["Statement"]] == [
        {"Bool": {"aws:SecureTransport": "false"}},
        {"NumericLessThan": {"s3:TlsVersion": "1.2"}},
    ]
    for statement in policy["Statement"]:
        assert statement["Principal"] == "*"
        assert statement["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": DATA_KEY_ARN}


def test_only_alarms_and_events_of_this_account_reach_the_topic(stack: Stack) -> None:
    topic = stack.resources["FailureTopic"]
    attributes = client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    statements = json.loads(attributes["Policy"])["Statement"]
    by_service = {statement["Principal"]["Service"]: statement for statement in statements}
    assert set(by_service) == {"cloudwatch.amazonaws.com", "events.amazonaws.com"}
    assert {statement["Action"] for statement in statements} == {"sns:Publish"}
    assert by_service["cloudwatch.amazonaws.com"]["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    # EventBridge supports none in the policy of a topic.
    assert "Condition" not in by_service["events.amazonaws.com"]
    (subscription,) = client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert subscription["Endpoint"] == EVERYTHING["NotifyEmail"]


def test_only_the_two_rules_of_the_stack_reach_the_queue_of_what_was_not_delivered(stack: Stack) -> None:
    queue = stack.resources["UndeliveredEvents"]
    attributes = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    (statement,) = json.loads(attributes["Policy"])["Statement"]
    assert (statement["Principal"], statement["Action"]) == ({"Service": "events.amazonaws.com"}, "sqs:SendMessage")
    assert statement["Resource"] == attributes["QueueArn"]
    rules = client("events").list_rules()["Rules"]
    assert set(statement["Condition"]["ArnEquals"]["aws:SourceArn"]) == {rule["Arn"] for rule in rules}
    assert len(rules) == 2
    for rule in rules:
        (target,) = client("events").list_targets_by_rule(Rule=rule["Name"])["Targets"]
        assert target["DeadLetterConfig"] == {"Arn": attributes["QueueArn"]}
        assert target["Arn"] == stack.resources["FailureTopic"]


def test_every_alarm_tells_the_topic(stack: Stack) -> None:
    alarms = client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert {alarm["AlarmName"] for alarm in alarms} == set(re.findall(r"^  (\w+Alarm):$", TEMPLATE, re.MULTILINE))
    assert len(alarms) == 8
    assert {tuple(alarm["AlarmActions"]) for alarm in alarms} == {(stack.resources["FailureTopic"],)}
