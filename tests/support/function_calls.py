"""A function that no state machine drives, called with events."""

import json
from typing import Any

from snowmelt_sandbox.aws import LocalAws
from support.world import World

SECOND = "second"


MOST_CALLS = 100


def two_sources(world: World) -> None:
    """Give the second table a source of its own."""
    config = json.loads(world.config.read_text())
    (source,) = config["sources"]
    first, second = source["tables"]
    config["sources"] = [{**source, "tables": [first]}, {**source, "source_name": SECOND, "tables": [second]}]
    world.config.write_text(json.dumps(config))


def call(aws: LocalAws, event: dict[str, Any]) -> dict[str, Any]:
    outcome = aws.functions.invoke(json.dumps(event).encode())
    assert outcome is not None
    answer: dict[str, Any] = json.loads(outcome.payload)
    return answer


def called_until_the_end(aws: LocalAws, event: dict[str, Any]) -> list[dict[str, Any]]:
    """Do as a workflow does that sends the event again while the answer is partial; every answer."""
    answers: list[dict[str, Any]] = []
    while len(answers) < MOST_CALLS:
        answers.append(call(aws, event))
        if answers[-1].get("body", {}).get("status") not in ("partial", None):
            return answers
    raise AssertionError(answers[-1])
