"""The self-test: it passes where all is as relied on, and each assumption that is broken fails its own check alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from psycopg2 import sql

from snowmelt.aws.stack import RemoteStack
from snowmelt.selftest import connections, runner, stack
from snowmelt.selftest.assumption import NotCheckedError, Result, Step
from snowmelt.selftest.bench import Bench
from snowmelt.selftest.connections import OwnSource, Places, Request
from snowmelt.selftest.contract import ASSUMPTIONS
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.aws.moto_service import CREDENTIALS, REGION
from snowmelt_sandbox.child_process import start_child
from snowmelt_sandbox.postgres import Database
from snowmelt_sandbox.snowflake import HOSTILE, LocalSnowflake
from snowmelt_sandbox.snowflake.broken import BREAKS
from support import left_behind
from support.databases import Databases

DEFINITION = Path(__file__).parents[2] / "statemachine" / "migration.asl.json"
STEPS = tuple(each.step for each in ASSUMPTIONS)
BY_BREAK = {
    "views-at-timestamp": ("at-timestamp", "no-rows-beyond-the-past", "types-are-described"),
    "texts-of-dates": ("texts-of-times", "texts-of-numbers", "casts-cut-seconds"),
    "batches-as-announced": ("arrow-results", "all-rows-arrive", "results-open-by-id"),
}
"""Some breaks, and checks that are next to the one that must fail."""


def environment(snowflake: LocalSnowflake, database: Database, folder: Path) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        **snowflake.environment(),
        "POSTGRES_PASSWORD": left_behind.POSTGRES_PASSWORD,
        **database.server.environment(),
    }


@pytest.fixture(scope="module")
def bench(snowflake: LocalSnowflake, databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The tables of a self-test on both servers, for as many rounds of checks as are wanted."""
    folder = tmp_path_factory.mktemp("selftest")
    with databases.lend() as database:
        snowflake.create_schema(database.name.upper(), "PUBLIC")
        where = str(folder / connections.DEFAULT_CONFIG)
        Path(where).write_text("{}")
        given = Places("bench", database.name.upper(), "OF_BENCH", True, database.name, "of_bench", True)
        wiring = OwnSource(
            Settings(config=where, store=str(folder)), environment(snowflake, database, folder), given, role=None
        )
        with runner.Cleanup(wiring, given) as cleanup:
            yield runner.prepare(wiring, given, cleanup)
        assert cleanup.left_behind == []


def not_passed(bench: Bench, steps: tuple[Step, ...]) -> dict[str, Result]:
    bench.forget_session()
    return {result.id: result for result in runner.outcomes(steps, bench) if result.verdict != "pass"}


def fails_alone(snowflake: LocalSnowflake, bench: Bench, broken: str, steps: tuple[Step, ...]) -> None:
    snowflake.break_assumptions(broken)
    try:
        found = not_passed(bench, steps)
    finally:
        snowflake.break_assumptions()
    assert [result for result in found.values() if result.verdict == "fail" and result.id != broken] == []
    assert found[broken].verdict == "fail"
    skipped = {step.id for step in steps if step.not_checked or set(step.needs) & found.keys()}
    assert found.keys() - {broken} == skipped


def test_every_check_passes_or_says_why_it_is_skipped(bench: Bench) -> None:
    found = not_passed(bench, STEPS)
    assert {result.id: result.reason for result in found.values()} == {
        step.id: step.not_checked for step in STEPS if step.not_checked
    }


@pytest.mark.parametrize("broken", BY_BREAK)
def test_a_broken_assumption_is_found(snowflake: LocalSnowflake, bench: Bench, broken: str) -> None:
    wanted = (broken, *BY_BREAK[broken])
    fails_alone(snowflake, bench, broken, tuple(step for step in STEPS if step.id in wanted))


@pytest.mark.full(2)
@pytest.mark.parametrize("broken", BREAKS)
def test_each_broken_assumption_fails_its_own_check_alone(snowflake: LocalSnowflake, bench: Bench, broken: str) -> None:
    fails_alone(snowflake, bench, broken, STEPS)


# --- the command ------------------------------------------------------------------------------------------------------


