"""Every value arrives as it was: Arrow batches as Snowflake sends them, through binary COPY, read back by SQL."""

import datetime as dt
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg2
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from snowmelt.columns.batch_conversion import cut_masks
from snowmelt.columns.type_pairs import Match, match
from snowmelt.errors import DataError, TransientError
from snowmelt.loading.copy import CopyResult, copy_batches
from snowmelt.models import ColumnPlan, SourceColumn, TableName, TargetColumn
from snowmelt_sandbox.postgres import LocalPostgres

TABLE = TableName(schema_name="public", name='Odd "table"')


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    with LocalPostgres(durable=False) as postgres:
        yield postgres


@pytest.fixture(scope="module")
def connection(server: LocalPostgres) -> Iterator[Connection]:
    opened = psycopg2.connect(server.dsn())
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def nothing_is_left_open(connection: Connection) -> Iterator[None]:
    yield
    connection.rollback()


@dataclass(frozen=True)
class Sent:
    """A column on its way: how Snowflake calls it, as what its values come, and the target's DDL."""

    source: SourceColumn
    values: "pa.Array[Any]"
    into: str
    arrives: Sequence[Any]


def created(connection: Connection, ddl: Sequence[str]) -> list[TargetColumn]:
    """Create the table again and say how the catalog has its columns, which are ``c 0``, ``c 1`` ..."""
    name = sql.Identifier(TABLE.schema_name, TABLE.name)
    columns = [sql.SQL("{} {}").format(sql.Identifier(f"c {i}"), sql.SQL(kind)) for i, kind in enumerate(ddl)]
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
        cursor.execute(sql.SQL("CREATE TABLE {} (position serial, {})").format(name, sql.SQL(", ").join(columns)))
        cursor.execute(
            "SELECT attname, typname, atttypmod FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid"
            " WHERE attrelid = %s::regclass AND attnum > 1 ORDER BY attnum",
            (name.as_string(cursor),),
        )
        return [TargetColumn(name=found[0], type=found[1], typmod=found[2]) for found in cursor.fetchall()]


def planned(connection: Connection, sources: Sequence[SourceColumn], ddl: Sequence[str]) -> list[ColumnPlan]:
    plans = []
    for source, target in zip(sources, created(connection, ddl), strict=True):
        found = match(source, target)
        assert isinstance(found, Match), found
        plans.append(found.plan)
    return plans


def copied(connection: Connection, plans: Sequence[ColumnPlan], arrays: Sequence[Any], **options: Any) -> CopyResult:
    none_cut = [pa.array([0] * len(arrays[0]), pa.int8()) for _ in cut_masks(plans)]
    names = [str(position) for position in range(len(arrays) + len(none_cut))]
    batch = pa.record_batch([*arrays, *none_cut], names=names)
    with connection.cursor() as cursor:
        return copy_batches(cursor, TABLE, plans, [batch], **options)


def read_back(connection: Connection, column: TargetColumn) -> list[Any]:
    """The column's values in the order in which they were sent; JSON, UUIDs and floats as PostgreSQL prints them."""
    as_text = column.type in ("json", "jsonb", "uuid", "float4", "float8")
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("SELECT {}{} FROM {} ORDER BY position").format(
                sql.Identifier(column.name),
                sql.SQL("::text" if as_text else ""),
                sql.Identifier(TABLE.schema_name, TABLE.name),
            )
        )
        values = [value for (value,) in cursor.fetchall()]
    return [bytes(value) if isinstance(value, memoryview) else value for value in values]


def source(kind: str, **options: Any) -> SourceColumn:
    return SourceColumn(name=f"A {kind}", type=kind, **options)


def number(precision: int, scale: int = 0) -> SourceColumn:
    return source("FIXED", precision=precision, scale=scale)


def same(values: "pa.Array[Any]", of: SourceColumn, *into: str) -> list[Sent]:
    """The values into columns out of which they come just as they were."""
    return [Sent(of, values, ddl, values.to_pylist()) for ddl in into]


def naive(*moment: int) -> dt.datetime:
    return dt.datetime(*moment)  # type: ignore[arg-type]  # noqa: DTZ001


# --- edge values of every pair --------------------------------------------------------------------------------

