"""What becomes of values on the way: one schema, refusals that name their rows, changes that are counted."""

import datetime as dt
import math
from array import array
from collections import Counter
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.columns.batch_conversion import Preparation, arrow_type, cut_masks, sent_schema
from snowmelt.columns.type_pairs import Match, allowed_pairs, match
from snowmelt.errors import DataError, RejectedRowsError
from snowmelt.models import ColumnPlan, Policies, SourceColumn, TargetColumn

FINE_UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


def planned(source: SourceColumn | str, target: TargetColumn | str, typmod: int = -1, **policies: Any) -> ColumnPlan:
    if isinstance(source, str):
        source = SourceColumn(name="THE COLUMN", type=source, precision=6, scale=0)
    if isinstance(target, str):
        is_enum = target == "enum"
        target = TargetColumn(
            name="the column", type=target, typmod=typmod, kind="enum" if is_enum else "base", declared=target
        )
    found = match(source, target)
    assert isinstance(found, Match), found
    return found.plan.model_copy(update={"policies": Policies(**policies)})


def number(precision: int, scale: int = 0) -> SourceColumn:
    return SourceColumn(name="THE COLUMN", type="FIXED", precision=precision, scale=scale)


def numeric(precision: int, scale: int) -> TargetColumn:
    return TargetColumn(name="the column", type="numeric", typmod=((precision << 16) | scale) + 4)


def clock(kind: str, digits: int = 9) -> SourceColumn:
    return SourceColumn(name="THE COLUMN", type=kind, scale=digits)


def prepared(
    values: "pa.Array[Any]", column: ColumnPlan, *masks: "pa.Array[Any]", first_row: int = 1
) -> tuple[list[Any], dict[tuple[str, str], int]]:
    """The values as they would be encoded, and what was changed."""
    preparation = Preparation((column,))
    if column.cut and not masks:
        masks = (pa.array([0] * len(values), pa.int8()),)
    batch = pa.record_batch([values, *masks], names=["C", *(f"M{i}" for i in range(len(masks)))])
    result = preparation.prepare(batch, first_row=first_row)
    result.validate(full=True)
    assert result.schema == sent_schema((column,))
    return list(result.column(0).to_pylist()), dict((+preparation.changes).items())


def refusal(values: "pa.Array[Any]", column: ColumnPlan, *masks: "pa.Array[Any]", first_row: int = 1) -> str:
    with pytest.raises(RejectedRowsError) as raised:
        prepared(values, column, *masks, first_row=first_row)
    assert "\n" not in raised.value.message
    return raised.value.message


# --- one schema -----------------------------------------------------------------------------------------------


def test_every_wire_type_is_read_back_as_written() -> None:
    wires = {planned(source, target).wire for source, target in allowed_pairs()}

    assert {str(arrow_type(wire)) for wire in wires} == wires


def test_a_wire_type_of_another_version_is_an_error() -> None:
    with pytest.raises(DataError, match=r"'interval'.*start a new run"):
        arrow_type("interval")


@pytest.mark.parametrize("width", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.decimal128(38, 0)])
def test_integers_of_every_width_become_one(width: pa.DataType) -> None:
    values = pa.array([1, None, -2], pa.int8()).cast(pa.decimal128(5, 0)).cast(width)

    assert prepared(values, planned(number(38), "int8")) == ([1, None, -2], {})
    assert prepared(values, planned(number(38), numeric(5, 2)))[0] == [Decimal("1.00"), None, Decimal("-2.00")]


def test_columns_without_a_value_become_any_type() -> None:
    for source, target in allowed_pairs():
        assert prepared(pa.nulls(2), planned(source, target)) == ([None, None], {})


def test_empty_batches_become_any_type() -> None:
    for source, target in allowed_pairs():
        assert prepared(pa.nulls(0), planned(source, target)) == ([], {})


def test_dictionaries_and_large_texts_become_plain_ones() -> None:
    values = pa.array(["a", None, "b", "a"])

    assert prepared(values.dictionary_encode(), planned("TEXT", "text"))[0] == ["a", None, "b", "a"]
    assert prepared(values.cast(pa.large_string()), planned("TEXT", "text"))[0] == ["a", None, "b", "a"]


