"""What Snowmelt relies on of a session: its parameters, its time limits, the statements it leaves behind."""

import time
from datetime import UTC, datetime, timedelta

from snowmelt.errors import AccessError, SnowmeltError
from snowmelt.selftest.assumption import DOCS, Assumption, BrokenError, expect
from snowmelt.selftest.bench import Bench
from snowmelt.selftest.statements import ROWS, for_seconds, numbers
from snowmelt.snowflake_source import ScanDone, ScanRunning
from snowmelt.sql_text.literals import constant, moment_constant

_LONG_SECONDS = 20
_PROMPT_SECONDS = 12.0
"""Within which a statement must end that is not let run; a queue of the warehouse is included."""


def _time_zone(bench: Bench) -> None:
    moment = "TO_TIMESTAMP_LTZ('2024-07-01 12:00:00 +0000', 'YYYY-MM-DD HH24:MI:SS TZHTZM')"
    written = bench.value(f"SELECT TO_VARCHAR({moment}, 'YYYY-MM-DD HH24:MI:SS')")
    expect(written, "2024-07-01 12:00:00", "noon in UTC is written")


def _rows_per_resultset(bench: Bench) -> None:
    rows = bench.source.aggregate(numbers())
    expect(len(rows), ROWS, "rows of a result")


def _quoted_identifiers(bench: Bench) -> None:
    described = bench.source.describe('SELECT 1 AS "lower case", 2 AS "UPPER"')
    expect([column.name for column in described], ["lower case", "UPPER"], "names in double quotes arrive as")


def _statement_timeout(bench: Bench) -> None:
    limited = bench.another(statement_timeout_seconds=1)
    began = time.monotonic()
    try:
        limited.aggregate(for_seconds(_LONG_SECONDS))
    except SnowmeltError:
        seconds = time.monotonic() - began
        if seconds > _PROMPT_SECONDS:
            raise BrokenError(f"a statement with a limit of 1 s was ended after {seconds:.0f} s") from None
        return
    raise BrokenError(f"a statement of {_LONG_SECONDS} s was not ended by STATEMENT_TIMEOUT_IN_SECONDS = 1")


def _submit(bench: Bench) -> None:
    first = bench.another()
    query_id = first.submit(for_seconds(2))
    state = first.scan_state(query_id)
    if not isinstance(state, ScanRunning):
        raise BrokenError("a statement of 2 s had ended when its submission came back: it was waited for")
    first.close()
    bench.source.wait(query_id)


def _cancel(bench: Bench) -> None:
    query_id = bench.another().submit(for_seconds(_LONG_SECONDS))
    began = time.monotonic()
    bench.source.cancel(query_id)
    while isinstance(state := bench.source.scan_state(query_id), ScanRunning):
        if time.monotonic() - began > _PROMPT_SECONDS:
            raise BrokenError(f"it still ran {_PROMPT_SECONDS:.0f} s after SYSTEM$CANCEL_QUERY from another session")
        time.sleep(0.1)
    if isinstance(state, ScanDone):
        raise BrokenError("it came to its end in spite of SYSTEM$CANCEL_QUERY")


def _history(bench: Bench) -> None:
    query_id = bench.run("SELECT 1")
    user = bench.source.identity()
    moments = (user.now.astimezone(UTC) + timedelta(minutes=by) for by in (-10, 10))
    low, high = (moment_constant(f"{moment:%Y-%m-%d %H:%M:%S}.000000000") for moment in moments)
    statement = (
        f"select query_tag from table(information_schema.query_history_by_user(user_name => {constant(user.user)}, "  # noqa: S608
        f"end_time_range_start => {low}, end_time_range_end => {high}, "
        f"result_limit => 10000)) where query_id = {constant(query_id)}"
    )
    until = datetime.now(UTC) + timedelta(seconds=_PROMPT_SECONDS)
    while not (rows := bench.source.aggregate(statement)):
        if datetime.now(UTC) > until:
            raise BrokenError("a statement that has ended is not in QUERY_HISTORY_BY_USER")
        time.sleep(0.5)
    ((tag,),) = rows
    if "snowmelt" not in str(tag):
        raise BrokenError("the history has the statement without its QUERY_TAG")


def _missing(bench: Bench) -> None:
    try:
        bench.source.describe_table(bench.database, bench.schema, "THERE IS NO SUCH TABLE")
    except AccessError:
        return
    except SnowmeltError as error:
        raise BrokenError(f"a table that is not there is answered as {error.code}: {error.message}") from error
    raise BrokenError("a table that is not there was described")


_TESTS = "tests/integration/test_local_snowflake.py::"
_SOURCE = "tests/integration/test_snowflake_source.py::"

ASSUMPTIONS = (
    Assumption(
        "session-time-zone",
        "TIMEZONE given at sign-in holds for the session, whatever user and account say",
        DOCS + "sql-reference/parameters#timezone",
        _TESTS + "test_the_sessions_time_zone_counts",
        _time_zone,
    ),
    Assumption(
        "all-rows-arrive",
        "a result has all rows of its statement, also where account or user set ROWS_PER_RESULTSET",
        DOCS + "sql-reference/parameters#rows-per-resultset",
        "tests/integration/test_account_parameters.py::test_results_are_whole",
        _rows_per_resultset,
        needs=("batches-as-announced",),
    ),
    Assumption(
        "quoted-names-stay",
        "a name in double quotes keeps its case, also where account or user set QUOTED_IDENTIFIERS_IGNORE_CASE",
        DOCS + "sql-reference/parameters#quoted-identifiers-ignore-case",
        "tests/integration/test_account_parameters.py::test_quoted_names_are_exact",
        _quoted_identifiers,
    ),
    Assumption(
        "statement-timeout",
        "STATEMENT_TIMEOUT_IN_SECONDS of the session ends a statement that runs longer",
        DOCS + "sql-reference/parameters#statement-timeout-in-seconds",
        _SOURCE + "test_a_scan_that_runs_out_of_time_says_what_to_raise",
        _statement_timeout,
    ),
    Assumption(
        "submitted-statements-go-on",
        "a statement that is submitted asynchronously comes back at once with its id, and goes on when its session "
        "closes, as ABORT_DETACHED_QUERY is false",
        DOCS + "developer-guide/python-connector/python-connector-example#performing-an-asynchronous-query",
        _SOURCE + "test_a_scan_goes_on_when_its_session_closes",
        _submit,
        needs=("results-open-by-id",),
    ),
    Assumption(
        "cancel-by-id",
        "SYSTEM$CANCEL_QUERY ends a statement that another session of the user submitted",
        DOCS + "sql-reference/functions/system_cancel_query",
        _SOURCE + "test_a_scan_is_ended_from_another_session",
        _cancel,
    ),
    Assumption(
        "history-has-tags",
        "QUERY_HISTORY_BY_USER shows a user the own statements with their QUERY_TAG, soon after they have ended",
        DOCS + "sql-reference/functions/query_history",
        _SOURCE + "test_statements_carry_the_runs_tag",
        _history,
    ),
    Assumption(
        "missing-as-hidden",
        "what is missing and what the role may not see are answered by the same error, 2003 or 2043",
        DOCS + "user-guide/security-access-control-overview",
        _SOURCE + "test_a_missing_table_is_named_with_the_grants_that_may_lack",
        _missing,
    ),
    Assumption(
        "sessions-end-idle",
        "a session that is idle for four hours has ended: 390114",
        DOCS + "user-guide/session-policies",
        _SOURCE + "test_a_session_that_has_ended_is_worth_another_try",
        not_checked="it takes four hours",
    ),
)