class Command:
    """``snowmelt selftest`` in a process and a database of its own."""

    def __init__(self, snowflake: LocalSnowflake, database: Database, folder: Path) -> None:
        self.snowflake = snowflake
        self.database = database
        self.folder = folder
        self.source = database.name.upper()
        self.variables: dict[str, str] = {}
        snowflake.create_schema(self.source, "PUBLIC")

    def start(self, *options: str) -> "subprocess.Popen[bytes]":
        return start_child(
            [
                *(sys.executable, "-m", "snowmelt.cli", "selftest"),
                *("--snowflake-database", self.source, "--postgres-database", self.database.name),
                *options,
            ],
            env={**environment(self.snowflake, self.database, self.folder), **self.variables},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *options: str) -> tuple[int, list[str], str]:
        with self.start(*options) as process:
            out, err = process.communicate(timeout=240)
        return process.returncode, out.decode().splitlines(), err.decode()

    def report(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.folder / "selftest.json").read_text())
        return read

    def left(self) -> list[str]:
        """What is still there of a self-test, on both sides."""
        schemas = self.snowflake.execute(f'show schemas in database "{self.source}"')
        tables = self.snowflake.execute(f'show tables in database "{self.source}"')
        named = [str(value) for row in [*schemas, *tables] for value in row]
        named += [
            name
            for (name,) in self.database.rows(
                "SELECT nspname::text FROM pg_namespace UNION ALL SELECT relname::text FROM pg_class"
                " UNION ALL SELECT rolname::text FROM pg_roles"
            )
        ]
        return [name for name in named if "selftest" in name.lower()]


@pytest.fixture
def command(snowflake: LocalSnowflake, database: Database, tmp_path: Path) -> Command:
    return Command(snowflake, database, tmp_path)


def test_it_moves_and_verifies_and_leaves_nothing_behind_under_hostile_defaults(command: Command) -> None:
    command.snowflake.set_account_parameters(**HOSTILE)
    try:
        code, lines, err = command.run("--yes", "--json")
    finally:
        command.snowflake.set_account_parameters()
    assert code == 0, ([line for line in lines if "pass" not in line], err)
    report = command.report()
    checks = {check["id"]: check["verdict"] for check in report["checks"]}
    skipped = [name for name, verdict in checks.items() if verdict == "skipped"]
    assert lines[-1] == f'{{"passed": {len(checks) - len(skipped)}, "failed": 0, "skipped": {len(skipped)}}}'
    assert [json.loads(line)["check"] for line in lines[:-1]] == list(checks)
    for moved in ("tables-are-moved", "tables-are-verified", "values-are-the-same", "postgres-grants-suffice"):
        assert checks[moved] == "pass"
    assert set(skipped) == {step.id for step in STEPS if step.not_checked}
    text = json.dumps(report)
    for name in (command.source, command.snowflake.user, command.snowflake.password, command.database.name):
        assert name not in text
    assert command.left() == []


@pytest.mark.full(2)
def test_a_broken_assumption_ends_it_with_an_exit_code_and_moves_nothing(command: Command) -> None:
    command.snowflake.break_assumptions("texts-of-bytes")
    try:
        code, lines, _ = command.run("--yes")
    finally:
        command.snowflake.break_assumptions()
    assert code == 1
    assert [line.split(":")[0].split() for line in lines if line.startswith("fail ")] == [["fail", "texts-of-bytes"]]
    assert any(line.startswith("skipped tables-are-moved: it needs texts-of-bytes") for line in lines)
    assert ", 1 failed, " in lines[-1]
    assert command.left() == []


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full(2))])
def test_what_it_made_is_dropped_when_it_is_stopped(command: Command, sent: signal.Signals) -> None:
    with command.start("--yes") as process:
        assert process.stdout is not None
        process.stdout.readline()  # a check has ended: all is made
        assert command.left() != []
        process.send_signal(sent)
        time.sleep(0.05)
        process.send_signal(sent)  # whoever is impatient
        _, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    assert command.report()["stopped"]
    assert command.left() == []


def test_nothing_is_made_without_consent(command: Command) -> None:
    code, lines, err = command.run()
    assert (code, lines) == (2, [])
    assert "add --yes" in err
    assert f"make schema {command.source}.SNOWMELT_SELFTEST_" in err
    assert command.left() == []


@pytest.mark.full(2)
def test_given_schemas_keep_only_what_was_in_them(command: Command) -> None:
    command.database.execute("CREATE TABLE public.mine (id integer)")
    code, lines, err = command.run("--yes", "--snowflake-schema", "PUBLIC", "--postgres-schema", "public")
    assert code == 0, ([line for line in lines if "pass" not in line], err)
    assert any(line.startswith("skipped postgres-grants-suffice: the schema in PostgreSQL was given") for line in lines)
    assert command.left() == []
    assert command.database.rows("SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [
        ("mine",)
    ]
    assert command.database.rows("SELECT count(*)::int FROM migration_status.runs") == [(0,)]


def test_a_role_that_may_make_no_schema_is_told_what_to_do(command: Command) -> None:
    role = f"guest_{command.database.name}"
    command.database.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    command.variables = {"POSTGRES_USER": role}
    try:
        code, lines, err = command.run("--yes")
    finally:
        command.database.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    assert (code, lines) == (1, [])
    assert "AccessError" in err
    assert "--postgres-schema" in err
    assert command.left() == []


