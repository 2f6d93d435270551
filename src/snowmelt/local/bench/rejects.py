"""What refused rows cost: a table with twenty of them, spread over all of it, against the same when none is refused."""

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from snowmelt import console
from snowmelt.errors import DataError
from snowmelt.local.aws import LocalAws
from snowmelt.local.bench import mixed_table
from snowmelt.local.bench.figures import Figure
from snowmelt.local.sandbox import Sandbox, started

ROWS = 1_000_000
REFUSED = 20
ROUNDS = 3
MOST_TIMES = 2.0
MOST_SECONDS = 600.0


@dataclass(frozen=True)
class Spent:
    """What a whole run took."""

    seconds: float
    peak_mb: float


def measure(definition: Path, rows: int | None = None) -> Iterator[Figure]:
    """Yield how much longer a run takes, and how much more memory, when PostgreSQL refuses twenty of its rows.

    The run is the deployed function's, with one thread, driven by the state machine. A CHECK refuses the rows: nothing
    shows them before PostgreSQL does. DataError when other rows than these stay out.
    """
    count = rows or ROWS
    with started() as sandbox, tempfile.TemporaryDirectory() as folder:
        console.err.print(f"making a table of {count:,} rows and 25 columns in Snowflake")
        mixed_table.make_target(sandbox)
        mixed_table.make_source(sandbox, count)
        config = _config(Path(folder))
        clean: list[Spent] = []
        refused: list[Spent] = []
        for _ in range(ROUNDS):
            clean.append(_run(sandbox, definition, config, count))
            sandbox.postgres.execute(
                f"ALTER TABLE mixed ADD CONSTRAINT few CHECK (id % {count // REFUSED} <> 7) NOT VALID",
                mixed_table.DATABASE,
            )
            refused.append(_run(sandbox, definition, config, count - REFUSED))
            sandbox.postgres.execute("ALTER TABLE mixed DROP CONSTRAINT few", mixed_table.DATABASE)
    pairs = list(zip(refused, clean, strict=True))
    seconds = median(bad.seconds / good.seconds for bad, good in pairs)
    memory = median(bad.peak_mb / good.peak_mb for bad, good in pairs)
    yield Figure("vs_clean_seconds", round(seconds, 2), "times", at_most=MOST_TIMES)
    yield Figure("vs_clean_memory", round(memory, 2), "times", at_most=MOST_TIMES)


def _config(folder: Path) -> Path:
    path = mixed_table.write_config(folder)
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "max_rejected_rows": REFUSED}), encoding="utf-8")
    return path


def _run(sandbox: Sandbox, definition: Path, config: Path, expected: int) -> Spent:
    environment = {"SNOWMELT_CONFIG": str(config), "SNOWMELT_STORE": "s3://snowmelt/store", **sandbox.environment()}
    with LocalAws(environment, definition, concurrency=1) as aws:
        began = time.monotonic()
        event = {"source_name": mixed_table.SOURCE_NAME, "no_resume": True}
        ended = aws.step_functions.run(event, timeout_seconds=MOST_SECONDS)
        seconds = time.monotonic() - began
        peak_mb = max(aws.functions.statistics().peak_rss_bytes.values()) / 2**20
    if ended.status != "SUCCEEDED":
        raise DataError(f"the execution {ended.status}: {ended.error}: {ended.cause}")
    if (loaded := mixed_table.target_rows(sandbox)) != expected:
        raise DataError(f"the bench loaded {loaded} rows where it expected {expected}, so its figures say nothing")
    console.err.print(f"{expected:,} rows: {seconds:.1f} s, {peak_mb:.0f} MB at most")
    return Spent(seconds, peak_mb)
