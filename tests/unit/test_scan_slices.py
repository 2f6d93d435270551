"""Slices of a result: which rows of which result batches they are."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.errors import DataError
from snowmelt.models import ScanSlice
from snowmelt.snowflake_source.scan import batch_parts

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
