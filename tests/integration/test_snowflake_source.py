"""The real connector over HTTP: signing in, describing, one scan re-opened elsewhere and read by slices."""

import json
import logging
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.columns.batch_conversion import Preparation, sent_schema
from snowmelt.config import SnowflakeConfig
from snowmelt.errors import AccessError, DataError, OutOfTimeError, ResultGoneError, TransientError
from snowmelt.models import ColumnPlan, ScanSlice, SourceColumn, TargetColumn
from snowmelt.snowflake_source import (
    ScanDone,
    ScanFailed,
    ScanGone,
    ScanResult,
    ScanRunning,
    ScanState,
    SnowflakeSource,
)
from snowmelt_sandbox.snowflake import LocalSnowflake, User

DATABASE, SCHEMA = "SCANS", "PUBLIC"
ROWS = 40_000


def columns_of(**types: pa.DataType) -> tuple[ColumnPlan, ...]:
    """Columns of these names that travel in these types."""
    return tuple(
        ColumnPlan(
            source=SourceColumn(name=name, type="TEXT"),
            target=TargetColumn(name=name, type="text"),
            select=f'"{name}"',
            wire=str(wanted),
        )
        for name, wanted in types.items()
    )


FLIGHTS = columns_of(ID=pa.int64(), DISTANCE=pa.decimal128(10, 0), FARE=pa.decimal128(12, 2))
FLIGHTS_STATEMENT = f'select "ID", "DISTANCE", "FARE" from "{DATABASE}"."{SCHEMA}"."Flights of 2013"'


def config_of(snowflake: LocalSnowflake, **keys: Any) -> SnowflakeConfig:
    return SnowflakeConfig.model_validate(snowflake.connection_parameters() | keys)


def connect(config: SnowflakeConfig, run_id: str | None = None) -> SnowflakeSource:
    return SnowflakeSource.connect(config, database=DATABASE, schema=SCHEMA, run_id=run_id)


@pytest.fixture(scope="module")
def account(snowflake: LocalSnowflake) -> LocalSnowflake:
    """The stand-in with a table whose distances need one byte at first and four at last."""
    snowflake.execute(f"create database if not exists {DATABASE}")
    snowflake.execute(f"create schema if not exists {DATABASE}.{SCHEMA}")
    snowflake.execute(
        f'create or replace table {DATABASE}.{SCHEMA}."Flights of 2013" '
        "(id number(18,0), distance number(10,0), fare number(12,2), note varchar(20))"
    )
    snowflake.execute(
        f'insert into {DATABASE}.{SCHEMA}."Flights of 2013" select id, id * id, '
        "case when id % 3 = 0 then null else id / 100 end, 'n' || id "
        f"from (select seq4() as id from table(generator(rowcount => {ROWS}))) numbers order by id"
    )
    return snowflake


@pytest.fixture(scope="module")
def source(account: LocalSnowflake) -> Iterator[SnowflakeSource]:
    with connect(config_of(account), run_id="run-1") as source:
        yield source


@pytest.fixture(scope="module")
def flights(source: SnowflakeSource) -> ScanResult:
    query_id = source.submit(FLIGHTS_STATEMENT)
    finished(source, query_id)
    return source.open_result(query_id)


def ended(source: SnowflakeSource, query_id: str, within_seconds: float = 120) -> ScanState:
    """What became of a scan, once it is no longer running."""
    end = time.monotonic() + within_seconds
    while (state := source.scan_state(query_id)) == ScanRunning():
        assert time.monotonic() < end, f"still running after {within_seconds} s"
        time.sleep(0.05)
    return state


def finished(source: SnowflakeSource, query_id: str) -> tuple[int, ...]:
    """The row counts of a scan, once it is done."""
    state = ended(source, query_id)
    assert isinstance(state, ScanDone), state
    return state.row_counts


def everything(result: ScanResult) -> ScanSlice:
    return ScanSlice(query_id=result.query_id, first_batch=0, offset=0, rows=sum(result.row_counts))


def rows_of(source: SnowflakeSource, statement: str, columns: tuple[ColumnPlan, ...]) -> list[dict[str, Any]]:
    query_id = source.submit(statement)
    finished(source, query_id)
    result = source.open_result(query_id)
    return [row for batch in prepared(result.read(everything(result)), columns) for row in batch.to_pylist()]