# --- by a deployed stack ----------------------------------------------------------------------------------------------


@pytest.mark.full(2)
def test_a_stack_moves_the_tables_too(command: Command, tmp_path: Path) -> None:
    command.database.execute("CREATE SCHEMA of_stack")
    source = {
        "source_name": stack.SOURCE,
        "source_sf_database": command.source,
        "source_sf_schema": "PUBLIC",
        "target_pg_database": f'"{command.database.name}"',
        "target_pg_schema": "of_stack",
        "tables": [{"source": "SNOWMELT_SELFTEST_TYPES"}, {"source": "SNOWMELT_SELFTEST_ROWS"}],
    }
    config = tmp_path / "deployed.json"
    config.write_text(json.dumps({"lambda_timeout_buffer_seconds": 2, "sources": [source]}))
    function = {
        **environment(command.snowflake, command.database, tmp_path),
        "SNOWMELT_CONFIG": str(config),
        "SNOWMELT_STORE": "s3://snowmelt/store",
    }
    with LocalAws(function, DEFINITION, timeout_seconds=60.0, concurrency=4) as aws:
        aws.s3().put_object(Bucket="snowmelt", Key="config.json", Body=config.read_bytes())
        command.variables = {**CREDENTIALS, "AWS_DEFAULT_REGION": REGION, **aws.environment()}
        describe_stack(aws)

        code, lines, err = command.run("--yes", "--stack", "lab")
        assert code == 0, ([line for line in lines if "pass" not in line], err)
        assert any(line.startswith("pass    tables-are-moved-by-the-stack") for line in lines)
        runs = command.database.rows("SELECT source_name, status FROM migration_status.runs")
        assert runs == [(stack.SOURCE, "completed")]
        assert [name for name in command.left() if "selftest_" in name.lower()] == []


def describe_stack(aws: LocalAws) -> None:
    """Have CloudFormation say of these services what it says of a stack."""
    outputs = {
        "StateMachineArn": aws.step_functions.state_machine_arn,
        "FunctionLogGroupName": "/aws/lambda/snowmelt",
        "ConfigLocation": "s3://snowmelt/config.json",
    }
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
    }
    cloudformation = boto3.client(
        "cloudformation",
        region_name=REGION,
        endpoint_url=aws.storage_url,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    cloudformation.create_stack(StackName="lab", TemplateBody=json.dumps(template))


@pytest.mark.parametrize(
    ("sources", "why"),
    [
        ([], "has no source snowmelt_selftest; docs/selftest.md has one"),
        ([{"source_name": stack.SOURCE, "tables": [{"source": "OTHER"}]}], "has other tables than"),
    ],
)
def test_a_stack_without_the_source_is_skipped(tmp_path: Path, sources: list[Any], why: str) -> None:
    places = {"source_sf_database": "A", "source_sf_schema": "B", "target_pg_database": "c", "target_pg_schema": "d"}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"sources": [{**places, **source} for source in sources]}))
    check = stack.step(RemoteStack("lab", "arn", "log", None, str(config)), "c", ()).check
    assert check is not None
    with pytest.raises(NotCheckedError, match=why):
        check(cast("Bench", None))


def test_without_a_config_the_databases_must_be_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snowmelt.cli", "selftest", "--yes"],
        check=False,
        cwd=tmp_path,
        env={"PATH": os.defpath, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--snowflake-database" in done.stderr


def test_places_come_from_the_config_that_is_there(tmp_path: Path) -> None:
    where = tmp_path / "config.json"
    where.write_text(
        json.dumps(
            {
                "snowflake": {"account": "a", "user": "u", "password": "p"},
                "postgres": {"host": "h", "user": "u"},
                "sources": [
                    {
                        "source_name": "s",
                        "source_sf_database": "nyc",
                        "source_sf_schema": "x",
                        "target_pg_database": "travel",
                        "target_pg_schema": "y",
                        "tables": [{"source": "T"}],
                    }
                ],
            }
        )
    )
    wiring = Wiring(Settings(config=str(where)), {})
    found = connections.places(wiring, str(where), Request(), "ab12")
    assert (found.snowflake_database, found.postgres_database) == ("NYC", "travel")
    assert found.snowflake_schema == "SNOWMELT_SELFTEST_AB12"
    own = OwnSource(Settings(config=str(where)), {}, found, role="BUILDER").config()
    assert [source.source_name for source in own.sources] == ["snowmelt_selftest_ab12"]
    assert own.snowflake.role == "BUILDER"
