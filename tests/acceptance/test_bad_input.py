"""Bad input: one line that says what to do, nothing moved, and no trace of the code it went through.

Each mistake is made twice: on the command line, and through the deployed state machine.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql

from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.aws.step_functions import Execution
from snowmelt_sandbox.postgres import LocalPostgres
from snowmelt_sandbox.snowflake import LocalSnowflake
from snowmelt_sandbox.snowflake.sign_in import User
from support.forked import Ended
from support.world import DEFINITION, SOURCE, World

TEN_MISTAKES = Path(__file__).parents[1] / "fixtures" / "config" / "ten_mistakes.json"
GUARDED_PASSWORD = "right-for-sure"
TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Deployment:
    """The function and the state machine, deployed once; each test has its own servers' databases and config."""

    aws: LocalAws
    folder: Path

    def world(self, snowflake: LocalSnowflake, database: Any) -> World:
        return World(snowflake, database, self.folder)


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, snowflake: LocalSnowflake, postgres: LocalPostgres
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    environment = {
        "SNOWMELT_CONFIG": str(folder / "config.json"),
        "SNOWMELT_STORE": "s3://snowmelt/store",
        **snowflake.environment(),
        **postgres.environment(),
    }
    with LocalAws(
        environment,
        DEFINITION,
        timeout_seconds=TIMEOUT_SECONDS,
        concurrency=3,
        log_file=folder / "function.log",
        time_scale=0.05,
    ) as aws:
        yield Deployment(aws, folder)


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalPostgres]:
    """A server that asks for a password."""
    with LocalPostgres(durable=False, password=GUARDED_PASSWORD) as server:
        yield server


@pytest.fixture
def world(deployment: Deployment, snowflake: LocalSnowflake, postgres: LocalPostgres) -> Iterator[World]:
    """Two tables that could be moved, were it not for the mistake."""
    with postgres.database() as database:
        snowflake.create_schema(database.name.upper(), "PUBLIC")
        world = deployment.world(snowflake, database)
        world.add_table("entries", 40, truncate_onstart=True)
        world.add_table("lines", 20)
        try:
            yield world
        finally:
            snowflake.set_delays()
            snowflake.deny([])


@dataclass(frozen=True)
class Mistake:
    """What is wrong, what is said about it on one line, and how the command line ends."""

    make: Callable[[World], Mapping[str, Any] | None]
    """Makes it; returns global settings of the config."""
    says: tuple[str, ...]
    """Parts of the line, in their order."""
    exit_code: int
    error: str
    start: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()


def as_role(world: World, *grants: str) -> dict[str, Any]:
    """A role of this world's own, with nothing but what is granted here; the config's postgres section for it."""
    role = f"role_{world.target.name}"
    world.target.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    for grant in ("USAGE ON SCHEMA public", *grants):
        world.target.execute(sql.SQL("GRANT {} TO {}").format(sql.SQL(grant), sql.Identifier(role)))
    return {"postgres": {**postgres_section(world.target.server), "user": role}}


def postgres_section(server: LocalPostgres) -> dict[str, Any]:
    return {"host": server.host, "port": server.port, "user": server.user, "sslmode": "disable"}


def create_on(world: World) -> str:
    return f'CREATE ON DATABASE "{world.target.name}"'


def wrong_postgres_password(world: World, guarded: LocalPostgres) -> Mapping[str, Any]:
    return {"postgres": {**postgres_section(guarded), "password": "wrong"}}


def without(world: World, *statements: str) -> None:
    for statement in statements:
        world.target.execute(statement)


def deny(world: World) -> None:
    world.snowflake.deny([f"{world.source_database}.PUBLIC.LINES"])


def misname(world: World, **settings: str) -> None:
    world.tables[1].update(settings)


def view_as_target(world: World) -> None:
    without(world, "CREATE VIEW seen AS SELECT 1")
    misname(world, target="seen")


