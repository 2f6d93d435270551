"""Run a bench by its name."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks import chunks, cold_start, copy_path, end_to_end, memory, plan, rejects, upsert, verify
from benchmarks.figures import Figure
from snowmelt.cli import console
from snowmelt.errors import SnowmeltError

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


def main() -> int:
    """Measure, and print a line per figure; 1 when a limit is exceeded or nothing could be measured."""
    options = _options()
    exceeded = False
    try:
        for figure in BENCHES[options.bench](options.definition, options.rows):
            exceeded |= not figure.kept
            _show(options.bench, figure, as_json=options.json)
    except SnowmeltError as error:
        console.err.print(f"{error.code}: {error.message}", markup=False)
        return error.exit_code
    return 1 if exceeded else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("bench", choices=sorted(BENCHES), help="what to measure")
    parser.add_argument("--json", action="store_true", help="a line of JSON per figure")
    parser.add_argument("--rows", type=int, help="rows of the table, to try a bench with fewer than it is meant for")
    parser.add_argument("--definition", type=Path, required=True, help="the state machine's ASL file")
    return parser.parse_args()


def _show(bench: str, figure: Figure, *, as_json: bool) -> None:
    if as_json:
        console.show_json({"bench": bench, "name": figure.name, "value": figure.value, "unit": figure.unit})
    else:
        console.out.print(str(figure), markup=False)


if __name__ == "__main__":
    sys.exit(main())
