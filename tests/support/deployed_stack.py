"""The template as AWS would deploy it, its resources made in moto.

python deployed_stack.py FOLDER     writes each role's and resource's policy as a file, for linters
"""

import ast
import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from moto import mock_aws

from snowmelt_sandbox.aws.template import read_template

ROOT = Path(__file__).parents[2]
REGION = "us-east-1"
ACCOUNT = "123456789012"
STACK = "snowmelt"
SECRET_ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:snowmelt-AbCdEf"
POSTGRES_SECRET_ARN = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rds!db-1-AbCdEf"
DATABASE_USER_ARN = f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:db-ABCDEFGHIJKL01234/snowmelt"
SECRET_KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-1111-1111-1111-111111111111"
DATA_KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/22222222-2222-2222-2222-222222222222"
EVERYTHING = {
    "SecretArn": SECRET_ARN,
    "SecretKeyArn": SECRET_KEY_ARN,
    "PostgresSecretArn": POSTGRES_SECRET_ARN,
    "PostgresDbUserArn": DATABASE_USER_ARN,
    "DataKeyArn": DATA_KEY_ARN,
    "NotifyEmail": "someone@example.org",
    "HoursBetweenSuccesses": "26",
    "ReservedConcurrency": "20",
}
"""Parameters with which every condition of the template holds that moto can deploy."""
MADE_BY_HAND = {
    *("AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy"),
    *("AWS::SNS::Subscription", "AWS::CloudWatch::Alarm"),
}
"""What moto keeps, but does not make from a template."""

PSEUDO = {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::StackName": STACK, "AWS::Partition": "aws"}

Policy = dict[str, Any]


@dataclass(frozen=True)
class Stack:
    """What was deployed."""

    resources: Mapping[str, str]
    """Physical by logical name."""

    def policy(self, role: str) -> Policy:
        """The one policy of a role of the template, as IAM keeps it."""
        iam = client("iam")
        name = self.resources[role]
        (policy,) = iam.list_role_policies(RoleName=name)["PolicyNames"]
        document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        # What came from a template, moto keeps as Python writes it.
        found: Policy = ast.literal_eval(document) if isinstance(document, str) else document
        return found

    def trust(self, role: str) -> Policy:
        """Who may take the role on."""
        found: Policy = client("iam").get_role(RoleName=self.resources[role])["Role"]["AssumeRolePolicyDocument"]
        return found


def client(service: str) -> Any:
    """A client of moto's."""
    return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]


@contextmanager
def deployed(parameters: Mapping[str, str] = EVERYTHING) -> Iterator[Stack]:
    """The stack in a moto of its own, until the block ends."""
    fake = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": REGION}
    before = {name: os.environ.get(name) for name in fake}
    os.environ.update(fake)
    try:
        with mock_aws(config={"lambda": {"use_docker": False}, "stepfunctions": {"execute_state_machine": False}}):
            yield _create(parameters)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def without_sam() -> dict[str, Any]:
    """The template as CloudFormation knows it: what SAM would make of its three resources, as far as others need it."""
    template = read_template(ROOT / "template.yaml")
    resources = template["Resources"]
    function, machine = (resources[name]["Properties"] for name in ("Function", "StateMachine"))
    kept = ("FunctionName", "Handler", "Runtime", "Role", "MemorySize", "Timeout")
    resources["Function"] = {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            **{name: function[name] for name in kept},
            "Code": {"S3Bucket": "artifacts", "S3Key": "code.zip"},
        },
    }
    resources["StateMachine"] = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {
            "StateMachineName": machine["Name"],
            "RoleArn": machine["Role"],
            "DefinitionString": (ROOT / machine["DefinitionUri"]).read_text(),
        },
    }
    del resources["DependenciesLayer"]
    # Made by SAM beside the function; moto does not know aliases at all.
    del template["Outputs"]["FunctionAliasArn"]
    for name in ("Transform", "Rules", "Metadata"):
        del template[name]
    return template


def _create(parameters: Mapping[str, str]) -> Stack:
    s3 = client("s3")
    s3.create_bucket(Bucket="artifacts")
    s3.put_object(Bucket="artifacts", Key="code.zip", Body=_some_code())
    template = without_sam()
    by_hand = {
        name: template["Resources"].pop(name)["Properties"]
        for name, resource in list(template["Resources"].items())
        if resource["Type"] in MADE_BY_HAND
    }
    cloudformation = client("cloudformation")
    cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=json.dumps(template),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
    )
    found = cloudformation.list_stack_resources(StackName=STACK)["StackResourceSummaries"]
    stack = Stack({each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found})
    values = {name: value["Default"] for name, value in template["Parameters"].items() if "Default" in value}
    for name, properties in by_hand.items():
        _make(name, _resolved(properties, {**values, **parameters, **stack.resources, **PSEUDO}))
    return stack


def _make(name: str, properties: dict[str, Any]) -> None:
    """Make one of the resources that moto does not take from a template."""
    match name:
        case "BucketPolicy":
            policy = json.dumps(properties["PolicyDocument"])
            client("s3").put_bucket_policy(Bucket=properties["Bucket"], Policy=policy)
        case "FailureTopicPolicy":
            policy = json.dumps(properties["PolicyDocument"])
            for arn in properties["Topics"]:
                client("sns").set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=policy)
        case "UndeliveredEventsPolicy":
            policy = json.dumps(properties["PolicyDocument"])
            for url in properties["Queues"]:
                client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        case "FailureEmail":
            client("sns").subscribe(**properties)
        case _:  # alarms, whose properties are those of the call
            for number in ("EvaluationPeriods", "Threshold"):
                properties[number] = int(properties[number])
            client("cloudwatch").put_metric_alarm(AlarmName=name, **properties)


def _resolved(value: Any, values: Mapping[str, str]) -> Any:
    """The value with references filled; conditions are all true, and a bucket's ARN is all that is asked of GetAtt."""
    if isinstance(value, list):
        return [_resolved(each, values) for each in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"Ref": name}:
            return values[name]
        case {"Fn::GetAtt": ["Bucket", "Arn"]}:
            return f"arn:aws:s3:::{values['Bucket']}"
        case {"Fn::GetAtt": ["UndeliveredEvents", "QueueName"]}:
            return values["UndeliveredEvents"].rpartition("/")[2]
        case {"Fn::GetAtt": ["UndeliveredEvents", "Arn"]}:
            return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{values['UndeliveredEvents'].rpartition('/')[2]}"
        case {"Fn::GetAtt": [rule, "Arn"]}:
            return f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{values[rule]}"
        case {"Fn::Sub": "${Bucket.Arn}/*"}:
            return f"arn:aws:s3:::{values['Bucket']}/*"
        case {"Fn::If": [_, then, _]}:
            return _resolved(then, values)
    return {key: _resolved(each, values) for key, each in value.items()}


def _some_code() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("snowmelt/lambda_handler.py", "def handler(event, context): ...\n")
    return archive.getvalue()


def main(folder: Path) -> None:
    """Write the policies."""
    folder.mkdir(parents=True, exist_ok=True)
    with deployed() as stack:
        for role in ("FunctionRole", "StateMachineRole"):
            (folder / f"{role}.json").write_text(json.dumps(stack.policy(role), indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