MISTAKES: Mapping[str, Mistake] = {
    "a snowflake password that is wrong": Mistake(
        make=lambda _: {"snowflake": {"password": "wrong"}},
        says=("refused to sign in user SANDBOX", "with its password", "check the user, the credentials"),
        exit_code=1,
        error="AccessError",
    ),
    "a snowflake host where nothing listens": Mistake(
        make=lambda _: {"snowflake": {"host": "127.0.0.1", "port": 1}},
        says=("cannot reach Snowflake at 127.0.0.1:1", "check snowflake.host and snowflake.port"),
        exit_code=1,
        error="AccessError",
    ),
    "a postgres host where nothing listens": Mistake(
        make=lambda _: {"postgres": {"host": "127.0.0.1", "port": 1, "user": "x", "sslmode": "disable"}},
        says=("PostgreSQL 127.0.0.1:1", "Connection refused", "check host and port, that the server runs"),
        exit_code=1,
        error="UnreachableError",
    ),
    "a database that is not there": Mistake(
        make=lambda _: {"_database": "no_such_db"},
        says=('database "no_such_db" does not exist', "create it, or fix target_pg_database"),
        exit_code=1,
        error="AccessError",
    ),
    "a source table that is not there": Mistake(
        make=lambda world: misname(world, source="LINEZ", target="lines"),
        says=(
            "table LINEZ: cannot read",
            ".PUBLIC.LINEZ in role SYSADMIN",
            "check the name (case counts), or run: GRANT",
        ),
        exit_code=2,
        error="ConfigError",
    ),
    "a target table that is not there": Mistake(
        make=lambda world: misname(world, target="linez"),
        says=(
            "table LINES: the target public.linez is not there",
            "create it (`snowmelt schema ddl --apply` does), or fix target",
        ),
        exit_code=2,
        error="ConfigError",
    ),
    "a target that is a view": Mistake(
        make=view_as_target,
        says=("table LINES: the target public.seen is not a table; name a table as the target",),
        exit_code=2,
        error="ConfigError",
    ),
    "a target column that must be filled and has no source": Mistake(
        make=lambda world: without(world, "ALTER TABLE lines ADD booked_by text NOT NULL"),
        says=(
            'LINES: target column "booked_by" is NOT NULL without a default and has no source column',
            "give it a default, drop NOT NULL, or add it to the source by a Snowflake view",
        ),
        exit_code=2,
        error="ConfigError",
    ),
    "a target column of another kind": Mistake(
        make=lambda world: without(world, "ALTER TABLE lines ALTER amount TYPE boolean USING true"),
        says=('LINES: column "amount": NUMBER(12,2) does not go into bool', "make the target column numeric(12,2)"),
        exit_code=2,
        error="ConfigError",
    ),
    "a filled target that is not to be truncated": Mistake(
        make=lambda world: without(world, "INSERT INTO lines VALUES (1, 1, 'mine', now())"),
        says=(
            "table LINES: the target public.lines holds rows already",
            "set truncate_onstart to replace them",
            "append to add to them",
        ),
        exit_code=2,
        error="ConfigError",
    ),
    "a role that may not create the status schema": Mistake(
        make=lambda world: as_role(world, "ALL ON TABLE entries, lines"),
        says=("may not create the schema migration_status; GRANT CREATE ON DATABASE", "snowmelt status install"),
        exit_code=1,
        error="AccessError",
    ),
    "a role that may not insert": Mistake(
        make=lambda world: as_role(world, create_on(world), "ALL ON TABLE entries", "SELECT ON TABLE lines"),
        says=("table LINES: the target public.lines may not be loaded by this user; GRANT INSERT",),
        exit_code=2,
        error="ConfigError",
    ),
    "a role that may not truncate": Mistake(
        make=lambda world: as_role(
            world, create_on(world), "SELECT, INSERT ON TABLE entries", "SELECT, INSERT ON TABLE lines"
        ),
        says=("table ENTRIES: the target public.entries may not be loaded by this user; GRANT TRUNCATE",),
        exit_code=2,
        error="ConfigError",
    ),
    "a table that snowflake withholds": Mistake(
        make=deny,
        says=("table LINES: cannot read", "GRANT SELECT ON TABLE", "TO ROLE SYSADMIN"),
        exit_code=2,
        error="ConfigError",
    ),
    "a source that the config does not have": Mistake(
        make=lambda _: None,
        start={"source_name": "lodger"},
        options=("--source", "lodger"),
        says=("the config has no source lodger; did you mean ledger?; known: ledger",),
        exit_code=2,
        error="ConfigError",
    ),
    "a table that the source does not have": Mistake(
        make=lambda _: None,
        start={"tables": ["ENTRIES", "LINEZ"]},
        options=("--tables", "ENTRIES,LINEZ"),
        says=("source ledger has no table LINEZ; did you mean LINES?; known: ENTRIES, LINES",),
        exit_code=2,
        error="ConfigError",
    ),
    "a run that is not there": Mistake(
        make=lambda _: None,
        start={"resume_run_id": "ledger-7"},
        options=("--resume-run-id", "ledger-7"),
        says=("resume_run_id): source ledger has no such run", "`snowmelt status --all` lists"),
        exit_code=2,
        error="ConfigError",
    ),
    "two wishes that contradict each other": Mistake(
        make=lambda _: None,
        start={"resume_run_id": "ledger-7", "no_resume": True},
        options=("--resume-run-id", "ledger-7", "--no-resume"),
        says=("--resume-run-id and --no-resume (resume_run_id, no_resume) contradict each other: pass one of them",),
        exit_code=2,
        error="ConfigError",
    ),
    "a key that is misspelt": Mistake(
        make=lambda _: {"batchsize": 7},
        says=("config.json has 1 problem; batchsize: unknown key; did you mean batch_size?",),
        exit_code=2,
        error="ConfigError",
    ),
}


