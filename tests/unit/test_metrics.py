"""What CloudWatch is told of an invocation, and how waiting is timed."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from snowmelt.actions.stopwatch import Stopwatch
from snowmelt.aws import metrics
from snowmelt.aws.metrics import COUNTED, TIMED
from snowmelt.models import ProcessChunkResult

KEYS = {"run_id": "ledger-1", "request_id": "r-1", "action": "process_chunk", "table": "ENTRIES"}
RESULT = ProcessChunkResult(completed=2, released=1, failed=3, rows=700, load_seconds=4.5, snowflake_seconds=1.25)


def told(capsys: pytest.CaptureFixture[str], action: str, result: dict[str, Any]) -> dict[str, Any]:
    metrics.emit(action, result, seconds=5.0, function="snowmelt", keys=KEYS)
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def announced(line: dict[str, Any]) -> dict[str, Any]:
    """The metrics that CloudWatch makes of a line, with their values."""
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Snowmelt"
    values = {each["Name"]: line[each["Name"]] for each in directive["Metrics"]}
    return {name: value[0] if isinstance(value, list) else value for name, value in values.items()}


def test_a_work_item_says_what_it_moved_and_where_its_time_went(capsys: pytest.CaptureFixture[str]) -> None:
    assert announced(told(capsys, "process_chunk", RESULT.model_dump())) == {
        "ActionSeconds": 5.0,
        "RowsLoaded": 700,
        "ChunksCompleted": 2,
        "ChunksReleased": 1,
        "ChunksFailed": 3,
        "LoadSeconds": 4.5,
        "RowsRejected": 0,
        "SnowflakeSeconds": 1.25,
    }


@pytest.mark.parametrize("action", ["validate_config", "plan_chunks", "finalize"])
def test_other_actions_say_only_how_long_they_took(capsys: pytest.CaptureFixture[str], action: str) -> None:
    assert announced(told(capsys, action, {"rows": 1})) == {"ActionSeconds": 5.0}


def test_an_action_that_failed_still_says_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    assert announced(told(capsys, "process_chunk", {})) == {"ActionSeconds": 5.0}


def test_a_metric_costs_no_more_for_many_runs_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    line = told(capsys, "process_chunk", RESULT.model_dump())
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert [set(names) for names in directive["Dimensions"]] == [{"service", "action"}]
    assert (line["run_id"], line["table"], line["request_id"]) == ("ledger-1", "ENTRIES", "r-1")


def test_every_number_of_a_work_item_is_told_but_what_others_count() -> None:
    assert {*COUNTED, *TIMED} >= set(ProcessChunkResult.model_fields) - {"skipped"}


def test_waiting_for_items_is_timed_and_working_on_them_is_not() -> None:
    now = [0.0]

    def slow() -> Iterator[int]:
        for item in range(3):
            now[0] += 2.0
            yield item

    watch = Stopwatch(clock=lambda: now[0])
    taken = []
    for item in watch.while_taking(slow()):
        now[0] += 100.0
        taken.append(item)

    assert taken == [0, 1, 2]
    assert watch.seconds == 6.0


def test_waiting_that_ends_in_an_error_is_timed_too() -> None:
    ticks = count()
    watch = Stopwatch(clock=lambda: float(next(ticks)))
    with pytest.raises(ZeroDivisionError):
        list(watch.while_taking(1 // n for n in (1, 0)))
    assert watch.seconds == 2.0
