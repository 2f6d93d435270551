"""Which types travel, which are refused, and what becomes of values on the way."""

import datetime as dt
from decimal import Decimal
from itertools import product
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.errors import DataError
from snowmelt.models import ColumnPlan, SourceColumn, TargetColumn
from snowmelt.types import (
    Match,
    Refusal,
    allowed_pairs,
    arrow_type,
    conform,
    longest_text,
    match,
    numeric_digits,
    postgres_type,
    schema_of,
    snowflake_identifier,
    snowflake_type,
)

SNOWFLAKE_TYPES = (
    *("FIXED", "REAL", "DECFLOAT", "TEXT", "BINARY", "BOOLEAN", "DATE", "TIME"),
    *("TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "TIMESTAMP"),
    *("VARIANT", "OBJECT", "ARRAY", "MAP", "GEOGRAPHY", "GEOMETRY", "VECTOR", "FILE", "a type of tomorrow"),
)
POSTGRES_TYPES = (
    *("bool", "int2", "int4", "int8", "float4", "float8", "numeric", "money", "oid", "bit", "varbit"),
    *(
        "text",
        "varchar",
        "bpchar",
        "char",
        "name",
        "citext",
        "uuid",
        "json",
        "jsonb",
        "jsonpath",
        "xml",
        "bytea",
    ),
    *(
        "date",
        "time",
        "timetz",
        "timestamp",
        "timestamptz",
        "interval",
        "inet",
        "cidr",
        "macaddr",
        "tsvector",
    ),
    *("_int4", "_text", "point", "int4range", "geometry", "mood"),
)
ALLOWED = {
    "FIXED": {"int2", "int4", "int8", "numeric", "float4", "float8"},
    "REAL": {"float8"},
    "BOOLEAN": {"bool"},
    "TEXT": {"text", "varchar", "bpchar", "json", "jsonb", "uuid"},
    "VARIANT": {"json", "jsonb", "text", "varchar"},
    "OBJECT": {"json", "jsonb", "text", "varchar"},
    "ARRAY": {"json", "jsonb", "text", "varchar"},
    "BINARY": {"bytea"},
    "DATE": {"date", "timestamp"},
    "TIME": {"time"},
    "TIMESTAMP_NTZ": {"timestamp", "timestamptz"},
    "TIMESTAMP_LTZ": {"timestamp", "timestamptz"},
    "TIMESTAMP_TZ": {"timestamp", "timestamptz"},
}


def number(precision: int, scale: int = 0) -> SourceColumn:
    return SourceColumn(name="C", type="FIXED", precision=precision, scale=scale)


def text(length: int | None = None) -> SourceColumn:
    return SourceColumn(name="C", type="TEXT", length=length)


def clock(kind: str, digits: int) -> SourceColumn:
    return SourceColumn(name="C", type=kind, scale=digits)


def column(kind: str, typmod: int = -1) -> TargetColumn:
    return TargetColumn(name="c", type=kind, typmod=typmod)


def numeric(precision: int, scale: int) -> TargetColumn:
    return column("numeric", ((precision << 16) | (scale & 0x7FF)) + 4)


def narrow(kind: str) -> SourceColumn:
    """A column that is small enough for every type of its family."""
    return SourceColumn(name="C", type=kind, precision=6, scale=0, length=1)


def plan(source: SourceColumn, target: TargetColumn) -> ColumnPlan:
    found = match(source, target)
    assert isinstance(found, Match), found
    return found.plan


def reason(source: SourceColumn, target: TargetColumn) -> str:
    found = match(source, target)
    assert isinstance(found, Refusal), found
    return found.reason


def loss(source: SourceColumn, target: TargetColumn) -> str | None:
    found = match(source, target)
    assert isinstance(found, Match), found
    return found.lossy


# --- pairs ----------------------------------------------------------------------------------------


def test_a_pair_travels_if_and_only_if_it_is_on_the_list() -> None:
    travelling = {
        (source, target)
        for source, target in product(SNOWFLAKE_TYPES, POSTGRES_TYPES)
        if isinstance(match(narrow(source), column(target)), Match)
    }

    assert travelling == {(source, target) for source, targets in ALLOWED.items() for target in targets}
    assert travelling == allowed_pairs()


def test_a_refusal_is_one_line_that_names_both_types_and_a_cure() -> None:
    for source, target in set(product(SNOWFLAKE_TYPES, POSTGRES_TYPES)) - allowed_pairs():
        words = reason(narrow(source), column(target))
        assert "\n" not in words
        assert f"{snowflake_type(narrow(source))} does not go into {target}" in words
        assert "read the table through a Snowflake view that converts it" in words


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "wire"), [("int2", "int16"), ("int4", "int32"), ("int8", "int64")])
def test_whole_numbers_of_any_precision_go_into_integers(target: str, wire: str) -> None:
    assert plan(number(38), column(target)).wire == wire
    assert loss(number(38), column(target)) is None


@pytest.mark.parametrize("target", ["int2", "int4", "int8"])
def test_digits_after_the_point_do_not_go_into_integers(target: str) -> None:
    assert "no digits after the point" in reason(number(10, 2), column(target))


