# ruff: noqa: DTZ001 - TIMESTAMP_NTZ has no zone
"""The Snowflake stand-in, seen by the real connector."""

import base64
import datetime as dt
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector.constants import FIELD_ID_TO_NAME, QueryStatus
from snowflake.connector.errors import DatabaseError, OperationalError, ProgrammingError

from snowmelt.errors import ConfigError
from snowmelt_sandbox.snowflake import SANDBOX_USER, LocalSnowflake, User

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
UNKNOWN_ID = "01b2c3d4-0000-4000-8000-000000000000"


def private_der(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: rsa.RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


USERS = (
    SANDBOX_USER,
    User(name="KEYED", rsa_public_key=public_pem(KEY)),
    User(name="TOKENED", oauth_token="right-token"),
    User(name="READER", password="reads", roles=("ANALYST",)),
)


@pytest.fixture(scope="module")
def account() -> Iterator[LocalSnowflake]:
    with LocalSnowflake(users=USERS, poll_seconds=1.0) as server:
        server.create_schema("DB", "PUBLIC")
        server.execute(
            "create table DB.PUBLIC.MANY as select seq4() as id, 'row ' || seq4() as name "
            "from table(generator(rowcount => 40000))"
        )
        yield server


@pytest.fixture
def connection(account: LocalSnowflake) -> Iterator[Any]:
    with account.connect(database="DB", schema="PUBLIC") as opened:
        yield opened


@pytest.fixture
def cursor(connection: Any) -> Iterator[Any]:
    with connection.cursor() as opened:
        yield opened


def wait_for(connection: Any, query_id: str) -> QueryStatus:
    while connection.is_still_running(status := connection.get_query_status(query_id)):
        time.sleep(0.02)
    return QueryStatus(status)


def urls_of(cursor: Any) -> list[str]:
    return [b._remote_chunk_info.url for b in cursor.get_result_batches()[1:]]


def type_names(cursor: Any) -> list[str]:
    return [FIELD_ID_TO_NAME[c.type_code] for c in cursor.description]


# --- results --------------------------------------------------------------------------------------------------------


def test_batches_grow_and_hold_every_row_once_in_order(cursor: Any) -> None:
    cursor.execute("select * from many order by id")
    batches = cursor.get_result_batches()
    assert [b.rowcount for b in batches] == [500, 1000, 2000, 4000, 8000, 16000, 8500]
    ids = [i for b in batches for i in b.to_arrow().column("ID").to_pylist()]
    assert ids == list(range(40_000))


def test_a_session_caps_its_batches_by_login_or_alter_session(account: LocalSnowflake) -> None:
    account.execute(
        "create or replace table DB.PUBLIC.WIDE as select seq4() as id, repeat('x', 4000) as filler "
        "from table(generator(rowcount => 12000))"
    )
    by_login = {"CLIENT_RESULT_CHUNK_SIZE": 16}
    with account.connect(session_parameters=by_login) as opened, opened.cursor() as cursor:
        capped = [b.rowcount for b in cursor.execute("select * from DB.PUBLIC.WIDE").get_result_batches()]
    with account.connect() as opened, opened.cursor() as cursor:
        free = [b.rowcount for b in cursor.execute("select * from DB.PUBLIC.WIDE").get_result_batches()]
        cursor.execute("alter session set CLIENT_RESULT_CHUNK_SIZE = 16")
        altered = [b.rowcount for b in cursor.execute("select * from DB.PUBLIC.WIDE").get_result_batches()]
    assert free == [500, 1000, 2000, 4000, 4500]
    assert max(capped) * 4000 <= 16_000_000 < 4500 * 4000
    assert altered == capped
    assert sum(capped) == 12_000


def test_a_statement_caps_its_batches_by_a_parameter_of_its_own(account: LocalSnowflake) -> None:
    account.execute(
        "create or replace table DB.PUBLIC.BROAD as select seq4() as id, repeat('x', 4000) as filler "
        "from table(generator(rowcount => 30000))"
    )
    with account.connect(session_parameters={"CLIENT_RESULT_CHUNK_SIZE": 16}) as opened, opened.cursor() as cursor:
        cursor.execute_async("select * from DB.PUBLIC.BROAD", _statement_params={"CLIENT_RESULT_CHUNK_SIZE": 48})
        assert wait_for(opened, cursor.sfqid) is QueryStatus.SUCCESS
        batches = cursor.query_result(cursor.sfqid).get_result_batches()
    assert 16_000_000 < max(batch.rowcount for batch in batches) * 4000 <= 48_000_000


def test_any_finished_query_is_opened_again_by_its_id_from_another_connection(account: LocalSnowflake) -> None:
    with account.connect(database="DB", schema="PUBLIC") as opened, opened.cursor() as cursor:
        cursor.execute("select * from many where id < 3000")
        at_once, first_urls = cursor.sfqid, urls_of(cursor)
        cursor.execute_async("select * from many where id < 3000")
        later = cursor.sfqid
        assert wait_for(opened, later) is QueryStatus.SUCCESS
    with account.connect() as opened, opened.cursor() as cursor:
        for query_id in (at_once, later):
            cursor.query_result(query_id)
            assert [b.rowcount for b in cursor.get_result_batches()] == [500, 1000, 1500]
            assert sum(b.to_arrow().num_rows for b in cursor.get_result_batches()) == 3000
            assert set(urls_of(cursor)).isdisjoint(first_urls)


def test_a_result_does_not_change_when_its_table_does(account: LocalSnowflake, cursor: Any) -> None:
    cursor.execute("create or replace table shifting as select seq4() as id from table(generator(rowcount => 2000))")
    cursor.execute("select * from shifting")
    query_id = cursor.sfqid
    cursor.execute("delete from shifting")
    cursor.query_result(query_id)
    assert sum(b.to_arrow().num_rows for b in cursor.get_result_batches()) == 2000


def test_an_unknown_query_id_is_an_sql_error(cursor: Any) -> None:
    with pytest.raises(ProgrammingError) as caught:
        cursor.query_result(UNKNOWN_ID)
    assert caught.value.errno == 709
    assert f"Statement {UNKNOWN_ID} not found" in str(caught.value)


def test_a_query_of_another_user_is_not_found(account: LocalSnowflake, cursor: Any) -> None:
    cursor.execute("select 1")
    with account.connect(user="READER", password="reads", role="ANALYST") as other:
        reader = other.cursor()
        with pytest.raises(ProgrammingError) as caught:
            reader.query_result(cursor.sfqid)
    assert caught.value.errno == 709


def test_an_expired_result_is_an_sql_error_and_its_urls_are_refused(account: LocalSnowflake, cursor: Any) -> None:
    cursor.execute("select * from many")
    query_id, url = cursor.sfqid, urls_of(cursor)[0]
    assert account.expire_results(query_id) == 1
    with pytest.raises(ProgrammingError) as caught:
        cursor.query_result(query_id)
    assert caught.value.errno == 710
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url)


