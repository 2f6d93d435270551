"""Mutants: small faults put into copies of this checkout, each of which some test must notice.

    scripts/mutants                 all of them
    scripts/mutants --only leases   those whose name, file or module of tests/mutants/ has that in it
    scripts/mutants --json          lines of JSON for machines

A mutant is a table of a file in tests/mutants/: the ``file`` that it changes, what stands there ``before`` and
``after``, the ``reason`` why that would be a fault, and the ``tests`` that could notice. Where no test can, since the
program does the same, ``equivalent`` argues it. A mutant whose ``before`` is not in its file exactly once is an error:
whoever changes the code changes the mutant with it.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).with_name("mutants")
PATIENCE_SECONDS = 600.0
"""A mutant that runs for so long is noticed: it loops, or waits for ever."""
_PASSED, _FAILED = 0, 1

Fate = Literal["killed", "survived", "equivalent", "error"]


@dataclass(frozen=True)
class Mutant:
    """A fault, and who could notice it."""

    name: str
    file: str
    before: str
    after: str
    reason: str
    tests: tuple[str, ...]
    equivalent: str = ""
    """Why no test can tell it from the original."""

    @property
    def problem(self) -> str | None:
        """Why it cannot be applied to this checkout."""
        path = ROOT / self.file
        if not path.is_file():
            return f"{self.file} is not there"
        found = path.read_text(encoding="utf-8").count(self.before)
        return None if found == 1 else f"what it changes is in {self.file} {found} times, not once"

    def changed(self, text: str) -> str:
        """The text of its file with the fault in it."""
        return text.replace(self.before, self.after)


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant, and what pytest said where that is of interest."""

    mutant: Mutant
    fate: Fate
    said: str = ""


def read(folder: Path = FOLDER) -> list[Mutant]:
    """All mutants, by file and in their order."""
    return [mutant for file in sorted(folder.glob("*.toml")) for mutant in _of_file(file)]


def _of_file(file: Path) -> Iterator[Mutant]:
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    usual = {"file": content.get("file"), "tests": content.get("tests", [])}
    for table in content["mutant"]:
        given = {**usual, **table, "name": f"{file.stem}: {table['name']}"}
        yield Mutant(**{**given, "tests": tuple(given["tests"])})


# --- copies of the checkout -----------------------------------------------------------------------------------------


class Copy:
    """A copy of the checkout whose own Python, and every process that it starts, imports the copy's source."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o755)  # PostgreSQL runs as another user
        listed = _git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
        for name in filter(None, listed):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        # Tests that ask git see the files of the copy.
        for command in (["init", "-q"], ["add", "-A"]):
            subprocess.run(["git", *command], cwd=folder, check=True)
        self.python = self._make_environment()

    def _make_environment(self) -> Path:
        """An environment that has the packages of this one; no variable that a process could lack is needed for it."""
        environment = self.folder / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        (packages,) = environment.glob("lib/python3*/site-packages")
        (mine,) = (Path(sys.prefix)).glob("lib/python3*/site-packages")
        # A line of a .pth file is put on the path as it is; .pth files over there, this project's own, are not read.
        (packages / "a_copy.pth").write_text(f"{self.folder / 'src'}\n{mine}\n", encoding="utf-8")
        for program in (Path(sys.prefix) / "bin").iterdir():
            if not (environment / "bin" / program.name).exists():
                (environment / "bin" / program.name).symlink_to(program)
        return environment / "bin" / "python"

    def run(self, tests: Sequence[str], patience_seconds: float | None = PATIENCE_SECONDS) -> tuple[int | None, str]:
        """Pytest's exit code, None when it did not end, and what it said."""
        for compiled in (self.folder / "src").rglob("__pycache__"):
            shutil.rmtree(compiled, ignore_errors=True)  # two versions of a file may be as long and as old
        command = [str(self.python), "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=patience_seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                return None, "it did not end"
        return process.returncode, said

    def fate_of(self, mutant: Mutant) -> Outcome:
        """Apply the mutant, run the tests that could notice, and take it back."""
        if mutant.problem:
            return Outcome(mutant, "error", mutant.problem)
        if mutant.equivalent:
            return Outcome(mutant, "equivalent", mutant.equivalent)
        path = self.folder / mutant.file
        original = path.read_text(encoding="utf-8")
        path.write_text(mutant.changed(original), encoding="utf-8")
        try:
            code, said = self.run(mutant.tests)
        finally:
            path.write_text(original, encoding="utf-8")
        if code in (_FAILED, None):
            return Outcome(mutant, "killed", said)
        return Outcome(mutant, "survived" if code == _PASSED else "error", said)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


# --- all of them ----------------------------------------------------------------------------------------------------


def fates(mutants: Sequence[Mutant], jobs: int, folder: Path) -> Iterator[Outcome]:
    """What becomes of each mutant, as soon as it is known; none is tried when the tests fail without any."""
    copies: SimpleQueue[Copy] = SimpleQueue()
    lock = threading.Lock()
    made = 0

    def copy() -> Copy:
        nonlocal made
        with lock:
            if copies.empty() and made < jobs:
                made += 1
                return Copy(folder / f"copy-{made}")
        return copies.get()

    def fate(mutant: Mutant) -> Outcome:
        mine = copy()
        try:
            return mine.fate_of(mutant)
        finally:
            copies.put(mine)

    with ThreadPoolExecutor(jobs) as threads:
        yield from threads.map(fate, mutants)


def failing(mutants: Sequence[Mutant], folder: Path) -> str | None:
    """What the tests say that fail without any mutant: they could notice nothing."""
    tests = sorted({test for mutant in mutants if not mutant.equivalent for test in mutant.tests})
    code, said = Copy(folder / "original").run(tests, patience_seconds=None) if tests else (_PASSED, "")
    return None if code == _PASSED else said


def main() -> int:
    """Print what became of the mutants; 0 when none has survived, 1 otherwise, 2 for a name that none has."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description="Apply each mutant and see who notices.")
    parser.add_argument(
        "--json", action="store_true", help="lines of JSON: how many were killed, survived, are equivalent"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose name or file has that in it")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="mutants at a time")
    options = parser.parse_args()
    mutants = [mutant for mutant in read() if options.only in mutant.name or options.only in mutant.file]
    if not mutants:
        print(f"no mutant has {options.only!r} in its name or file", file=sys.stderr)
        return 2
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="snowmelt-mutants-") as folder:
        Path(folder).chmod(0o755)
        said = failing(mutants, Path(folder))
        if said is not None:
            print(f"{said}\nthe tests fail without a mutant", file=sys.stderr)
            return 1
        for outcome in fates(mutants, options.jobs, Path(folder)):
            counts[outcome.fate] += 1
            print(f"{outcome.fate:<10}  {outcome.mutant.name}", file=sys.stderr, flush=True)
            if outcome.fate in ("survived", "error"):
                print(f"            {outcome.mutant.file}: {outcome.mutant.reason}", file=sys.stderr)
                print("            " + "\n            ".join(outcome.said.splitlines()[-3:]), file=sys.stderr)
    for name in ("killed", "survived", "equivalent", "error"):
        if options.json and (name != "error" or counts[name]):
            print(json.dumps({"bench": "mutants", "name": name, "value": counts[name], "unit": "mutants"}))
        elif not options.json:
            print(f"{name}: {counts[name]}")
    return 1 if counts["survived"] or counts["error"] else 0


if __name__ == "__main__":
    sys.exit(main())
