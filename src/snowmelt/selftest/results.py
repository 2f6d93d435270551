"""What Snowmelt relies on of a result: its format, its batches, and that it can be opened again by its id."""

import time
import uuid

from snowmelt.errors import SnowmeltError
from snowmelt.models import ScanSlice
from snowmelt.planning import source_facts
from snowmelt.selftest.assumption import DOCS, Assumption, BrokenError, expect
from snowmelt.selftest.bench import MANY_ROWS, Bench
from snowmelt.selftest.statements import numbers
from snowmelt.snowflake_source import ScanGone, ScanResult


def _rows_of(result: ScanResult) -> list[int]:
    """Return the first column of a whole result, read batch by batch as a load reads it."""
    whole = ScanSlice(query_id=result.query_id, first_batch=0, offset=0, rows=sum(result.row_counts))
    return [int(str(value)) for batch in result.read(whole) for value in batch.column(0).to_pylist()]


def _arrow(bench: Bench) -> None:
    try:
        result = bench.source.run("SELECT 7 AS N")
        expect(_rows_of(result), [7], "a number in an Arrow result")
    except (SnowmeltError, TypeError, AttributeError) as error:
        raise BrokenError(f"the result of a SELECT cannot be read as Arrow: {error}") from error


def _batches(bench: Bench) -> None:
    result = bench.source.run(f"{numbers()} ORDER BY N")
    try:
        found = _rows_of(result)
    except SnowmeltError as error:
        raise BrokenError(f"a result batch is not as announced: {error.message}") from error
    expect(len(found), sum(result.row_counts), "rows delivered of those announced")


def _reopen(bench: Bench) -> None:
    query_id = bench.run(f"SELECT ID FROM {bench.table(MANY_ROWS)} ORDER BY ID LIMIT 50")  # noqa: S608 - quoted
    counts = bench.source.open_result(query_id).row_counts
    try:
        again = bench.another().open_result(query_id)
    except SnowmeltError as error:
        raise BrokenError(f"another session of the same user cannot open the result: {error.message}") from error
    expect(again.row_counts, counts, "rows by batch, opened by another session")


def _immutable(bench: Bench) -> None:
    table = bench.table("SNOWMELT_SELFTEST_CHANGES")
    bench.run(f"CREATE OR REPLACE TABLE {table} (N NUMBER(9,0))")
    bench.run(f"INSERT INTO {table} VALUES (1)")  # noqa: S608 - quoted
    query_id = bench.run(f"SELECT SUM(N) AS N FROM {table}")  # noqa: S608 - quoted
    bench.run(f"INSERT INTO {table} VALUES (10)")  # noqa: S608 - quoted
    ((found,),) = bench.source.rows(query_id)
    expect(int(found), 1, "the sum of a result, opened after its table has changed")


def _result_scan(bench: Bench) -> None:
    query_id = bench.run(f"SELECT ID FROM {bench.table(MANY_ROWS)} WHERE ID < 100")  # noqa: S608 - quoted
    statement = f"SELECT COUNT(*), SUM(ID) FROM (SELECT * FROM TABLE(RESULT_SCAN('{query_id}'))) AS r"  # noqa: S608
    try:
        ((rows, total),) = bench.another().aggregate(statement)
    except SnowmeltError as error:
        raise BrokenError(f"RESULT_SCAN of a statement of another session: {error.message}") from error
    expect((int(rows), int(total)), (100, 4950), "rows and sum of RESULT_SCAN")


def _unknown(bench: Bench) -> None:
    state = bench.source.scan_state(str(uuid.uuid4()))
    if not isinstance(state, ScanGone):
        raise BrokenError(f"a query id that nobody has is answered as {type(state).__name__}, not as gone")


