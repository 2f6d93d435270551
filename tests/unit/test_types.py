"""Which types travel, and which are refused."""

import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.columns.type_pairs import (
    Match,
    Refusal,
    allowed_pairs,
    as_declared,
    longest_text,
    match,
    numeric_digits,
    page,
    postgres_type,
    quoted,
    snowflake_type,
)
from snowmelt.models import ColumnPlan, SourceColumn, TargetColumn

SNOWFLAKE_TYPES = (
    *("FIXED", "REAL", "DECFLOAT", "TEXT", "BINARY", "BOOLEAN", "DATE", "TIME"),
    *("TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "TIMESTAMP", "INTERVAL_YEAR_MONTH", "INTERVAL_DAY_TIME"),
    *("VARIANT", "OBJECT", "ARRAY", "MAP", "GEOGRAPHY", "GEOMETRY", "VECTOR", "FILE", "UNKNOWN", "a type of tomorrow"),
)
SCALARS = (
    *("bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "uuid"),
    *("date", "time", "timestamp", "timestamptz", "json", "jsonb"),
)
ARRAYS = {f"{scalar}[]" for scalar in SCALARS}
TEXTUAL = {
    *("bit", "varbit", "xml", "citext.citext", "inet", "cidr", "macaddr", "macaddr8", "interval", "timetz", "pg_lsn"),
    *("tsvector", "tsquery", "jsonpath", "point", "line", "lseg", "box", "path", "polygon", "circle"),
    *("int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange"),
    *("int4multirange", "int8multirange", "nummultirange", "datemultirange", "tsmultirange", "tstzmultirange"),
    *("hstore.hstore", "ltree.ltree", "cube.cube", "vector.vector", "vector.halfvec", "vector.sparsevec"),
    *("postgis.geometry", "postgis.geography"),
}
"""What PostgreSQL has and Snowflake has only as text."""
POSTGRES_TYPES = (
    *SCALARS,
    *sorted(TEXTUAL),
    *sorted(ARRAYS),
    *("bpchar", "bytea", "enum"),
    *("money", "oid", "char", "name", "xid", "regclass", "tid", "pg_snapshot", "record", "bytea[]", "interval[]"),
    *("public.mood", "public.mood[]", "public.pair", "citext", "geometry", "a type of tomorrow"),
)
JSON = {"json", "jsonb", "text", "varchar"}
ALLOWED = {
    "FIXED": {"int2", "int4", "int8", "numeric", "float4", "float8"},
    "REAL": {"float4", "float8", "numeric"},
    "DECFLOAT": {"numeric", "float8"},
    "BOOLEAN": {"bool"},
    "TEXT": {"text", "varchar", "bpchar", "json", "jsonb", "uuid", "enum"} | TEXTUAL | ARRAYS,
    "VARIANT": JSON,
    "OBJECT": JSON,
    "MAP": JSON,
    "ARRAY": JSON | ARRAYS,
    "VECTOR": JSON | {"vector.vector", "int2[]", "int4[]", "int8[]", "float4[]", "float8[]", "numeric[]"},
    "GEOGRAPHY": JSON | {"bytea", "postgis.geometry", "postgis.geography"},
    "GEOMETRY": JSON | {"bytea", "postgis.geometry"},
    "BINARY": {"bytea"},
    "DATE": {"date", "timestamp", "timestamptz"},
    "TIME": {"time", "timetz"},
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
    is_enum = kind == "enum"
    return TargetColumn(
        name="c", type=kind, typmod=typmod, kind="enum" if is_enum else "base", declared=f'"pg_catalog"."{kind}"'
    )


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


def test_a_domain_travels_as_the_type_beneath_it() -> None:
    domain = TargetColumn(name="c", type="varchar", typmod=14, domain="public.email", declared="character varying")

    assert longest_text(plan(text(), domain)) == 10
    assert postgres_type(domain) == "domain public.email over varchar(10)"
    assert "BOOLEAN does not go into domain public.email" in reason(SourceColumn(name="C", type="BOOLEAN"), domain)


def test_only_an_enum_takes_labels() -> None:
    mood = TargetColumn(name="c", type="public.mood", kind="enum", declared="public.mood")

    assert plan(text(), mood).wire == "string"
    assert plan(text(), mood).cast is None
    assert "does not go into public.mood" in reason(text(), column("public.mood"))


def test_the_page_names_every_pair() -> None:
    found = {
        (source, target)
        for line in page().splitlines()
        if line.startswith("| `")
        for source, target in product(*(re.findall(r"`([^`]+)`", cell) for cell in line.split(" | ")[:2]))
    }
    words = {"FIXED": "NUMBER", "REAL": "FLOAT", "TEXT": "VARCHAR"}

    assert found == {(words.get(source, source), target) for source, target in allowed_pairs()}


def test_the_page_in_the_documentation_is_the_one_the_table_makes() -> None:
    assert (Path(__file__).parents[2] / "docs" / "types.md").read_text(encoding="utf-8") == page()


def test_a_refusal_is_one_line_that_names_both_types_and_a_remedy() -> None:
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


def test_a_float_goes_where_it_loses_digits_and_that_is_said() -> None:
    source = SourceColumn(name="C", type="REAL")

    assert "rounded to the 24 bits" in str(loss(source, column("float4")))
    assert "shortest decimal" in str(loss(source, column("numeric")))
    assert "round it without a word" in reason(source, numeric(20, 5))
    assert "make the target column float8" in reason(source, column("int4"))


# --- what PostgreSQL converts ---------------------------------------------------------------------


def test_what_only_postgres_can_read_is_staged_as_text() -> None:
    into = TargetColumn(name='odd "name"', type="inet", declared="inet")

    assert plan(text(), into).staged_as == "text"
    assert plan(text(), into).cast == '"odd ""name"""::inet'


def test_an_array_is_staged_as_json() -> None:
    into = TargetColumn(name="c", type="int4[]", kind="array", declared="integer[]")
    found = plan(SourceColumn(name="C", type="ARRAY"), into)

    assert found.select == 'TO_JSON("C"::VARIANT)'
    assert "r (a integer[])" in str(found.cast)


@pytest.mark.parametrize("kind", ["numeric[]", "timestamp[]", "timestamptz[]", "time[]"])
def test_an_array_whose_elements_would_be_rounded_is_refused(kind: str) -> None:
    assert "round its elements" in reason(SourceColumn(name="C", type="ARRAY"), column(kind, 3))


@pytest.mark.parametrize("kind", ["interval", "timetz"])
def test_a_text_that_would_be_rounded_is_refused(kind: str) -> None:
    assert "round it without a word" in reason(text(), column(kind, 0))


def test_only_plain_pairs_go_straight_into_the_table() -> None:
    straight = {target for target in ALLOWED["TEXT"] if plan(text(1), column(target)).cast is None}

    assert straight == {"text", "varchar", "bpchar", "json", "jsonb", "uuid", "enum"}


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

    as_it_is = 'TO_JSON("odd ""name""")' if kind == "VARIANT" else 'TO_JSON("odd ""name"""::VARIANT)'
    assert plan(source, column("jsonb")).select == as_it_is


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
        assert found.plan.cut is None
    elif kept == 6:
        assert isinstance(found, Match)
        assert found.plan.cut == f'"C" <> "C"::{kind}(6)'
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
    assert quoted('Payer "Id"') == '"Payer ""Id"""'


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (SourceColumn(name="D", type="DECFLOAT"), TargetColumn(name="d", type="numeric", typmod=(12 << 16 | 2) + 4)),
        (
            SourceColumn(name="A", type="ARRAY"),
            TargetColumn(name="a", type="numeric[]", typmod=(12 << 16 | 2) + 4, kind="array"),
        ),
    ],
)
def test_what_no_policy_narrows_is_refused_with_that_reason(source: SourceColumn, target: TargetColumn) -> None:
    plain, asked = match(source, target), match(source, target, narrow="round")

    assert isinstance(plain, Refusal)
    assert isinstance(asked, Refusal)
    assert "value_policies.narrow" not in plain.reason
    assert f"value_policies.narrow does it for no {source.type}" in asked.reason


@pytest.mark.parametrize("seen", ["FIXED", "UNKNOWN"])
def test_a_type_that_the_connector_takes_for_a_number_is_the_one_that_the_table_declares(seen: str) -> None:
    described = SourceColumn(name="D", type=seen, precision=38, scale=0)
    found = as_declared(described, "DECFLOAT(38)")
    assert found.type == "DECFLOAT"
    assert plan(found, column("numeric")).select == 'TO_VARCHAR("D")'  # with its 38 digits and its exponent
    refused = match(found, column("int8"))
    assert isinstance(refused, Refusal)
    assert "DECFLOAT does not go into int8; make the target column numeric" in refused.reason
    assert as_declared(described, "NUMBER(38,0)") == as_declared(described, None) == described


@pytest.mark.parametrize("kind", ["VARIANT", "OBJECT", "ARRAY", "MAP"])
@pytest.mark.parametrize("target", ["json", "jsonb", "text"])
def test_floats_in_semi_structured_values_are_said_to_lose_a_digit(kind: str, target: str) -> None:
    found = match(SourceColumn(name="C", type=kind), column(target))
    assert isinstance(found, Match)
    assert "16 significant digits" in (found.lossy or "")
