"""Disturbed migrations end exact; and where one does not, the harness says so."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fault_injection import lane as lane_module
from fault_injection import trial
from fault_injection.effects import Effects
from fault_injection.kinds import COPY, Case, Kind, Strike, case
from fault_injection.lane import Lane
from fault_injection.modes import MODES, Mode
from fault_injection.traps import Moment
from faults.conftest import DEFINITION
from snowmelt_sandbox.child_process import start_child
from snowmelt_sandbox.plain_install import PYTHONPATH
from snowmelt_sandbox.postgres_programs import DEFAULT_VERSION

SEED = 21
COUNTS = (
    *("lost", "doubled", "changed", "false_completed", "missing_indexes", "false_failed"),
    *("stuck", "unexplained", "broken"),
)


def faults(folder: Path, *arguments: str, within_seconds: float) -> tuple[int, dict[str, Any], str]:
    """What ``scripts/faults`` does once it is set up: its exit code, its line of JSON, and what else it said."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "PYTHONPATH": f"{PYTHONPATH}{os.pathsep}{Path(__file__).parents[1]}",
    }
    command = [sys.executable, "-m", "fault_injection", "--definition", str(DEFINITION), "--keep", str(folder)]
    with start_child(
        [*command, "--json", *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        out, said = process.communicate(timeout=within_seconds)
    return process.returncode, json.loads(out), said.decode()


def test_a_few_disturbed_migrations_end_exact(tmp_path: Path) -> None:
    exit_code, told, said = faults(tmp_path, "--seed", str(SEED), "--cases", "4", "--lanes", "2", within_seconds=400)
    assert {name: told[name] for name in COUNTS} == dict.fromkeys(COUNTS, 0), said
    assert (exit_code, told["cases"]) == (0, 4)
    assert told["not_reached"] <= 2


@pytest.mark.full(minutes=8)
@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_a_hundred_disturbed_migrations_in_four_parts_end_exact(tmp_path: Path, seed: int) -> None:
    exit_code, told, said = faults(tmp_path, "--seed", str(seed), "--cases", "25", within_seconds=1_800)
    assert {name: told[name] for name in COUNTS} == dict.fromkeys(COUNTS, 0), said
    assert (exit_code, told["cases"]) == (0, 25)
    assert len(told["faults"]) > 10


VERDICT = "UPDATE migration_status.runs SET status = CASE"
SPOILED = (
    ("refilled", "DELETE FROM refilled WHERE id = 7", {"lost": 1}),
    ("copied", "INSERT INTO copied SELECT * FROM copied WHERE id = 7", {"doubled": 1}),
    ("refilled", "UPDATE refilled SET note = 'spoiled' WHERE id = 7", {"changed": 1}),
    ("refilled", "DROP INDEX refilled_booked", {"missing_indexes": 1}),
)


def mode_of(name: str) -> Mode:
    return next(mode for mode in MODES if mode.name == name)


class Spoiler(Effects):
    """Does behind the migration's back what it must never do itself."""

    statement = ""

    def spoil(self) -> None:
        self._database.execute(self.statement)


def test_what_a_migration_would_do_wrong_is_counted(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Kind("it is spoiled", ((VERDICT, 1),), ("before",), effect="spoil")
    monkeypatch.setattr(trial, "Effects", Spoiler)
    monkeypatch.setattr(lane_module, "versions", lambda: (DEFAULT_VERSION,))
    for name, statement, wrong in SPOILED:
        Spoiler.statement = statement
        strike = Strike(kind, Moment("postgres", VERDICT, 1), "before", 0.1, "", "")
        result = lane.run(Case(0, mode_of(name), "command", (strike,)))
        counted = {count: getattr(result, count) for count in COUNTS[:6] if getattr(result, count)}
        assert counted == {**wrong, "false_completed": 1}, result
        assert not result.is_right

    killed = Kind("the worker is killed", ((COPY, 1),), ("before",), effect="kill_worker", excuses="nothing")
    strike = Strike(killed, Moment("postgres", COPY, 1), "before", 0.1, "", "")
    result = lane.run(Case(0, mode_of("refilled"), "command", (strike,)))
    assert (result.outcome, result.false_failed, result.is_right) == ("resumed", 1, False), result

    result = lane.run(Case(0, mode_of("text_marked"), "command", (strike,)))
    assert (result.outcome, result.is_right) == ("left_out", True), result
    assert "ICU" in result.first


@pytest.mark.full
def test_a_case_is_told_in_full_when_it_is_asked_for(tmp_path: Path) -> None:
    exit_code, told, said = faults(tmp_path, "--seed", str(SEED), "--only", "7", within_seconds=120)
    assert (exit_code, told["cases"]) == (0, 1), said
    assert str(case(SEED, 7)) in " ".join(said.split())