@pytest.mark.parametrize(
    ("source", "target", "wire"),
    [
        (number(38, 0), column("numeric"), "decimal128(38, 0)"),
        (number(18, 4), column("numeric"), "decimal128(18, 4)"),
        (number(18, 4), numeric(18, 4), "decimal128(18, 4)"),
        (number(38, 0), numeric(10, 2), "decimal128(10, 2)"),
        (number(10, 2), numeric(20, 5), "decimal128(20, 5)"),
        (number(10, 2), numeric(1000, 500), "decimal128(10, 2)"),
        (number(6, 5), numeric(3, 5), "decimal128(3, 5)"),
    ],
)
def test_decimals_travel_with_the_digits_of_the_narrower_side(
    source: SourceColumn, target: TargetColumn, wire: str
) -> None:
    assert plan(source, target).wire == wire


@pytest.mark.parametrize("target", [numeric(10, 2), numeric(38, 3), numeric(5, -2)])
def test_a_scale_that_would_round_is_refused(target: TargetColumn) -> None:
    text = reason(number(10, 4), target)

    assert "would be rounded" in text
    assert "numeric(10,4)" in text


@pytest.mark.parametrize(
    ("precision", "target", "travels"),
    [(6, "float4", True), (7, "float4", False), (15, "float8", True), (16, "float8", False)],
)
def test_decimals_go_into_floats_as_long_as_these_keep_every_digit(precision: int, target: str, travels: bool) -> None:
    assert isinstance(match(number(precision, 2), column(target)), Match) == travels


@pytest.mark.parametrize("target", ["float4", "numeric"])
def test_a_float_goes_nowhere_that_cannot_hold_it(target: str) -> None:
    assert "make the target column float8" in reason(SourceColumn(name="C", type="REAL"), column(target))


# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "limit"),
    [
        (text(16_777_216), column("varchar", 10 + 4), 10),
        (text(10), column("varchar", 10 + 4), None),
        (text(None), column("varchar", 10 + 4), 10),
        (text(16_777_216), column("varchar"), None),
        (text(16_777_216), column("text"), None),
        (text(4), column("bpchar", 3 + 4), 3),
        (SourceColumn(name="C", type="VARIANT"), column("varchar", 10 + 4), 10),
    ],
)
def test_lengths_are_checked_where_a_value_may_be_too_long(
    source: SourceColumn, target: TargetColumn, limit: int | None
) -> None:
    assert longest_text(plan(source, target)) == limit


def test_what_is_lossy_about_texts_is_said() -> None:
    assert "blanks" in str(loss(text(), column("bpchar", 7)))
    assert "spelling" in str(loss(text(), column("jsonb")))
    assert [loss(text(), column(kind)) for kind in ("text", "varchar", "json", "uuid")] == [None] * 4


@pytest.mark.parametrize("kind", ["VARIANT", "OBJECT", "ARRAY"])
def test_semi_structured_values_are_read_as_json(kind: str) -> None:
    source = SourceColumn(name='odd "name"', type=kind)

    assert plan(source, column("jsonb")).select == 'TO_JSON("odd ""name""")'
    assert loss(source, column("jsonb")) is None


# --- times ----------------------------------------------------------------------------------------

CLOCKS = (("TIME", "time"), ("TIMESTAMP_NTZ", "timestamp"), ("TIMESTAMP_LTZ", "timestamptz"))


@given(st.sampled_from(CLOCKS), st.integers(0, 9), st.integers(-1, 6))
def test_a_fraction_of_a_second_is_kept_or_declared_or_refused(
    types: tuple[str, str], source_digits: int, target_digits: int
) -> None:
    kind, target = types
    found = match(clock(kind, source_digits), column(target, target_digits))
    kept = 6 if target_digits == -1 else target_digits

    if source_digits <= kept:
        assert isinstance(found, Match)
        assert found.lossy is None
    elif kept == 6:
        assert isinstance(found, Match)
        assert found.lossy == "digits of a second below the microsecond are cut off"
    else:
        assert isinstance(found, Refusal)
        assert f"{source_digits} digits of a second would be rounded to {kept}" in found.reason


@pytest.mark.parametrize(
    ("kind", "target", "words"),
    [
        ("TIMESTAMP_NTZ", "timestamptz", "taken as UTC"),
        ("TIMESTAMP_LTZ", "timestamp", "in UTC"),
        ("TIMESTAMP_TZ", "timestamp", "offset"),
        ("TIMESTAMP_TZ", "timestamptz", "offset"),
    ],
)
def test_what_becomes_of_time_zones_is_said(kind: str, target: str, words: str) -> None:
    assert words in str(loss(clock(kind, 6), column(target)))
    assert "and digits of a second" in str(loss(clock(kind, 9), column(target)))


def test_zoned_times_are_read_in_utc() -> None:
    for kind in ("TIMESTAMP_LTZ", "TIMESTAMP_TZ"):
        read = plan(clock(kind, 6), column("timestamptz")).select
        assert read == "CONVERT_TIMEZONE('UTC', \"C\")::TIMESTAMP_NTZ"


