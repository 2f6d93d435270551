"""The predecessor's files, byte for byte: by the command line, by a function alone, by the state machine."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from snowmelt_sandbox.postgres import Database, LocalPostgres
from snowmelt_sandbox.snowflake import LocalSnowflake, User
from support.function_calls import call, called_until_the_end
from support.predecessor_data import FILES, LATER, Table, changed_values, tables
from support.world import World

INPUTS = json.loads((FILES / "inputs.json").read_text(encoding="utf-8"))
ALL_SOURCES: dict[str, Any] = {"action": "migrate"}
NESTED: dict[str, Any] = next(i["event"] for i in INPUTS if "defaults" in i["event"])
SOURCES = ("warehouse", "payers", "conflict")


@pytest.fixture
def world(snowflake: LocalSnowflake, postgres: LocalPostgres, tmp_path: Path) -> Iterator[World]:
    """Both sides as the config names them, the config, and the env file beside it with the real places before it."""
    postgres.create_database("app")
    given = World(snowflake, Database(postgres, "app"), tmp_path)
    try:
        shutil.copy(FILES / "config.json", given.config)
        shutil.copy(FILES / "env.example", tmp_path / ".env")
        given.variables["SNOWFLAKE_PRIVATE_KEY"] = key_pair(given)
        yield given
        assert given.leaks() == []
    finally:
        snowflake.set_delays()
        postgres.drop_database("app")


def key_pair(world: World, form: str = "base64") -> str:
    """Give the user a key pair and return its private key, in one of the forms that people have it in."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    user = User("READER", rsa_public_key=public)
    world.snowflake.put_user(user)
    world.variables["SNOWFLAKE_USER"] = user.name
    file = world.folder / "rsa_key.p8"
    file.write_text(pem)
    return {"base64": "".join(pem.splitlines()[1:-1]), "PEM": pem, "path": str(file)}[form]


def made(world: World) -> list[Table]:
    made = tables()
    for table in made:
        table.make(world.snowflake, world.target)
    return made


def differing(world: World, made: list[Table]) -> list[str]:
    """The targets that do not hold just what they must after one more run."""
    wrong = []
    for table in made:
        wanted, found = table.after_a_run(), table.found(world.target)
        if set(found) != wanted or len(found) != len(wanted):
            wrong.append(f"{table.name}: {sorted(map(str, set(found) ^ wanted))[:4]}")
    return wrong


def change(world: World, made: list[Table]) -> dict[str, int]:
    """Change some rows of the source; how many rows of each target must be written for it."""
    by_name = {table.name: table for table in made}
    number = max(len(table.rows) for table in made) + 100
    clinics, addresses, absences, conflicts = (
        by_name[name] for name in ("DIMCLINIC", "DIMADDRESS", "FACTABSENCE", "CONFLICTS")
    )
    moment = LATER.replace(tzinfo=None)
    clinics.insert(world.snowflake, [clinics.row(number, _2=True, _3="main", _4=moment)])
    addresses.update(
        world.snowflake, addresses.rows[0], {**addresses.rows[0], "Latitude": 1.5, "Updated Timestamp": moment}
    )
    absences.insert(world.snowflake, [absences.row(number, _3=LATER)])
    conflicts.update(world.snowflake, conflicts.rows[0], {**conflicts.rows[0], "STATUS": "changed"})
    conflicts.insert(world.snowflake, [conflicts.row(number)])
    return {"DIMCLINIC": 1, "DIMADDRESS": 1, "FACTABSENCE": 1, "CONFLICTS": 1}


def places(world: World, made: list[Table]) -> dict[str, set[tuple[str, str]]]:
    return {table.name: table.places(world.target) for table in made if not table.is_truncated}


def check_written(
    world: World, made: list[Table], before: dict[str, set[tuple[str, str]]], most: dict[str, int]
) -> None:
    """Nothing but what changed is written again."""
    after = places(world, made)
    assert {name: len(after[name] - before[name]) for name in after} == most


def runs_of(world: World) -> list[tuple[str, str]]:
    return [(run["source_name"], run["status"]) for run in world.runs()]


def run_by_short_invocations(world: World, all_tables: list[Table], *, timeout_seconds: int) -> None:
    """Run all sources; loading takes so long that no invocation can do it all, planning is not slowed."""
    slowly = (
        "CREATE FUNCTION public.slowly() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN PERFORM pg_sleep({0.25 * timeout_seconds}); RETURN NULL; END'"
    )
    world.target.execute(slowly)
    for table in all_tables:
        world.target.execute(
            f"CREATE TRIGGER slowly BEFORE INSERT ON {table.target} FOR EACH STATEMENT EXECUTE FUNCTION public.slowly()"
        )
    with world.aws(timeout_seconds=timeout_seconds, concurrency=1) as aws:
        answers = called_until_the_end(aws, ALL_SOURCES)
    world.target.execute("DROP FUNCTION public.slowly CASCADE")
    last = answers[-1]
    assert "partial" in {answer["body"]["status"] for answer in answers if "body" in answer}
    assert (last["statusCode"], last["body"]["status"]) == (200, "completed"), last
    assert {r["source_name"]: r["status"] for r in last["body"]["runs"]} == dict.fromkeys(SOURCES, "completed")
    assert differing(world, all_tables) == []


