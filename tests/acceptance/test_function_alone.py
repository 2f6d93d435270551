"""A function that nothing else drives takes whole runs as far as its time allows; the same event again goes on."""

import json
import time
from typing import Any

import pytest

from support.function_calls import SECOND, call, called_until_the_end, two_sources
from support.loads import keyed
from support.world import SOURCE, World


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({"no_resume": True, "source_name": f"{SOURCE},{SECOND}"}, id="named sources"),
        pytest.param(
            {
                "action": "migrate",
                "input": {"resume_max_age": 12},
                "defaults": {"resume_attempt_count": 3, "resume_max_age": 168, "no_resume": False},
            },
            id="all sources, nested",
            marks=pytest.mark.full,
        ),
    ],
)
def test_sources_are_run_to_their_end_by_short_invocations(world: World, event: dict[str, Any]) -> None:
    world.add_table("entries", 8_500, truncate_onstart=True)
    world.add_table("notes", 700, truncate_onstart=True)
    world.configure(batch_size=1000, parallel_threads=1, lambda_timeout_buffer_seconds=2)
    two_sources(world)
    world.target.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.0004); RETURN NEW; END';"
        "CREATE TRIGGER slow BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    with world.aws(timeout_seconds=6, concurrency=1) as aws:
        answers = called_until_the_end(aws, event)

    assert len(answers) > 2
    assert {answer["statusCode"] for answer in answers if "statusCode" in answer} == {200}, answers[-1]
    assert answers[-1]["body"]["status"] == "completed"
    assert {r["source_name"]: r["status"] for r in answers[-1]["body"]["runs"]} == {
        SOURCE: "completed",
        SECOND: "completed",
    }
    assert [(run["source_name"], run["status"]) for run in world.runs()] == [
        (SOURCE, "completed"),
        (SECOND, "completed"),
    ]
    assert world.equal("entries")
    assert world.equal("notes")
    assert len(world.scans()) == 2


def test_a_source_that_fails_does_not_stop_the_next_and_is_told(world: World) -> None:
    world.add_table("entries", 700, truncate_onstart=True)
    world.add_table("notes", 700, truncate_onstart=True)
    world.configure()
    two_sources(world)
    world.target.execute("ALTER TABLE entries DROP COLUMN note, ADD COLUMN note date NOT NULL")
    with world.aws(concurrency=1) as aws:
        answer = call(aws, {})
        checked = call(aws, {"action": "validate_config", "input": {"source_name": SECOND}})
        unknown = call(aws, {"source_name": "nothing"})
        connections = [call(aws, {"action": f"test_{side}"}) for side in ("connections", "postgres", "snowflake")]

    assert (answer["statusCode"], answer["body"]["status"]) == (500, "failed")
    assert [run["status"] for run in answer["body"]["runs"]] == ["failed", "completed"]
    assert "note" in answer["body"]["message"]
    assert world.equal("notes")
    assert (checked["statusCode"], checked["body"]["status"]) == (200, "completed")
    assert (unknown["statusCode"], unknown["body"]["status"]) == (400, "failed")
    assert "the config has no source nothing" in unknown["body"]["message"]
    assert [c["body"]["status"] for c in connections] == ["completed"] * 3
    assert [len(c["verdicts"]) for c in connections] == [2, 1, 1]
    assert len(world.runs()) == 1


def test_a_run_older_than_the_event_allows_is_not_resumed_and_a_bare_number_counts_hours(world: World) -> None:
    world.add_table("entries", 700, truncate_onstart=True)
    world.configure(verification="off")
    world.drop_rows_silently("entries")
    with world.aws(concurrency=1) as aws:
        failed = call(aws, {"source_name": SOURCE})
        world.target.execute("UPDATE migration_status.runs SET started_at = now() - interval '25 hours'")
        world.target.execute("DROP TRIGGER keep_none ON entries")
        wrong = call(aws, {"source_name": SOURCE, "resume_max_age": "soon"})
        answer = call(aws, {"source_name": SOURCE, "resume_max_age": 24})

    assert failed["body"]["status"] == "failed"
    assert "resume_max_age: must be a number of hours, or a duration" in wrong["body"]["message"]
    assert answer["body"]["status"] == "completed"
    (told,) = answer["body"]["runs"]
    assert told["warnings"][0] == "resume_max_age 24 of the event has no unit and counts hours"
    assert [run["status"] for run in world.runs()] == ["abandoned", "completed"]


def test_a_run_whose_end_was_never_told_is_not_run_once_more(world: World) -> None:
    world.add_table("entries", 700, truncate_onstart=True)
    world.configure()
    event = {"no_resume": True}
    with world.aws(concurrency=1) as aws:
        (run,) = call(aws, event)["body"]["runs"]
        (key,) = [o["Key"] for o in aws.s3().list_objects_v2(Bucket=aws.bucket)["Contents"] if "/series/" in o["Key"]]
        noted = {"source_name": SOURCE, "status": "partial", "message": "cut off", "run_id": run["run_id"]}
        aws.s3().put_object(Bucket=aws.bucket, Key=key, Body=json.dumps({"at": time.time(), "runs": [noted]}).encode())
        answer = call(aws, event)

    assert answer["body"]["status"] == "completed"
    assert [r["run_id"] for r in answer["body"]["runs"]] == [run["run_id"]] == [r["run_id"] for r in world.runs()]


@pytest.mark.full
def test_checks_that_no_invocation_has_time_for_say_so_instead_of_beginning_again(world: World) -> None:
    for i in range(10):
        keyed(world, f"t{i}", 10, uniqueness_columns=["ID"])
    world.configure(lambda_timeout_buffer_seconds=1)
    world.snowflake.set_delays(query_seconds=1.5, containing=f'"{world.source_database}"')
    try:
        with world.aws(timeout_seconds=12, concurrency=1) as aws:
            # The first may be cut off while it starts, where the machine is busy.
            answers = (call(aws, {"source_name": SOURCE}) for _ in range(5))
            answer = next(answer for answer in answers if "statusCode" in answer)
    finally:
        world.snowflake.set_delays()

    assert (answer["statusCode"], answer["body"]["status"]) == (500, "failed"), answer
    assert "all of its tables are checked before anything moves" in answer["body"]["message"]
    assert "raise its time-out to " in answer["body"]["message"]
    assert world.runs() == []
