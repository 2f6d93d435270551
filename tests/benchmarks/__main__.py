"""Run a bench by its name."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks import chunks, cold_start, copy_path, end_to_end, memory, plan, rejects, upsert, verify
from benchmarks.figures import Figure
from snowmelt.cli import console
from snowmelt.errors import DataError, SnowmeltError
from support import connector_5

Bench = Callable[[Path, int | None], Iterator[Figure]]
BENCHES: Mapping[str, Bench] = {
    "chunks": chunks.measure,
    "cold-start": cold_start.measure,
    "copy": copy_path.measure,
    "end-to-end": end_to_end.measure,
    "memory": memory.measure,
    "plan": plan.measure,
    "rejects": rejects.measure,
    "upsert": upsert.measure,
    "verify": verify.measure,
}


BY_CONNECTOR_5 = ("copy", "end-to-end")
"""Benches whose worker can be run by version 5 of Snowflake's connector."""
SUFFIX = "_connector_5"


def main() -> int:
    """Measure, and print a line per figure; 1 when a limit is exceeded or nothing could be measured."""
    options = _options()
    try:
        if options.connector == "5":
            return _by_connector_5(options)
        return _measured(options, BENCHES[options.bench](options.definition, options.rows))
    except SnowmeltError as error:
        console.err.print(f"{error.code}: {error.message}", markup=False)
        return error.exit_code


def _measured(options: argparse.Namespace, figures: Iterator[Figure]) -> int:
    exceeded = False
    for figure in figures:
        exceeded |= not figure.kept
        _show(options.bench, replace(figure, name=figure.name + options.suffix), as_json=options.json)
    return 1 if exceeded else 0


def _by_connector_5(options: argparse.Namespace) -> int:
    """Measure with another interpreter: its worker, where that is a process of its own, or else the whole bench.

    The stand-in for Snowflake stays with this one.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            python = str(connector_5.make_environment(Path(folder)))
        except connector_5.NotInstalledError as error:
            raise DataError(f"{error}; nothing was measured") from error
        if options.bench == "end-to-end":
            options.suffix = SUFFIX
            return _measured(options, end_to_end.measure(options.definition, options.rows, python))
        arguments = [options.bench, "--definition", str(options.definition), "--suffix", SUFFIX]
        arguments += ["--json"] * options.json + (["--rows", str(options.rows)] if options.rows else [])
        environment = {**os.environ, copy_path.SERVERS_PYTHON: sys.executable}
        return subprocess.run([python, "-m", "benchmarks", *arguments], env=environment, check=False).returncode


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("bench", choices=sorted(BENCHES), help="what to measure")
    parser.add_argument("--json", action="store_true", help="a line of JSON per figure")
    parser.add_argument("--rows", type=int, help="rows of the table, to try a bench with fewer than it is meant for")
    parser.add_argument("--connector", choices=["4", "5"], default="4", help="version of the worker's connector")
    parser.add_argument("--suffix", default="", help=argparse.SUPPRESS)
    parser.add_argument("--definition", type=Path, required=True, help="the state machine's ASL file")
    options = parser.parse_args()
    if options.connector == "5" and options.bench not in BY_CONNECTOR_5:
        parser.error(f"--connector 5 is for {' and '.join(BY_CONNECTOR_5)}")
    return options


def _show(bench: str, figure: Figure, *, as_json: bool) -> None:
    if as_json:
        console.show_json({"bench": bench, "name": figure.name, "value": figure.value, "unit": figure.unit})
    else:
        console.out.print(str(figure), markup=False)


if __name__ == "__main__":
    sys.exit(main())
