"""How fast rows get from Snowflake into PostgreSQL, against psql with a ready file and what a user might pick."""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import content, cost, edges, mixed_table, psql, rivals
from benchmarks.content import Difference, Table
from benchmarks.figures import Figure
from benchmarks.rivals import Move, Rival
from snowmelt.cli import console
from snowmelt.errors import DataError
from snowmelt_sandbox.aws.stack import MEMORY_SETTINGS
from snowmelt_sandbox.plain_install import PYTHONPATH
from snowmelt_sandbox.postgres import LocalPostgres, new_password
from snowmelt_sandbox.sandbox import Sandbox
from snowmelt_sandbox.snowflake import LocalSnowflake

ROWS = 4_000_000
ROUNDS = 3
LEAST_VS = {"psql_binary": 0.85, "sling": 5.0, "dlt": 3.0}
OURS = "ours"
PREFIX = "rival_"
AS_IT_IS = "SELECT * FROM mixed"
WITH_DIGITS = "SELECT * EXCLUDE (digest), HEX_ENCODE(digest) AS digest FROM mixed"
"""For a tool that cannot bring the BINARY column over."""


@dataclass(frozen=True)
class Spent:
    """What bringing the rows in took: the whole command, and of ours the part that loads chunks."""

    seconds: float
    cpu_seconds: float
    loading_seconds: float = 0.0


def measure(definition: Path, rows: int | None = None, python: str = sys.executable) -> Iterator[Figure]:
    """Yield how one worker compares: with ``\\copy`` of a ready file, with sling and with dlt.

    All take turns, our worker by the interpreter ``python``. What became of the values is printed. DataError in the end
    when a tool could not be compared with, or when a value that we brought over is not what it was.
    """
    count = rows or ROWS
    with (
        LocalSnowflake() as snowflake,
        # What the server does on its own time is kept out of what is measured.
        LocalPostgres(
            password=new_password(), autovacuum=False, max_wal_size="8GB", shared_buffers="512MB"
        ) as postgres,
        tempfile.TemporaryDirectory() as folder,
    ):
        bench = _Bench(Sandbox(snowflake, postgres), Path(folder), count, python)
        bench.compare_edges()
        small = bench.spent_on_few_rows()
        ready = bench.ready_file()
        spent = bench.spent(ready)
        bench.compare_content()
    yield from _figures(spent, small, count)
    if bench.problems:
        raise DataError("; ".join(bench.problems))


def _figures(spent: Mapping[str, Sequence[Spent]], small: Spent, count: int) -> Iterator[Figure]:
    ours = spent[OURS]
    for other in (name for name in spent if name != OURS):
        whole = _ratio(spent[other], [each.seconds for each in ours])
        loading = _ratio(spent[other], [each.loading_seconds for each in ours])
        # A ready file knows no plan: psql is compared with the loading of chunks, tools against the whole command.
        of_psql = other == "psql_binary"
        yield Figure(f"vs_{other}", loading if of_psql else whole, "times", at_least=LEAST_VS[other])
        if of_psql:
            yield Figure(f"vs_{other}_whole_command", whole, "times")
    for name, each in spent.items():
        yield Figure(f"seconds_{name}", round(statistics.median(s.seconds for s in each), 2), "s")
    yield Figure("seconds_ours_few_rows", round(small.seconds, 2), "s")
    seconds = statistics.median(s.loading_seconds for s in ours) * 1_000_000 / count
    cpu_seconds = statistics.median(s.cpu_seconds - small.cpu_seconds for s in ours) * 1_000_000 / count
    yield Figure("rows_per_second", round(1_000_000 / seconds), "rows/s")
    yield Figure("worker_seconds_per_million_rows", round(seconds, 2), "s")
    yield Figure("worker_cpu_seconds_per_million_rows", round(cpu_seconds, 2), "s")
    work = cost.Work(seconds_per_million_rows=seconds, cpu_seconds_per_million_rows=cpu_seconds)
    shape = cost.Shape()
    estimate = cost.estimate(work, shape)
    console.err.print(f"{shape.rows:,} rows with {shape.memory_mb:,} MB, {shape.workers} workers: {estimate}")
    yield Figure(f"usd_{shape.rows // 1_000_000}_million_rows", round(estimate.usd, 3), "USD")