def prepared(batches: Iterable[pa.RecordBatch], columns: tuple[ColumnPlan, ...]) -> Iterator[pa.RecordBatch]:
    """The batches in the one schema in which they are encoded."""
    preparation, first_row = Preparation(columns), 1
    for batch in batches:
        yield preparation.prepare(batch, first_row=first_row)
        first_row += batch.num_rows


# --- signing in -----------------------------------------------------------------------------------------------------


def test_a_password_signs_in_and_the_identity_is_snowflakes_own(account: LocalSnowflake) -> None:
    config = config_of(account)
    with connect(config) as source:
        identity = source.identity()
    assert identity.user == config.user.upper()
    assert identity.role
    assert identity.warehouse
    assert abs(identity.now - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("spelling", ["PEM", "base64 DER", "file"])
def test_a_key_pair_signs_in(account: LocalSnowflake, tmp_path: Any, spelling: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    name = f"KEY_USER_{uuid.uuid4().hex.upper()}"
    account.put_user(User(name, rsa_public_key=public))
    file = tmp_path / "rsa_key.p8"
    file.write_text(pem)
    sign_in = {
        "PEM": {"private_key": pem.replace("\n", "\\n")},
        "base64 DER": {"private_key": "".join(pem.splitlines()[1:-1])},
        "file": {"private_key_path": str(file)},
    }[spelling]
    # A wrong password beside it shows that the key pair comes first.
    with connect(config_of(account, user=name, password="h1dden-not-it", **sign_in)) as source:
        assert source.identity().user == name


def test_a_foreign_key_is_refused(account: LocalSnowflake) -> None:
    foreign = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = foreign.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(AccessError, match="JWT token is invalid") as caught:
        connect(config_of(account, private_key=pem))
    assert "with its private_key" in caught.value.message


def test_an_oauth_token_signs_in(account: LocalSnowflake) -> None:
    name, token = f"OAUTH_USER_{uuid.uuid4().hex.upper()}", f"h1dden-{uuid.uuid4().hex}"
    account.put_user(User(name, oauth_token=token))
    with connect(config_of(account, user=name, token=token)) as source:
        assert source.identity().user == name
    with pytest.raises(AccessError, match="Invalid OAuth access token") as caught:
        connect(config_of(account, user=name, token="h1dden-token"))
    assert "h1dden" not in caught.value.message


def test_a_wrong_password_is_one_line_with_user_and_account(account: LocalSnowflake) -> None:
    config = config_of(account, password="h1dden-wrong")
    with pytest.raises(AccessError, match="Incorrect username or password") as caught:
        connect(config)
    said = caught.value.message
    assert f"user {config.user} of account {config.account}" in said
    assert "h1dden" not in said
    assert "\n" not in said


def test_a_role_that_is_not_granted_is_named(account: LocalSnowflake) -> None:
    name = f"LIMITED_{uuid.uuid4().hex.upper()}"
    account.put_user(User(name, password="h1dden", roles=("READER",)))
    with pytest.raises(AccessError, match="Role 'OWNER' specified"):
        connect(config_of(account, user=name, password="h1dden", role="OWNER"))


def test_a_closed_port_fails_with_what_to_check_before_the_connector_is_asked(
    account: LocalSnowflake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(**_: Any) -> None:
        pytest.fail("the connector would try again for minutes")

    monkeypatch.setattr("snowflake.connector.connect", asked)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(AccessError, match=rf"cannot reach Snowflake at 127.0.0.1:{port}: Connection refused"):
        connect(config_of(account, host="127.0.0.1", port=port))


def test_a_host_without_an_address_is_named(account: LocalSnowflake) -> None:
    with pytest.raises(AccessError, match=r"cannot find Snowflake's host nowhere\.invalid"):
        connect(config_of(account, host="nowhere.invalid", protocol="https"))


def test_statements_carry_the_runs_tag(account: LocalSnowflake) -> None:
    marker = uuid.uuid4().hex
    with connect(config_of(account), run_id="run-7") as source:
        source.submit(f"select '{marker}'")
    (logged,) = account.queries(containing=marker)
    assert json.loads(logged["query_tag"]) == {"app": "snowmelt", "run_id": "run-7"}


def test_moments_are_in_utc(source: SnowflakeSource) -> None:
    columns = columns_of(MOMENT=pa.timestamp("us", "UTC"))
    rows = rows_of(source, "select to_timestamp_ltz('2024-07-01 12:00:00', 'YYYY-MM-DD HH24:MI:SS') as moment", columns)
    assert rows == [{"MOMENT": datetime(2024, 7, 1, 12, tzinfo=UTC)}]


def test_threads_that_connect_at_once_each_read_their_own_rows(account: LocalSnowflake) -> None:
    read: dict[int, list[int]] = {}

    def work(number: int) -> None:
        with connect(config_of(account)) as source:
            rows = rows_of(
                source,
                f'select {number} as n from {DATABASE}.{SCHEMA}."Flights of 2013" limit 3000',
                columns_of(N=pa.int64()),
            )
            read[number] = [row["N"] for row in rows]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert read == {number: [number] * 3000 for number in range(6)}


def test_the_connector_logs_nothing(account: LocalSnowflake, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with connect(config_of(account)) as source, pytest.raises(DataError):
        source.describe("select from where")
    assert not [record for record in caplog.records if record.name.startswith("snowflake")]


def test_a_session_without_a_warehouse_says_how_to_get_one(account: LocalSnowflake) -> None:
    with connect(config_of(account)) as source:
        source._connection.cursor().execute('use warehouse ""')
        with pytest.raises(AccessError, match=r"has no warehouse in role .*; set snowflake\.warehouse"):
            source.identity()


def test_a_session_that_has_ended_is_worth_another_try(account: LocalSnowflake, flights: ScanResult) -> None:
    source = connect(config_of(account))
    rest = source._connection.rest
    assert rest is not None
    rest.delete_session()  # as Snowflake does after four idle hours
    for ask in (
        source.identity,
        lambda: source.submit("select 1"),
        lambda: source.scan_state(flights.query_id),
        lambda: source.open_result(flights.query_id),
    ):
        with pytest.raises(TransientError, match="the Snowflake session has ended"):
            ask()
    source.close()


# --- describing -----------------------------------------------------------------------------------------------------


def test_a_table_is_described_as_it_was_declared(source: SnowflakeSource) -> None:
    described = source.describe_table(DATABASE, SCHEMA, "Flights of 2013")
    assert [(c.name, c.type, c.precision, c.scale) for c in described] == [
        ("ID", "FIXED", 18, 0),
        ("DISTANCE", "FIXED", 10, 0),
        ("FARE", "FIXED", 12, 2),
        ("NOTE", "TEXT", None, None),
    ]
    assert described[-1].length == 20


def test_a_statement_is_described_without_being_run(source: SnowflakeSource) -> None:
    (column,) = source.describe("select to_timestamp_ntz('2020-01-01', 'YYYY-MM-DD') as moment")
    assert (column.name, column.type) == ("MOMENT", "TIMESTAMP_NTZ")


@pytest.mark.parametrize("parts", [(DATABASE, SCHEMA, "Absent"), (DATABASE, "NO_SUCH", "T"), ("NO_SUCH", "S", "T")])
def test_a_missing_table_is_named_with_the_grants_that_may_lack(
    source: SnowflakeSource, parts: tuple[str, str, str]
) -> None:
    role = source.identity().role
    with pytest.raises(AccessError) as caught:
        source.describe_table(*parts)
    said = caught.value.message
    assert said.startswith(f"cannot read {'.'.join(parts)} in role {role}: ")
    assert 'GRANT SELECT ON TABLE "{}"."{}"."{}" TO ROLE '.format(*parts) + role in said
    assert "\n" not in said


def test_a_withheld_table_is_named_with_the_grants_that_may_lack(account: LocalSnowflake) -> None:
    name = f"POOR_{uuid.uuid4().hex.upper()}"
    account.put_user(User(name, password="h1dden"))
    account.deny([f"{DATABASE}.{SCHEMA}.Flights of 2013"], user=name)
    with (
        connect(config_of(account, user=name, password="h1dden")) as source,
        pytest.raises(AccessError, match=r"cannot read SCANS\.PUBLIC\.Flights of 2013 in role .* GRANT SELECT ON"),
    ):
        source.describe_table(DATABASE, SCHEMA, "Flights of 2013")


def test_a_statement_that_does_not_compile_is_quoted(source: SnowflakeSource) -> None:
    with pytest.raises(DataError, match=r"selec nothing from nowhere"):
        source.describe("selec nothing\nfrom nowhere")


# --- one scan -------------------------------------------------------------------------------------------------------


def test_a_result_has_several_batches_that_hold_all_rows(flights: ScanResult) -> None:
    assert len(flights.row_counts) > 3
    assert sum(flights.row_counts) == ROWS


def test_rows_arrive_whole_and_in_one_schema_whatever_width_they_travelled_in(flights: ScanResult) -> None:
    batches = list(prepared(flights.read(everything(flights)), FLIGHTS))
    assert {batch.schema for batch in batches} == {sent_schema(FLIGHTS)}
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert sorted(row["ID"] for row in rows) == list(range(ROWS))
    assert all(row["DISTANCE"] == row["ID"] ** 2 for row in rows)
    assert all(row["FARE"] == (None if row["ID"] % 3 == 0 else Decimal(row["ID"]) / 100) for row in rows)


@pytest.fixture(scope="module")
def all_flights(flights: ScanResult) -> pa.Table:
    return pa.Table.from_batches(prepared(flights.read(everything(flights)), FLIGHTS))


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, ROWS), max_size=4).map(sorted))
def test_slices_read_every_row_exactly_once(flights: ScanResult, all_flights: pa.Table, cuts: list[int]) -> None:
    starts = [(batch, place) for batch, count in enumerate(flights.row_counts) for place in range(count)]
    read = []
    for start, stop in pairwise([0, *cuts, ROWS]):
        if start < stop:
            batch, offset = starts[start]
            piece = ScanSlice(query_id=flights.query_id, first_batch=batch, offset=offset, rows=stop - start)
            read += list(prepared(flights.read(piece), FLIGHTS))
    assert pa.Table.from_batches(read).equals(all_flights)


def test_a_slice_fetches_only_the_batches_it_touches(account: LocalSnowflake, source: SnowflakeSource) -> None:
    query_id = source.submit(FLIGHTS_STATEMENT)
    finished(source, query_id)
    result = source.open_result(query_id)
    piece = ScanSlice(query_id=query_id, first_batch=2, offset=3, rows=result.row_counts[2])
    assert sum(batch.num_rows for batch in result.read(piece)) == piece.rows
    assert account.downloads(query_id) == {2: 1, 3: 1}


def test_neighbouring_slices_share_a_download(account: LocalSnowflake, source: SnowflakeSource) -> None:
    query_id = source.submit(FLIGHTS_STATEMENT)
    finished(source, query_id)
    result = source.open_result(query_id)
    half = result.row_counts[2] // 2
    piece = ScanSlice(query_id=query_id, first_batch=2, offset=0, rows=half)
    rest = ScanSlice(query_id=query_id, first_batch=2, offset=half, rows=result.row_counts[2] - half + 1)
    read = [*result.read(piece), *result.read(rest)]
    assert sum(batch.num_rows for batch in read) == result.row_counts[2] + 1
    assert account.downloads(query_id) == {2: 1, 3: 1}


def test_a_slice_of_another_result_is_refused(flights: ScanResult) -> None:
    with pytest.raises(DataError, match="plan the table again"):
        list(flights.read(ScanSlice(query_id="other", first_batch=0, offset=0, rows=1)))


def test_a_slice_that_reaches_beyond_the_result_is_refused_before_a_row_is_given(flights: ScanResult) -> None:
    piece = ScanSlice(query_id=flights.query_id, first_batch=0, offset=0, rows=ROWS + 1)
    with pytest.raises(DataError, match="lacks 1 of the 40001 rows"):
        next(flights.read(piece))


REOPEN = textwrap.dedent(
    """
    import json, sys
    from snowmelt.config import SnowflakeConfig
    from snowmelt.models import ScanSlice
    from snowmelt.snowflake_source import SnowflakeSource

    given = json.load(sys.stdin)
    config = SnowflakeConfig.model_validate(given["config"])
    with SnowflakeSource.connect(config, database="SCANS", schema="PUBLIC") as source:
        result = source.open_result(given["slice"]["query_id"])
        batches = result.read(ScanSlice.model_validate(given["slice"]))
        ids = [value for batch in batches for value in batch.column(0).to_pylist()]
    print(json.dumps({"row_counts": result.row_counts, "ids": ids}))
    """
)


def test_another_process_reads_the_same_rows_by_query_id_after_the_first_session_has_closed(
    account: LocalSnowflake,
) -> None:
    with connect(config_of(account)) as first:
        query_id = first.submit(FLIGHTS_STATEMENT)
        row_counts = finished(first, query_id)
        result = first.open_result(query_id)
        piece = ScanSlice(query_id=query_id, first_batch=1, offset=7, rows=row_counts[1] + 100)
        expected = [i for batch in result.read(piece) for i in batch.column(0).to_pylist()]
    given = {
        "config": account.connection_parameters(),
        "slice": piece.model_dump(),
    }
    other = subprocess.run(
        [sys.executable, "-c", REOPEN], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    assert json.loads(other.stdout) == {"row_counts": list(row_counts), "ids": expected}


def test_an_empty_result_has_no_rows_and_no_batches_to_read(source: SnowflakeSource) -> None:
    assert rows_of(source, f"{FLIGHTS_STATEMENT} where id < 0", FLIGHTS) == []


def test_extreme_values_and_nulls_survive(source: SnowflakeSource) -> None:
    statement = """
        select 99999999999999999999999999999999999999::number(38,0) as wide,
               to_timestamp_ntz('0001-01-01 00:00:00', 'YYYY-MM-DD HH24:MI:SS') as first,
               to_timestamp_ntz('9999-12-31 23:59:59.999999', 'YYYY-MM-DD HH24:MI:SS.FF6') as last,
               to_date('9999-12-31', 'YYYY-MM-DD') as day, to_time('23:59:59.999999', 'HH24:MI:SS.FF6') as clock,
               ''::varchar as blank,
               'NULL'::varchar as word, true as flag, 0.1::float as inexact
        union all select null, null, null, null, null, null, null, null, null"""
    columns = columns_of(
        WIDE=pa.decimal128(38, 0),
        FIRST=pa.timestamp("us"),
        LAST=pa.timestamp("us"),
        DAY=pa.date32(),
        CLOCK=pa.time64("us"),
        BLANK=pa.string(),
        WORD=pa.string(),
        FLAG=pa.bool_(),
        INEXACT=pa.float64(),
    )
    rows = rows_of(source, statement, columns)
    full = next(row for row in rows if row["WIDE"] is not None)
    assert full == {
        "WIDE": Decimal("9" * 38),
        "FIRST": datetime(1, 1, 1),  # noqa: DTZ001 - a timestamp without a zone
        "LAST": datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
        "DAY": datetime(9999, 12, 31).date(),  # noqa: DTZ001
        "CLOCK": datetime(1, 1, 1, 23, 59, 59, 999999).time(),  # noqa: DTZ001
        "BLANK": "",
        "WORD": "NULL",
        "FLAG": True,
        "INEXACT": 0.1,
    }
    assert dict.fromkeys(column.target.name for column in columns) in rows


def test_a_value_that_does_not_fit_the_plan_names_its_column(flights: ScanResult) -> None:
    narrow = columns_of(ID=pa.int64(), DISTANCE=pa.int16(), FARE=pa.decimal128(12, 2))
    with pytest.raises(DataError, match=r'Column "DISTANCE", rows .* of the chunk: the value does not fit'):
        list(prepared(flights.read(everything(flights)), narrow))


def test_a_failed_scan_is_a_state_with_one_line_that_names_the_query(source: SnowflakeSource) -> None:
    query_id = source.submit(f'select no_such_column from {DATABASE}.{SCHEMA}."Flights of 2013"')
    state = ended(source, query_id)
    assert isinstance(state, ScanFailed)
    assert "NO_SUCH_COLUMN" in state.message.upper()
    assert query_id in state.message
    assert "\n" not in state.message


def test_an_unknown_query_is_gone(source: SnowflakeSource) -> None:
    unknown = str(uuid.uuid4())
    assert isinstance(source.scan_state(unknown), ScanGone)
    with pytest.raises(ResultGoneError, match=unknown):
        source.open_result(unknown)


def test_a_long_scan_is_polled_until_it_is_done(account: LocalSnowflake, source: SnowflakeSource) -> None:
    marker = f"slow_{uuid.uuid4().hex}"
    account.set_delays(query_seconds=3600, containing=marker)
    try:
        query_id = source.submit(f"{FLIGHTS_STATEMENT} where '{marker}' is not null")
        assert source.scan_state(query_id) == ScanRunning()
        account.set_delays()
        assert sum(finished(source, query_id)) == ROWS
    finally:
        account.set_delays()


def test_a_scan_goes_on_when_its_session_closes(account: LocalSnowflake, source: SnowflakeSource) -> None:
    marker = f"orphan_{uuid.uuid4().hex}"
    account.set_delays(query_seconds=3600, containing=marker)
    try:
        with connect(config_of(account)) as first:
            query_id = first.submit(f"{FLIGHTS_STATEMENT} where '{marker}' is not null")
        assert source.scan_state(query_id) == ScanRunning()
        account.set_delays()
        assert sum(finished(source, query_id)) == ROWS
    finally:
        account.set_delays()


def test_a_scan_is_ended_from_another_session(account: LocalSnowflake, source: SnowflakeSource) -> None:
    marker = f"endless_{uuid.uuid4().hex}"
    account.set_delays(query_seconds=3600, containing=marker)
    try:
        query_id = source.submit(f"{FLIGHTS_STATEMENT} where '{marker}' is not null")
        with connect(config_of(account)) as other:
            other.cancel(query_id)
        state = ended(source, query_id)
    finally:
        account.set_delays()
    assert isinstance(state, ScanFailed)
    source.cancel(query_id)


def test_a_scan_that_runs_out_of_time_says_what_to_raise(account: LocalSnowflake) -> None:
    marker = f"late_{uuid.uuid4().hex}"
    account.set_delays(query_seconds=3600, containing=marker)
    try:
        with connect(config_of(account, statement_timeout_seconds=1)) as source:
            state = ended(source, source.submit(f"{FLIGHTS_STATEMENT} where '{marker}' is not null"))
    finally:
        account.set_delays()
    assert isinstance(state, ScanFailed)
    assert "raise snowflake.statement_timeout_seconds" in state.message


def test_a_result_that_has_expired_is_gone(account: LocalSnowflake, source: SnowflakeSource) -> None:
    query_id = source.submit(FLIGHTS_STATEMENT)
    finished(source, query_id)
    account.expire_results(query_id)
    state = source.scan_state(query_id)
    assert isinstance(state, ScanGone)
    assert "expired" in state.message
    with pytest.raises(ResultGoneError, match=f"expired .*{query_id}.* scans the table again"):
        source.open_result(query_id)


def test_a_result_that_expires_while_it_is_read_is_gone(account: LocalSnowflake, source: SnowflakeSource) -> None:
    query_id = source.submit(FLIGHTS_STATEMENT)
    finished(source, query_id)
    reading = source.open_result(query_id).read(ScanSlice(query_id=query_id, first_batch=0, offset=0, rows=ROWS))
    next(reading)
    account.expire_results(query_id)
    with pytest.raises(ResultGoneError, match="scans the table again"):
        list(reading)


def test_urls_that_expire_while_the_result_is_read_are_renewed(
    account: LocalSnowflake, source: SnowflakeSource
) -> None:
    query_id = source.submit(FLIGHTS_STATEMENT)
    finished(source, query_id)
    result = source.open_result(query_id)
    reading = result.read(everything(result))
    rows = next(reading).num_rows
    account.expire_urls(query_id)
    assert rows + sum(batch.num_rows for batch in reading) == ROWS


def test_a_download_that_hangs_is_not_tried_beyond_the_deadline(
    account: LocalSnowflake, source: SnowflakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowflake.connector.result_batch.DOWNLOAD_TIMEOUT", 0.3)
    query_id = source.submit(FLIGHTS_STATEMENT)
    finished(source, query_id)
    asked: list[None] = []

    def check() -> None:
        asked.append(None)
        if len(asked) == 2:
            raise OutOfTimeError("the invocation's time is over")

    result = source.within(check).open_result(query_id)
    reading = result.read(everything(result))
    next(reading)
    account.set_delays(batch_seconds=30)
    try:
        with pytest.raises(OutOfTimeError):
            next(reading)
    finally:
        account.set_delays()

    assert len(asked) == 2
    assert sum(batch.num_rows for batch in reading) == 0
