"""The command line: documented, predictable for pipes, readable for people."""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main

from snowmelt import __version__, cli
from snowmelt_sandbox.demo import data
from snowmelt_sandbox.postgres import Database
from support.forked import Command, Ended
from support.world import SOURCE, World, eventually

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "command-line.md"]


def tree(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its full name, groups included."""
    if name:
        yield name, command
    for child, inner in getattr(command, "commands", {}).items():
        yield from tree(inner, f"{name} {child}".strip())


def options_of(command: Any) -> list[tuple[str, str | None]]:
    """Its long options and what it says of each."""
    return [
        (option, parameter.help) for parameter in command.params for option in parameter.opts if option.startswith("--")
    ]


def alone(*arguments: str, cwd: Path, **environment: str) -> Ended:
    """``snowmelt ARGUMENTS`` where no server is."""
    here = {"PATH": os.defpath, "HOME": str(cwd), **environment}
    printed = cwd.with_name(f"{cwd.name}-{secrets.token_hex(4)}")
    return Command(*arguments, environment=here, printed=printed, folder=cwd).wait()


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# --- documentation --------------------------------------------------------------------------------------------------


def test_every_command_and_option_says_what_it_does() -> None:
    for name, command in tree(typer.main.get_command(cli.app)):
        assert command.help, name
        assert [option for option, text in options_of(command) if not text] == [], name


def test_every_command_and_option_is_documented() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = [
        f"{name} {option}"
        for name, command in tree(typer.main.get_command(cli.app))
        for option, _ in options_of(command)
        if not re.search(rf"{re.escape(option)}\b", pages)
    ]

    assert missing == []
    assert [name for name, _ in tree(typer.main.get_command(cli.app)) if f"snowmelt {name}" not in pages] == []


def test_the_page_names_no_option_that_there_is_not() -> None:
    known = {option for _, command in tree(typer.main.get_command(cli.app)) for option, _ in options_of(command)}

    named = set(re.findall(r"--[a-z][a-z-]+", PAGES[1].read_text(encoding="utf-8")))

    assert named <= known | {"--help", "--version"}


# --- without any server ---------------------------------------------------------------------------------------------


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert alone("--version", cwd=tmp_path) == Ended(0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("migrat",), "No such command 'migrat'"),
        (("migrate", "--confg", "x"), "No such option: --confg"),
        (("migrate", "--log-level", "chatty"), "'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        (("verify", "--log-format", "xml"), "'plain', 'json'"),
        (("status", "install", "now"), "unexpected extra argument"),
    ],
)
def test_a_call_that_cannot_be_understood_ends_with_two(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = alone(*arguments, cwd=tmp_path)

    assert (done.exit_code, done.out) == (2, "")
    assert says in " ".join(re.sub("[│╭╮╰╯─]", " ", done.err).split())
    assert "Traceback" not in done.err


def test_the_format_of_log_lines_is_the_options_then_the_variables_then_the_results(tmp_path: Path) -> None:
    asked = alone("migrate", "--log-format", "json", cwd=tmp_path)
    refused = alone("verify", "--json", "--log-format", "plain", cwd=tmp_path, SNOWMELT_LOG_FORMAT="json")

    assert (asked.exit_code, refused.exit_code) == (2, 2)
    (line,) = json_lines(asked.err)
    assert (line["level"], line["error_code"]) == ("ERROR", "ConfigError")
    assert refused.err.startswith("ConfigError: ")


def test_an_environment_that_is_wrong_is_named(tmp_path: Path) -> None:
    done = alone("config", "check", cwd=tmp_path, SNOWMELT_LOG_LEVEL="chatty")

    assert (done.exit_code, done.out) == (2, "")
    assert done.err.startswith("ConfigError: the environment is not right; SNOWMELT_LOG_LEVEL: ")
    assert len(done.err.splitlines()) == 1


def test_the_printed_ddl_installs_on_an_empty_server_and_again(tmp_path: Path, database: Database) -> None:
    done = alone("status", "install", "--print", cwd=tmp_path)

    assert (done.exit_code, done.err) == (0, "")
    for _ in range(2):
        database.execute(done.out)
    views = database.rows("SELECT viewname::text FROM pg_views WHERE schemaname = 'migration_status'")
    assert {"v_active_migrations", "v_table_progress"} <= {name for (name,) in views}


def test_the_printed_schema_accepts_the_demo_config_and_no_misspelt_key(tmp_path: Path) -> None:
    done = alone("config", "schema", cwd=tmp_path)
    schema = json.loads(done.out)
    demo = json.loads(data.config_path().read_text(encoding="utf-8"))

    assert done.exit_code == 0
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(demo, schema)
    demo["sources"][0]["tables"][0]["sauce"] = demo["sources"][0]["tables"][0].pop("source")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(demo, schema)


# --- with both servers ----------------------------------------------------------------------------------------------


def test_a_migration_for_people(world: World) -> None:
    world.add_table("entries", 1_500)
    world.configure()
    config = ("--config", str(world.config))

    done = world.cli("migrate", *config)
    shown = world.cli("status", *config)
    listed = world.cli("status", "--all", *config)

    (run,) = world.runs()
    assert done.exit_code == 0, done.err
    title, header, row, report = done.out.splitlines()
    assert title.strip() == f"run {run['run_id']} completed: 1 table, 1,500 rows"
    assert header.split() == [
        "table",
        "target",
        "status",
        "rows",
        "of",
        "chunks",
        "seconds",
        "loading",
        "rows/s",
        "bytes",
        "verified",
    ]
    assert row.split()[:6] == ["ENTRIES", "public.entries", "completed", "1,500", "1,500", "1/1"]
    assert report == f"report: {world.folder}/store/runs/{run['run_id']}/report.html"
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in done.err.splitlines())
    assert len([line for line in done.err.splitlines() if "chunk completed" in line]) == 1
    assert (shown.exit_code, shown.err) == (0, "")
    assert shown.out.startswith(f"run {run['run_id']}: completed, ")
    assert listed.out.splitlines()[1].split()[:2] == [run["run_id"], "completed"]
    assert world.equal("entries")


def test_a_migration_for_pipes(world: World) -> None:
    """A column that the target has not makes a warning, which is told once."""
    world.add_table("entries", 1_500)
    world.target.execute("ALTER TABLE entries DROP COLUMN note")
    world.configure()
    config = ("--config", str(world.config))

    done = world.cli("migrate", "--json", *config)
    shown = world.cli("status", "--json", *config)

    assert (done.exit_code, len(done.out.splitlines())) == (0, 1), done.err
    result = json.loads(done.out)
    assert (result["status"], result["rows"], result["resumed"]) == ("completed", 1_500, False)
    assert [(t["table"], t["rows"], t["status"]) for t in result["tables"]] == [("ENTRIES", 1_500, "completed")]
    assert len(result["warnings"]) == 1
    log = json_lines(done.err)
    assert all({"level", "timestamp", "message"} <= set(line) for line in log)
    assert [line["message"] for line in log].count(result["warnings"][0]) == 1
    (completed,) = [line for line in log if line["message"] == "chunk completed"]
    assert (completed["run_id"], completed["table"], completed["chunk"], completed["rows"]) == (
        result["run_id"],
        "ENTRIES",
        1,
        1_500,
    )
    assert json.loads(shown.out)["tables"] == result["tables"]


def test_a_migration_that_fails_ends_with_one_and_tells_both_people_and_pipes(world: World) -> None:
    world.add_table("entries", 30, truncate_onstart=True)  # the second start begins a new run
    world.target.execute("ALTER TABLE entries ADD CHECK (id < 15)")
    world.configure(max_retry_attempts=1)
    config = ("--config", str(world.config))

    failed = world.cli("migrate", "--json", *config)
    again = world.cli("migrate", *config)

    result = json.loads(failed.out)
    assert (failed.exit_code, result["status"]) == (1, "failed")
    assert "violates check constraint" in result["message"]
    assert [(t["status"], t["rows"]) for t in result["tables"]] == [("failed", 15)]
    assert again.exit_code == 1
    assert "violates check constraint" in again.out
    assert "Traceback" not in f"{failed.err}{again.err}"


@pytest.mark.full
def test_ctrl_c_ends_with_four_and_the_same_command_goes_on(world: World) -> None:
    world.add_table("entries", 20_000, truncate_onstart=True)
    world.configure(batch_size=1_000, parallel_threads=1)
    world.snowflake.set_delays(batch_seconds=1.0)
    config = ("--config", str(world.config))
    process = world.start_cli("migrate", "--json", *config)
    eventually(lambda: world.chunks("completed") or not process.alive, what="the first chunk is in")

    process.interrupt()
    stopped = process.wait()
    world.snowflake.set_delays()
    before = {chunk["chunk_id"]: chunk["completed_at"] for chunk in world.chunks("completed")}
    finished = world.cli("migrate", "--json", *config)

    assert (stopped.exit_code, stopped.out) == (4, "")
    assert json_lines(stopped.err)[-1]["message"] == "stopped; what was completed stays, start again to resume"
    assert (finished.exit_code, json.loads(finished.out)["resumed"]) == (0, True)
    assert before.items() <= {chunk["chunk_id"]: chunk["completed_at"] for chunk in world.chunks("completed")}.items()
    assert len(world.runs()) == 1
    assert world.equal("entries")


def test_status_says_what_is_not_there(world: World) -> None:
    world.add_table("entries", 10)
    world.configure()
    config = ("--config", str(world.config))

    before = world.cli("status", *config)
    installed = world.cli("status", "install", *config)
    empty = world.cli("status", *config)
    nameless = world.cli("status", "--run", "ledger-7", *config)

    assert before.exit_code == 2
    assert (
        "nothing has run here yet, there is no status schema; the first `snowmelt migrate` puts it in place"
        in before.err
    )
    assert (installed.exit_code, installed.out.split(":")[0]) == (0, "status schema installed")
    assert (empty.exit_code, empty.out) == (0, "no run yet\n")
    assert (nameless.exit_code, nameless.out) == (1, "")
    assert nameless.err == "MissingError: there is no run ledger-7; `snowmelt status --all` lists the runs there are\n"


def test_connections_are_tried_on_both_sides_whatever_one_of_them_says(world: World) -> None:
    world.add_table("entries", 10)
    world.configure(snowflake={"password": "wrong"}, postgres={"host": "127.0.0.1", "port": 1, "user": "x"})
    config = ("--config", str(world.config))

    done = world.cli("test-connections", "--json", *config)

    verdicts = {verdict["server"]: verdict for verdict in json.loads(done.out)["verdicts"]}
    assert (done.exit_code, done.err) == (1, "")
    assert {server: verdict["ok"] for server, verdict in verdicts.items()} == {"snowflake": False, "postgres": False}
    assert "refused to sign in user SANDBOX" in verdicts["snowflake"]["message"]
    assert "Connection refused" in verdicts["postgres"]["message"]


def test_connections_are_tried_though_no_table_is_enabled(world: World) -> None:
    world.add_table("entries", 10)
    world.tables[0]["enabled"] = False
    world.configure()
    config = ("--config", str(world.config))

    sound = world.cli("test-connections", "--json", *config)
    world.configure(postgres={"host": "127.0.0.1", "port": 1, "user": "x"})
    unreachable = world.cli("test-connections", "--json", *config)

    assert (sound.exit_code, sound.err) == (0, "")
    told = {verdict["server"]: verdict["message"] for verdict in json.loads(sound.out)["verdicts"]}
    assert "signed in as SANDBOX" in told["snowflake"]
    assert "no table of it is enabled" in told["snowflake"]
    assert "connected to" in told["postgres"]
    assert (unreachable.exit_code, unreachable.err) == (1, "")
    assert [verdict["ok"] for verdict in json.loads(unreachable.out)["verdicts"]] == [True, False]


def test_a_config_that_is_sound_is_said_to_be(world: World) -> None:
    world.add_table("entries", 10)
    world.configure()

    done = world.cli("config", "check", "--json", "--config", str(world.config))

    assert (done.exit_code, done.err) == (0, "")
    assert json.loads(done.out) == {"ok": True, "sources": [{"source_name": SOURCE, "enabled": True, "tables": 1}]}


@pytest.mark.parametrize(
    ("sink", "options"),
    [
        pytest.param("a closed pipe", (), id="people, a closed pipe"),
        pytest.param("/dev/full", ("--json",), id="json, /dev/full"),
        pytest.param("a closed pipe", ("--json",), id="json, a closed pipe", marks=pytest.mark.full),
        pytest.param("/dev/full", (), id="people, /dev/full", marks=pytest.mark.full),
    ],
)
def test_output_that_nobody_takes_is_said_and_has_an_exit_code_of_its_own(
    world: World, sink: str, options: tuple[str, ...]
) -> None:
    world.add_table("entries", 30)
    world.configure()
    if sink == "/dev/full":
        into = os.open(sink, os.O_WRONLY)
    else:
        unread, into = os.pipe()
        os.close(unread)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "snowmelt.cli", "migrate", *options],
            env=world._process_environment(),
            stdout=into,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
        )
    finally:
        os.close(into)

    said = done.stderr.decode()
    assert done.returncode == 5, said
    assert "the output cannot be written" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert [run["status"] for run in world.runs()] == ["completed"]
    assert world.equal("entries")