@pytest.mark.full(minutes=4)
def test_the_files_work_as_they_are_in_every_way_of_running_them_and_each_further_run_is_incremental(
    world: World,
) -> None:
    """First a function alone whose time-out is short, then the state machine, then the command line."""
    all_tables = made(world)
    run_by_short_invocations(world, all_tables, timeout_seconds=8)

    before, written = places(world, all_tables), change(world, all_tables)
    with world.aws(timeout_seconds=60, concurrency=4) as aws:
        execution = aws.step_functions.run(
            {"input": {"source_name": ",".join(SOURCES)}, "defaults": NESTED["defaults"]}
        )
    assert execution.status == "SUCCEEDED", execution.cause
    assert {r["source_name"]: r["status"] for r in execution.output["runs"]} == dict.fromkeys(SOURCES, "completed")
    assert differing(world, all_tables) == []
    check_written(world, all_tables, before, written)

    before = places(world, all_tables)
    ended = world.cli("migrate", "--json")
    assert ended.exit_code == 0, ended.err
    assert differing(world, all_tables) == []
    check_written(world, all_tables, before, dict.fromkeys(written, 0))
    assert runs_of(world) == [("warehouse", "completed"), ("conflict", "completed")] * 3


@pytest.mark.full
def test_a_function_alone_loads_all_sources_under_a_time_out_of_five_seconds(world: World) -> None:
    run_by_short_invocations(world, made(world), timeout_seconds=5)


@pytest.mark.full
@pytest.mark.parametrize("form", ["base64", "PEM", "path"])
def test_the_command_line_names_each_narrowed_column_with_its_count(world: World, form: str) -> None:
    all_tables = made(world)
    world.variables["SNOWFLAKE_PRIVATE_KEY"] = key_pair(world, form)

    foreseen = world.cli("migrate", "--dry-run", "--json", "--source", "warehouse")
    ended = world.cli("migrate", "--json")
    report = json.loads(world.cli("report", "--json", "--source", "warehouse").out)

    assert ended.exit_code == 0, ended.err
    assert differing(world, all_tables) == []
    told = {
        t["source"] if "source" in t else t["table"]: t
        for line in ended.out.splitlines()
        for t in json.loads(line)["tables"]
    }
    for table in all_tables:
        counts = {c: n for c, n in changed_values(table).items() if n}
        assert {c: n["narrow"] for c, n in (told[table.name]["changed_values"] or {}).items()} == counts
    assert "narrow" in json.dumps(report)
    warnings = " ".join(w for t in json.loads(foreseen.out)["tables"] for w in t["warnings"])
    assert 'column "Latitude"' in warnings
    assert 'column "Absence Id"' in warnings


@pytest.mark.full
def test_every_event_of_its_inputs_is_answered_as_its_callers_read_it(world: World) -> None:
    all_tables = made(world)
    world.snowflake.set_delays(query_seconds=0.1)
    with world.aws(timeout_seconds=10, concurrency=1) as aws:
        for given in INPUTS:
            event = dict(given["event"])
            if event.get("resume_run_id") == "RUN":
                call(aws, {"source_name": "warehouse", "no_resume": True})
                event["resume_run_id"] = world.runs()[-1]["run_id"]
            answer = called_until_the_end(aws, event)[-1]
            for path in given["reads"]:
                read: Any = answer
                for part in path.split("."):
                    read = read[part]
                assert read == (200 if path == "statusCode" else "completed"), (event, answer)
    world.snowflake.set_delays()
    assert differing(world, all_tables) == []


@pytest.mark.full
def test_a_table_that_cannot_be_loaded_does_not_stop_the_others_of_its_files(world: World) -> None:
    all_tables = made(world)
    world.target.execute("DROP TABLE reporting_dev.dimaddress")

    ended = world.cli("migrate", "--json")

    assert ended.exit_code == 1
    assert "table DIMADDRESS is skipped" in ended.out
    assert differing(world, [table for table in all_tables if table.name != "DIMADDRESS"]) == []
    assert runs_of(world) == [("warehouse", "failed"), ("conflict", "completed")]


def test_older_env_files_and_configs_with_less_in_them_work_too(world: World) -> None:
    all_tables = made(world)
    env = (FILES / "env.example").read_text(encoding="utf-8")
    key = world.variables.pop("SNOWFLAKE_PRIVATE_KEY")
    older = env.replace("SNOWFLAKE_PRIVATE_KEY=MII...", f"SNOWFLAKE_RSA_KEY='{key}'")
    lines = (f"export {line}" if line[:1].isalpha() else line for line in older.splitlines())
    (world.folder / ".env").write_text("\r\n".join(lines), encoding="utf-8")
    config = json.loads((FILES / "config.json").read_text(encoding="utf-8"))
    config["sources"] = [config["sources"][2], config["sources"][0]]
    for key_name in ("parallel_threads", "max_retry_attempts", "lambda_timeout_buffer_seconds", "insert_only_mode"):
        del config[key_name]
    for source in config["sources"]:
        for table in source["tables"]:
            for name in [name for name, value in table.items() if value is None]:
                del table[name]
    world.config.write_text(json.dumps(config), encoding="utf-8-sig")

    ended = world.cli("migrate", "--json")

    assert ended.exit_code == 0, ended.err
    assert differing(world, all_tables) == []
    assert runs_of(world) == [("conflict", "completed"), ("warehouse", "completed")]