def test_expired_urls_are_refused_and_fresh_ones_work(account: LocalSnowflake, cursor: Any) -> None:
    cursor.execute("select * from many")
    query_id, url = cursor.sfqid, urls_of(cursor)[0]
    account.expire_urls(query_id)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url)
    cursor.query_result(query_id)
    assert cursor.get_result_batches()[1].to_arrow().num_rows == 1000


def test_a_result_without_rows_still_has_its_columns(cursor: Any) -> None:
    cursor.execute("select * from many where id < 0")
    assert cursor.fetch_arrow_all(force_return_table=True).column_names == ["ID", "NAME"]


def test_result_scan_stands_wherever_a_table_may(connection: Any, cursor: Any) -> None:
    cursor.execute(
        "select id, name, (id / 8)::number(12, 3) as part, '2024-01-01 00:00:00.5'::timestamp_ntz as moment,"
        " '01:02:03.25'::time as clock, to_binary('00ff', 'hex') as bytes, iff(id = 1, null, true) as flag from many"
    )
    query_id = cursor.sfqid
    aggregates = "count(*), sum(id), max(part), min(moment), max(clock), count(flag)"
    (row,) = cursor.execute(f"select {aggregates} from table(result_scan('{query_id}'))").fetchall()
    half_a_second = dt.datetime(2024, 1, 1, 0, 0, 0, 500_000)
    assert row == (40_000, 799_980_000, Decimal("4999.875"), half_a_second, dt.time(1, 2, 3, 250_000), 39_999)
    joined = (
        f"select a.name, hex_encode(b.bytes) from (select * from table(result_scan('{query_id}'))) as a"
        f" join table(result_scan('{query_id}')) as b on a.id = b.id + 1 where a.id = 39999"
    )
    assert cursor.execute(joined).fetchall() == [("row 39999", "00FF")]


def test_moments_and_times_are_written_by_their_pattern(cursor: Any) -> None:
    written = cursor.execute(
        "select to_varchar(t, 'HH24:MI:SS.FF6'), to_varchar(n, 'YYYY-MM-DD HH24:MI:SS.FF6'), to_varchar(d, '-MM-DD'),"
        " rtrim(rtrim(to_varchar(n, 'HH24:MI:SS.FF3'), '0'), '.') from"
        " (select '01:02:03.25'::time as t, '0001-02-03 04:05:00'::timestamp_ntz as n, '9999-12-31'::date as d)"
    ).fetchall()
    assert written == [("01:02:03.250000", "0001-02-03 04:05:00.000000", "-12-31", "04:05:00")]


def test_numbers_below_one_are_written_with_their_zero(cursor: Any) -> None:
    cursor.execute("create or replace table small (n number(2,2), m number(3,2), s number(38,37))")
    cursor.execute("insert into small values (0.12, 0.12, 0.5), (-0.5, -0.5, -0.25), (0, 0, 0), (null, null, null)")

    cursor.execute("select to_varchar(n), n::varchar, '' || n, m::varchar, n from small order by n desc nulls last")
    assert cursor.fetchall() == [
        ("0.12", "0.12", "0.12", "0.12", Decimal("0.12")),
        ("0.00", "0.00", "0.00", "0.00", Decimal("0.00")),
        ("-0.50", "-0.50", "-0.50", "-0.50", Decimal("-0.50")),
        (None, None, None, None, None),
    ]
    assert cursor.execute("select 0.12::number(2,2)::varchar").fetchall() == [("0.12",)]
    described = {row[0]: row[1] for row in cursor.execute("describe table small").fetchall()}
    assert described == {"N": "NUMBER(2,2)", "M": "NUMBER(3,2)", "S": "NUMBER(38,37)"}


def test_count_if_of_no_rows_is_zero(cursor: Any) -> None:
    counts = "count_if(id > 1), count_if(id > 1 and name is null)"
    assert cursor.execute(f"select {counts} from many where id < 0").fetchall() == [(0, 0)]
    assert cursor.execute(f"select {counts} from many where id < 5").fetchall() == [(3, 0)]
    assert cursor.execute(
        "select id, count_if(id > 1) over (order by id) as n from many where id < 4 order by id"
    ).fetchall() == [(0, 0), (1, 0), (2, 1), (3, 2)]


def test_a_dollar_sign_in_a_name_a_text_or_a_comment_begins_no_variable(cursor: Any) -> None:
    cursor.execute("set d = 7")
    cursor.execute("""create or replace table "$t" ("$d" varchar, "a$b" varchar, C$D varchar)""")
    cursor.execute("""insert into "$t" values ('$d', 'it''s $x', '$1')""")

    cursor.execute("""select "$d", "a$b", c$d, $d, 'a\\'$x' /* $y */ from "$t" -- $z""")
    assert cursor.fetchall() == [("$d", "it's $x", "$1", 7, "a'$x")]
    assert [column.name for column in cursor.description][:3] == ["$d", "a$b", "C$D"]


def test_parts_of_a_text_are_sorted(cursor: Any) -> None:
    parts = "array_to_string(array_sort(array_distinct(split('b,a,,b', ','))), ',')"
    assert cursor.execute(f"select {parts}").fetchall() == [(",a,b",)]


