"""What people are sent when a run has ended badly, for causes that hold anything."""

import json
from pathlib import Path
from typing import Any

import pytest

from snowmelt_sandbox.aws.template import read_template
from support.event_rules import Undelivered, transformed

RESOURCES: dict[str, Any] = read_template(Path(__file__).parents[2] / "template.yaml")["Resources"]
RULES = {
    name: resource["Properties"] for name, resource in RESOURCES.items() if resource["Type"] == "AWS::Events::Rule"
}
INPUT = '{"source_name": "flights", "tables": ["\\"Plane Details\\""]}'
CAUSES = {
    "plain": "2 tables have failed",
    "quotes": 'table "Plane Details": column "a ""b""" is missing',
    "line ends": "first line\nsecond line\r\n\tthird",
    "backslashes": r"C:\temp\"x",
    "JSON": '{"errorMessage": "x", "trace": ["a", "b"]}',
    "names of the template": "use <cause> or <error>, or <nothing>",
    "other scripts": "snow\u2028melt — スキーマ 🧊",
}


def event(status: str, **detail: str) -> dict[str, Any]:
    """As Step Functions sends it; a time-out has neither error nor cause."""
    arn = "arn:aws:states:us-east-1:123456789012:execution:snowmelt:x"
    return {"source": "aws.states", "detail": {"status": status, "executionArn": arn, "input": INPUT, **detail}}


def transformer(rule: str) -> dict[str, Any]:
    (target,) = RULES[rule]["Targets"]
    return dict(target["InputTransformer"])


@pytest.mark.parametrize("cause", CAUSES)
def test_the_cause_of_a_failure_arrives_as_it_is(cause: str) -> None:
    sent = json.loads(transformed(transformer("FailedRun"), event("FAILED", error="DataError", cause=CAUSES[cause])))

    assert sent["cause"] == CAUSES[cause]
    assert (sent["error"], sent["input"]) == ("DataError", INPUT)
    assert sent["execution"].endswith(":execution:snowmelt:x")


def test_a_time_out_is_told_without_error_and_cause() -> None:
    sent = json.loads(transformed(transformer("TimedOutRun"), event("TIMED_OUT")))

    assert sent["input"] == INPUT
    assert "Start it again and it resumes" in sent["what"]


def test_each_way_to_end_badly_has_one_rule_and_what_cannot_be_sent_a_queue() -> None:
    statuses = [status for rule in RULES.values() for status in rule["EventPattern"]["detail"]["status"]]
    assert sorted(statuses) == ["FAILED", "TIMED_OUT"]
    for rule in RULES.values():
        (target,) = rule["Targets"]
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["UndeliveredEvents", "Arn"]}}
    (statement,) = RESOURCES["UndeliveredEventsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Condition"]["ArnEquals"]["aws:SourceArn"] == [{"Fn::GetAtt": [name, "Arn"]} for name in RULES]


@pytest.mark.parametrize("cause", ["quotes", "line ends", "JSON"])
def test_within_quotes_of_a_template_such_a_cause_would_be_lost(cause: str) -> None:
    for template in ('"Snowmelt: <cause>"\n"<given>"', '{"what": "Snowmelt: <cause>"}'):
        paths = {"cause": "$.detail.cause", "given": "$.detail.status"}
        with pytest.raises(Undelivered):
            transformed({"InputPathsMap": paths, "InputTemplate": template}, event("FAILED", cause=CAUSES[cause]))


def test_a_value_that_the_event_lacks_would_be_a_hole() -> None:
    with pytest.raises(Undelivered, match="nothing is at"):
        transformed(transformer("FailedRun"), event("TIMED_OUT"))
