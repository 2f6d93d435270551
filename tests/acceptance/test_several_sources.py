"""``snowmelt migrate`` without --source takes every enabled source; what stops one does not stop the others."""

import json
from pathlib import Path

import pytest

from support.function_calls import SECOND, two_sources
from support.world import SOURCE, World


def both(world: World) -> None:
    world.add_table("entries", 300, truncate_onstart=True)
    world.add_table("notes", 200, truncate_onstart=True)
    world.configure()
    two_sources(world)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="one after the other", marks=pytest.mark.full),
        pytest.param(("--parallel-sources", "2"), id="at once"),
    ],
)
def test_every_enabled_source_has_a_run_of_its_own_and_a_failure_is_the_commands(
    world: World, options: tuple[str, ...]
) -> None:
    both(world)
    world.target.execute("ALTER TABLE entries ADD CHECK (id < 100)")

    ended = world.cli("migrate", "--json", *options)

    assert ended.exit_code == 1
    results = [json.loads(line) for line in ended.out.splitlines()]
    assert {r["source_name"]: r["status"] for r in results} == {SOURCE: "failed", SECOND: "completed"}
    assert world.equal("notes")
    assert sorted(run["source_name"] for run in world.runs()) == sorted([SOURCE, SECOND])


def test_an_env_file_may_follow_the_command_and_adds_to_the_environment(world: World, tmp_path: Path) -> None:
    both(world)
    config = json.loads(world.config.read_text())
    config["sources"][0]["source_name"] = "${NAME_OF_IT}"
    world.config.write_text(json.dumps(config))
    env = tmp_path / "some.env"
    env.write_text("# a comment\nNAME_OF_IT=from the file\n")

    ended = world.cli("migrate", "--json", "--source", "from the file", "--env-file", str(env))
    lacking = world.cli("migrate", f"--env-file={tmp_path / 'none.env'}")

    assert ended.exit_code == 0, ended.err
    assert [run["source_name"] for run in world.runs()] == ["from the file"]
    assert lacking.exit_code == 2
    assert "none.env cannot be read: No such file" in lacking.err


def test_an_age_without_a_unit_and_options_of_one_source_are_refused(world: World) -> None:
    both(world)

    bare = world.cli("migrate", "--resume-max-age", "168")
    tables = world.cli("migrate", "--tables", "ENTRIES")

    assert (bare.exit_code, tables.exit_code) == (2, 2)
    assert "--resume-max-age 168 needs a unit, as in 168h or 168d" in bare.err
    assert f"this is for {SOURCE}, {SECOND}; add --source" in tables.err
    assert world.status("SELECT to_regclass('migration_status.runs')::text AS there") == [{"there": None}]
