"""What verifying a loaded table takes: PostgreSQL's part against a plain hash of its rows, and all against the load."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from psycopg2 import sql as compose

from benchmarks import mixed_table
from benchmarks.figures import Figure
from snowmelt import manifest_store, runner
from snowmelt.cli import console
from snowmelt.errors import DataError
from snowmelt.postgres.session import Session
from snowmelt.settings import Settings
from snowmelt.verification import command as verify_action
from snowmelt.verification import target_hashes
from snowmelt.verification.source_rows import Asked
from snowmelt.verification.target_hashes import Hashing, TargetSide
from snowmelt.wiring import Wiring
from snowmelt_sandbox.postgres import LocalPostgres, new_password
from snowmelt_sandbox.sandbox import Sandbox
from snowmelt_sandbox.snowflake import LocalSnowflake

ROWS = 2_000_000
ROUNDS = 5
MOST_VS_PG_HASH = 3.0
PLAIN_HASH = compose.SQL("SELECT count(*) AS rows, sum(hashtext(t::text)) AS hashes FROM mixed t")


def measure(definition: Path, rows: int | None = None) -> Iterator[Figure]:
    """Yield how many times a plain hash of the table PostgreSQL's part of a verification takes, and seconds of it all.

    The two hashes take turns in one session, so that both find the table in the same memory; a ratio is the median of
    those of the rounds. The whole is ``snowmelt verify``, Snowflake's part included, which the stand-in computes
    on this machine's own processors.
    """
    count = rows or ROWS
    console.set_up_logging("ERROR", as_json=False)
    with (
        LocalSnowflake() as snowflake,
        LocalPostgres(
            password=new_password(), autovacuum=False, max_wal_size="8GB", shared_buffers="512MB"
        ) as postgres,
        tempfile.TemporaryDirectory() as folder,
    ):
        sandbox = Sandbox(snowflake, postgres)
        console.err.print(f"making and loading a table of {count:,} rows and 25 columns")
        mixed_table.make_target(sandbox)
        mixed_table.make_source(sandbox, count)
        wiring = _wiring(sandbox, Path(folder))
        began = time.perf_counter()
        outcome = runner.migrate({"source_name": mixed_table.SOURCE_NAME}, wiring, execution_id="bench verify")
        load_seconds = time.perf_counter() - began
        if outcome.status != "completed":
            raise DataError(f"the load {outcome.status}: {outcome.message}")
        ratios = _ratios(sandbox, wiring, outcome.run_id)
        seconds = _verify_seconds(wiring, count)
    yield Figure("vs_pg_hash", round(statistics.median(ratios), 2), "times", at_most=MOST_VS_PG_HASH)
    yield Figure("vs_load", round(seconds / load_seconds, 2), "times")
    yield Figure("seconds_verify", round(seconds, 2), "s")
    yield Figure("seconds_load", round(load_seconds, 2), "s")


def _wiring(sandbox: Sandbox, folder: Path) -> Wiring:
    environment = {**sandbox.snowflake.environment(), **sandbox.postgres.environment()}
    return Wiring(Settings(config=str(mixed_table.config_path()), store=str(folder)), environment)


def _ratios(sandbox: Sandbox, wiring: Wiring, run_id: str) -> list[float]:
    plan = manifest_store.load_table(wiring.store, run_id, 0)
    config = mixed_table.postgres_config(sandbox.postgres)
    ratios = []
    with Session.connect(config, database=mixed_table.DATABASE, application_name="snowmelt bench") as session:
        target_hashes.pin_text_forms(session)
        ours = TargetSide(session, target_hashes.target_rows(plan, None), Hashing(plan.columns, ()))
        for _ in range(ROUNDS):
            plain, verified = _seconds(lambda: session.rows(PLAIN_HASH)), _seconds(ours.total)
            console.err.print(f"plain hash {plain:.2f} s, verification's {verified:.2f} s")
            ratios.append(verified / plain)
    return ratios


def _verify_seconds(wiring: Wiring, count: int) -> float:
    config = wiring.config()
    began = time.perf_counter()
    found = verify_action.verify(wiring, config, config.source(mixed_table.SOURCE_NAME), Asked())
    seconds = time.perf_counter() - began
    if [(table.verdict, table.target_rows) for table in found.tables] != [("equal", count)]:
        raise DataError(f"what was loaded is not verified, so the figures say nothing: {found.tables}")
    return seconds


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
