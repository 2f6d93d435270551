"""Every action may be called twice, at once or one after the other: one scan, one truncate, one truth."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from snowmelt_sandbox.aws import LocalAws
from support.world import World

EXECUTION = "someone's own machine"


@dataclass(frozen=True)
class Run:
    """A run that is driven event by event, through the function's own processes."""

    world: World
    aws: LocalAws
    run_id: str

    def plan(self, round_number: int = 0) -> dict[str, Any]:
        return answer(self.aws, self._plan_event(round_number))

    def plan_at_once(self, calls: int) -> list[dict[str, Any]]:
        return at_once(self.aws, [self._plan_event(0)] * calls)

    def plan_until_ready(self) -> dict[str, Any]:
        """Plan as often as it takes to have something to load."""
        while (planned := self.plan())["next"] == "wait":
            pass
        return planned

    def plan_until_all_are_ready(self) -> dict[str, Any]:
        """Plan until every table's scan has ended and each target is as its load begins."""
        planned = self.plan_until_ready()
        while {"pending", "scanning"} & set(table_states(self)):
            planned = self.plan()
        return planned

    def items(self, planned: dict[str, Any]) -> list[dict[str, Any]]:
        body = self.aws.s3().get_object(Bucket=planned["manifest"]["bucket"], Key=planned["manifest"]["key"])["Body"]
        return list(json.loads(body.read()))

    def process(self, item: dict[str, Any], *, times: int = 1) -> list[dict[str, Any]]:
        event = {"action": "process_chunk", "run_id": self.run_id, "item": item}
        return at_once(self.aws, [event] * times)

    def finalize(self) -> dict[str, Any]:
        return answer(self.aws, self.finalize_event())

    def finalize_event(self) -> dict[str, Any]:
        return {"action": "finalize", "run_id": self.run_id, "execution_id": EXECUTION}

    def truncated_at(self) -> dict[str, Any]:
        found = self.world.status("SELECT source_table, truncated_at FROM migration_status.run_tables")
        return {row["source_table"]: row["truncated_at"] for row in found}

    def _plan_event(self, round_number: int) -> dict[str, Any]:
        return {
            "action": "plan_chunks",
            "run_id": self.run_id,
            "execution_id": EXECUTION,
            "round": round_number,
        }


def answer(aws: LocalAws, event: dict[str, Any]) -> dict[str, Any]:
    outcome = aws.functions.invoke(json.dumps(event).encode())
    assert outcome is not None
    result = json.loads(outcome.payload)
    assert "errorType" not in result, result
    return dict(result)