TEXTS = pa.array(
    [
        "",
        None,
        "\\N",
        "NULL",
        "null",
        "a\tb\nc\r\n",
        "\"quoted\", 'twice'",
        "\\.",
        "\\x41",
        " blanks  ",
        "😀é漢\u202e",
        "\x01\x7f",
    ]
)
JSONS = pa.array(['{"a": [1, null, "x\\n😀"]}', None, "null", '"text"', "[]", "1e2", '{"": ""}'])
NINES = Decimal("9" * 38)
DECIMALS = pa.array([NINES, NINES.copy_negate(), Decimal(0), None, Decimal(10) ** 37, Decimal(1)], pa.decimal128(38, 0))
FRACTIONS = pa.array(
    [Decimal(text).scaleb(-4) if text else None for text in ("0", "1", "-1", "10000", None, "9" * 18, "100000000")],
    pa.decimal128(38, 4),
)
DATES = pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1970, 1, 1), dt.date(2000, 2, 29), None])
MOMENTS = pa.array(
    [naive(1, 1, 1), naive(9999, 12, 31, 23, 59, 59, 999_999), naive(1969, 12, 31, 23, 59, 59, 999_999), None],
    pa.timestamp("us"),
)
IN_UTC = MOMENTS.cast(pa.timestamp("us", "UTC")).to_pylist()
MILLISECONDS = pa.array([naive(2024, 1, 1, 0, 0, 0, 999_000), None], pa.timestamp("us"))
TIMES = pa.array([dt.time(0), dt.time(23, 59, 59, 999_999), dt.time(12, 0, 0, 1), None], pa.time64("us"))
FLOATS = pa.array([0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 0.1, None])
FLOATS_READ = ["0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e+308", "0.1", None]
UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
NIL, TOP = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
UUIDS = pa.array([UUID, None, UUID.upper(), UUID.replace("-", ""), NIL, TOP])

EDGES = [
    *same(pa.array([-(2**15), 2**15 - 1, None, 0], pa.int16()), number(38), "int2"),
    *same(pa.array([-(2**31), 2**31 - 1, None, 0], pa.int64()), number(38), "int4"),
    *same(pa.array([-(2**63), 2**63 - 1, None, 0], pa.int64()), number(38), "int8"),
    *same(pa.array([Decimal(-(2**63)), None], pa.decimal128(38, 0)), number(38), "int8"),
    *same(DECIMALS, number(38), "numeric", "numeric(38)", "numeric(60,20)"),
    *same(FRACTIONS, number(22, 4), "numeric", "numeric(22,4)", "numeric(30,8)"),
    *same(pa.array([1, -1, 99_999, None], pa.int32()), number(5), "numeric(7,2)"),
    *same(pa.array([Decimal("0.00123"), None], pa.decimal128(38, 5)), number(6, 5), "numeric(3,5)"),
    Sent(number(6, 3), pa.array([0.1, -999.999, None, 0.0]), "float4", ["0.1", "-999.999", None, "0"]),
    Sent(number(15, 2), pa.array([1234567890123.45, None]), "float8", ["1234567890123.45", None]),
    Sent(source("REAL"), FLOATS, "float8", FLOATS_READ),
    *same(pa.array([True, None, False]), source("BOOLEAN"), "bool"),
    *same(TEXTS, source("TEXT"), "text", "varchar", "varchar(20)"),
    Sent(source("TEXT"), TEXTS, "char(20)", [v if v is None else v.ljust(20) for v in TEXTS.to_pylist()]),
    *same(JSONS, source("TEXT"), "json"),
    Sent(source("TEXT"), pa.array(['{"b":1,  "a":2, "a":3}', None]), "jsonb", ['{"a": 3, "b": 1}', None]),
    Sent(source("TEXT"), UUIDS, "uuid", [UUID, None, UUID, UUID, NIL, TOP]),
    *(
        sent
        for kind in ("VARIANT", "OBJECT", "ARRAY")
        for sent in (
            *same(JSONS, source(kind), "json", "text", "varchar(40)"),
            Sent(source(kind), JSONS, "jsonb", [v and v.replace("1e2", "100") for v in JSONS.to_pylist()]),
        )
    ),
    *same(pa.array([b"", None, b"\0\xff\\x", bytes(range(256))]), source("BINARY"), "bytea"),
    *same(DATES, source("DATE"), "date"),
    *same(MOMENTS.slice(0, 1), source("DATE"), "timestamp(0)"),
    *same(TIMES, source("TIME", scale=9), "time"),
    *same(TIMES, source("TIME", scale=6), "time(6)"),
    *same(pa.array([dt.time(23, 59, 59), None], pa.time64("ns")), source("TIME", scale=0), "time(0)"),
    *same(MOMENTS, source("TIMESTAMP_NTZ", scale=9), "timestamp", "timestamp(6)"),
    *same(MILLISECONDS, source("TIMESTAMP_NTZ", scale=3), "timestamp(3)"),
    *same(MOMENTS, source("TIMESTAMP_LTZ", scale=6), "timestamp"),
    *same(MOMENTS, source("TIMESTAMP_TZ", scale=6), "timestamp"),
    Sent(source("TIMESTAMP_NTZ", scale=6), MOMENTS, "timestamptz", IN_UTC),
    Sent(source("TIMESTAMP_LTZ", scale=6), MOMENTS, "timestamptz", IN_UTC),
    Sent(source("TIMESTAMP_TZ", scale=6), MOMENTS, "timestamptz", IN_UTC),
]


