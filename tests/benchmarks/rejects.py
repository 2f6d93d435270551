"""What refused rows cost: a table with one of each of twenty kinds, spread over all of it, against one with none."""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import refused_kinds
from benchmarks.figures import Figure
from snowmelt.cli import console
from snowmelt.errors import DataError
from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.sandbox import Sandbox, started

ROWS = 1_000_000
SOURCE_NAME = DATABASE = "bench"
CLEAN, WITH_REFUSED = "CLEAN", "WITH_REFUSED"
ROUNDS = 3
MOST_TIMES = 2.0
MOST_SECONDS = 600.0


@dataclass(frozen=True)
class Spent:
    """What a whole run took."""

    seconds: float
    peak_mb: float


def measure(definition: Path, rows: int | None = None) -> Iterator[Figure]:
    """Yield how much longer a run takes, and how much more memory, when a row of each kind is refused.

    The run is the deployed function's, with one thread, driven by the state machine. DataError when other rows than
    these are rejected, or not all of them are told with the reason.
    """
    count = rows or ROWS
    names = list(refused_kinds.KINDS)
    bad = {7 + place * (count // len(names)): name for place, name in enumerate(names)}
    with started() as sandbox, tempfile.TemporaryDirectory() as folder:
        console.err.print(f"making two tables of {count:,} rows and {len(names) + 1} columns in Snowflake")
        sandbox.postgres.create_database(DATABASE)
        sandbox.postgres.execute(refused_kinds.target_ddl(), DATABASE)
        for table, refused_rows in ((CLEAN, {}), (WITH_REFUSED, bad)):
            sandbox.snowflake.load_table(
                "BENCH", "PUBLIC", table, refused_kinds.rows(count, refused_rows), types=refused_kinds.source_types()
            )
        clean: list[Spent] = []
        refused: list[Spent] = []
        for _ in range(ROUNDS):
            clean.append(_run(sandbox, definition, _config(Path(folder), CLEAN), count))
            refused.append(_run(sandbox, definition, _config(Path(folder), WITH_REFUSED), count - len(bad)))
            _require_reasons(sandbox, bad)
    pairs = list(zip(refused, clean, strict=True))
    seconds = median(bad.seconds / good.seconds for bad, good in pairs)
    memory = median(bad.peak_mb / good.peak_mb for bad, good in pairs)
    yield Figure("vs_clean_seconds", round(seconds, 2), "times", at_most=MOST_TIMES)
    yield Figure("vs_clean_memory", round(memory, 2), "times", at_most=MOST_TIMES)


def _config(folder: Path, table: str) -> Path:
    moved = {
        "source": table,
        "target": "kinds",
        "truncate_onstart": True,
        "max_rejected_rows": len(refused_kinds.KINDS),
        "column_policies": refused_kinds.column_policies(),
    }
    source = {
        "source_name": SOURCE_NAME,
        "source_sf_database": "BENCH",
        "source_sf_schema": "PUBLIC",
        "target_pg_database": DATABASE,
        "target_pg_schema": "public",
        "tables": [moved],
    }
    config = {"parallel_threads": 1, "verification": "off", "sources": [source]}
    path = folder / f"{table.lower()}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def _require_reasons(sandbox: Sandbox, bad: Mapping[int, str]) -> None:
    kept = sandbox.postgres.rows(
        "SELECT convert_from(row_content, 'UTF8'), reason FROM migration_status.rejected_rows"
        " WHERE run_id = (SELECT max(run_id) FROM migration_status.runs)",
        database=DATABASE,
    )
    reasons = {int(json.loads(row)["ID"]): str(reason) for row, reason in kept}
    wrong = [name for row, name in bad.items() if refused_kinds.KINDS[name].reason not in reasons.get(row, "")]
    if wrong or len(reasons) != len(bad):
        raise DataError(f"{len(reasons)} of {len(bad)} rows are told, and these kinds not as they should: {wrong}")


def _run(sandbox: Sandbox, definition: Path, config: Path, expected: int) -> Spent:
    environment = {"SNOWMELT_CONFIG": str(config), "SNOWMELT_STORE": "s3://snowmelt/store", **sandbox.environment()}
    with LocalAws(environment, definition, concurrency=1) as aws:
        began = time.monotonic()
        event = {"source_name": SOURCE_NAME, "no_resume": True}
        ended = aws.step_functions.run(event, timeout_seconds=MOST_SECONDS)
        seconds = time.monotonic() - began
        peak_mb = max(aws.functions.statistics().peak_rss_bytes.values()) / 2**20
    if ended.status != "SUCCEEDED":
        raise DataError(f"the execution {ended.status}: {ended.error}: {ended.cause}")
    ((loaded,),) = sandbox.postgres.rows("SELECT count(*) FROM kinds", database=DATABASE)
    if loaded != expected:
        raise DataError(f"the bench loaded {loaded} rows where it expected {expected}, so its figures say nothing")
    console.err.print(f"{expected:,} rows: {seconds:.1f} s, {peak_mb:.0f} MB at most")
    return Spent(seconds, peak_mb)
