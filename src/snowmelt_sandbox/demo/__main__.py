"""Run the demo: real tables through the real state machine, checked row by row at the end."""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snowmelt import private_files
from snowmelt.cli import console
from snowmelt.cli.live_progress import live_progress
from snowmelt.config import Config, SourceConfig
from snowmelt.errors import SnowmeltError
from snowmelt.monitoring import monitor
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from snowmelt_sandbox.aws import LocalAws, built
from snowmelt_sandbox.demo import content, data
from snowmelt_sandbox.demo.content import Compared
from snowmelt_sandbox.sandbox import started
from snowmelt_sandbox.snowflake import HOSTILE

CONCURRENCY = 4
TIMEOUT_SECONDS = 60.0
MOST_SECONDS = 600.0


def main() -> int:
    """Run it; the exit code."""
    options = _options()
    try:
        return _run(options.definition, options.grants, _build(options), options.report, as_json=options.json)
    except SnowmeltError as error:
        console.err.print(f"{error.code}: {error.message}", markup=False)
        return error.exit_code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    parser.add_argument("--report", type=Path, help="keep the run's report in this HTML file")
    parser.add_argument("--definition", type=Path, required=True, help="the state machine's ASL file")
    parser.add_argument(
        "--grants", type=Path, required=True, help="the SQL file that grants the loading role its rights"
    )
    parser.add_argument("--built", type=Path, help="run what `sam build` made; the template that it wrote")
    parser.add_argument("--python", type=Path, help="a Python of the built function's version")
    parser.add_argument("--runtime-packages", type=Path, help="a folder with Lambda's runtime client and boto3")
    options = parser.parse_args()
    if options.built and not (options.python and options.runtime_packages):
        parser.error("--built needs --python and --runtime-packages; scripts/demo --built finds them")
    return options


@dataclass(frozen=True)
class Build:
    """What `sam build` made, and what it runs on."""

    artifacts: built.Built
    python: Path
    runtime_packages: Path


def _build(options: argparse.Namespace) -> Build | None:
    if not options.built:
        return None
    return Build(built.read(options.built), options.python, options.runtime_packages)


def _run(definition: Path, grants: Path, build: Build | None, report: Path | None, *, as_json: bool) -> int:
    with ExitStack() as stack:
        console.err.print("starting a stand-in for Snowflake and a real PostgreSQL")
        sandbox = stack.enter_context(started(account_parameters=HOSTILE))
        console.err.print("loading 336,776 flights, with airlines, airports, planes and weather, into Snowflake")
        data.load(sandbox)
        console.err.print(f"granting role {data.ROLE} what {grants.name} grants, and nothing else", markup=False)
        secret = {**sandbox.environment(), **data.create_loading_role(sandbox, grants)}
        environment = {"SNOWMELT_CONFIG": str(data.config_path()), **secret}
        aws = stack.enter_context(_deployed(definition, build, environment, secret))
        wiring = Wiring(Settings(config=str(data.config_path())), environment)
        config = wiring.config()
        source = config.source(data.SOURCE_NAME)
        began = time.monotonic()
        execution = aws.step_functions.start_execution({"source_name": data.SOURCE_NAME})
        console.err.print(f"StartExecution {{'source_name': {data.SOURCE_NAME!r}}}: {execution}", markup=False)
        _follow(aws, execution, wiring, config, source)
        seconds = time.monotonic() - began
        ended = aws.step_functions.describe(execution)
        if build is not None:
            _show_build(aws, build)
        if ended.status != "SUCCEEDED":
            console.err.print(f"the execution {ended.status}: {ended.error}: {ended.cause}", markup=False)
            return 1
        if report is not None:
            _keep_report(aws, ended.output["page"], report)
        with monitor.watch(wiring, config, source) as watched:
            run = watched.runs(source.source_name)[0]
            tables = watched.tables(run.run_id)
        console.err.print("comparing every row of every table with its source")
        compared = content.compare_all(sandbox, source)
    good = run.status == "completed" and all(c.verified for c in compared)
    if not as_json:
        console.show_tables(tables, f"run {run.run_id}: {run.status}, {run.rows:,} rows in {seconds:.1f} s")
    _show_compared(compared, as_json=as_json)
    if as_json:
        console.show_json(_summary(good, seconds, run.rounds, compared))
    return 0 if good else 1


