"""The same tables, moved by a deployed stack."""

import json
import time

from snowmelt.aws.stack import RemoteExecution, RemoteStack
from snowmelt.columns.type_pairs import quoted
from snowmelt.config import SourceConfig
from snowmelt.models import TableName
from snowmelt.planning.statement import source_table
from snowmelt.postgres import tables
from snowmelt.selftest import scratch, text_forms
from snowmelt.selftest.assumption import BrokenError, NotCheckedError, Step, expect
from snowmelt.selftest.bench import EVERY_TYPE, MANY_ROWS, Bench
from snowmelt.selftest.statements import ROWS
from snowmelt.wiring import config_text

SOURCE = "snowmelt_selftest"
"""Source of the deployed config that the self-test fills, runs, and clears away."""
_MOST_SECONDS = 240.0


def step(stack: RemoteStack, postgres_database: str, needs: tuple[str, ...]) -> Step:
    """Return the check that an execution of the stack moves the tables."""

    def check(bench: Bench) -> None:
        source = _source(stack, postgres_database)
        try:
            _make(bench, source)
            execution = _execution(stack)
            if execution.status != "SUCCEEDED":
                said = execution.message or f"{execution.error}: {execution.cause}"
                raise BrokenError(f"execution {execution.name} has {execution.status}: {said}")
            moved = {table.snowflake_name: _target(source, table.postgres_name) for table in source.tables}
            differing = scratch.differing_rows(bench.session, moved[EVERY_TYPE], bench.target(text_forms.FILLED))
            expect(differing, 0, "rows that differ from PostgreSQL's own")
            expect(scratch.rows(bench.session, moved[MANY_ROWS]), ROWS, "rows of the larger table")
        finally:
            _drop(bench, source)

    return Step("tables-are-moved-by-the-stack", check, needs)


def _source(stack: RemoteStack, postgres_database: str) -> SourceConfig:
    """Return the source of the deployed config; NotCheckedError where there is none, or another one by that name."""
    if not stack.config_location:
        raise NotCheckedError(f"stack {stack.name} does not say where its config is; deploy this version")
    deployed = json.loads(config_text(stack.config_location))
    found = next((each for each in deployed.get("sources", ()) if each.get("source_name") == SOURCE), None)
    if found is None:
        raise NotCheckedError(f"the config of stack {stack.name} has no source {SOURCE}; docs/selftest.md has one")
    source = SourceConfig.model_validate(found)
    if {table.snowflake_name for table in source.tables} != {EVERY_TYPE, MANY_ROWS}:
        raise NotCheckedError(f"source {SOURCE} has other tables than {EVERY_TYPE} and {MANY_ROWS}")
    if source.postgres_database != postgres_database:
        raise NotCheckedError(
            f"source {SOURCE} has the target database {source.postgres_database}; name it by --postgres-database"
        )
    return source


def _execution(stack: RemoteStack) -> RemoteExecution:
    """Return the execution when it has ended; one that does not end in time is stopped."""
    arn = stack.start({"source_name": SOURCE, "no_resume": True})
    until = time.monotonic() + _MOST_SECONDS
    while (execution := stack.execution(arn)).running:
        if time.monotonic() > until:
            stack.stop(arn)
            raise BrokenError(f"execution {execution.name} still ran after {_MOST_SECONDS:.0f} s: it is stopped")
        time.sleep(1.0)
    return execution


def _target(source: SourceConfig, name: str) -> TableName:
    return TableName(schema_name=source.postgres_schema, name=name)


def _in_snowflake(source: SourceConfig, name: str) -> str:
    return source_table(source.snowflake_database, source.snowflake_schema, name)


def _make(bench: Bench, source: SourceConfig) -> None:
    for table in source.tables:
        of, like = bench.table(table.snowflake_name), bench.target(table.snowflake_name)
        target = f"{quoted(source.postgres_schema)}.{quoted(table.postgres_name)}"
        bench.run(f"CREATE OR REPLACE TABLE {_in_snowflake(source, table.snowflake_name)} AS SELECT * FROM {of}")  # noqa: S608
        scratch.drop_table(bench.session, _target(source, table.postgres_name))  # of one that was killed
        tables.create(bench.session, [f"CREATE TABLE {target} (LIKE {quoted(like.schema_name)}.{quoted(like.name)})"])


def _drop(bench: Bench, source: SourceConfig) -> None:
    for table in source.tables:
        try:
            bench.run(f"DROP TABLE IF EXISTS {_in_snowflake(source, table.snowflake_name)}")
        finally:
            scratch.drop_table(bench.session, _target(source, table.postgres_name))