@pytest.mark.parametrize("sent", EDGES, ids=lambda sent: f"{sent.source.type} into {sent.into}")
def test_edge_values_arrive_as_they_were(sent: Sent, connection: Connection) -> None:
    (plan,) = planned(connection, [sent.source], [sent.into])

    result = copied(connection, [plan], [sent.values])

    assert result.rows == len(sent.values)
    assert read_back(connection, plan.target) == list(sent.arrives)


# --- random rows of a wide table ------------------------------------------------------------------------------

anything = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
moments = st.datetimes(naive(1, 1, 1), naive(9999, 12, 31))
COLUMNS: Mapping[str, tuple[SourceColumn, pa.DataType, st.SearchStrategy[Any]]] = {
    "int2": (number(5), pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "int4": (number(10), pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "int8": (number(19), pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "numeric(38,10)": (
        number(38, 10),
        pa.decimal128(38, 10),
        st.integers(1 - 10**38, 10**38 - 1).map(lambda digits: Decimal((digits < 0, _digits(digits), -10))),
    ),
    "numeric": (
        number(9, 9),
        pa.decimal128(9, 9),
        st.integers(1 - 10**9, 10**9 - 1).map(lambda digits: Decimal((digits < 0, _digits(digits), -9))),
    ),
    "float8": (source("REAL"), pa.float64(), st.floats(allow_nan=False)),
    "bool": (source("BOOLEAN"), pa.bool_(), st.booleans()),
    "text": (source("TEXT"), pa.string(), anything),
    "varchar(20)": (source("TEXT"), pa.string(), anything.map(lambda text: text[:20])),
    "uuid": (source("TEXT"), pa.string(), st.uuids().map(str)),
    "bytea": (source("BINARY"), pa.binary(), st.binary()),
    "date": (source("DATE"), pa.date32(), st.dates()),
    "time": (source("TIME", scale=6), pa.time64("us"), st.times()),
    "timestamp": (source("TIMESTAMP_NTZ", scale=6), pa.timestamp("us"), moments),
    "timestamptz": (source("TIMESTAMP_TZ", scale=6), pa.timestamp("us"), moments),
}


def _digits(number: int) -> tuple[int, ...]:
    return tuple(int(digit) for digit in str(abs(number)))


rows = st.lists(st.tuples(*(st.none() | values for _, _, values in COLUMNS.values())), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows)
def test_random_rows_arrive_as_they_were(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    plans = planned(connection, [of for of, _, _ in COLUMNS.values()], list(COLUMNS))
    by_column = [[row[position] for row in rows] for position in range(len(COLUMNS))]
    arrays = [pa.array(values, kind) for values, (_, kind, _) in zip(by_column, COLUMNS.values(), strict=True)]

    assert copied(connection, plans, arrays).rows == len(rows)

    for plan, sent in zip(plans, by_column, strict=True):
        arrived = read_back(connection, plan.target)
        if plan.target.type == "float8":
            arrived = [value and float(value) for value in arrived]
        if plan.target.type == "timestamptz":
            arrived = [value and value.astimezone(dt.UTC).replace(tzinfo=None) for value in arrived]
        assert arrived == sent


# --- a whole chunk --------------------------------------------------------------------------------------------


def batches_of(rows: int, *, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches as Snowflake sends them: integers as wide as the batch's largest one."""
    for start in range(0, rows, batch_rows):
        keys = pa.array(range(start, min(rows, start + batch_rows)))
        width = pa.int8() if start + batch_rows < 128 else pa.int16() if start + batch_rows < 2**15 else pa.int32()
        yield pa.record_batch([keys.cast(width), keys.cast(pa.string())], names=["K", "T"])


def test_batches_of_different_widths_make_one_chunk(connection: Connection) -> None:
    plans = planned(connection, [number(38), source("TEXT")], ["int8", "text"])

    with connection.cursor() as cursor:
        result = copy_batches(
            cursor, TABLE, plans, [*batches_of(127, batch_rows=100), *batches_of(60_000, batch_rows=9_999)]
        )

    expected = [*range(127), *range(60_000)]
    assert result.rows == len(expected)
    assert read_back(connection, plans[0].target) == expected
    assert read_back(connection, plans[1].target) == [str(key) for key in expected]


def test_without_rows_the_table_is_left_alone(connection: Connection) -> None:
    plans = planned(connection, [number(38), source("TEXT")], ["int8", "text"])

    with connection.cursor() as cursor:
        assert copy_batches(cursor, TABLE, plans, batches_of(0, batch_rows=1)) == CopyResult(0, 0)
    assert read_back(connection, plans[0].target) == []


@pytest.mark.parametrize("rows_before", [0, 30_000])
def test_after_an_error_of_the_source_a_rollback_leaves_nothing(connection: Connection, rows_before: int) -> None:
    plans = planned(connection, [number(38), source("TEXT")], ["int8", "text"])
    connection.commit()
    threads = threading.active_count()

    def breaking() -> Iterator[pa.RecordBatch]:
        yield from batches_of(rows_before, batch_rows=1000)
        raise TransientError("The result is gone")

    with connection.cursor() as cursor, pytest.raises(TransientError, match="The result is gone"):
        copy_batches(cursor, TABLE, plans, breaking())
    connection.rollback()

    assert read_back(connection, plans[0].target) == []
    assert threading.active_count() == threads


def test_a_deadline_ends_a_copy_that_has_begun(connection: Connection) -> None:
    plans = planned(connection, [number(38), source("TEXT")], ["int8", "text"])
    connection.commit()
    checks = iter(range(10))

    def check() -> None:
        if next(checks) == 8:
            raise TransientError("The time is over")

    with connection.cursor() as cursor, pytest.raises(TransientError, match="The time is over"):
        copy_batches(cursor, TABLE, plans, batches_of(10_000_000, batch_rows=9_000), check=check)
    connection.rollback()

    assert read_back(connection, plans[0].target) == []


def test_an_error_of_postgres_comes_as_it_is(connection: Connection) -> None:
    plans = planned(connection, [number(38), source("TEXT")], ['int8 CHECK ("c 0" <> 5)', "text"])
    connection.commit()

    with connection.cursor() as cursor, pytest.raises(psycopg2.errors.CheckViolation) as raised:
        copy_batches(cursor, TABLE, plans, batches_of(100_000, batch_rows=9_000))
    connection.rollback()

    assert "line 6" in str(raised.value.diag.context)
    assert read_back(connection, plans[0].target) == []


@pytest.mark.parametrize("bad", ["{", "", "{'a': 1}"])
def test_postgres_names_the_row_and_column_of_invalid_json(connection: Connection, bad: str) -> None:
    plans = planned(connection, [source("TEXT")], ["jsonb"])

    with pytest.raises(psycopg2.DataError) as raised:
        copied(connection, plans, [pa.array(["{}", bad])])
    connection.rollback()

    assert "line 2, column c 0" in str(raised.value.diag.context)


def test_a_lost_connection_comes_as_psycopg2_has_it(server: LocalPostgres) -> None:
    loading = psycopg2.connect(server.dsn())
    plans = planned(loading, [number(38), source("TEXT")], ["int8", "text"])
    loading.commit()

    def cut_off() -> Iterator[pa.RecordBatch]:
        yield from batches_of(50_000, batch_rows=9_000)
        with server.connect() as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", (loading.info.backend_pid,))
        yield from batches_of(10_000_000, batch_rows=9_000)

    with loading.cursor() as cursor, pytest.raises(psycopg2.OperationalError):
        copy_batches(cursor, TABLE, plans, cut_off())
    loading.close()


def test_rows_that_a_trigger_drops_are_an_error(connection: Connection) -> None:
    plans = planned(connection, [number(38), source("TEXT")], ["int8", "text"])
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION drop_three() RETURNS trigger LANGUAGE plpgsql AS"
            ' $$ BEGIN IF NEW."c 0" = 3 THEN RETURN NULL; END IF; RETURN NEW; END $$'
        )
        cursor.execute(
            sql.SQL("CREATE TRIGGER dropping BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION drop_three()").format(
                sql.Identifier(TABLE.schema_name, TABLE.name)
            )
        )
        with pytest.raises(DataError, match="PostgreSQL kept 9 of 10 rows"):
            copy_batches(cursor, TABLE, plans, batches_of(10, batch_rows=10))
    connection.rollback()