def test_result_scan_gives_an_earlier_result(connection: Any, cursor: Any) -> None:
    cursor.execute("select * from many where id < 700 order by id")
    query_id = cursor.sfqid
    cursor.execute(f"select * from table(result_scan('{query_id}'))")
    assert [row[0] for row in cursor.fetchall()] == list(range(700))
    cursor.execute_async("select count(*) from many")
    cursor.get_results_from_sfqid(cursor.sfqid)
    assert cursor.fetchall() == [(40_000,)]


def end_state(account: LocalSnowflake, containing: str) -> object:
    """How the latest statement with that text in it ended; nothing but its cancellation ends it."""
    while (state := account.queries(containing=containing)[-1]["state"]) == "RUNNING":
        time.sleep(0.02)
    return state


# --- running --------------------------------------------------------------------------------------------------------


def test_a_slow_query_is_polled_and_its_status_seen(account: LocalSnowflake, connection: Any, cursor: Any) -> None:
    account.set_delays(query_seconds=1.3, containing="slowly")
    cursor.execute_async("select count(*) from many /* slowly */")
    query_id = cursor.sfqid
    assert connection.get_query_status(query_id) is QueryStatus.RUNNING
    started = time.monotonic()
    cursor.execute("select max(id) from many /* slowly */")  # longer than one request waits
    assert cursor.fetchall() == [(39_999,)]
    assert time.monotonic() - started > 1.2
    assert wait_for(connection, query_id) is QueryStatus.SUCCESS
    assert connection.cursor().query_result(query_id).fetchall() == [(40_000,)]


def test_a_running_query_is_cancelled(account: LocalSnowflake, connection: Any, cursor: Any) -> None:
    account.set_delays(query_seconds=3600, containing="endless")
    cursor.execute_async("select * from many /* endless */")
    query_id = cursor.sfqid
    cursor.execute(f"select system$cancel_query('{query_id}')")
    assert wait_for(connection, query_id) is QueryStatus.ABORTED
    with pytest.raises(ProgrammingError, match="000604"):
        cursor.query_result(query_id)


def test_a_query_that_runs_in_the_engine_is_interrupted_by_its_time_out(cursor: Any) -> None:
    cursor.execute("alter session set STATEMENT_TIMEOUT_IN_SECONDS = 1")
    with pytest.raises(ProgrammingError) as caught:  # it would go on for days
        cursor.execute("select sum(sqrt(a.id * b.id + c.id)) from many a, many b, many c")
    assert caught.value.errno == 630


def test_the_client_time_out_aborts_the_query(account: LocalSnowflake, connection: Any) -> None:
    account.set_delays(query_seconds=3600, containing="aborted")
    with connection.cursor() as cursor, pytest.raises((ProgrammingError, OperationalError)):
        cursor.execute("select * from many /* aborted */", timeout=1)
    assert end_state(account, "/* aborted */") == "ABORTED"


def test_a_failed_asynchronous_query_says_why(connection: Any, cursor: Any) -> None:
    cursor.execute_async("select * from no_such_table")
    query_id = cursor.sfqid
    assert wait_for(connection, query_id) is QueryStatus.FAILED_WITH_ERROR
    with pytest.raises(ProgrammingError, match="does not exist or not authorized"):
        connection.get_query_status_throw_if_error(query_id)
    with pytest.raises(ProgrammingError, match="NO_SUCH_TABLE"):
        cursor.query_result(query_id)


def test_downloads_can_be_slowed(account: LocalSnowflake, cursor: Any) -> None:
    cursor.execute("select * from many where id < 2000")
    account.set_delays(batch_seconds=0.3)
    try:
        started = time.monotonic()
        cursor.get_result_batches()[1].to_arrow()
        assert time.monotonic() - started >= 0.3
    finally:
        account.set_delays()


def test_closing_a_session_cancels_what_it_still_runs(account: LocalSnowflake) -> None:
    account.set_delays(query_seconds=3600, containing="orphan")
    opened = account.connect(database="DB", schema="PUBLIC")
    opened.cursor().execute_async("select * from many /* orphan */")
    opened._async_sfqids.clear()  # or the connector keeps the session open
    opened.close()
    assert end_state(account, "orphan") == "ABORTED"