def configure(world: World, settings: Mapping[str, Any]) -> None:
    """Write the config, with another target database if the mistake is there."""
    database = settings.get("_database")
    path = world.configure(**{key: value for key, value in settings.items() if key != "_database"})
    if database is not None:
        tree = json.loads(path.read_text())
        tree["sources"][0]["target_pg_database"] = database
        path.write_text(json.dumps(tree))


def both(deployment: Deployment, world: World, *options: str, **start: Any) -> tuple[Ended, Execution]:
    """The same start, at the same time, on the command line and through the state machine."""
    process = world.start_cli("migrate", "--config", str(world.config), *options)
    try:
        execution = deployment.aws.step_functions.run({"source_name": SOURCE, **start})
    finally:
        command = process.wait()
    return command, execution


def assert_one_line(text: str, says: tuple[str, ...]) -> None:
    assert "\n" not in text.strip()
    assert re.search(".*".join(re.escape(part) for part in says), text), text
    for trace in ("Traceback", 'File "', "psycopg2", "snowflake.connector", "pydantic"):
        assert trace not in text


def assert_nothing_moved(world: World) -> None:
    for table in ("entries", "lines"):
        assert world.target.rows(f"SELECT count(*) FROM {table} WHERE coalesce(note, '') <> 'mine'") == [(0,)]
    assert world.runs() == []


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=[name.replace(" ", "-") for name in MISTAKES])
def test_a_mistake_is_one_line_and_an_exit_code_and_the_cause_of_a_failed_execution(
    deployment: Deployment, world: World, mistake: Mistake
) -> None:
    configure(world, mistake.make(world) or {})

    command, execution = both(deployment, world, *mistake.options, **mistake.start)

    assert (command.exit_code, command.out) == (mistake.exit_code, "")
    assert_one_line(command.err, (f"{mistake.error}: ", *mistake.says))
    assert (execution.status, execution.error) == ("FAILED", mistake.error)
    assert_one_line(execution.cause or "", mistake.says)
    assert command.err.strip() == f"{mistake.error}: {execution.cause}"
    assert_nothing_moved(world)


def test_a_postgres_password_that_is_wrong(deployment: Deployment, world: World, guarded: LocalPostgres) -> None:
    world.configure(**wrong_postgres_password(world, guarded))

    command, execution = both(deployment, world)

    says = ('password authentication failed for user "postgres"', "check POSTGRES_USER and POSTGRES_PASSWORD")
    assert (command.exit_code, command.out) == (1, "")
    assert_one_line(command.err, ("AccessError: ", *says))
    assert (execution.status, execution.error) == ("FAILED", "AccessError")
    assert_one_line(execution.cause or "", says)


