"""What was not looked at for known faults is never told as being without any."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "look-for-faults"
KNOWN = {"name": "attrs", "version": "26.1.0", "vulns": []}
FAULTY = {"name": "idna", "version": "1.0", "vulns": [{"id": "PYSEC-2024-60", "fix_versions": ["3.7"]}]}
UNKNOWN = {"name": "boto3", "skip_reason": "Dependency not found on PyPI and could not be audited: boto3 (1.44.5)"}


def looked(folder: Path, *, pip_audit: str, bandit: str = "echo Total lines of code: 30") -> tuple[int, str]:
    """The exit code and the words of the script, where the tools are programs that do as told."""
    for name, does in (("pip-audit", pip_audit), ("bandit", bandit)):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    environment = {**os.environ, "TOOLS": str(folder)}
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


def audit(*packages: dict[str, Any]) -> str:
    return f"cat <<'JSON'\n{json.dumps({'dependencies': packages, 'fixes': []})}\nJSON\n"


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ((KNOWN, KNOWN), 0, "2 of 2 packages looked at, 0 with known faults"),
        ((KNOWN, FAULTY), 1, "idna 1.0: PYSEC-2024-60, fixed in 3.7"),
        ((FAULTY, UNKNOWN), 1, "1 of 2 packages looked at, 1 with known faults"),
        ((KNOWN, UNKNOWN), 3, "NOT LOOKED AT: the database of faults does not know 1 of 2, such as boto3"),
        ((UNKNOWN, UNKNOWN), 3, "0 of 2 packages looked at"),
        ((), 3, "NOT LOOKED AT"),
    ],
)
def test_packages_that_the_database_does_not_know_are_not_called_sound(
    tmp_path: Path, packages: tuple[dict[str, Any], ...], code: int, words: str
) -> None:
    ended, said = looked(tmp_path, pip_audit=audit(*packages))

    assert ended == code, said
    assert words in said
    assert "30 lines of code" in said


def test_a_database_that_cannot_be_asked_is_told_with_its_reason(tmp_path: Path) -> None:
    ended, said = looked(tmp_path, pip_audit="echo 'ConnectionError: no route' >&2; exit 1")

    assert (ended, "NOT LOOKED AT" in said, "ConnectionError: no route" in said) == (3, True, True)


def test_what_is_wrong_with_the_code_is_shown(tmp_path: Path) -> None:
    ended, said = looked(tmp_path, pip_audit=audit(KNOWN), bandit="echo 'Issue: eval'; exit 1")

    assert (ended, "Issue: eval" in said) == (1, True)
