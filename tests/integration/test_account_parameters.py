"""What an account has for the parameters of its sessions: the stand-in obeys it, and our sessions do not."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
import snowflake.connector

from snowmelt.config import SnowflakeConfig
from snowmelt.errors import StatementError
from snowmelt.models import ScanSlice
from snowmelt.snowflake_source import SnowflakeSource, session_parameters
from snowmelt.sql_text import literals
from snowmelt_sandbox.snowflake import HOSTILE, LocalSnowflake

DAYS = 'SELECT "day", "n" FROM "HOSTILE"."PUBLIC"."Days"'


@pytest.fixture(scope="module")
def hostile() -> Iterator[LocalSnowflake]:
    with LocalSnowflake(account_parameters=HOSTILE) as server:
        days = [f"2026-01-{day:02}" for day in range(1, 11)]
        rows = pa.table({"day": pa.array(days).cast(pa.date32()), "n": pa.array(range(10), pa.int64())})
        server.load_table("HOSTILE", "PUBLIC", "Days", rows, types={"day": "DATE", "n": "NUMBER(38,0)"})
        yield server


@pytest.fixture
def ours(hostile: LocalSnowflake) -> Iterator[SnowflakeSource]:
    config = SnowflakeConfig(
        account=hostile.account,
        user=hostile.user,
        password=hostile.password,
        role=hostile.role,
        warehouse=hostile.warehouse,
        host=hostile.host,
        port=hostile.port,
        protocol="http",
    )
    with SnowflakeSource.connect(config, database="HOSTILE", schema="PUBLIC") as source:
        yield source


def careless(hostile: LocalSnowflake, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement by the plain connector, in a session that sets just these parameters."""
    options = hostile.connection_parameters(session_parameters=parameters)
    with snowflake.connector.connect(**options) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return [tuple(row) for row in cursor.fetchall()]


def test_results_are_whole(hostile: LocalSnowflake, ours: SnowflakeSource) -> None:
    assert len(careless(hostile, DAYS, QUOTED_IDENTIFIERS_IGNORE_CASE=False)) == 3
    assert len(ours.aggregate(DAYS)) == 10
    assert sum(ours.run(DAYS).row_counts) == 10


def test_quoted_names_are_exact(hostile: LocalSnowflake, ours: SnowflakeSource) -> None:
    with pytest.raises(snowflake.connector.errors.ProgrammingError, match="DAYS"):
        careless(hostile, DAYS)
    assert [column.name for column in ours.describe(DAYS)] == ["day", "n"]


def test_dates_are_read_by_the_format_that_the_statement_names(hostile: LocalSnowflake, ours: SnowflakeSource) -> None:
    with pytest.raises(snowflake.connector.errors.ProgrammingError, match="is not recognized"):
        careless(hostile, "SELECT '2026-01-05'::DATE")
    since = f'{DAYS} WHERE "day" >= {literals.date("2026-01-05")}'
    assert len(ours.aggregate(since)) == 6
    moment = "2026-01-05 10:00:00.123456000"
    ((same,),) = ours.aggregate(
        f"SELECT {literals.timestamp_ntz(moment)} = {literals.timestamp_tz(moment)}::TIMESTAMP_NTZ"
    )
    assert same is True


def test_a_filter_is_read_by_the_accounts_own_format(ours: SnowflakeSource) -> None:
    assert len(ours.aggregate(f"{DAYS} WHERE \"day\" >= '05/01/2026'::DATE")) == 6


def test_batches_are_arrow_or_the_error_says_what_they_are(ours: SnowflakeSource) -> None:
    result = ours.run(DAYS)
    first = ScanSlice(query_id=result.query_id, first_batch=0, offset=0, rows=10)
    assert sum(batch.num_rows for batch in result.read(first)) == 10
    ours.aggregate("ALTER SESSION SET PYTHON_CONNECTOR_QUERY_RESULT_FORMAT = 'JSON'")
    in_json = ours.run(DAYS)
    with pytest.raises(StatementError, match=f"{in_json.query_id} as JSON, though Arrow"):
        list(in_json.read(first.model_copy(update={"query_id": in_json.query_id})))


def test_values_of_rows_are_in_no_text_that_snowflake_keeps(hostile: LocalSnowflake, ours: SnowflakeSource) -> None:
    statement = f"SELECT {literals.text('Montague')}, {literals.number('-12.50')}"
    ((name, number),) = ours.aggregate(statement)
    assert (name, str(number)) == ("Montague", "-12.50")
    kept = hostile.queries(containing="CAST(? AS NUMBER(4,2))")
    assert [query["text"] for query in kept] == ["SELECT ?, CAST(? AS NUMBER(4,2))"]


def test_no_statement_is_cancelled_because_it_takes_longer_than_a_request(
    hostile: LocalSnowflake,
) -> None:
    parameters = session_parameters.pinned(query_tag="slow", statement_seconds=600)
    options = hostile.connection_parameters(network_timeout=1, session_parameters=parameters)
    hostile.set_delays(query_seconds=2.5, containing="days")
    try:
        with snowflake.connector.connect(**options) as connection:
            source = SnowflakeSource(connection)
            assert len(source.aggregate(DAYS)) == 10
            assert len(source.describe(DAYS)) == 2
            assert sum(source.run(DAYS).row_counts) == 10
    finally:
        hostile.set_delays()
