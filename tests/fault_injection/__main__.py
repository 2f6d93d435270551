"""Migrations that are disturbed, each from a seed and a number, and what is in the target in the end."""

import argparse
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fault_injection.trial import Result
from snowmelt.cli import console
from snowmelt_sandbox.child_process import start_child

LANES = 3
"""Cases at once: most of a case is waiting."""
TOLD_EVERY = 50
"""Cases between two lines about how far it is."""
COUNTS = ("lost", "doubled", "changed", "false_completed", "missing_indexes", "false_failed")


def main() -> int:
    """Run the cases; 0 when every one of them ended exact."""
    options = _options()
    numbers = [options.only] if options.only is not None else list(range(options.cases))
    folder = options.keep or Path(tempfile.mkdtemp(prefix="snowmelt-faults-"))
    began = time.monotonic()
    console.err.print(f"{len(numbers)} cases of seed {options.seed}; logs are in {folder}")
    results, broken = _run(numbers, options, folder)
    summary = _summary(results, broken, seed=options.seed, seconds=time.monotonic() - began)
    for line in (*broken, *(_told(r) for r in results if not r.is_right)):
        console.err.print(line, markup=False)
    if options.json:
        console.show_json(summary)
    else:
        _show(summary)
    return 0 if not broken and len(results) == len(numbers) and all(r.is_right for r in results) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of which everything that is drawn follows")
    parser.add_argument("--cases", type=int, default=500, help="how many")
    parser.add_argument("--only", type=int, metavar="CASE", help="just the case of that number, told in full")
    parser.add_argument("--lanes", type=int, default=LANES, help="how many at once")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    parser.add_argument("--verbose", action="store_true", help="a line for every case")
    parser.add_argument("--keep", type=Path, help="where logs go; a temporary folder without it")
    parser.add_argument("--definition", type=Path, required=True, help="the state machine's ASL file")
    return parser.parse_args()


def _run(numbers: Sequence[int], options: argparse.Namespace, folder: Path) -> tuple[list[Result], list[str]]:
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers:
        waiting.put(number)
    results: list[Result] = []
    broken: list[str] = []

    def serve(lane: int) -> None:
        home = folder / f"lane-{lane}"
        home.mkdir(parents=True, exist_ok=True)
        with _lane(home, options) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            while True:
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    process.stdin.close()
                    return
                process.stdin.write(f"{number}\n".encode())
                process.stdin.flush()
                answer = process.stdout.readline()
                if not answer:
                    broken.append(f"case {number}: the lane ended without an answer, see {home}")
                    return
                told = json.loads(answer)
                if "broken" in told:
                    broken.append(f"{told['case']}: {told['broken']}")
                    continue
                results.append(Result(**told))
                if len(results) % TOLD_EVERY == 0:
                    wrong = sum(not result.is_right for result in results)
                    console.err.print(f"{len(results)} of {len(numbers)} cases have ended, {wrong} of them wrong")
                if options.verbose or options.only is not None:
                    console.err.print(_told(results[-1]), markup=False)

    threads = [threading.Thread(target=serve, args=(n,), daemon=True) for n in range(min(options.lanes, len(numbers)))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        console.err.print(f"stopped: {len(results)} of {len(numbers)} cases have ended, these are counted")
        return sorted(results, key=lambda r: r.number), broken
    broken += [f"case {waiting.get()} was not run" for _ in range(waiting.qsize())]
    return sorted(results, key=lambda r: r.number), broken


def _lane(home: Path, options: argparse.Namespace) -> "subprocess.Popen[bytes]":
    with (home / "lane.log").open("ab") as log:
        return start_child(
            [
                *(sys.executable, "-m", "fault_injection.lane"),
                *("--seed", str(options.seed), "--folder", str(home), "--definition", str(options.definition)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )


def _summary(results: Sequence[Result], broken: Sequence[str], *, seed: int, seconds: float) -> dict[str, Any]:
    by_kind: defaultdict[str, Counter[str]] = defaultdict(Counter)
    by_mode: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        wrong = {name: n for name in COUNTS if (n := getattr(result, name))}
        for counter in (by_kind[result.kind], by_mode[result.mode]):
            counter.update({result.outcome: 1, **wrong})
    return {
        "cases": len(results),
        **{name: sum(getattr(r, name) for r in results) for name in COUNTS},
        "stuck": sum(r.outcome == "stuck" for r in results),
        "unexplained": sum(bool(r.unexplained) for r in results),
        "broken": len(broken),
        "left_out": sum(r.outcome == "left_out" for r in results),
        "not_reached": sum(r.outcome == "not_reached" for r in results),
        "seed": seed,
        "seconds": round(seconds, 1),
        "faults": {kind: dict(sorted(outcomes.items())) for kind, outcomes in sorted(by_kind.items())},
        "modes": {mode: dict(sorted(outcomes.items())) for mode, outcomes in sorted(by_mode.items())},
    }


def _told(result: Result) -> str:
    wrong = " ".join(f"{name}={getattr(result, name)}" for name in COUNTS if getattr(result, name))
    return (
        f"{result.case}; {result.outcome} after {result.starts} starts in {result.seconds} s; {wrong} "
        f"struck {result.struck!r}; first: {result.first} {result.unexplained} {result.false_failure}"
    )


def _show(summary: dict[str, Any]) -> None:
    for kind, outcomes in (*summary["faults"].items(), *summary["modes"].items()):
        console.out.print(f"{kind}: {', '.join(f'{n} {outcome}' for outcome, n in outcomes.items())}", markup=False)
    counts = ", ".join(f"{summary[name]} {name.replace('_', ' ')}" for name in COUNTS)
    console.out.print(f"{summary['cases']} cases in {summary['seconds']} s: {counts}")


if __name__ == "__main__":
    sys.exit(main())
