"""Which source comes next, what is kept of those before, and what they come to."""

import json
from pathlib import Path
from typing import Any

import pytest

from snowmelt import actions
from snowmelt.deadline import Deadline
from snowmelt.errors import ConfigError
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring

EXECUTION = {"action": "next_source", "execution_id": "arn:me"}


@pytest.fixture
def wiring(tmp_path: Path) -> Wiring:
    def source(name: str, *, enabled: bool = True) -> dict[str, Any]:
        ends = {"source_sf_database": "D", "source_sf_schema": "S", "target_pg_database": "d", "target_pg_schema": "s"}
        return {"source_name": name, "enabled": enabled, **ends, "tables": [{"source": f"T_{name}"}]}

    config = {
        "snowflake": {"account": "a", "user": "u", "password": "p"},
        "postgres": {"host": "h", "user": "u"},
        "sources": [source("flights"), source("old", enabled=False), source("ledger")],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return Wiring(Settings(config=str(tmp_path / "config.json"), store=str(tmp_path)), {})


def ask(wiring: Wiring, **event: Any) -> dict[str, Any]:
    return actions.run({**EXECUTION, **event}, wiring, Deadline.after(60))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"source_name": "flights,ledger"},
        {"source_name": None, "action": "migrate", "execution_id": "someone"},
        {"input": {"source_name": " flights , ledger "}, "defaults": {"resume_attempt_count": 3, "no_resume": None}},
    ],
)
def test_the_first_answer_names_the_first_source_and_those_that_are_left(wiring: Wiring, given: dict[str, Any]) -> None:
    answer = ask(wiring, given={**given, "dry_run": True})

    assert (answer["next"], answer["sources"], answer["left"]) == ("source", "several", ["ledger"])
    assert answer["start"] == {"source_name": "flights", "dry_run": True}


def test_one_source_is_told_from_several(wiring: Wiring) -> None:
    answer = ask(wiring, given={"source_name": "ledger", "resume_run_id": "run-1", "tables": ["T"]})

    assert (answer["sources"], answer["left"]) == ("one", [])
    assert answer["start"] == {"source_name": "ledger", "resume_run_id": "run-1", "tables": ["T"]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"source_name": "nothing"}, "the config has no source nothing"),
        ({"source_name": "flights,old"}, "source old is disabled"),
        ({"source_name": 7}, "source_name is 7"),
        ({"tables": ["T"]}, "resume_run_id and tables belong to one source, and the input asks for flights, ledger"),
    ],
)
def test_what_names_no_source_is_refused(wiring: Wiring, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ask(wiring, given=given)


def test_every_end_of_a_source_is_kept_and_a_failure_is_that_of_all(wiring: Wiring) -> None:
    cause = json.dumps({"errorMessage": "wrong type", "errorType": "ConfigError"})
    ends: list[dict[str, Any]] = [
        {"run_id": "run-1", "failure": {"Error": "ConfigError", "Cause": cause}},
        {"run_id": None, "failure": {"Error": "States.Timeout"}},
        {"run_id": "run-3", "verdict": {"status": "failed", "message": "table T is failed", "next": "done"}},
        {"run_id": "run-4", "verdict": {"status": "completed", "message": "run completed", "next": "done"}},
    ]
    state: dict[str, Any] = {"given": {"source_name": "s1"}, "left": ["s2", "s3", "s4"], "done": []}
    for outcome in ends:
        answer = ask(wiring, **state, outcome=outcome)
        state = {"given": answer["start"], "left": answer["left"], "done": answer["done"]}

    assert answer["next"] == "failed"
    assert [(run["source_name"], run["status"], run["run_id"]) for run in answer["result"]["runs"]] == [
        ("s1", "failed", "run-1"),
        ("s2", "failed", None),
        ("s3", "failed", "run-3"),
        ("s4", "completed", "run-4"),
    ]
    assert answer["message"] == (
        "3 of 4 sources failed: source s1: wrong type; source s2: States.Timeout, for which AWS gave no cause; see the "
        "function's log; source s3: table T is failed"
    )
