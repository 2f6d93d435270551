"""A thousand chunks through the Map of the definition that is shipped; every event and result stays small."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from snowmelt_sandbox.aws import Execution, LocalAws
from support.world import World

ROWS = 5_000
ROWS_PER_CHUNK = 5
CHUNKS = ROWS // ROWS_PER_CHUNK
MOST_ITEM_BYTES = 100_000
MOST_EVENT_BYTES = 10_000

Record = Callable[[str, object], None]


def test_a_thousand_chunks_go_through_the_map(world: World, record_property: Record) -> None:
    """Grouped as the planner groups them for two workers."""
    figures = moved(world, record_property, parallel_threads=2)

    assert figures["items"] == figures["iterations"] == 16
    assert figures["throttles"] == 0


@pytest.mark.full
def test_a_thousand_work_items_go_through_the_map(world: World, record_property: Record) -> None:
    """So many workers are asked for that each chunk is an item; the function itself is no wider than before.

    So most calls are throttled at first. What is throttled too often is planned again, as after any other failure.
    """
    figures = moved(world, record_property, parallel_threads=CHUNKS // 8)

    assert figures["largest_manifest_items"] == CHUNKS
    assert figures["iterations"] - figures["failed_iterations"] == CHUNKS
    assert figures["throttles"] > 0


def moved(world: World, record_property: Record, *, parallel_threads: int) -> dict[str, Any]:
    """Move the table, and see that it is exact and that nothing on the way was big; what was measured."""
    world.add_table("entries", ROWS, truncate_onstart=True)
    world.configure(batch_size=ROWS_PER_CHUNK, parallel_threads=parallel_threads)
    with world.aws(concurrency=4, time_scale=0.1) as aws:
        began = time.monotonic()
        execution = aws.step_functions.wait(aws.step_functions.start_execution(), 900)
        seconds = time.monotonic() - began
        assert execution.status == "SUCCEEDED", execution.cause
        figures = {"seconds": round(seconds, 1), **measured(aws, execution)}
    for name, value in figures.items():
        record_property(name, value)
    print(json.dumps(figures))  # noqa: T201 - shown by pytest -rP

    assert world.equal("entries")
    chunks = world.chunks()
    assert len(chunks) == CHUNKS
    assert {(c["status"], c["attempts"], c["actual_rows"]) for c in chunks} == {("completed", 1, ROWS_PER_CHUNK)}
    assert figures["most_item_bytes"] < MOST_ITEM_BYTES
    assert figures["most_event_bytes"] < MOST_EVENT_BYTES
    assert figures["most_result_bytes"] < MOST_EVENT_BYTES
    assert figures["most_input_or_output_bytes"] < MOST_EVENT_BYTES
    return figures


def measured(aws: LocalAws, execution: Execution) -> dict[str, Any]:
    """How many there were of everything, and how big the biggest was."""
    written = manifests(aws)
    items = [item for manifest in written for item in manifest]
    counted = aws.functions.statistics()
    runs = aws.step_functions.map_runs(execution.arn)
    history = aws.step_functions.history(execution.arn)
    return {
        "manifests": len(written),
        "items": len(items),
        "largest_manifest_items": max(len(manifest) for manifest in written),
        "map_runs": len(runs),
        "iterations": sum(run["itemCounts"]["total"] for run in runs),
        "failed_iterations": sum(run["itemCounts"]["failed"] for run in runs),
        "invocations": counted.invocations,
        "throttles": counted.throttles,
        "history_events": len(history),
        "most_item_bytes": max(len(json.dumps(item)) for item in items),
        "most_event_bytes": max(
            size for action, size in counted.largest_event_bytes.items() if action != "process_chunk"
        ),
        "most_work_item_event_bytes": counted.largest_event_bytes["process_chunk"],
        "most_result_bytes": max(counted.largest_result_bytes.values()),
        "most_input_or_output_bytes": max(
            len(details[part])
            for event in history
            for details in event.values()
            if isinstance(details, dict)
            for part in ("input", "output")
            if isinstance(details.get(part), str)
        ),
    }


def manifests(aws: LocalAws) -> list[list[dict[str, Any]]]:
    """Every manifest that is in the bucket."""
    s3 = aws.s3()
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=aws.bucket, Prefix="store/runs/")
    keys = [o["Key"] for page in pages for o in page.get("Contents", []) if "/manifests/" in o["Key"]]
    return [json.loads(s3.get_object(Bucket=aws.bucket, Key=key)["Body"].read()) for key in keys]