def _counted(bench: Bench) -> None:
    table = bench.table("SNOWMELT_SELFTEST_COUNTED")
    bench.run(f"CREATE OR REPLACE TABLE {table} (N NUMBER(9,0))")
    bench.run(f"INSERT INTO {table} VALUES (1), (2), (3)")  # noqa: S608 - quoted
    before = bench.source.now()
    time.sleep(_TICK_SECONDS)
    bench.run(f"DELETE FROM {table} WHERE N = 2")  # noqa: S608 - quoted
    time.sleep(_TICK_SECONDS)
    after = bench.source.now()
    name = bench.named("SNOWMELT_SELFTEST_COUNTED")
    query = source_facts.counts_query(bench.database, bench.schema, [name])
    counts = source_facts.read_counts(bench.source.aggregate(query))
    if name not in counts:
        raise BrokenError("INFORMATION_SCHEMA.TABLES does not tell how many rows a table has, or when it was changed")
    expect(counts[name].rows, 2, "ROW_COUNT of a table after its last change")
    expect(before < counts[name].altered_at < after, True, "LAST_ALTERED is the moment of the last change")


_TICK_SECONDS = 0.05
"""Between a change and the moments before and after it, so that no rounding of clocks joins them."""
_TESTS = "tests/integration/test_local_snowflake.py::"
_SOURCE = "tests/integration/test_snowflake_source.py::"

ASSUMPTIONS = (
    Assumption(
        "results-open-by-id",
        "a finished result is opened by its query id from any session of its user, with the same batches",
        DOCS + "developer-guide/python-connector/python-connector-api#query_result",
        _TESTS + "test_any_finished_query_is_opened_again_by_its_id_from_another_connection",
        _reopen,
    ),
    Assumption(
        "arrow-results",
        "the result of a SELECT comes as Arrow, where the session asks for it",
        "https://github.com/snowflakedb/gosnowflake/issues/851",
        "tests/integration/test_account_parameters.py::test_batches_are_arrow_or_the_error_says_what_they_are",
        _arrow,
    ),
    Assumption(
        "batches-as-announced",
        "a result is cut into batches whose numbers of rows are known before they are fetched, and each has so many",
        DOCS + "developer-guide/python-connector/python-connector-distributed-fetch",
        _SOURCE + "test_a_result_has_several_batches_that_hold_all_rows",
        _batches,
        needs=("arrow-results",),
    ),
    Assumption(
        "results-never-change",
        "a result stays as it is when its table changes",
        DOCS + "user-guide/querying-persisted-results",
        _TESTS + "test_a_result_does_not_change_when_its_table_does",
        _immutable,
    ),
    Assumption(
        "result-scan",
        "RESULT_SCAN reads the result of a statement of any session of the user, wherever a table may stand",
        DOCS + "sql-reference/functions/result_scan",
        _TESTS + "test_result_scan_stands_wherever_a_table_may",
        _result_scan,
    ),
    Assumption(
        "unknown-results-are-gone",
        "a query id that Snowflake does not know, or whose result it no longer keeps, is said to be gone: 709 or 710",
        "https://github.com/snowflakedb/snowflake-connector-python/issues/1596",
        _SOURCE + "test_an_unknown_query_is_gone",
        _unknown,
    ),
    Assumption(
        "rows-are-counted",
        "INFORMATION_SCHEMA.TABLES has the number of a table's rows, and a LAST_ALTERED that no later change precedes: "
        "the independent count that a scan of a whole table is compared with",
        DOCS + "sql-reference/info-schema/tables",
        _TESTS + "test_the_catalog_counts_what_is_committed_and_tells_when_a_table_was_changed",
        _counted,
    ),
    Assumption(
        "results-last-a-day",
        "a result is kept for 24 hours",
        DOCS + "user-guide/querying-persisted-results",
        _SOURCE + "test_a_result_that_has_expired_is_gone",
        not_checked="it takes 24 hours",
    ),
    Assumption(
        "urls-are-renewed",
        "the URLs of a large result's batches expire after six hours, and opening the result again gives fresh ones",
        DOCS + "user-guide/querying-persisted-results",
        _SOURCE + "test_urls_that_expire_while_the_result_is_read_are_renewed",
        not_checked="it takes six hours",
    ),
)