def at_once(aws: LocalAws, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to events that are sent at the same moment."""
    with ThreadPoolExecutor(len(events)) as callers:
        return list(callers.map(lambda event: answer(aws, event), events))


def validated(aws: LocalAws) -> dict[str, Any]:
    return answer(aws, {"action": "validate_config", "execution_id": EXECUTION})


@pytest.fixture
def run(world: World) -> Iterator[Run]:
    """A run of two tables, one of which replaces rows of old; nothing is planned yet."""
    world.add_table("entries", 3_000, truncate_onstart=True)
    world.add_table("extras", 600)
    world.target.execute("INSERT INTO entries (id) VALUES (-1)")
    world.configure(batch_size=200, parallel_threads=1)
    with world.aws() as aws:
        yield Run(world, aws, validated(aws)["run_id"])


def test_plans_at_once_and_after_each_other_make_one_scan_one_truncate_one_truth(run: Run) -> None:
    run.world.snowflake.set_delays(query_seconds=1, containing=f'"{run.world.source_database}"."PUBLIC"."ENTRIES"')

    answers = run.plan_at_once(3)

    assert {a["next"] for a in answers} <= {"process", "wait"}
    run.world.snowflake.set_delays()
    planned = run.plan_until_all_are_ready()
    assert len(run.world.scans()) == 2  # one for each table
    truncated = run.truncated_at()
    assert truncated["ENTRIES"] is not None
    assert truncated["EXTRAS"] is None
    chunks = run.world.chunks()
    assert Counter({t: sum(c["estimated_rows"] for c in chunks if c["source_table"] == t) for t in truncated}) == {
        "ENTRIES": 3_000,
        "EXTRAS": 600,
    }

    first, *_ = run.items(planned)
    loaded = run.process(first)[0]["rows"]
    again = run.plan_at_once(2)

    assert "process" in {a["next"] for a in again}
    assert run.truncated_at() == truncated
    assert len(run.world.scans()) == 2
    assert [c["reads"] for c in run.world.chunks()] == [c["reads"] for c in chunks]
    assert len(target_ids(run, "entries")) == loaded

    planned = run.plan_until_ready()
    for item in run.items(planned):
        run.process(item)
    assert run.plan()["next"] == "finalize"
    assert run.finalize()["status"] == "completed"
    assert run.world.equal("entries")
    assert run.world.equal("extras")
    assert len(run.world.scans()) == 2


def test_a_plan_that_is_not_alone_says_so_and_waits(run: Run) -> None:
    with run.world.target.connect() as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtextextended('snowmelt:run:' || %s, 0))", (run.run_id,))

        planned, verdict = run.plan(), run.finalize()

    for_whom = f"waiting for another planner of {EXECUTION}: PostgreSQL process {other.info.backend_pid} ("
    assert planned["next"] == "wait"
    assert planned["reason"].startswith(for_whom)
    assert planned["wait_seconds"] > 0
    assert verdict["next"] == "more"
    assert verdict["message"].startswith(for_whom)
    assert run.world.scans() == []


def table_states(run: Run) -> list[str]:
    return [row["status"] for row in run.world.status("SELECT status FROM migration_status.run_tables")]


def target_ids(run: Run, table: str) -> list[int]:
    return [row["id"] for row in run.world.status(f"SELECT id FROM {table}")]


def test_manifests_are_never_written_twice_under_one_name(run: Run) -> None:
    first = run.plan_until_ready()
    second = run.plan(0)
    third = run.plan(0)

    keys = {plan["manifest"]["key"] for plan in (first, second, third)}
    assert len(keys) == 3


def test_the_same_item_processed_three_times_at_once_is_loaded_once(run: Run) -> None:
    planned = run.plan_until_all_are_ready()  # before that the row of old is in the target
    items = run.items(planned)

    for item in items[:3]:
        results = run.process(item, times=3)
        assert sum(r["completed"] for r in results) == len(item["chunks"])
        assert sum(r["skipped"] for r in results) == 2 * len(item["chunks"])
        assert sum(r["failed"] + r["released"] for r in results) == 0

    rows = sum(c["actual_rows"] for c in run.world.chunks("completed"))
    ids = Counter(target_ids(run, "entries") + [-2 - i for i in target_ids(run, "extras")])
    assert ids.total() == rows
    assert set(ids.values()) == {1}
    assert {c["attempts"] for c in run.world.chunks("completed")} == {1}


def test_an_item_processed_again_after_its_end_changes_nothing(run: Run) -> None:
    planned = run.plan_until_ready()
    for item in run.items(planned):
        run.process(item)
    before = run.world.status("SELECT xmin::text, id FROM entries ORDER BY id")

    for item in run.items(planned):
        counted = {name: n for name, n in run.process(item)[0].items() if not name.endswith("_seconds")}
        assert counted == {
            **dict.fromkeys(("completed", "released", "failed", "rows"), 0),
            "skipped": len(item["chunks"]),
            "rejected": 0,
        }

    assert run.world.status("SELECT xmin::text, id FROM entries ORDER BY id") == before


def test_validating_twice_with_the_same_event_gives_the_same_run(run: Run) -> None:
    again = validated(run.aws)

    assert again["run_id"] == run.run_id
    assert [r["run_id"] for r in run.world.runs()] == [run.run_id]
    run.plan_until_ready()
    assert validated(run.aws)["run_id"] == run.run_id
    epochs = run.world.status("SELECT load_epoch FROM migration_status.run_tables")
    assert {row["load_epoch"] for row in epochs} == {1}  # nothing was taken from the run's own workers


def test_finalizing_twice_and_at_once_gives_the_same_verdict(run: Run) -> None:
    planned = run.plan_until_ready()
    while planned["next"] != "finalize":
        for item in run.items(planned) if planned["manifest"] else ():
            run.process(item)
        planned = run.plan()

    verdicts = [v for v in at_once(run.aws, [run.finalize_event()] * 3) if v["next"] == "done"]
    verdicts += [run.finalize(), run.finalize()]

    assert len({json.dumps(v, sort_keys=True) for v in verdicts}) == 1
    assert verdicts[0]["status"] == "completed"
    assert verdicts[0]["message"] == f"run {run.run_id} completed: 2 tables, 3,600 rows"
    ended = {r["completed_at"] for r in run.world.runs()}
    run.finalize()
    assert {r["completed_at"] for r in run.world.runs()} == ended
    assert run.world.equal("entries")
    assert run.world.equal("extras")


def test_a_failed_run_is_finalized_twice_with_the_same_reason(world: World) -> None:
    world.add_table("entries", 600)
    world.target.execute("ALTER TABLE entries ADD CHECK (id < 300)")
    world.configure(batch_size=200, max_retry_attempts=1)
    with world.aws() as aws:
        run = Run(world, aws, validated(aws)["run_id"])
        planned = run.plan_until_ready()
        for item in run.items(planned):
            run.process(item)
        assert run.plan()["next"] == "finalize"

        first, second = run.finalize(), run.finalize()

    assert first == second
    assert (first["next"], first["status"]) == ("done", "failed")
    assert "ENTRIES" in first["message"]
    assert "violates check constraint" in first["message"]
