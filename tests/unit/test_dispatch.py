"""An event is what its action expects, or an error on one line that names each field that is not."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt import actions
from snowmelt.actions.dispatch import ACTIONS
from snowmelt.deadline import Deadline
from snowmelt.errors import ConfigError, SnowmeltError
from snowmelt.models import (
    FinalizeEvent,
    PlanChunksEvent,
    ProcessChunkEvent,
    TestConnectionsEvent,
    ValidateConfigEvent,
    Value,
    WorkItem,
)
from snowmelt.runner import whole_runs
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring

ITEM = {"item_id": 0, "table_id": 1, "table": "FLIGHTS", "chunks": [1, 2], "slowest_seconds": 0.5}
GOOD: Mapping[str, tuple[Mapping[str, Any], Value]] = {
    "validate_config": (
        {"execution_id": "arn:e", "source_name": "flights", "tables": ["FLIGHTS"], "no_resume": True},
        ValidateConfigEvent(
            action="validate_config",
            execution_id="arn:e",
            source_name="flights",
            tables=("FLIGHTS",),
            no_resume=True,
        ),
    ),
    "plan_chunks": (
        {"run_id": "r", "execution_id": "arn:e", "round": 3},
        PlanChunksEvent(action="plan_chunks", run_id="r", execution_id="arn:e", round=3),
    ),
    "process_chunk": (
        {"run_id": "r", "item": ITEM},
        ProcessChunkEvent(
            action="process_chunk",
            run_id="r",
            item=WorkItem(item_id=0, table_id=1, table="FLIGHTS", chunks=(1, 2), slowest_seconds=0.5),
        ),
    ),
    "finalize": (
        {"run_id": "r", "execution_id": "arn:e"},
        FinalizeEvent(action="finalize", run_id="r", execution_id="arn:e"),
    ),
    "test_connections": ({}, TestConnectionsEvent(action="test_connections")),
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


def refusal(event: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        actions.parse(event)
    return caught.value.message


def test_every_action_has_an_event() -> None:
    assert set(GOOD) == set(ACTIONS)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_event_becomes_the_value_of_its_action(action: str) -> None:
    fields, value = GOOD[action]

    assert actions.parse({"action": action, **fields}) == value


@pytest.mark.parametrize("action", ACTIONS)
def test_null_counts_as_absent(action: str) -> None:
    fields, value = GOOD[action]
    nulls = dict.fromkeys(set(type(value).model_fields) - set(fields) - {"action"})

    assert actions.parse({"action": action, **fields, **nulls}) == value


@pytest.mark.parametrize("action", ACTIONS)
def test_a_field_that_the_action_does_not_know_is_named(action: str) -> None:
    fields, _ = GOOD[action]

    assert refusal({"action": action, **fields, "sourcename": "flights"}) == (
        f"the event of {action} is not right; event.sourcename: there is no such field; remove it or fix its name"
    )


@pytest.mark.parametrize(
    ("action", "field"),
    [(action, field) for action, (fields, value) in GOOD.items() for field in type(value).model_fields
     if field != "action" and type(value).model_fields[field].is_required()],
)  # fmt: skip
@pytest.mark.parametrize("nothing", [True, False])
def test_a_field_that_is_missing_or_null_is_named(action: str, field: str, nothing: bool) -> None:
    event: dict[str, Any] = {"action": action, **GOOD[action][0]}
    event[field] = None
    if nothing:
        del event[field]

    assert refusal(event) == f"the event of {action} is not right; event.{field}: it is missing"


@pytest.mark.parametrize(
    ("action", "wrong", "path"),
    [
        ("validate_config", {"tables": "FLIGHTS"}, "event.tables"),
        ("validate_config", {"tables": ["A", 7]}, "event.tables.1"),
        ("validate_config", {"no_resume": "perhaps"}, "event.no_resume"),
        ("validate_config", {"source_name": 7}, "event.source_name"),
        ("validate_config", {"execution_id": ""}, "event.execution_id"),
        ("plan_chunks", {"round": -1}, "event.round"),
        ("plan_chunks", {"round": "one"}, "event.round"),
        ("process_chunk", {"item": {**ITEM, "table_id": "x"}}, "event.item.table_id"),
        ("process_chunk", {"item": {**ITEM, "extra": 1}}, "event.item.extra"),
        ("process_chunk", {"item": [1]}, "event.item"),
        ("finalize", {"run_id": {"a": 1}}, "event.run_id"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named_with_its_path(action: str, wrong: Mapping[str, Any], path: str) -> None:
    message = refusal({"action": action, **GOOD[action][0], **wrong})

    assert message.startswith(f"the event of {action} is not right; {path}: ")
    assert "\n" not in message


def test_every_field_that_is_wrong_is_named_at_once() -> None:
    message = refusal({"action": "plan_chunks", "run_id": 7, "round": -1, "rounds": 2})

    assert [problem.split(":")[0] for problem in message.split("; ")[1:] if problem.startswith("event.")] == [
        "event.run_id",
        "event.execution_id",
        "event.round",
        "event.rounds",
    ]


@pytest.mark.parametrize(
    "run_id", ["../../etc/passwd", "a/b", "a\0b", "a b", "..", ".a", "a..b", "é", "a\n", "x" * 200, ""]
)
def test_an_id_that_could_lead_anywhere_is_refused(run_id: str) -> None:
    wrong: tuple[tuple[str, Mapping[str, Any], str], ...] = (
        ("plan_chunks", {"run_id": run_id}, "run_id"),
        ("process_chunk", {"run_id": run_id}, "run_id"),
        ("finalize", {"run_id": run_id}, "run_id"),
        ("validate_config", {"resume_run_id": run_id}, "resume_run_id"),
        ("finalize", {"execution_id": f"a\0{run_id}"}, "execution_id"),
    )
    for action, more, field in wrong:
        with pytest.raises(ConfigError, match=f"event.{field}: "):
            actions.parse({"action": action, **GOOD[action][0], **more})


def test_an_unknown_action_is_answered_with_those_there_are_and_the_one_that_was_meant() -> None:
    assert refusal({"action": "plan_chunk", "run_id": "r"}) == (
        'event.action is "plan_chunk" (did you mean plan_chunks?); it must be one of '
        "validate_config, plan_chunks, process_chunk, finalize, test_connections, "
        "next_source, migrate, test_postgres, test_snowflake"
    )


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({}, "event.action is null; it must be one of"),
        ({"action": None}, "event.action is null; it must be one of"),
        ({"action": 7}, "event.action is 7; it must be one of"),
        ({"action": ["finalize"]}, 'event.action is ["finalize"]'),
        ({"action": "x" * 10_000}, 'event.action is "xxx'),
        ([], "the event is not a JSON object, but []"),
        ("finalize", 'the event is not a JSON object, but "finalize"'),
        (None, "the event is not a JSON object, but null"),
    ],
)
def test_an_event_without_an_action_is_refused_on_one_short_line(event: Any, says: str) -> None:
    message = refusal(event)

    assert message.startswith(says)
    assert "\n" not in message
    assert len(message) < 400


@given(event=json_values | st.dictionaries(st.sampled_from(["action", "run_id", "item", "round"]), json_values))
def test_no_event_leads_to_an_error_that_is_not_explained(event: Any) -> None:
    try:
        actions.parse(event)
    except SnowmeltError as error:
        assert "\n" not in error.message  # noqa: PT017 - other errors fail the test as they are


@given(action=st.sampled_from(ACTIONS), more=st.dictionaries(st.text(max_size=9), json_values, max_size=4))
def test_no_field_leads_to_an_error_that_is_not_explained(action: str, more: Mapping[str, Any]) -> None:
    try:
        actions.parse({**GOOD[action][0], **more, "action": action})
    except SnowmeltError as error:
        assert "\n" not in error.message  # noqa: PT017 - other errors fail the test as they are


def nested(levels: int, wrap: str = "list") -> Any:
    """Return so many lists, or objects, in each other."""
    value: Any = "x"
    for _ in range(levels):
        value = [value] if wrap == "list" else {"a": value}
    return value


@pytest.mark.parametrize("levels", [60, 900, 200_000])
@pytest.mark.parametrize("wrap", ["list", "object"])
@pytest.mark.parametrize("key", ["action", "source_name", "tables", "input", "item", "run_id", "made up"])
def test_an_event_that_is_nested_too_deep_is_refused_by_the_name_of_its_field(key: str, wrap: str, levels: int) -> None:
    with pytest.raises(ConfigError, match=f"event.{key} is nested too deep"):
        actions.parse({"action": "validate_config", key: nested(levels, wrap)})


def test_an_event_that_is_a_deep_list_is_refused() -> None:
    with pytest.raises(ConfigError, match="the event is not a JSON object, but a list that is nested too deep"):
        actions.parse(nested(200_000))


@pytest.mark.parametrize("source_name", [["a"], {"a": "b"}, 7, nested(900)], ids=["list", "object", "number", "deep"])
def test_a_lone_function_answers_a_source_that_is_no_name_by_the_name_of_the_field(source_name: Any) -> None:
    wiring = Wiring(Settings(config="nowhere.json"), {})
    for action in ("validate_config", "migrate", "test_connections"):
        event = {"action": action, "source_name": source_name}

        answer = whole_runs.answer(event, wiring, Deadline.after(60), request_id="r")

        assert (answer["statusCode"], answer["body"]["error"]) == (400, "ConfigError")
        assert "event.source_name" in answer["body"]["message"]
