"""What Snowmelt relies on of a table's past."""

import time
from datetime import datetime

from snowmelt.errors import SnowmeltError
from snowmelt.planning.statement import at
from snowmelt.selftest.assumption import DOCS, Assumption, BrokenError, expect
from snowmelt.selftest.bench import Bench
from snowmelt.selftest.statements import for_seconds
from snowmelt.snowflake_source import ScanDone
from snowmelt.sql_text.literals import constant

_TICK_SECONDS = 0.05
"""Between a change and the moment that is asked for, so that no rounding of clocks joins them."""


def _changed(bench: Bench, name: str) -> tuple[str, str]:
    """Make a table of one row, and a second row later; return it and the clause for the moment between."""
    table = bench.table(name)
    bench.run(f"CREATE OR REPLACE TABLE {table} (N NUMBER(9,0))")
    bench.run(f"INSERT INTO {table} VALUES (1)")  # noqa: S608 - quoted
    time.sleep(_TICK_SECONDS)
    moment = at(bench.source.identity().now)
    time.sleep(_TICK_SECONDS)
    bench.run(f"INSERT INTO {table} VALUES (2)")  # noqa: S608 - quoted
    return table, moment


def _rows(bench: Bench, reads_from: str) -> int:
    return int(str(bench.value(f"SELECT COUNT(*) FROM {reads_from}")))  # noqa: S608 - quoted


def _at(bench: Bench) -> None:
    table, moment = _changed(bench, "SNOWMELT_SELFTEST_PAST")
    expect(_rows(bench, table), 2, "rows now")
    expect(_rows(bench, f"{table} {moment}"), 1, "rows AT a moment of Snowflake's clock before the second was added")


def _view(bench: Bench) -> None:
    table, _ = _changed(bench, "SNOWMELT_SELFTEST_BENEATH")
    view = bench.table("SNOWMELT_SELFTEST_VIEW")
    # A view that is younger than the moment has no past of its own: it is made first.
    bench.run(f"CREATE OR REPLACE VIEW {view} AS SELECT N FROM {table}")  # noqa: S608 - quoted
    time.sleep(_TICK_SECONDS)
    moment = at(bench.source.identity().now)
    time.sleep(_TICK_SECONDS)
    bench.run(f"INSERT INTO {table} VALUES (3)")  # noqa: S608 - quoted
    expect(_rows(bench, f"{view} {moment}"), 2, "rows of a view AT a moment before the third was added to its table")


def _before(bench: Bench) -> None:
    table, _ = _changed(bench, "SNOWMELT_SELFTEST_DURING")
    inserted = bench.run(f"INSERT INTO {table} VALUES (3)")  # noqa: S608 - quoted
    expect(_rows(bench, f"{table} BEFORE(STATEMENT => {constant(inserted)})"), 2, "rows BEFORE the insert of the third")
    reading = bench.source.submit(for_seconds(2, f"COUNT(*), (SELECT COUNT(*) FROM {table})"))  # noqa: S608 - quoted
    time.sleep(_TICK_SECONDS)
    bench.run(f"INSERT INTO {table} VALUES (4)")  # noqa: S608 - quoted
    bench.source.wait(reading)
    expect(
        _rows(bench, f"{table} BEFORE(STATEMENT => {constant(reading)})"),
        4,
        "rows BEFORE a statement during which the fourth was added",
    )


def _start(bench: Bench) -> None:
    table, _ = _changed(bench, "SNOWMELT_SELFTEST_READ")
    reading = bench.source.submit(for_seconds(1, f"COUNT(*), (SELECT COUNT(*) FROM {table})"))  # noqa: S608 - quoted
    time.sleep(_TICK_SECONDS)
    bench.run(f"INSERT INTO {table} VALUES (3)")  # noqa: S608 - quoted
    bench.source.wait(reading)
    match bench.source.scan_state(reading):
        case ScanDone(began_at=datetime() as began):
            found = _rows(bench, f"{table} {at(began)}")
            expect(found, 2, "rows AT the start of a statement during which the third was added")
        case state:
            raise BrokenError(f"nothing tells when a statement began: {type(state).__name__}")


def _beyond(bench: Bench) -> None:
    moment = at(bench.source.identity().now)
    time.sleep(_TICK_SECONDS)
    table = bench.table("SNOWMELT_SELFTEST_YOUNG")
    bench.run(f"CREATE OR REPLACE TABLE {table} (N NUMBER(9,0))")
    try:
        rows = _rows(bench, f"{table} {moment}")
    except SnowmeltError as error:
        if "time travel" in error.message.lower() or "not available" in error.message.lower():
            return
        raise BrokenError(f"a moment before the table was made is answered as {error.code}: {error.message}") from error
    raise BrokenError(f"a moment before the table was made gives {rows} rows, not an error")


_TESTS = "tests/integration/test_local_snowflake.py::"

ASSUMPTIONS = (
    Assumption(
        "at-timestamp",
        "AT(TIMESTAMP => …::TIMESTAMP_LTZ) reads a table as it was at a moment of Snowflake's own clock",
        DOCS + "sql-reference/constructs/at-before",
        _TESTS + "test_at_shows_the_rows_from_before_a_change",
        _at,
    ),
    Assumption(
        "views-at-timestamp",
        "a view that is read AT a moment reads its tables as they were then",
        DOCS + "user-guide/data-time-travel",
        _TESTS + "test_a_view_is_read_over_its_tables_as_they_were",
        _view,
        needs=("at-timestamp",),
    ),
    Assumption(
        "before-is-the-completion",
        "BEFORE(STATEMENT => id) reads a table as it was just before that statement was completed, without its "
        "own changes",
        DOCS + "sql-reference/constructs/at-before",
        _TESTS + "test_a_statement_can_be_the_moment",
        _before,
        needs=("submitted-statements-go-on",),
    ),
    Assumption(
        "starts-are-told",
        "the monitoring of statements tells when one began, on the clock that AT(TIMESTAMP) goes by",
        "https://github.com/snowflakedb/snowflake-connector-python/blob/v4.8.1/src/snowflake/connector/connection.py",
        _TESTS + "test_before_a_statement_is_the_moment_it_completed",
        _start,
        needs=("at-timestamp", "submitted-statements-go-on"),
    ),
    Assumption(
        "no-rows-beyond-the-past",
        "a moment before the table was made, or beyond its retention, is error 707 and never other rows",
        "https://github.com/snowflakedb/snowflake-connector-python/issues/1596",
        _TESTS + "test_a_moment_before_the_table_is_an_sql_error",
        _beyond,
        needs=("at-timestamp",),
    ),
)