def test_threads_with_their_own_connections_read_at_once(account: LocalSnowflake) -> None:
    counts: list[int] = []

    def read(low: int) -> None:
        with account.connect(database="DB", schema="PUBLIC") as opened, opened.cursor() as cursor:
            counts.append(len(cursor.execute(f"select * from many where id >= {low}").fetchall()))

    threads = [threading.Thread(target=read, args=(low,)) for low in (0, 10_000, 20_000, 30_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [10_000, 20_000, 30_000, 40_000]


# --- the log --------------------------------------------------------------------------------------------------------


def test_the_log_counts_statements_tags_and_downloads(account: LocalSnowflake) -> None:
    tagged = {"QUERY_TAG": '{"run": "log-test"}'}
    with account.connect(database="DB", schema="PUBLIC", session_parameters=tagged) as opened:
        cursor = opened.cursor()
        cursor.describe("select * from many /* logged */")
        cursor.execute("select * from many /* logged */")
        cursor.get_result_batches()[2].to_arrow()
        cursor.get_result_batches()[2].to_arrow()
        query_id = cursor.sfqid
    (scan,) = account.queries(containing="/* logged */")
    assert (scan["query_id"], scan["query_tag"], scan["user"]) == (query_id, '{"run": "log-test"}', "SANDBOX")
    assert (scan["state"], scan["rows"], scan["batches"]) == ("SUCCESS", 40_000, 7)
    assert account.downloads(query_id) == {2: 2}
    assert len(account.queries(containing="/* logged */", include_describe=True)) == 2


# --- time travel ----------------------------------------------------------------------------------------------------


def now(cursor: Any) -> str:
    (moment,) = cursor.execute("select to_char(current_timestamp()::timestamp_ntz)").fetchone()
    return f"{moment} +00:00"


@pytest.mark.parametrize(
    "change",
    [
        "insert into moving values (3, 'c')",
        "update moving set name = 'z'",
        "delete from moving where id = 1",
        "truncate table moving",
        "merge into moving using (select 1 as id) s on moving.id = s.id when matched then delete",
        "alter table moving add column extra int",
    ],
)
def test_at_shows_the_rows_from_before_a_change(cursor: Any, change: str) -> None:
    cursor.execute("create or replace table moving (id int, name varchar(10))")
    cursor.execute("insert into moving values (1, 'a'), (2, 'b')")
    moment = now(cursor)
    cursor.execute(change)
    before = f"select * from moving at(timestamp => '{moment}'::timestamp_ltz) order by id"
    assert cursor.execute(before).fetchall() == [(1, "a"), (2, "b")]
    assert cursor.execute("select * from moving order by id").fetchall() != [(1, "a"), (2, "b")]


def test_each_moment_has_its_own_rows(cursor: Any) -> None:
    cursor.execute("create or replace table counted (id int)")
    moments = []
    for i in range(4):
        cursor.execute(f"insert into counted values ({i})")
        moments.append(now(cursor))
    seen = [
        cursor.execute(f"select count(*) from counted at(timestamp => '{m}'::timestamp_ltz) c").fetchone()[0]
        for m in moments
    ]
    assert seen == [1, 2, 3, 4]


def test_a_statement_can_be_the_moment(cursor: Any) -> None:
    cursor.execute("create or replace table stated (id int)")
    cursor.execute("insert into stated values (1)")
    cursor.execute("insert into stated values (2)")
    second = cursor.sfqid
    cursor.execute("insert into stated values (3)")
    assert cursor.execute(f"select * from stated before(statement => '{second}')").fetchall() == [(1,)]
    assert cursor.execute(f"select max(id) from stated at(statement => '{second}')").fetchall() == [(2,)]
    assert cursor.execute("select max(id) from stated at(offset => -0.0)").fetchall() == [(3,)]


def test_a_table_is_read_as_it_was_however_often_it_changes_meanwhile(account: LocalSnowflake, cursor: Any) -> None:
    cursor.execute("create or replace table restless as select seq4() as id from table(generator(rowcount => 100))")
    moment = cursor.execute("select current_timestamp()::varchar").fetchone()[0]
    at = f"select count(*) from restless at(timestamp => '{moment}'::timestamp_ltz)"
    found: list[int] = []

    def read() -> None:
        with account.connect(database="DB", schema="PUBLIC") as own, own.cursor() as reading:
            for _ in range(12):
                reading.execute(at)
                found.extend(row[0] for row in reading)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    cursor.execute("delete from restless where id >= 50")
    while any(reader.is_alive() for reader in readers):
        cursor.execute("insert into restless select id + 1000 from restless where id < 10")
    assert found == [100] * 36


def test_before_a_statement_is_the_moment_it_completed(account: LocalSnowflake, connection: Any, cursor: Any) -> None:
    cursor.execute("create or replace table read_slowly as select 1 as id")
    account.set_delays(query_seconds=3600, containing="waits")
    cursor.execute_async("select count(*) from read_slowly /* waits */")
    query_id = cursor.sfqid
    while not any(q["reads"] for q in account.queries(containing="/* waits */")):
        time.sleep(0.01)
    cursor.execute("insert into read_slowly values (2)")
    account.set_delays()
    assert wait_for(connection, query_id) is QueryStatus.SUCCESS
    assert connection.cursor().query_result(query_id).fetchall() == [(1,)]  # what was there when it began
    before = f"select count(*) from read_slowly before(statement => '{query_id}')"
    assert cursor.execute(before).fetchall() == [(2,)]

    _, answer = connection._get_query_status(query_id)
    began = dt.datetime.fromtimestamp(answer["data"]["queries"][0]["startTime"] / 1000, dt.UTC)
    at = f"select count(*) from read_slowly at(timestamp => '{began.isoformat()}'::timestamp_ltz)"
    assert cursor.execute(at).fetchall() == [(1,)]


def test_a_moment_before_the_table_is_an_sql_error(cursor: Any) -> None:
    moment = now(cursor)
    cursor.execute("create or replace table young as select 1 as id")
    with pytest.raises(ProgrammingError, match="Time travel data is not available for table YOUNG") as caught:
        cursor.execute(f"select * from young at(timestamp => '{moment}'::timestamp_ltz)")
    assert caught.value.errno == 707


def test_a_view_is_read_over_its_tables_as_they_were(cursor: Any) -> None:
    cursor.execute("create or replace table under (id int, w timestamp_ltz)")
    cursor.execute("insert into under values (1, null)")
    cursor.execute("create or replace view over_it as with c as (select * from under) select w, id from c")
    moment = now(cursor)
    cursor.execute("insert into under values (2, null)")
    cursor.execute(f"select * from over_it at(timestamp => '{moment}'::timestamp_ltz) v where v.id > 0")
    assert type_names(cursor) == ["TIMESTAMP_LTZ", "FIXED"]
    assert cursor.fetchall() == [(None, 1)]
    assert cursor.execute("select count(*) from over_it").fetchone() == (2,)


def test_a_replaced_table_has_no_past(cursor: Any) -> None:
    cursor.execute("create or replace table replaced as select 1 as id")
    moment = now(cursor)
    cursor.execute("create or replace table replaced as select 2 as id")
    with pytest.raises(ProgrammingError, match="Time travel data is not available"):
        cursor.execute(f"select * from replaced at(timestamp => '{moment}'::timestamp_ltz)")


def test_copies_can_be_left_out_for_a_bulk_load(account: LocalSnowflake, cursor: Any) -> None:
    account.set_time_travel(enabled=False)
    try:
        cursor.execute("create or replace table bulk (id int)")
        moment = now(cursor)
        cursor.execute("insert into bulk values (1)")
    finally:
        account.set_time_travel(enabled=True)
    assert cursor.execute(f"select * from bulk at(timestamp => '{moment}'::timestamp_ltz)").fetchall() == [(1,)]


# --- sign-in --------------------------------------------------------------------------------------------------------


def keyed(account: LocalSnowflake, key: rsa.RSAPrivateKey, **changes: Any) -> Any:
    return account.connect(
        **({"user": "KEYED", "password": None, "private_key": private_der(key), "role": None} | changes)
    )


def test_a_key_pair_signs_in(account: LocalSnowflake) -> None:
    with keyed(account, KEY) as opened, opened.cursor() as cursor:
        assert cursor.execute("select current_user()").fetchone() == ("KEYED",)
    text = base64.b64encode(private_der(KEY)).decode()
    with keyed(account, KEY, private_key=text) as opened, opened.cursor() as cursor:
        assert cursor.execute("select 1").fetchone() == (1,)


def test_a_programmatic_access_token_signs_in_by_itself_and_as_a_password(account: LocalSnowflake) -> None:
    account.put_user(User(name="PATTED", programmatic_access_token="right-token"))
    by_itself = {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": "right-token", "password": None}
    for given in (by_itself, {"password": "right-token"}):
        with account.connect(user="PATTED", **given) as opened:
            assert opened.cursor().execute("select current_user()").fetchone() == ("PATTED",)
    with pytest.raises(DatabaseError, match="Programmatic access token is invalid"):
        account.connect(user="PATTED", **{**by_itself, "token": "wrong"})


def test_an_oauth_token_signs_in(account: LocalSnowflake) -> None:
    with account.connect(user="TOKENED", password=None, authenticator="oauth", token="right-token") as opened:
        assert opened.cursor().execute("select current_user()").fetchone() == ("TOKENED",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"password": "wrong"}, "Incorrect username or password"),
        ({"user": "NOBODY"}, "Incorrect username or password"),
        ({"user": "KEYED", "password": None, "private_key": private_der(OTHER_KEY)}, "JWT token is invalid"),
        ({"user": "SANDBOX", "password": None, "private_key": private_der(KEY)}, "JWT token is invalid"),
        (
            {"account": "elsewhere", "user": "KEYED", "password": None, "private_key": private_der(KEY)},
            "JWT token is invalid",
        ),
        (
            {"user": "TOKENED", "password": None, "authenticator": "oauth", "token": "wrong"},
            "Invalid OAuth access token",
        ),
        ({"user": "READER", "password": "reads", "role": "ADMIN"}, "Role 'ADMIN' specified in the connect string"),
    ],
)
def test_a_wrong_sign_in_is_refused_in_snowflakes_words(
    account: LocalSnowflake, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatabaseError, match=message):
        account.connect(**changes)