# --- words ----------------------------------------------------------------------------------------


@given(st.integers(1, 1000), st.integers(-1000, 1000))
def test_digits_of_a_numeric_are_read_from_its_typmod(precision: int, scale: int) -> None:
    assert numeric_digits(numeric(precision, scale).typmod) == (precision, scale)


def test_types_are_called_as_their_ddl_calls_them() -> None:
    assert snowflake_type(number(38, 0)) == "NUMBER(38,0)"
    assert snowflake_type(text(20)) == "VARCHAR(20)"
    assert snowflake_type(SourceColumn(name="C", type="TIMESTAMP_TZ")) == "TIMESTAMP_TZ(9)"
    assert postgres_type(numeric(10, 2)) == "numeric(10,2)"
    assert postgres_type(column("varchar", 14)) == "varchar(10)"
    assert postgres_type(column("timestamp", 3)) == "timestamp(3)"
    assert postgres_type(column("timestamp")) == "timestamp"


def test_a_quoted_name_keeps_case_blanks_and_quotes() -> None:
    assert snowflake_identifier('Payer "Id"') == '"Payer ""Id"""'


# --- Arrow ----------------------------------------------------------------------------------------


def test_every_wire_type_is_read_back_as_written() -> None:
    wires = {plan(narrow(source), column(target)).wire for source, target in allowed_pairs()}

    assert {str(arrow_type(wire)) for wire in wires} == wires


def test_a_wire_type_of_another_version_is_an_error() -> None:
    with pytest.raises(DataError, match=r"'interval'.*start a new run"):
        arrow_type("interval")


def conformed(values: "pa.Array[Any]", column: ColumnPlan, first_row: int = 1) -> list[object]:
    batch = pa.record_batch([values], names=["C"])
    result = conform(batch, (column,), first_row=first_row)
    assert result.schema == schema_of((column,))
    return list(result.column(0).to_pylist())


@pytest.mark.parametrize("width", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.decimal128(38, 0)])
def test_integers_of_every_width_become_one(width: pa.DataType) -> None:
    values = pa.array([1, None, -2], pa.int8()).cast(pa.decimal128(5, 0)).cast(width)

    assert conformed(values, plan(number(38), column("int8"))) == [1, None, -2]
    assert conformed(values, plan(number(38), numeric(5, 2))) == [Decimal("1.00"), None, Decimal("-2.00")]


def test_columns_without_a_value_become_any_type() -> None:
    for source, target in allowed_pairs():
        one = plan(narrow(source), column(target))
        assert conformed(pa.nulls(2), one) == [None, None]


@given(st.integers(0, 99), st.integers(1, 100))
def test_a_number_that_does_not_fit_is_named_by_its_row(position: int, rows: int) -> None:
    values = pa.array([40_000 if row >= position else 5 for row in range(rows)], pa.int32())
    into_int2 = plan(number(38), column("int2"))

    if position >= rows:
        assert conformed(values, into_int2) == [5] * rows
    else:
        with pytest.raises(DataError, match=rf'"C": the value in row {position + 11} .* int2; make the target'):
            conformed(values, into_int2, first_row=11)


def test_a_decimal_with_too_many_digits_is_an_error() -> None:
    values = pa.array([Decimal("99.99"), Decimal("100.00")], pa.decimal128(38, 2))

    with pytest.raises(DataError, match=r"row 2 .* numeric\(4,2\)"):
        conformed(values, plan(number(38, 2), numeric(4, 2)))


def test_nanoseconds_are_cut_downwards_also_before_1970() -> None:
    values = pa.array([-1, 1999, None], pa.timestamp("ns"))

    assert conformed(values, plan(clock("TIMESTAMP_NTZ", 9), column("timestamp"))) == [
        dt.datetime(1969, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
        dt.datetime(1970, 1, 1, microsecond=1),  # noqa: DTZ001
        None,
    ]
    assert conformed(pa.array([1999], pa.time64("ns")), plan(clock("TIME", 9), column("time"))) == [
        dt.time(microsecond=1)
    ]


@pytest.mark.parametrize(
    ("values", "source", "target"),
    [
        (pa.array([1.5]), number(10, 2), column("numeric")),
        (pa.array([1]), SourceColumn(name="C", type="DATE"), column("date")),
        (pa.array([1]), clock("TIMESTAMP_NTZ", 6), column("timestamp")),
        (pa.array([1]), SourceColumn(name="C", type="REAL"), column("float8")),
        (pa.array([b"x"]), text(), column("text")),
        (pa.array(["1"]), number(10), column("int8")),
    ],
)
def test_values_of_another_kind_than_planned_are_an_error(
    values: "pa.Array[Any]", source: SourceColumn, target: TargetColumn
) -> None:
    with pytest.raises(DataError, match="start a new run"):
        conformed(values, plan(source, target))


def test_a_batch_with_another_number_of_columns_is_an_error() -> None:
    with pytest.raises(DataError, match="2 columns where the plan has 1"):
        conform(pa.record_batch([[1], [2]], names=["a", "b"]), (plan(number(38), column("int8")),))
