"""What the deployed function writes: one JSON line for each event, keyed for queries, and no secret anywhere."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql

from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.postgres import LocalPostgres
from snowmelt_sandbox.snowflake import LocalSnowflake
from snowmelt_sandbox.snowflake.sign_in import User
from support.world import DEFINITION, SOURCE, World

MARK = "pl4nted"
"""Part of every secret here, and of nothing else."""
OF_THE_SERVICE = ("START ", "END ", "REPORT ", "INIT_START ")


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalPostgres]:
    with LocalPostgres(durable=False, password=f"{MARK}-postgres") as server:
        yield server


@pytest.fixture
def world(snowflake: LocalSnowflake, guarded: LocalPostgres, tmp_path: Path) -> Iterator[World]:
    """Two tables, one of which PostgreSQL refuses, and secrets wherever secrets can be."""
    snowflake.put_user(User(name="KEEPER", password=f"{MARK}-snowflake"))
    with guarded.database() as database:
        snowflake.create_schema(database.name.upper(), "PUBLIC")
        world = World(snowflake, database, tmp_path)
        world.add_table("entries", 30)
        world.add_table("lines", 20)
        world.drop_rows_silently("lines")
        yield world


@pytest.fixture
def aws(world: World) -> Iterator[LocalAws]:
    environment = {
        **world.environment("s3://snowmelt/store"),
        "SNOWFLAKE_PASSWORD": f"{MARK}-unused",
        "SNOWFLAKE_TOKEN": f"{MARK}-token",
        "SNOWFLAKE_PRIVATE_KEY": f"{MARK}-key",
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": f"{MARK}-passphrase",
        "KEEPERS_PASSWORD": f"{MARK}-snowflake",
        "SNOWMELT_LOG_LEVEL": "DEBUG",
    }
    with LocalAws(
        environment,
        DEFINITION,
        timeout_seconds=60,
        concurrency=3,
        log_file=world.folder / "function.log",
        time_scale=0.05,
    ) as aws:
        yield aws


def written(aws: LocalAws) -> tuple[list[dict[str, Any]], list[str]]:
    """The function's log: lines that are JSON, and what else it printed."""
    lines = [line for line in aws.functions.log_file.read_text().splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(OF_THE_SERVICE)]
    as_json, other = ([line for line in own if line.startswith("{") is wanted] for wanted in (True, False))
    return [json.loads(line) for line in as_json], other


def everything(aws: LocalAws, world: World, *executions: str) -> dict[str, str]:
    """Whatever a run leaves behind, as text, by where it was found."""
    found = {"log": aws.functions.log_file.read_text()}
    for arn in executions:
        found[f"execution {arn}"] = repr(aws.step_functions.describe(arn))
        found[f"history {arn}"] = repr(aws.step_functions.history(arn))
    s3 = aws.s3()
    for item in s3.list_objects_v2(Bucket=aws.bucket)["Contents"]:
        found[item["Key"]] = s3.get_object(Bucket=aws.bucket, Key=item["Key"])["Body"].read().decode()
    tables = world.target.rows("SELECT tablename::text FROM pg_tables WHERE schemaname = 'migration_status'")
    for (table,) in tables:
        found[f"status {table}"] = repr(
            world.target.rows(sql.SQL("SELECT t::text FROM migration_status.{} t").format(sql.Identifier(table)))
        )
    found["statements"] = repr(world.snowflake.queries(containing=world.source_database, include_describe=True))
    return found


def test_each_event_is_one_line_of_json_and_no_secret_is_anywhere(world: World, aws: LocalAws) -> None:
    keeper = {"user": "KEEPER", "password": "${KEEPERS_PASSWORD}"}
    world.configure(snowflake=keeper, max_retry_attempts=2)
    started = aws.step_functions.start_execution
    failed = aws.step_functions.wait(started({"source_name": SOURCE}))
    world.target.execute("DROP TRIGGER keep_none ON lines")
    finished = aws.step_functions.wait(started({"source_name": SOURCE}))
    before_mistakes = written(aws)
    world.configure(snowflake={**keeper, "password": f"{MARK}-wrong"}, max_retry_attempts=2)
    refused = aws.step_functions.wait(started({"source_name": SOURCE, "no_resume": True}))
    world.configure(snowflake={**keeper, "passwort": f"{MARK}-misplaced"}, parallel_threads=f"{MARK}-misplaced")
    misspelt = aws.step_functions.wait(started({"source_name": SOURCE}))

    assert [e.status for e in (failed, finished, refused, misspelt)] == ["FAILED", "SUCCEEDED", "FAILED", "FAILED"]
    assert "refused to sign in user KEEPER" in (refused.cause or "")
    assert "2 problems" in (misspelt.cause or "")

    log, other = before_mistakes
    assert other == []
    (run,) = world.runs()
    keyed = {"action", "request_id", "level", "message", "timestamp", "service"}
    assert all(keyed <= set(line) for line in log)
    assert {line["run_id"] for line in log if line["action"] != "validate_config"} == {run["run_id"]}
    completed = Counter((line["table"], line["chunk"]) for line in log if line["message"] == "chunk completed")
    assert completed == {("ENTRIES", 1): 1, ("LINES", 1): 1}
    attempts = [line for line in log if line["level"] == "ERROR" and line.get("chunk")]
    assert [(line["table"], line["attempt"], line["gives_up"]) for line in attempts] == [("LINES", 1, True)]
    told = Counter(json.dumps({**line, "timestamp": ""}, sort_keys=True) for line in log)
    assert [line for line, times in told.items() if times > 1] == []

    left = everything(aws, world, failed.arn, finished.arn, refused.arn, misspelt.arn)
    assert [where for where, text in left.items() if MARK in text] == []
    assert len(left) > 20