def test_a_user_added_later_signs_in(account: LocalSnowflake) -> None:
    account.put_user(User(name="LATE", password="comes"))
    with account.connect(user="late", password="comes") as opened:
        assert opened.cursor().execute("select current_role()").fetchone() == ("SYSADMIN",)


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "errno", "sqlstate", "message"),
    [
        ("select * from missing", 2003, "42S02", "Object 'MISSING' does not exist or not authorized"),
        ("select * from nowhere.missing", 2003, "02000", "Schema 'NOWHERE' does not exist or not authorized"),
        ("select * from other.nowhere.missing", 2003, "02000", "does not exist or not authorized"),
        ("select absent from many", 904, "42000", "invalid identifier 'ABSENT'"),
        ("select many.absent from many", 904, "42000", "invalid identifier 'ABSENT'"),
        ('select "id" from many', 904, "42000", "invalid identifier"),
        ('select * from "many"', 2003, "42S02", "does not exist or not authorized"),
        ("selec 1", 1003, "42000", "SQL compilation error"),
        ("select from where", 1003, "42000", "SQL compilation error"),
        ("select no_such_function(1)", 2140, "42601", "Unknown function NO_SUCH_FUNCTION"),
        ("select 'abc'::int", 100038, "22018", "abc"),
        ("create table many (id int)", 2002, "42710", "already exists"),
        ("desc table missing", 2003, "42S02", "does not exist or not authorized"),
    ],
)
def test_an_error_of_the_engine_is_an_sql_error(cursor: Any, sql: str, errno: int, sqlstate: str, message: str) -> None:
    with pytest.raises(ProgrammingError) as caught:
        cursor.execute(sql)
    assert (caught.value.errno, caught.value.sqlstate) == (errno, sqlstate)
    assert message in str(caught.value)


def test_a_withheld_table_looks_like_a_missing_one(account: LocalSnowflake, cursor: Any) -> None:
    account.deny(["DB.PUBLIC.MANY"], user="READER")
    with (
        account.connect(user="READER", password="reads", role="ANALYST", database="DB", schema="PUBLIC") as opened,
        opened.cursor() as reader,
    ):
        for sql in ("select * from many", "select count(*) from DB.PUBLIC.MANY", "desc table many"):
            with pytest.raises(ProgrammingError, match="does not exist or not authorized") as caught:
                reader.execute(sql)
            assert caught.value.errno == 2003
        with pytest.raises(ProgrammingError, match="does not exist or not authorized"):
            reader.describe("select * from many")
        account.deny([], user="READER")
        assert reader.execute("select count(*) from many").fetchone() == (40_000,)


def test_signing_in_makes_no_database(account: LocalSnowflake) -> None:
    with account.connect(database="MISSPELT", schema="PUBLIC") as opened:
        cursor = opened.cursor()
        with pytest.raises(ProgrammingError, match="does not have a current database"):
            cursor.execute("select * from many")


# --- types ----------------------------------------------------------------------------------------------------------

TYPED = """
create or replace table typed (
    n38 number(38, 0), money number(18, 4), tiny number(3, 0), i int, f float, t varchar(7), txt text, b boolean,
    d date, ntz timestamp_ntz, ntz3 timestamp_ntz(3), ltz timestamp_ltz, tz timestamp_tz, t0 time(0), t9 time,
    bin binary, v variant, o object, a array, required int not null
)
"""


