"""Slices of a result: which rows of which result batches they are, and in which types they arrive."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.errors import DataError
from snowmelt.models import ScanSlice
from snowmelt.snowflake_source.scan import batch_parts, in_schema

Row = tuple[int, int]
"""Where a row lies: its result batch, and its place in there."""


def slice_from(row: Row, rows: int) -> ScanSlice:
    return ScanSlice(query_id="q", first_batch=row[0], offset=row[1], rows=rows)


def rows_of(scan_slice: ScanSlice, row_counts: list[int]) -> list[Row]:
    return [
        (part.batch, part.offset + place) for part in batch_parts(scan_slice, row_counts) for place in range(part.rows)
    ]


@given(st.data(), st.lists(st.integers(0, 30), max_size=8))
def test_slices_that_follow_each_other_give_every_row_once_and_in_order(
    data: st.DataObject, row_counts: list[int]
) -> None:
    rows = [(batch, place) for batch, count in enumerate(row_counts) for place in range(count)]
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=6).map(sorted))
    bounds = [0, *cuts, len(rows)]
    slices = [slice_from(rows[start], stop - start) for start, stop in pairwise(bounds) if start < stop]
    assert [row for each in slices for row in rows_of(each, row_counts)] == rows


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 10))
def test_a_slice_that_reaches_beyond_the_result_is_refused(row_counts: list[int], too_many: int) -> None:
    with pytest.raises(DataError, match=f"lacks {too_many} of the"):
        list(batch_parts(slice_from((0, 0), sum(row_counts) + too_many), row_counts))


def test_a_slice_that_begins_outside_its_batch_is_refused() -> None:
    with pytest.raises(DataError, match="plan the table again"):
        list(batch_parts(slice_from((1, 5), 1), [10, 4]))


def test_a_slice_without_rows_touches_no_batch() -> None:
    assert list(batch_parts(slice_from((0, 0), 0), [])) == []


def cast(values: "pa.Array[Any]", wanted: pa.DataType) -> list[Any]:
    table = pa.table({"from snowflake": values})
    batches = in_schema(table, pa.schema([("Amount", wanted)]), query_id="01b")
    return [value for batch in batches for value in batch.column(0).to_pylist()]


@pytest.mark.parametrize("width", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.decimal128(38, 0)])
@pytest.mark.parametrize("wanted", [pa.int64(), pa.decimal128(5, 0), pa.decimal128(12, 4), pa.float64()])
def test_whole_numbers_arrive_in_one_type_however_wide_they_travelled(width: pa.DataType, wanted: pa.DataType) -> None:
    values = pa.array([None, -7, 120], pa.int8()).cast(pa.decimal128(38, 0)).cast(width)
    assert cast(values, wanted) == [None, -7, 120]


def test_decimals_keep_every_digit() -> None:
    widest = Decimal("12345678901234567890123456789012345.678")
    assert cast(pa.array([widest], pa.decimal128(38, 3)), pa.decimal128(38, 3)) == [widest]


def test_moments_take_the_zone_of_the_plan() -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    values = pa.array([moment], pa.timestamp("us", "Etc/UTC"))
    assert cast(values, pa.timestamp("us", "UTC")) == [moment]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pa.array([2**40]), pa.int32()),
        (pa.array([100_000]), pa.decimal128(4, 0)),
        (pa.array([Decimal("1.25")]), pa.decimal128(10, 1)),
        (pa.array([2**53 + 1]), pa.float64()),
        (pa.array(["x"]), pa.int64()),
        (pa.array([b"x"]), pa.date32()),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_its_column_named(
    values: "pa.Array[Any]", wanted: pa.DataType
) -> None:
    with pytest.raises(DataError, match="column Amount of query 01b does not fit"):
        cast(values, wanted)


def test_a_result_with_another_number_of_columns_is_refused() -> None:
    with pytest.raises(DataError, match="has 2 columns where 1 were planned"):
        in_schema(pa.table({"a": [1], "b": [2]}), pa.schema([("a", pa.int64())]), query_id="01b")