def test_every_mistake_of_several_tables_is_told_at_once(deployment: Deployment, world: World) -> None:
    misname(world, target="linez")
    without(
        world, "ALTER TABLE entries ADD booked_by text NOT NULL", "ALTER TABLE entries ALTER id TYPE boolean USING true"
    )
    world.configure()

    command, execution = both(deployment, world)

    head, *problems = command.err.splitlines()
    assert command.exit_code == 2
    assert head == "ConfigError: source ledger cannot be migrated as it is:"
    assert [problem.strip().partition(":")[0] for problem in problems] == [*["table ENTRIES"] * 2, "table LINES"]
    assert execution.cause == "; ".join([head[len("ConfigError: ") : -1], *(problem.strip() for problem in problems)])


def test_a_config_with_ten_mistakes_reports_ten(deployment: Deployment, world: World) -> None:
    world.config.write_text(TEN_MISTAKES.read_text(encoding="utf-8"), encoding="utf-8")

    checked = world.cli("config", "check", "--config", str(world.config))
    as_json = world.cli("config", "check", "--json", "--config", str(world.config))
    execution = deployment.aws.step_functions.run({"source_name": "flights"})

    head, *problems = checked.err.splitlines()
    assert (checked.exit_code, checked.out, as_json.exit_code) == (2, "", 2)
    assert head.endswith("config.json has 10 problems:")
    assert len(problems) == 10
    assert json.loads(as_json.out) == {"ok": False, "problems": [problem.strip() for problem in problems]}
    assert (execution.status, execution.error) == ("FAILED", "ConfigError")
    assert_one_line(execution.cause or "", tuple(problem.strip() for problem in problems))
    for secret in ("correct horse", "1234567"):
        assert secret not in f"{checked.err}{as_json.err}{as_json.out}{execution.cause}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, ("config", "config.json is not there; pass --config, or set SNOWMELT_CONFIG")),
        ("{", ("config.json is not JSON: line 1 column 2", "fix it there")),
        ("[]", ("config.json must be one JSON object with the keys snowflake, postgres and sources",)),
    ],
)
def test_a_config_that_cannot_be_read(
    deployment: Deployment, world: World, text: str | None, says: tuple[str, ...]
) -> None:
    world.config.unlink(missing_ok=True)
    if text is not None:
        world.config.write_text(text)

    command, execution = both(deployment, world)

    assert (command.exit_code, command.out) == (2, "")
    assert_one_line(command.err, ("ConfigError: ", *says))
    assert_one_line(execution.cause or "", says)


def test_an_input_with_a_key_that_there_is_not_ends_the_execution_with_its_name(
    deployment: Deployment, world: World
) -> None:
    world.configure()

    execution = deployment.aws.step_functions.run({"sourcename": SOURCE})

    assert (execution.status, execution.error) == ("FAILED", "ConfigError")
    assert execution.cause == (
        "the event of validate_config is not right; event.sourcename: there is no such field; remove it or fix its name"
    )


@pytest.mark.parametrize("event", [{"action": "migrate_all"}, [], "validate_config"])
def test_an_unknown_action_is_refused_on_one_line(deployment: Deployment, event: Any) -> None:
    outcome = deployment.aws.functions.invoke(json.dumps(event).encode())

    assert outcome is not None
    error = json.loads(outcome.payload)
    assert error["errorType"] == "ConfigError"
    assert_one_line(
        error["errorMessage"], ("the event is not a JSON object" if not isinstance(event, dict) else "event.action is",)
    )
    assert len(error["stackTrace"]) <= 1  # where the handler raised it


def test_a_buffer_as_long_as_the_functions_time_out_is_refused(deployment: Deployment, world: World) -> None:
    world.configure(lambda_timeout_buffer_seconds=TIMEOUT_SECONDS)

    execution = deployment.aws.step_functions.run({"source_name": SOURCE})

    assert (execution.status, execution.error) == ("FAILED", "ConfigError")
    assert_one_line(
        execution.cause or "",
        (
            "lambda_timeout_buffer_seconds is 60, but the function's time-out leaves this invocation",
            "lower the buffer or raise the time-out",
        ),
    )
    assert_nothing_moved(world)