def test_values_arrive_as_they_were_stored(cursor: Any) -> None:
    cursor.execute(TYPED)
    cursor.execute(
        "insert into typed select 12345678901234567890123456789012345678, 12345678901234.5678, -128, 9007199254740993, "
        "1.5, 'abc', '', true, '0001-01-01', '9999-12-31 23:59:59.999999', '1969-12-31 23:59:59.123', "
        "'2024-02-29 12:00:00.000001+02:00', '2024-02-29 12:00:00+02:00', '23:59:59', '23:59:59.123456', "
        "x'00ff', parse_json('{\"k\": [1, null]}'), object_construct('k', 1), array_construct(1, 'x'), 1"
    )
    cursor.execute("insert into typed (f, required) values ('NaN', 2), ('-inf', 3)")
    cursor.execute("select * from typed order by required")
    table = cursor.fetch_arrow_all(force_microsecond_precision=True)
    row = table.slice(0, 1).to_pylist()[0]
    assert row["N38"] == 12345678901234567890123456789012345678
    assert row["MONEY"] == Decimal("12345678901234.5678")
    assert (row["TINY"], row["I"], row["F"], row["T"], row["TXT"], row["B"]) == (-128, 2**53 + 1, 1.5, "abc", "", True)
    assert row["D"] == dt.date(1, 1, 1)
    assert row["NTZ"] == dt.datetime(9999, 12, 31, 23, 59, 59, 999999)
    assert row["NTZ3"] == dt.datetime(1969, 12, 31, 23, 59, 59, 123000)
    assert row["LTZ"] == dt.datetime(2024, 2, 29, 10, 0, 0, 1, tzinfo=dt.UTC)
    assert row["TZ"] == dt.datetime(2024, 2, 29, 10, tzinfo=dt.UTC)
    assert (row["T0"], row["T9"]) == (dt.time(23, 59, 59), dt.time(23, 59, 59, 123456))
    assert (row["BIN"], row["V"], row["O"], row["A"]) == (b"\x00\xff", '{"k":[1,null]}', '{"k":1}', '[1,"x"]')
    nan, infinite = table.column("F").to_pylist()[1:]
    assert nan != nan
    assert infinite == float("-inf")


def test_nulls_stay_null_in_every_type(cursor: Any) -> None:
    cursor.execute(TYPED)
    cursor.execute("insert into typed (required) values (1)")
    (row,) = cursor.execute("select * exclude (required) from typed").fetchall()
    assert set(row) == {None}
    cursor.execute("select * exclude (required) from typed")
    assert set(cursor.fetch_arrow_all().to_pylist()[0].values()) == {None}


def test_columns_are_described_with_their_declared_types(cursor: Any) -> None:
    cursor.execute(TYPED)
    for statement in ("select * from typed", "with c as (select * from typed) select q.* from c q"):
        cursor.execute(statement)
        assert type_names(cursor) == [
            "FIXED", "FIXED", "FIXED", "FIXED", "REAL", "TEXT", "TEXT", "BOOLEAN", "DATE", "TIMESTAMP_NTZ",
            "TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "TIME", "TIME", "BINARY", "VARIANT", "OBJECT",
            "ARRAY", "FIXED",
        ]  # fmt: skip
        by_name = {c.name: c for c in cursor.description}
        assert [(by_name[n].precision, by_name[n].scale) for n in ("N38", "MONEY", "TINY", "I")] == [
            (38, 0), (18, 4), (3, 0), (38, 0),
        ]  # fmt: skip
        assert (by_name["T"].internal_size, by_name["TXT"].internal_size) == (7, 16_777_216)
        assert (by_name["NTZ3"].scale, by_name["T0"].scale, by_name["T9"].scale) == (3, 0, 9)
        assert [c.name for c in cursor.description if not c.is_nullable] == ["REQUIRED"]
    described = {r[0]: (r[1], r[3]) for r in cursor.execute("describe table typed").fetchall()}
    assert described["N38"] == ("NUMBER(38,0)", "Y")
    assert described["LTZ"] == ("TIMESTAMP_LTZ(9)", "Y")
    assert described["T"] == ("VARCHAR(7)", "Y")
    assert described["REQUIRED"] == ("NUMBER(38,0)", "N")


def test_the_information_schema_tells_declared_types(cursor: Any) -> None:
    cursor.execute(TYPED)
    cursor.execute(
        "select column_name, data_type, character_maximum_length from DB.information_schema.columns "
        "where table_name = 'TYPED' and table_schema = 'PUBLIC'"
    )
    types = {name: (data_type, length) for name, data_type, length in cursor.fetchall()}
    assert (types["LTZ"], types["O"], types["N38"]) == (("TIMESTAMP_LTZ", None), ("OBJECT", None), ("NUMBER", None))
    assert types["T"] == ("TEXT", 7)
    assert "TYPED" in [r[1] for r in cursor.execute("show tables in schema DB.PUBLIC").fetchall()]


def test_the_sessions_time_zone_counts(cursor: Any) -> None:
    cursor.execute("alter session set TIMEZONE = 'Europe/Berlin'")
    cursor.execute(
        "select '2024-07-01 12:00:00'::timestamp_ltz as w, '2024-07-01 12:00:00+00:00'::timestamp_ltz::varchar"
    )
    moment, text = cursor.fetchone()
    assert moment.astimezone(dt.UTC) == dt.datetime(2024, 7, 1, 10, tzinfo=dt.UTC)
    assert text.startswith("2024-07-01 14:00:00")


def test_describing_a_query_runs_nothing(cursor: Any) -> None:
    cursor.execute(TYPED)
    described = cursor.describe('select ltz as "When", money, o from typed')
    assert [(c.name, FIELD_ID_TO_NAME[c.type_code]) for c in described] == [
        ("When", "TIMESTAMP_LTZ"), ("MONEY", "FIXED"), ("O", "OBJECT"),
    ]  # fmt: skip


