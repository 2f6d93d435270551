"""What a large run costs in history and payload, on the definition that is deployed. Long, hence behind --full."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.workflows import COMPLETED, COUNTS, Migration, Workflow, items, plan

MOST_EVENTS = 25_000
MOST_PAYLOAD_BYTES = 256 * 1024
MOST_ITEMS_A_ROUND = 10_000

pytestmark = pytest.mark.full


def payloads(history: list[dict[str, Any]]) -> Iterator[int]:
    """The size of every input and output in a history."""
    for event in history:
        for details in event.values():
            if isinstance(details, dict):
                yield from (
                    len(text.encode()) for name in ("input", "output") if isinstance(text := details.get(name), str)
                )


def test_eleven_thousand_items_leave_the_parent_s_history_small(
    engine: Workflow, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = [MOST_ITEMS_A_ROUND, 1_000]
    plans: list[dict[str, Any]] = [
        plan("process", number, manifest=engine.put_manifest(items(count)), items=count, max_concurrency=20)
        for number, count in enumerate(rounds, start=1)
    ]
    engine.function.answers(Migration(plans=[*plans, plan("finalize", 3)], chunk=lambda event: COUNTS))

    began = time.monotonic()
    ended = engine.run(seconds=900)
    seconds = time.monotonic() - began

    figures = {
        "items": sum(rounds),
        "invocations": len(engine.function.of("process_chunk")),
        "parent_events": ended.events,
        "largest_payload_bytes": max(payloads(ended.history)),
        "largest_event_bytes": max(len(json.dumps(event)) for event in engine.function.events),
        "seconds_per_1000_items": round(seconds / sum(rounds) * 1000, 1),
    }
    with capsys.disabled():
        sys.stdout.write(f"\n{json.dumps(figures)}\n")
    assert (ended.status, ended.output) == ("SUCCEEDED", COMPLETED)
    assert [run["itemCounts"]["succeeded"] for run in ended.map_runs] == rounds
    assert ended.events < MOST_EVENTS / 100
    assert max(payloads(ended.history)) < MOST_PAYLOAD_BYTES / 50