# --- what shows only while rows move --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraint", "says"),
    [
        (
            "ALTER TABLE lines ALTER note SET NOT NULL",
            ('column "note"', "null value in column", "violates not-null constraint"),
        ),
        (
            "ALTER TABLE lines ADD CHECK (id < 15)",
            ('column "id"', "violates check constraint"),
        ),
    ],
    ids=["not-null", "check"],
)
def test_a_row_that_postgresql_refuses_fails_its_table_and_no_other_until_it_is_fixed(
    deployment: Deployment, world: World, constraint: str, says: tuple[str, ...]
) -> None:
    world.target.execute(constraint)
    world.configure(max_retry_attempts=2)

    execution = deployment.aws.step_functions.run({"source_name": SOURCE})

    assert (execution.status, execution.error) == ("FAILED", "MigrationFailed")
    assert_one_line(
        execution.cause or "",
        ("1 of 2 tables are not complete: table LINES", "of 20 rows are refused", "of chunk 1", *says, "start again"),
    )
    assert world.equal("entries")
    ((left_out,),) = world.target.rows("SELECT 20 - count(*) FROM lines")
    assert left_out == world.target.rows("SELECT count(*) FROM migration_status.rejected_rows")[0][0] > 0
    (failed,) = world.runs()
    assert (failed["status"], failed["error_text"]) == ("failed", execution.cause)

    world.target.execute("ALTER TABLE lines ALTER note DROP NOT NULL, DROP CONSTRAINT IF EXISTS lines_id_check")
    execution = deployment.aws.step_functions.run({"source_name": SOURCE})

    assert execution.status == "SUCCEEDED", execution.cause
    assert [(run["run_id"], run["status"]) for run in world.runs()] == [(failed["run_id"], "completed")]
    assert world.equal("entries")
    assert world.equal("lines")
    assert len(world.scans()) == 2


def test_a_target_that_is_altered_after_it_was_planned_is_not_loaded(deployment: Deployment, world: World) -> None:
    """Binary COPY believes what it is told: four bytes of one type could become four of another."""
    world.snowflake.set_delays(query_seconds=3.0, containing=f'"{world.source_database}"."PUBLIC"."LINES"')
    world.configure()
    machine = deployment.aws.step_functions

    arn = machine.start_execution({"source_name": SOURCE})
    altered = False

    def alter(_: object) -> None:
        nonlocal altered
        if not altered and world.scans():
            world.target.execute("ALTER TABLE lines ALTER id TYPE double precision")
            altered = True

    execution = machine.wait(arn, on_poll=alter)

    assert altered
    assert (execution.status, execution.error) == ("FAILED", "MigrationFailed")
    assert_one_line(
        execution.cause or "",
        (
            "column id of the target public.lines has another type since the run was planned",
            "undo the change and start again, or start with --no-resume",
        ),
    )
    assert world.equal("entries")
    assert world.target.rows("SELECT count(*) FROM lines") == [(0,)]

    world.target.execute("ALTER TABLE lines ALTER id TYPE bigint")
    assert machine.run({"source_name": SOURCE}).status == "SUCCEEDED"
    assert world.equal("lines")
    assert len(world.runs()) == 1


def test_another_snowflake_user_cannot_finish_a_run(deployment: Deployment, world: World) -> None:
    """Results belong to the user whose statement they are."""
    world.drop_rows_silently("lines")
    world.configure(max_retry_attempts=1)
    assert deployment.aws.step_functions.run({"source_name": SOURCE}).status == "FAILED"
    world.snowflake.put_user(User(name="ANOTHER", password="another"))
    world.configure(max_retry_attempts=1, snowflake={"user": "ANOTHER", "password": "another"})

    start = deployment.aws.step_functions.run
    changed = start({"source_name": SOURCE})
    named = start({"source_name": SOURCE, "resume_run_id": world.runs()[0]["run_id"]})

    assert (changed.status, changed.error) == ("FAILED", "ConfigError")
    assert_one_line(
        changed.cause or "",
        (
            'snowflake.user: "SANDBOX" -> "ANOTHER"',
            "to close it and begin a new run, start with --no-resume (no_resume: true",
        ),
    )
    assert (named.status, named.error) == ("FAILED", "StalledError")
    assert_one_line(
        named.cause or "",
        ("was begun as Snowflake user SANDBOX", "ANOTHER", "put it back, or start with --no-resume (no_resume: true"),
    )