def test_nanoseconds_are_cut_downwards_also_before_1970() -> None:
    values = pa.array([-1, 1999, None], pa.timestamp("ns"))

    assert prepared(values, planned(clock("TIMESTAMP_NTZ"), "timestamp"))[0] == [
        dt.datetime(1969, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
        dt.datetime(1970, 1, 1, microsecond=1),  # noqa: DTZ001
        None,
    ]
    assert prepared(pa.array([1999], pa.time64("ns")), planned(clock("TIME"), "time"))[0] == [dt.time(microsecond=1)]


@pytest.mark.parametrize(
    ("values", "source", "target"),
    [
        (pa.array([1.5]), number(10, 2), "numeric"),
        (pa.array([1]), "DATE", "date"),
        (pa.array([1]), clock("TIMESTAMP_NTZ", 6), "timestamp"),
        (pa.array([1]), "REAL", "float8"),
        (pa.array([b"x"]), "TEXT", "text"),
        (pa.array(["1"]), number(10), "int8"),
    ],
)
def test_values_of_another_kind_than_planned_are_an_error(
    values: "pa.Array[Any]", source: SourceColumn | str, target: str
) -> None:
    with pytest.raises(DataError, match="start a new run"):
        prepared(values, planned(source, target))


def test_a_batch_with_another_number_of_columns_is_an_error() -> None:
    batch = pa.record_batch([[1], [2]], names=["a", "b"])

    with pytest.raises(DataError, match="2 columns where the plan has 1"):
        Preparation((planned(number(38), "int8"),)).prepare(batch, first_row=1)


# --- texts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["text", "varchar", "json", "jsonb", "inet", "enum"])
def test_a_nul_character_is_refused_by_column_and_row(target: str) -> None:
    said = refusal(pa.array(["", None, "fine", "a\0b"]), planned("TEXT", target))

    assert 'Column "the column", row 4 of the chunk: the text holds a NUL character' in said
    assert 'WHERE CONTAINS("THE COLUMN", CHR(0))' in said
    assert "value_policies.nul_characters" in said
    assert "a\0b" not in said


@pytest.mark.parametrize(("policy", "left"), [("strip", "ab"), ("replace", "a\ufffdb\ufffd")])
def test_nul_characters_are_taken_out_or_replaced_and_counted(policy: str, left: str) -> None:
    values = pa.array(["a\0b\0", None, "", "fine"])

    assert prepared(values, planned("TEXT", "text", nul_characters=policy)) == (
        [left, None, "", "fine"],
        {("the column", "nul_characters"): 1},
    )


ESCAPED = [r'"a\u0000b"', r'"\\u0000"', r'"\\\u0000"', r'{"\u0000\u0000\u0000": 1}', None, r'"\u00001"', "1"]


def test_a_nul_character_in_json_is_refused_for_jsonb_alone() -> None:
    assert prepared(pa.array(ESCAPED), planned("VARIANT", "json"))[0] == ESCAPED
    assert "rows 1, 3, 4, 6 of the chunk: the JSON holds a NUL character" in refusal(
        pa.array(ESCAPED), planned("VARIANT", "jsonb")
    )


@pytest.mark.parametrize(("policy", "by"), [("strip", ""), ("replace", r"\ufffd")])
def test_nul_characters_in_json_are_taken_out_or_replaced(policy: str, by: str) -> None:
    left, changes = prepared(pa.array(ESCAPED), planned("VARIANT", "jsonb", nul_characters=policy))

    assert left == [f'"a{by}b"', r'"\\u0000"', rf'"\\{by}"', f'{{"{by * 3}": 1}}', None, f'"{by}1"', "1"]
    assert changes == {("the column", "nul_characters"): 4}


def broken_texts() -> "pa.Array[Any]":
    """Texts as a connector may hand them on: Arrow does not look."""
    return pa.StringArray.from_buffers(
        4, pa.py_buffer(array("i", [0, 2, 5, 5, 8])), pa.py_buffer(b"ab\xe2\x82x\xffyz"), None, 0, 0
    )


def test_bytes_that_are_not_utf8_are_refused_by_row() -> None:
    said = refusal(broken_texts(), planned("TEXT", "text"), first_row=11)

    assert "rows 12, 14 of the chunk: the text is not valid UTF-8" in said


@pytest.mark.parametrize(("policy", "left"), [("strip", ["ab", "x", "", "yz"]), ("replace", ["ab", "�x", "", "�yz"])])
def test_bytes_that_are_not_utf8_are_taken_out_or_replaced_and_counted(policy: str, left: list[str]) -> None:
    assert prepared(broken_texts(), planned("TEXT", "text", invalid_utf8=policy)) == (
        left,
        {("the column", "invalid_utf8"): 2},
    )


@pytest.mark.parametrize(("target", "shown"), [("varchar", "varchar"), ("bpchar", "char")])
@pytest.mark.parametrize("value", ["äöü€", "abc ", "😀😀😀😀"])
def test_a_text_that_is_too_long_is_refused_or_cut(target: str, shown: str, value: str) -> None:
    values = pa.array(["abc", "äöü", "😀😀😀", None, value])
    said = refusal(values, planned("TEXT", target, 3 + 4))

    assert f'Column "the column", row 5 of the chunk: the text is longer than {shown}(3)' in said
    assert 'WHERE LENGTH("THE COLUMN") > 3' in said
    assert prepared(values, planned("TEXT", target, 3 + 4, too_long="truncate")) == (
        ["abc", "äöü", "😀😀😀", None, value[:3]],
        {("the column", "too_long"): 1},
    )


@pytest.mark.parametrize(
    "value",
    [
        "",
        "not a uuid",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8\n",
        "6ba7b810-9dad-11d1-80b4-00c04fd430cg",
        "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
        "6ba7b8109dad-11d1-80b4-00c04fd430c8-",
        "6ba7b810-9dad-11d1-80b4-00c04fd430é",
        "6ba7b810-9dad-11d1-80b4-0-c04fd430c8",
    ],
)
def test_a_text_that_is_no_uuid_is_refused_by_column_and_row(value: str) -> None:
    column = planned("TEXT", "uuid")

    said = refusal(pa.array([FINE_UUID, None, FINE_UUID.replace("-", "").upper(), value]), column)
    assert '"the column", row 4 of the chunk: the text is not a UUID' in said
    assert "{8}" in said  # the condition is whole
    assert "row 2 of the chunk" in refusal(pa.array([FINE_UUID, value]), column)


@given(st.lists(st.uuids() | st.none(), min_size=1), st.booleans())
def test_uuids_become_their_bytes(uuids: list[Any], some_without_hyphens: bool) -> None:
    texts = [
        None if value is None else value.hex if some_without_hyphens and place % 3 == 0 else str(value)
        for place, value in enumerate(uuids)
    ]

    found, _ = prepared(pa.array(texts, pa.string()), planned("TEXT", "uuid"))

    assert found == [None if value is None else value.bytes for value in uuids]


# --- numbers --------------------------------------------------------------------------------------------------


@given(st.integers(0, 99), st.integers(1, 100))
def test_a_number_that_does_not_fit_is_named_by_its_row(position: int, rows: int) -> None:
    values = pa.array([40_000 if row >= position else 5 for row in range(rows)], pa.int32())
    into_int2 = planned(number(38), "int2")

    if position >= rows:
        assert prepared(values, into_int2)[0] == [5] * rows
    else:
        said = refusal(values, into_int2, first_row=11)
        assert f'Column "the column", row{"s" * (rows - position > 1)} {position + 11}' in said
        assert "the value does not fit into int2" in said
        assert '"THE COLUMN" <= -32769 OR "THE COLUMN" >= 32768' in said


@given(st.lists(st.none() | st.integers(1 - 10**38, 10**38 - 1)), st.integers(1, 38), st.integers(0, 4))
def test_numbers_out_of_range_become_null_where_that_is_said(
    numbers: list[int | None], precision: int, scale: int
) -> None:
    scale = min(scale, precision)
    column = planned(number(38), numeric(precision, scale), out_of_range="null")
    fits = [n is not None and abs(n) < 10 ** (precision - scale) for n in numbers]

    found, changes = prepared(pa.array(numbers, pa.decimal128(38, 0)), column)

    assert found == [Decimal(str(n)) if ok else None for n, ok in zip(numbers, fits, strict=True)]
    assert sum(changes.values()) == sum(n is not None and not ok for n, ok in zip(numbers, fits, strict=True))


def test_a_decimal_with_too_many_digits_is_refused() -> None:
    values = pa.array([Decimal("99.99"), Decimal("100.00")], pa.decimal128(38, 2))

    assert "row 2 of the chunk: the value does not fit into numeric(4,2)" in refusal(
        values, planned(number(38, 2), numeric(4, 2))
    )


def test_what_is_not_finite_is_kept_or_refused_or_null() -> None:
    values = pa.array([1.5, math.nan, None, -math.inf])

    kept, changes = prepared(values, planned("REAL", "float8"))
    assert str(kept) == "[1.5, nan, None, -inf]"
    assert changes == {}
    assert "rows 2, 4 of the chunk: the value is NaN or infinite" in refusal(
        values, planned("REAL", "numeric", nan="reject")
    )
    assert prepared(values, planned("REAL", "numeric", nan="null")) == (
        [1.5, None, None, None],
        {("the column", "nan"): 2},
    )


def test_floats_that_lose_bits_are_counted() -> None:
    values = pa.array([0.5, 0.1, None, math.nan, math.inf, -0.0, 1e-50])

    found, changes = prepared(values, planned("REAL", "float4"))

    assert str(found) == "[0.5, 0.10000000149011612, None, nan, inf, -0.0, 0.0]"
    assert changes == {("the column", "rounded"): 2}


def test_a_float_beyond_the_targets_range_never_becomes_infinite() -> None:
    values = pa.array([1.0, 1e300])

    assert "row 2 of the chunk: the value does not fit into float4" in refusal(values, planned("REAL", "float4"))
    assert prepared(values, planned("REAL", "float4", out_of_range="null")) == (
        [1.0, None],
        {("the column", "out_of_range"): 1},
    )


HALF_WAY = 2.0**128 - 2.0**103  # between the greatest float4 and the first number that has no room for its exponent
BELOW = math.nextafter(HALF_WAY, 0.0)


def test_a_float_is_too_big_from_half_way_to_infinity_on() -> None:
    values = pa.array([BELOW, -BELOW, HALF_WAY, -HALF_WAY, math.nextafter(HALF_WAY, math.inf), 3.5e38, math.inf, None])

    assert "rows 3, 4, 5, 6 of the chunk: the value does not fit" in refusal(values, planned("REAL", "float4"))
    found, changes = prepared(values, planned("REAL", "float4", out_of_range="null"))
    assert changes["the column", "out_of_range"] == 4
    assert [v if v is None else float(v) for v in found] == (
        [GREATEST, -GREATEST, None, None, None, None, math.inf, None]
    )


GREATEST = (2.0 - 2.0**-23) * 2.0**127


# --- times ----------------------------------------------------------------------------------------------------

EARLY = pa.array([-719_163, -719_162, None, 0], pa.date32())  # 0001-12-31 BC, 0001-01-01


@pytest.mark.parametrize(
    ("source", "target", "values"),
    [
        ("DATE", "date", EARLY),
        ("DATE", "timestamp", EARLY.cast(pa.timestamp("us"))),
        (clock("TIMESTAMP_TZ", 6), "timestamptz", EARLY.cast(pa.timestamp("us"))),
    ],
)
def test_days_before_the_year_1_are_kept_or_refused_or_null(
    source: SourceColumn | str, target: str, values: "pa.Array[Any]"
) -> None:
    column = planned(source, target)
    preparation = Preparation((column,))
    kept = preparation.prepare(pa.record_batch([values], names=["C"]), first_row=1).column(0)

    assert kept.cast(values.type).equals(values)
    assert "row 1 of the chunk: the date is before the year 1" in refusal(
        values, planned(source, target, before_year_1="reject")
    )
    found, changes = prepared(values, planned(source, target, before_year_1="null"))
    assert [value is None for value in found] == [True, False, True, False]
    assert changes == {("the column", "before_year_1"): 1}


def test_digits_that_were_cut_are_counted_or_refused() -> None:
    values = pa.array([1, 2, 3], pa.timestamp("us"))
    mask = pa.array([0, 1, 1], pa.int8())

    _, changes = prepared(values, planned(clock("TIMESTAMP_NTZ"), "timestamp"), mask)
    assert changes == {("the column", "sub_microsecond"): 2}
    said = refusal(values, planned(clock("TIMESTAMP_NTZ"), "timestamp", sub_microsecond="reject"), mask)
    assert "rows 2, 3 of the chunk: the value has digits below the microsecond" in said
    assert 'WHERE "THE COLUMN" <> "THE COLUMN"::TIMESTAMP_NTZ(6)' in said


@given(st.lists(st.sets(st.integers(0, 99)), min_size=1, max_size=5))
def test_each_column_that_is_cut_has_a_bit_of_its_own(rows: list[set[int]]) -> None:
    """A hundred columns take two masks; what each bit says is counted for its column."""
    columns = tuple(
        planned(clock("TIME"), TargetColumn(name=f"c{i}", type="time", declared="time")) for i in range(100)
    )
    masks = [
        pa.array([sum(1 << (i - start) for i in lost if start <= i < start + 60) for lost in rows], pa.int64())
        for start in (0, 60)
    ]
    times = pa.array([0] * len(rows), pa.time64("us"))
    preparation = Preparation(columns)

    preparation.prepare(pa.record_batch([*[times] * 100, *masks], names=[str(i) for i in range(102)]), first_row=1)

    assert len(cut_masks(columns)) == 2
    assert preparation.changes == Counter((f"c{i}", "sub_microsecond") for lost in rows for i in lost)


# --- refusals -------------------------------------------------------------------------------------------------


def test_a_refusal_names_a_few_rows_and_counts_the_rest() -> None:
    said = refusal(pa.array(["\0"] * 1000), planned("TEXT", "text"), first_row=100)

    assert "rows 100, 101, 102, 103, 104 and 995 more of the chunk" in said


def test_only_the_rows_of_a_slice_are_searched() -> None:
    values = pa.array(["\0", "fine", None, "\0"])

    assert prepared(values.slice(1, 2), planned("TEXT", "text"))[0] == ["fine", None]