def test_declared_types_follow_copies_clones_views_and_alterations(cursor: Any) -> None:
    cursor.execute("create or replace table origin (w timestamp_ltz(3), o object, t varchar(5))")
    cursor.execute("create or replace table copied as select w, o, t as text from origin")
    cursor.execute("create or replace table cloned clone origin")
    cursor.execute("create or replace view seen as select o, w from origin")
    cursor.execute("alter table cloned add column x time(3)")
    cursor.execute("alter table cloned rename column t to tt")
    assert type_names(cursor.execute("select * from copied")) == ["TIMESTAMP_LTZ", "OBJECT", "TEXT"]
    assert cursor.description[2].internal_size == 5
    assert type_names(cursor.execute("select * from seen")) == ["OBJECT", "TIMESTAMP_LTZ"]
    assert type_names(cursor.execute("select * from cloned")) == ["TIMESTAMP_LTZ", "OBJECT", "TEXT", "TIME"]
    assert (cursor.description[2].name, cursor.description[2].internal_size, cursor.description[3].scale) == (
        "TT",
        5,
        3,
    )


def test_sums_are_exact(cursor: Any) -> None:
    cursor.execute("create or replace table summed (n number(38, 0), m number(18, 4))")
    cursor.execute("insert into summed values (9007199254740993, 0.1), (1, 0.2), (90071992547409930000000, null)")
    cursor.execute("select sum(n), sum(m) from summed")
    assert [c.name for c in cursor.description] == ["SUM(N)", "SUM(M)"]
    assert cursor.fetchone() == (90071992547409930000000 + 9007199254740993 + 1, Decimal("0.3"))


def test_quoted_names_are_kept_and_case_matters(account: LocalSnowflake, cursor: Any) -> None:
    cursor.execute('create or replace table "Big Flights" ("Tail Number" varchar(6), "Dep Time" int, plain int)')
    cursor.execute("insert into \"Big Flights\" values ('N1', 1, 2)")
    cursor.execute('select * from "Big Flights"')
    assert [c.name for c in cursor.description] == ["Tail Number", "Dep Time", "PLAIN"]
    assert cursor.execute('select "Tail Number" from DB.PUBLIC."Big Flights"').fetchall() == [("N1",)]
    assert [r[0] for r in cursor.execute('describe table "Big Flights"').fetchall()] == [
        "Tail Number", "Dep Time", "PLAIN",
    ]  # fmt: skip
    for wrong in ('select "tail number" from "Big Flights"', 'select * from "BIG FLIGHTS"'):
        with pytest.raises(ProgrammingError):
            cursor.execute(wrong)


def test_hashes_of_rows_can_be_summed(cursor: Any) -> None:
    cursor.execute(
        "select md5_number_lower64('abc'), to_number('ff', 'XX'), to_number(substr(md5('abc'), 1, 8), 'XXXXXXXX')"
    )
    assert cursor.fetchone() == (int("d6963f7d28e17f72", 16), 255, int("90015098", 16))


@pytest.mark.parametrize(
    "sql",
    ["use role ANALYST", "use warehouse W", "use secondary roles all", "grant select on table many to role R",
     "alter warehouse W resume", "use schema DB.PUBLIC"],
)  # fmt: skip
def test_statements_about_roles_and_warehouses_succeed(cursor: Any, sql: str) -> None:
    assert cursor.execute(sql).fetchall() == [("Statement executed successfully.",)]


def test_bindings_reach_the_statement(account: LocalSnowflake) -> None:
    with account.connect(database="DB", schema="PUBLIC", paramstyle="qmark") as opened, opened.cursor() as cursor:
        assert cursor.execute("select count(*) from many where id < ?", (7,)).fetchone() == (7,)


# --- data -----------------------------------------------------------------------------------------------------------


def test_an_arrow_table_is_loaded_under_its_exact_name(account: LocalSnowflake, cursor: Any) -> None:
    rows = pa.table(
        {
            "Flight No": pa.array([1, None], pa.int32()),
            "ratio": pa.array([0.5, None], pa.float32()),
            "Left At": pa.array([dt.datetime(2013, 1, 1, 5), None], pa.timestamp("us")),
            "carrier": ["UA", None],
            "when": pa.array([dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC), None], pa.timestamp("us", "UTC")),
        }
    )
    assert account.load_table("DB", "LOADED", "Some Flights", rows, types={"carrier": "VARCHAR(2)"}) == 2
    cursor.execute('select * from DB.LOADED."Some Flights"')
    assert [c.name for c in cursor.description] == rows.column_names
    assert type_names(cursor) == ["FIXED", "REAL", "TIMESTAMP_NTZ", "TEXT", "TIMESTAMP_TZ"]
    assert (cursor.description[0].precision, cursor.description[3].internal_size) == (38, 2)
    assert cursor.fetch_arrow_all(force_microsecond_precision=True).column("Left At").to_pylist() == [
        dt.datetime(2013, 1, 1, 5), None,
    ]  # fmt: skip


def test_a_folder_becomes_a_schema(account: LocalSnowflake, cursor: Any, tmp_path: Path) -> None:
    (tmp_path / "Air Ports.csv").write_text("Code,Height,Opened\nJFK,13,1948-07-01\nLGA,,1939-10-15\n")
    pq.write_table(pa.table({"n": [1, 2, 3]}), tmp_path / "NUMBERS.parquet")
    assert account.load_folder(tmp_path, "FOLDER_DB", "RAW") == {"Air Ports": 2, "NUMBERS": 3}
    cursor.execute('select * from FOLDER_DB.RAW."Air Ports" order by "Code"')
    assert type_names(cursor) == ["TEXT", "FIXED", "DATE"]
    assert cursor.fetchall() == [("JFK", 13, dt.date(1948, 7, 1)), ("LGA", None, dt.date(1939, 10, 15))]