def _deployed(
    definition: Path, build: Build | None, environment: Mapping[str, str], secret: Mapping[str, str]
) -> AbstractContextManager[LocalAws]:
    """The stack, of this checkout or of what was built from it."""
    if build is None:
        console.err.print(f"starting Lambda and Step Functions with {definition.name}")
        return LocalAws(
            {**environment, "SNOWMELT_STORE": "s3://snowmelt/store"},
            definition,
            timeout_seconds=TIMEOUT_SECONDS,
            concurrency=CONCURRENCY + 1,
        )
    console.err.print(
        f"starting Lambda and Step Functions with the built function on {build.artifacts.runtime}: "
        f"{build.artifacts.size_bytes / built.MEGABYTE:.0f} MB of {built.LIMIT_MEGABYTES} with its layer, "
        f"{build.artifacts.memory_mb} MB of memory, only /tmp can be written"
    )
    return build.artifacts.deployed(
        runtime_packages=build.runtime_packages,
        python=build.python,
        config=data.config_path(),
        secret=secret,
        timeout_seconds=TIMEOUT_SECONDS,
        concurrency=CONCURRENCY + 1,
    )


def _show_build(aws: LocalAws, build: Build) -> None:
    seen = aws.functions.statistics()
    most = max(seen.peak_rss_bytes.values(), default=0) // 2**20
    console.err.print(
        f"{seen.invocations} invocations in {seen.cold_starts} processes, the largest of {most} MB "
        f"(of {build.artifacts.memory_mb}); the slowest start took {seen.slowest_init_seconds:.1f} s"
    )


def _keep_report(aws: LocalAws, page: Mapping[str, str], path: Path) -> None:
    """Take the report out of the bucket, which ends with the demo."""
    private_files.write(path, aws.s3().get_object(Bucket=page["bucket"], Key=page["key"])["Body"].read())
    console.err.print(f"report: {path.absolute()}", markup=False)


def _follow(aws: LocalAws, execution: str, wiring: Wiring, config: Config, source: SourceConfig) -> None:
    """Show the run's progress until its execution has ended."""
    with ExitStack() as stack:
        shown = False
        until = time.monotonic() + MOST_SECONDS
        while aws.step_functions.describe(execution).running and time.monotonic() < until:
            if not shown:
                shown = _show_progress(stack, wiring, config, source)
            time.sleep(0.1)


def _show_progress(stack: ExitStack, wiring: Wiring, config: Config, source: SourceConfig) -> bool:
    try:
        watched = stack.enter_context(monitor.watch(wiring, config, source))
    except SnowmeltError:
        return False  # the first action has yet to install the status schema
    runs = watched.runs(source.source_name, limit=1)
    if not runs:
        return False
    stack.enter_context(live_progress(watched, runs[0].run_id))
    return True


def _show_compared(compared: Sequence[Compared], *, as_json: bool) -> None:
    show = console.err if as_json else console.out
    for c in compared:
        verdict = "every row and value equal" if c.verified else "DIFFERENT"
        show.print(f"{c.table}: {c.source_rows:,} rows in Snowflake, {c.target_rows:,} in PostgreSQL: {verdict}")


def _summary(good: bool, seconds: float, rounds: int, compared: Sequence[Compared]) -> Mapping[str, Any]:
    return {
        "status": "completed" if good else "failed",
        "rows": sum(c.target_rows for c in compared),
        "seconds": round(seconds, 2),
        "rounds": rounds,
        "tables": [
            {
                "table": c.table.strip('"'),
                "source_rows": c.source_rows,
                "target_rows": c.target_rows,
                "verified": c.verified,
            }
            for c in compared
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
