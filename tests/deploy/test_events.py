"""The sample events, one after the other through the runtime client, as `sam local invoke` would send them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.demo import data
from snowmelt_sandbox.postgres import LocalPostgres
from snowmelt_sandbox.sandbox import Sandbox
from snowmelt_sandbox.snowflake import LocalSnowflake

ROOT = Path(__file__).parents[2]
ROWS = 7


def sample(name: str, **filled: Any) -> dict[str, Any]:
    """The event as it is in the repository, what it leaves to fill in filled in."""
    event: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text())
    assert set(filled) <= set(event)
    return event | filled


@pytest.fixture
def aws(snowflake: LocalSnowflake, postgres: LocalPostgres, tmp_path: Path) -> Iterator[LocalAws]:
    """The function with one small table of flights, in a database that is this test's own."""
    with postgres.database() as database:
        source = database.name.upper()
        snowflake.create_schema(source, "PUBLIC")
        with snowflake.connect(database=source, schema="PUBLIC") as connection:
            values = ", ".join(f"({n}, 'N{n}')" for n in range(ROWS))
            connection.cursor().execute("CREATE TABLE FLIGHTS (ID NUMBER(9,0), TAIL VARCHAR)")
            connection.cursor().execute(f"INSERT INTO FLIGHTS VALUES {values}")
        database.execute("CREATE TABLE flights (id integer, tail text)")
        config = tmp_path / "config.json"
        tables = [{"source": "FLIGHTS"}]
        ends = {"source_sf_database": source, "source_sf_schema": "PUBLIC", "target_pg_schema": "public"}
        names = {"source_name": data.SOURCE_NAME, "target_pg_database": f'"{database.name}"'}
        config.write_text(json.dumps({"sources": [{**names, **ends, "tables": tables}]}))
        environment = {
            **Sandbox(snowflake, postgres).environment(),
            "SNOWMELT_CONFIG": str(config),
            "SNOWMELT_STORE": "s3://snowmelt/store",
        }
        with LocalAws(environment, ROOT / "statemachine" / "migration.asl.json", timeout_seconds=300) as aws:
            yield aws


def invoke(aws: LocalAws, event: dict[str, Any]) -> dict[str, Any]:
    outcome = aws.functions.invoke(json.dumps(event).encode())
    assert outcome is not None
    result: dict[str, Any] = json.loads(outcome.payload)
    assert "errorMessage" not in result, result["errorMessage"]
    return result


def test_the_sample_events_in_their_order_move_a_table(aws: LocalAws) -> None:
    assert invoke(aws, sample("test_connections"))["ok"]

    rehearsed = invoke(aws, sample("validate_config"))
    assert rehearsed["plan"]

    run_id = invoke(aws, sample("validate_config", dry_run=False))["run_id"]
    planned = invoke(aws, sample("plan_chunks", run_id=run_id))
    assert (planned["next"], planned["items"]) == ("process", 1)

    # The sample names three chunks; so small a table has only the first, and the others are nobody's.
    loaded = invoke(aws, sample("process_chunk", run_id=run_id))
    assert (loaded["completed"], loaded["skipped"], loaded["rows"]) == (1, 2, ROWS)

    assert invoke(aws, sample("plan_chunks", run_id=run_id, round=1))["next"] == "finalize"
    verdict = invoke(aws, sample("finalize", run_id=run_id))
    assert (verdict["next"], verdict["status"]) == ("done", "completed")


def test_the_sample_of_a_whole_run_moves_the_table(aws: LocalAws) -> None:
    answer = invoke(aws, sample("migrate"))
    assert (answer["statusCode"], answer["body"]["status"]) == (200, "completed")


def test_the_sample_input_starts_an_execution_that_succeeds(aws: LocalAws) -> None:
    ended = aws.step_functions.run(sample("start_execution"))
    assert ended.status == "SUCCEEDED", ended.cause
    assert f"1 table, {ROWS:,} rows" in ended.output["message"]