def test_a_folder_without_files_is_refused(account: LocalSnowflake, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no file to load"):
        account.load_folder(tmp_path, "FOLDER_DB", "RAW")


@pytest.mark.full
def test_data_types_results_and_copies_survive_a_restart(tmp_path: Path) -> None:
    with LocalSnowflake(directory=tmp_path / "kept") as first:
        first.create_schema("KEEP", "S")
        first.execute('create table KEEP.S."Mixed Case" (id int, w timestamp_ltz(3))')
        first.execute('insert into KEEP.S."Mixed Case" values (1, null)')
        with first.connect() as opened, opened.cursor() as cursor:
            moment = now(cursor)
            cursor.execute('insert into KEEP.S."Mixed Case" values (2, null)')
            cursor.execute('select * from KEEP.S."Mixed Case"')
            query_id = cursor.sfqid
    assert not first.is_running()
    with LocalSnowflake(directory=tmp_path / "kept") as second, second.connect() as opened:
        cursor = opened.cursor()
        cursor.execute('select * from KEEP.S."Mixed Case"')
        assert type_names(cursor) == ["FIXED", "TIMESTAMP_LTZ"]
        assert cursor.fetchall() == [(1, None), (2, None)]
        assert opened.cursor().query_result(query_id).fetchall() == [(1, None), (2, None)]
        cursor.execute(f"select id from KEEP.S.\"Mixed Case\" at(timestamp => '{moment}'::timestamp_ltz)")
        assert cursor.fetchall() == [(1,)]


def test_it_stops_in_order_in_the_middle_of_a_query() -> None:
    with LocalSnowflake(query_delay_seconds=3600) as server:
        server.create_schema("DB", "S")
        server.execute("create table DB.S.T as select 1 as id")
        server.connect().cursor().execute_async("select * from DB.S.T")
        process = server._process
        assert process is not None
    assert process.returncode == 0  # it was not killed after waiting in vain
    assert not server.directory.exists()


def test_the_environment_is_enough_to_connect(account: LocalSnowflake) -> None:
    variables = account.environment()
    assert set(variables) == {
        f"SNOWFLAKE_{n}" for n in ("ACCOUNT", "USER", "PASSWORD", "ROLE", "WAREHOUSE", "HOST", "PORT", "PROTOCOL")
    }
    parameters = {n.removeprefix("SNOWFLAKE_").lower(): v for n, v in variables.items()}
    opened: Any = snowflake.connector.connect(**parameters)
    with opened, opened.cursor() as cursor:
        assert cursor.execute("select current_warehouse()").fetchone() == ("COMPUTE_WH",)


# --- what a client may not -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM glob('{folder}/*')",
        "COPY (SELECT 1) TO '{file}'",
        "ATTACH '{folder}/history.db' AS stolen",
        "INSTALL httpfs",
    ],
)
def test_no_statement_reads_or_writes_a_file(account: LocalSnowflake, tmp_path: Path, statement: str) -> None:
    file = tmp_path / "private.csv"
    file.write_text("pl4nted\n1\n")

    with account.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET enable_external_access = true")  # a variable of the session, and no more
        with pytest.raises(ProgrammingError):
            cursor.execute(statement.format(file=file, folder=account.directory))
    assert file.read_text() == "pl4nted\n1\n"


def test_nobody_but_the_owner_adds_users_or_loads_files(account: LocalSnowflake) -> None:
    for name, headers in (("load", {}), ("users", {"X-Snowmelt-Control": "guessed"})):
        request = urllib.request.Request(f"{account.url}/local/{name}", data=b"{}", headers=headers)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request)


def test_the_password_is_drawn_and_its_files_are_the_owners_alone(account: LocalSnowflake) -> None:
    assert len(SANDBOX_USER.password or "") >= 16
    with pytest.raises(DatabaseError, match="Incorrect username or password"):
        account.connect(user="SANDBOX", password="sandbox")
    assert account.directory.stat().st_mode & 0o777 == 0o700
    for name in ("users.json", "control"):
        assert (account.directory / name).stat().st_mode & 0o777 == 0o600


def catalog_of(connection: Any, *names: str) -> dict[str, tuple[int, dt.datetime]]:
    listed = ", ".join(f"'{name}'" for name in names)
    with connection.cursor() as cursor:
        cursor.execute(
            "select TABLE_NAME, ROW_COUNT, LAST_ALTERED from DB.INFORMATION_SCHEMA.TABLES as t "
            f"where t.TABLE_SCHEMA = 'PUBLIC' and TABLE_NAME in ({listed})"
        )
        return {name: (rows, moment) for name, rows, moment in cursor.fetchall()}


def now_there(connection: Any) -> dt.datetime:
    with connection.cursor() as cursor:
        moment: dt.datetime = cursor.execute("select current_timestamp()").fetchone()[0]
    return moment


def test_the_catalog_counts_what_is_committed_and_tells_when_a_table_was_changed(
    account: LocalSnowflake, connection: Any
) -> None:
    with account.connect(database="DB", schema="PUBLIC") as writer, writer.cursor() as cursor:
        cursor.execute("create table TALLIED (N int)")
        cursor.execute("create table LEFT_ALONE as select 1 as N")
        cursor.execute("insert into TALLIED values (1), (2), (3)")
        cursor.execute("delete from TALLIED where N = 2")
        made = now_there(connection)
        known = catalog_of(connection, "TALLIED", "LEFT_ALONE")
        assert {name: rows for name, (rows, _) in known.items()} == {"TALLIED": 2, "LEFT_ALONE": 1}
        assert all(moment < made for _, moment in known.values())

        cursor.execute("begin")
        cursor.execute("insert into TALLIED values (4)")
        rows, moment = catalog_of(connection, "TALLIED")["TALLIED"]
        assert (rows, moment > made) == (2, True)  # nobody knows yet when it is going to be seen
        before = now_there(connection)
        cursor.execute("commit")
        rows, moment = catalog_of(connection, "TALLIED")["TALLIED"]
        assert rows == 3
        assert before < moment < now_there(connection)
        cursor.execute("select * from TALLIED").fetchall()
        assert catalog_of(connection, "TALLIED")["TALLIED"] == (rows, moment)  # reading is no change
        cursor.execute("truncate table TALLIED")
        assert catalog_of(connection, "TALLIED")["TALLIED"][0] == 0
        assert catalog_of(connection, "LEFT_ALONE") == {"LEFT_ALONE": known["LEFT_ALONE"]}
