"""How long it takes from the start of a process of the function until its first row is in PostgreSQL."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import driven, mixed_table
from benchmarks.driven import Run
from benchmarks.figures import Figure
from snowmelt import manifest_store
from snowmelt.cli import console
from snowmelt.errors import DataError
from snowmelt.models import Location
from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.aws.execution_environment import Ending
from snowmelt_sandbox.aws.stack import HANDLER
from snowmelt_sandbox.plain_install import PYTHONPATH
from snowmelt_sandbox.postgres import LocalPostgres
from snowmelt_sandbox.sandbox import started

ROWS = 600_000
"""So many that a chunk is still on its way when its first row is seen, and has result batches of full size."""
ROUNDS = 5
MOST_SECONDS = 1.5
_POLL_SECONDS = 0.005
_WRITES_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
_IMPORT = f"""
import time
began = time.perf_counter()
import awslambdaric.bootstrap, {HANDLER.rpartition(".")[0]}
print(time.perf_counter() - began)
"""


def measure(definition: Path, rows: int | None = None) -> Iterator[Figure]:
    """Yield the seconds until a new process of the function, given a chunk, has its first row in PostgreSQL.

    In it are: the interpreter, the runtime client, all imports, the plans from S3, a session in PostgreSQL, a sign-in
    to Snowflake, opening the scan's result, its first batch, encoding, and the way to the server, which says when a row
    has come. A process that is not counted comes first and compiles what the others import, as the layer is compiled.
    """
    count = rows or ROWS
    with started() as sandbox, tempfile.TemporaryDirectory() as folder:
        mixed_table.make_target(sandbox)
        mixed_table.make_source(sandbox, count)
        config = mixed_table.write_config(Path(folder), batch_size=-(-count // (ROUNDS + 1)))
        environment = {
            "SNOWMELT_CONFIG": str(config),
            "SNOWMELT_STORE": "s3://snowmelt/store",
            **sandbox.environment(),
        }
        with LocalAws({**environment, **_WRITES_BYTECODE}, definition, concurrency=1) as aws:
            invoke = partial(_invoke, aws)
            run = driven.planned(invoke, partial(_read, aws))
            chunks = run.table.chunks[:ROUNDS]
            run.load(invoke, run.table.chunks[ROUNDS:])
            _deploy_read_only(aws)
            seconds = [_first_row_seconds(aws, sandbox.postgres, run, chunk) for chunk in chunks]
            run.finish(invoke)
        loaded = mixed_table.target_rows(sandbox)
        import_seconds = [_import_seconds() for _ in range(ROUNDS)]
    if loaded != count:
        raise DataError(f"the bench loaded {loaded} rows of {count}, so its figures say nothing")
    yield Figure("first_row_seconds", round(statistics.median(seconds), 3), "s", at_most=MOST_SECONDS)
    yield Figure("first_row_seconds_slowest", round(max(seconds), 3), "s")
    yield Figure("import_seconds", round(statistics.median(import_seconds), 3), "s")


def _deploy_read_only(aws: LocalAws) -> None:
    """The function as it is on Lambda, where it cannot write what it compiles."""
    function = aws.functions.function
    read_only = {name: value for name, value in function.environment.items() if name not in _WRITES_BYTECODE}
    aws.functions.redeploy(replace(function, environment=read_only))


def _first_row_seconds(aws: LocalAws, postgres: LocalPostgres, run: Run, chunk: int) -> float:
    aws.functions.redeploy(aws.functions.function)  # the process before ends, so that the next event finds none
    starts = aws.functions.statistics().cold_starts
    arrived: list[float] = []
    loaded = threading.Event()
    with closing(postgres.connect(mixed_table.DATABASE)) as connection:
        watcher = threading.Thread(target=_watch, args=(connection, arrived, loaded))
        watcher.start()
        try:
            began = time.perf_counter()
            run.load(partial(_invoke, aws), [chunk])
            seconds = time.perf_counter() - began
        finally:
            loaded.set()
            watcher.join()
    if aws.functions.statistics().cold_starts != starts + 1:
        raise DataError("the chunk was not loaded by one new process, so its figure says nothing")
    if not arrived:
        raise DataError("no row was seen on its way, the chunk was too quick; give the bench more rows")
    console.err.print(f"chunk {chunk}: first row after {arrived[0] - began:.2f} s, all after {seconds:.2f} s")
    return arrived[0] - began


def _watch(connection: Any, arrived: list[float], loaded: threading.Event) -> None:
    """Note when the server first counts a row of a COPY that is not done yet."""
    query = "SELECT 1 FROM pg_stat_progress_copy WHERE tuples_processed > 0"
    with connection.cursor() as cursor:
        while not arrived and not loaded.wait(_POLL_SECONDS):
            cursor.execute(query)
            if cursor.fetchone():
                arrived.append(time.perf_counter())


def _invoke(aws: LocalAws, event: Mapping[str, Any]) -> dict[str, Any]:
    outcome = aws.functions.invoke(json.dumps(event).encode())
    if outcome is None or outcome.ending is not Ending.RESULT:
        said = outcome.payload.decode() if outcome else "all processes are busy"
        raise DataError(f"{event['action']} failed: {said}")
    result: dict[str, Any] = json.loads(outcome.payload)
    return result


def _read(aws: LocalAws, location: Location) -> bytes:
    return manifest_store.read_s3(location.bucket, location.key, client=aws.s3())


def _import_seconds() -> float:
    """What a fresh interpreter takes to import the runtime client and the handler; its own start is not in it."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT],
        env={"PATH": os.defpath, "PYTHONPATH": PYTHONPATH, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)
