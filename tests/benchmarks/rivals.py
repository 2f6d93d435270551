"""What a user might pick instead, each in a virtual environment of its own: sling, and dlt by its fastest path."""

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from benchmarks import mixed_table
from snowmelt.cli import console
from snowmelt.errors import DataError
from snowmelt_sandbox.sandbox import Sandbox

SLING = ("sling-linux-amd64==1.4.11",)
DLT = (
    "dlt[postgres,parquet]==1.31.0",
    "adbc-driver-manager==1.13.0",
    "adbc-driver-postgresql==1.13.0",
    "snowflake-connector-python==4.8.1",
)
MOST_SECONDS = 400.0


@dataclass(frozen=True)
class Move:
    """Rows that a tool is to bring into a table of its own making."""

    statement: str
    table: str


class Rival(Protocol):
    """Another tool."""

    name: str
    schema: str
    """Where its tables are."""
    reads_bytes: bool
    """Whether it can bring any BINARY column over."""

    def bring_in(self, moves: Sequence[Move]) -> Mapping[str, str]:
        """Move the rows; why it could not, by table. A table that is there already is replaced."""
        ...


def installed(sandbox: Sandbox, folder: Path) -> tuple[Sequence[Rival], Mapping[str, str]]:
    """The tools that can be had, and why the others cannot; what they keep is in that folder."""
    makers: dict[str, tuple[Sequence[str], Callable[[Sandbox, Path, Path], Rival]]]
    makers = {"sling": (SLING, Sling), "dlt": (DLT, Dlt)}
    there: list[Rival] = []
    missing: dict[str, str] = {}
    for name, (requirements, make) in makers.items():
        try:
            there.append(make(sandbox, folder, _environment(name, requirements)))
        except DataError as error:
            missing[name] = error.message
    return there, missing


class Sling:
    """The Go program, without the detour over a stage and straight into the final table."""

    name = "sling"
    schema = "public"
    reads_bytes = False

    def __init__(self, sandbox: Sandbox, folder: Path, environment: Path) -> None:
        found = sorted(environment.glob("lib/python3*/site-packages/sling_linux_amd64/bin/sling-linux-amd64"))
        if not found:
            raise DataError("the package sling-linux-amd64 holds no program for this machine")
        self._program = found[0]
        self._home = folder / "sling"
        self._home.mkdir()
        snowflake, postgres = sandbox.snowflake, sandbox.postgres
        source = (
            f"snowflake://{snowflake.user}:{snowflake.password}@{snowflake.host}:{snowflake.port}/BENCH"
            f"?schema=PUBLIC&account={snowflake.account}&protocol=http"
        )
        target = f"postgresql://{postgres.user}@{postgres.host}:{postgres.port}/{mixed_table.DATABASE}?sslmode=disable"
        connections = {
            "SOURCE": {"type": "snowflake", "url": source, "use_bulk": False},
            "TARGET": {"type": "postgres", "url": target},
        }
        # YAML reads JSON.
        (self._home / "env.yaml").write_text(json.dumps({"connections": connections}), encoding="utf-8")

    def bring_in(self, moves: Sequence[Move]) -> Mapping[str, str]:
        """Move the rows, one process per table."""
        failures = {}
        for move in moves:
            done = _run(
                [
                    *(str(self._program), "run", "--mode", "full-refresh"),
                    *("--src-conn", "SOURCE", "--src-stream", move.statement),
                    *("--tgt-conn", "TARGET", "--tgt-object", f"public.{move.table}"),
                ],
                {"HOME": str(self._home), "SLING_HOME_DIR": str(self._home), **_SLING_SETTINGS},
            )
            if done.returncode:
                failures[move.table] = _reason(done.stdout + done.stderr)
        return failures


_SLING_SETTINGS = {"SLING_DIRECT_INSERT": "true", "SLING_DISABLE_TELEMETRY": "true"}


class Dlt:
    """The Python library, in a process of its own: Arrow batches of the connector, Parquet files, ADBC."""

    name = "dlt"
    schema = "dlt"
    reads_bytes = True

    def __init__(self, sandbox: Sandbox, folder: Path, environment: Path) -> None:
        self._python = environment / "bin" / "python"
        self._home = folder / "dlt"
        self._home.mkdir()
        postgres = sandbox.postgres
        self._order = {
            "snowflake": sandbox.snowflake.connection_parameters(
                database="BENCH", schema="PUBLIC", platform_detection_timeout_seconds=0.0
            ),
            "postgres": f"postgresql://{postgres.user}:unused@{postgres.host}:{postgres.port}/{mixed_table.DATABASE}",
            "pipelines_dir": str(self._home),
        }

    def bring_in(self, moves: Sequence[Move]) -> Mapping[str, str]:
        """Move the rows, all tables in one process."""
        order = self._order | {"moves": [{"statement": m.statement, "table": m.table} for m in moves]}
        script = str(files(__package__).joinpath("dlt_pipeline.py"))
        environment = {"HOME": str(self._home), "DLT_DATA_DIR": str(self._home), **_DLT_SETTINGS}
        done = _run([str(self._python), script, json.dumps(order)], environment)
        if done.returncode:
            return {move.table: _reason(done.stdout + done.stderr) for move in moves}
        failures: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return failures


_DLT_SETTINGS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "CRITICAL",
    "DATA_WRITER__FILE_MAX_ITEMS": "100000",  # so many rows in a file: several are loaded at once
}


def _environment(name: str, requirements: Sequence[str]) -> Path:
    """A virtual environment with just these packages, beside this one; it is made when it is needed first."""
    folder = Path(sys.prefix).with_name(f".venv-{name}")
    done, wanted = folder / ".set-up", "\n".join(requirements)
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return folder
    console.err.print(f"setting up {folder.name} with {', '.join(requirements)} (once)")
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    tried = subprocess.run([*pip, *requirements], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise DataError(f"{name} cannot be installed: {_reason(tried.stderr)}")
    done.write_text(wanted, encoding="utf-8")
    return folder


def _run(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            env={"PATH": os.defpath, "TZ": "UTC", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired as expired:
        return subprocess.CompletedProcess(command, 1, "", f"it was not done after {expired.timeout:g} s")


def _reason(output: str) -> str:
    """The last line that says something, without its colours."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines() if line.strip()]
    return (lines or ["it said nothing"])[-1][:300]