def _ratio(other: Sequence[Spent], ours: Sequence[float]) -> float:
    """The median of the rounds' own ratios: what slows the machine down for a while slows all of a round."""
    return round(statistics.median(o.seconds / seconds for o, seconds in zip(other, ours, strict=True)), 2)


class _Bench:
    """Both servers with the tables that are moved, and the tools that move them."""

    def __init__(self, sandbox: Sandbox, folder: Path, count: int, python: str) -> None:
        self._sandbox = sandbox
        self._postgres = sandbox.postgres
        self._folder = folder
        self._count = count
        self._python = python
        console.err.print(f"making a table of {count:,} rows and 25 columns in Snowflake")
        mixed_table.make_target(sandbox)
        mixed_table.make_source(sandbox, count)
        mixed_table.make_truth(sandbox, count)
        edges.make(sandbox)
        self._rivals, missing = rivals.installed(sandbox, folder)
        self.problems = [f"{name} is missing: {reason}" for name, reason in missing.items()]

    # --- content ---

    def compare_edges(self) -> None:
        """Print what became of values at the edges; a tool that can bring over no column at all is missing."""
        truth = Table("edges_truth")
        migrate = self._migration("EDGES")
        migrate()
        console.err.print("values at the edges of every type:")
        self._show_ours(content.differences(self._postgres, truth, Table("edges")))
        for rival in tuple(self._rivals):
            # Each column on its own: a tool that fails at one may still do the others.
            moves = {column: Move(f"SELECT id, {column} FROM edges", PREFIX + column) for column in edges.COLUMNS}
            failures = rival.bring_in(tuple(moves.values()))
            if len(failures) == len(moves):
                self._drop(rival, f"it cannot bring over any column: {next(iter(failures.values()))}")
                continue
            _show(rival.name, self._edges_of(rival, truth, failures))

    def _edges_of(self, rival: Rival, truth: Table, failures: Mapping[str, str]) -> Iterator[Difference]:
        for column in edges.COLUMNS:
            table = PREFIX + column
            if table in failures:
                yield Difference(column, f"stops the load: {failures[table]}")
            else:
                yield from content.differences(self._postgres, truth, Table(table, rival.schema), [column])

    def compare_content(self) -> None:
        """Print what became of the large table's values on the way of each tool."""
        console.err.print("the large table:")
        for rival in self._rivals:
            without = "" if rival.reads_bytes else " (given BINARY as its digits)"
            found = content.differences(self._postgres, Table("mixed_truth"), Table(f"{PREFIX}mixed", rival.schema))
            _show(f"{rival.name}{without}", found)

    def _show_ours(self, found: Iterable[Difference]) -> None:
        differences = tuple(found)
        _show(OURS, differences)
        if differences:
            self.problems.append(f"we changed {', '.join(sorted({d.column for d in differences}))}")

    # --- time ---

    def spent_on_few_rows(self) -> Spent:
        """What the command takes for a handful of rows: all that is not the rows' own."""
        return self._timed(OURS, self._migration("EDGES"))

    def ready_file(self) -> Path:
        """The large table as psql reads it fastest. We bring it in for that, and what we brought in is compared."""
        migrate = self._migration("MIXED")
        migrate()
        console.err.print("the large table:")
        self._show_ours(content.differences(self._postgres, Table("mixed_truth"), Table("mixed")))
        ready = self._folder / "rows.binary"
        psql.copy(self._postgres, f"\\copy mixed TO '{ready}' (FORMAT binary)")
        return ready

    def spent(self, ready: Path) -> Mapping[str, Sequence[Spent]]:
        """What each way took, round by round; a tool that fails in one of them is missing."""
        ways: dict[str, Callable[[], None]] = {
            OURS: self._migration("MIXED"),
            "psql_binary": partial(self._copy_ready, ready),
            **{rival.name: partial(_move, rival) for rival in self._rivals},
        }
        spent: dict[str, list[Spent]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name in tuple(spent):
                self._postgres.execute("TRUNCATE mixed", mixed_table.DATABASE)
                self._postgres.execute("CHECKPOINT", mixed_table.DATABASE)
                rival = next((r for r in self._rivals if r.name == name), None)
                try:
                    each = self._timed(name, ways[name])
                    self._refuse_other_count(Table(f"{PREFIX}mixed", rival.schema) if rival else Table("mixed"))
                except DataError as error:
                    if rival is None:
                        raise
                    self._drop(rival, error.message)
                    del spent[name]
                    continue
                spent[name].append(each)
                loading = f", of it loading {each.loading_seconds:.2f} s" if name == OURS else ""
                console.err.print(f"{name}: {each.seconds:.2f} s, {each.cpu_seconds:.2f} s of processor{loading}")
        return spent

    def _timed(self, name: str, bring_in: Callable[[], None]) -> Spent:
        cpu_began, began = _cpu_seconds_of_children(), time.perf_counter()
        bring_in()
        seconds, cpu_seconds = time.perf_counter() - began, _cpu_seconds_of_children() - cpu_began
        return Spent(seconds, cpu_seconds, _loading_seconds(self._postgres) if name == OURS else 0.0)

    def _migration(self, table: str) -> Callable[[], None]:
        config = mixed_table.write_config(self._folder, table=table)
        return partial(_migrate, self._sandbox, self._folder, config, self._python)

    def _copy_ready(self, ready: Path) -> None:
        psql.copy(self._postgres, f"\\copy mixed FROM '{ready}' (FORMAT binary)")

    def _refuse_other_count(self, table: Table) -> None:
        query = f"SELECT count(*) FROM {table.schema}.{table.name}"
        ((found,),) = self._postgres.rows(query, database=mixed_table.DATABASE)
        if found != self._count:
            raise DataError(f"{found} rows of {self._count} are in {table.name}, so the figures say nothing")

    def _drop(self, rival: Rival, reason: str) -> None:
        self._rivals = tuple(r for r in self._rivals if r is not rival)
        self.problems.append(f"{rival.name} is missing: {reason}")


def _show(name: str, differences: Iterable[Difference]) -> None:
    found = tuple(differences)
    for difference in found:
        console.err.print(f"  {name}: {difference.column}: {difference.what}", markup=False)
    if not found:
        console.err.print(f"  {name}: every row, value and type as it was", markup=False)


def _cpu_seconds_of_children() -> float:
    """Of those that have ended: the servers go on."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _loading_seconds(postgres: LocalPostgres) -> float:
    """From the claim of the latest run's first chunk to the mark of its last."""
    query = (
        "SELECT extract(epoch FROM max(completed_at) - min(started_at))::float8"
        " FROM migration_status.chunks GROUP BY run_id ORDER BY min(started_at) DESC LIMIT 1"
    )
    ((seconds,),) = postgres.rows(query, database=mixed_table.DATABASE)
    return float(seconds)


def _migrate(sandbox: Sandbox, folder: Path, config: Path, python: str) -> None:
    """The command, as a user would run it, with the packages that a plain install has."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "PYTHONPATH": PYTHONPATH,
        "SNOWMELT_STORE": str(folder / "store"),
        **MEMORY_SETTINGS,
        **sandbox.environment(),
    }
    command = [python, "-m", "snowmelt.cli", "migrate", "--config", str(config), "--no-resume", "--json"]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"the migration failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    if json.loads(done.stdout)["status"] != "completed":
        raise DataError("the migration did not complete; run snowmelt status")


def _move(rival: Rival) -> None:
    statement = AS_IT_IS if rival.reads_bytes else WITH_DIGITS
    if failures := rival.bring_in([Move(statement, f"{PREFIX}mixed")]):
        raise DataError(f"it could not bring the rows over: {'; '.join(failures.values())}")
