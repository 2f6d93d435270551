"""A scan's result is cut into chunks that cover it once, in order, whatever its batches look like."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.errors import ConfigError
from snowmelt.models import ScanSlice
from snowmelt.planning import one_scan

row_counts = st.lists(st.integers(min_value=0, max_value=40), max_size=25)
sizes = st.integers(min_value=1, max_value=50)


def rows_of(chunk: ScanSlice, counts: Sequence[int]) -> list[tuple[int, int]]:
    """Every row of the chunk as (batch, position in the batch), in the order a worker reads them."""
    batch, position = chunk.first_batch, chunk.offset
    rows: list[tuple[int, int]] = []
    while len(rows) < chunk.rows:
        if position < counts[batch]:
            rows.append((batch, position))
            position += 1
        else:
            batch, position = batch + 1, 0
    return rows


def all_rows(counts: Sequence[int]) -> list[tuple[int, int]]:
    return [(batch, position) for batch, rows in enumerate(counts) for position in range(rows)]


@given(counts=row_counts, size=sizes)
def test_every_row_is_in_exactly_one_chunk_in_the_order_of_the_result(counts: list[int], size: int) -> None:
    chunks = list(one_scan.plan("q", counts, size))

    assert [row for chunk in chunks for row in rows_of(chunk, counts)] == all_rows(counts)


@given(counts=row_counts, size=sizes)
def test_no_chunk_is_empty_or_holds_more_rows_than_a_chunk_may(counts: list[int], size: int) -> None:
    assert all(1 <= chunk.rows <= size for chunk in one_scan.plan("q", counts, size))


@given(counts=row_counts, size=sizes)
def test_chunks_share_a_batch_only_if_that_batch_alone_is_bigger_than_a_chunk(counts: list[int], size: int) -> None:
    chunks = list(one_scan.plan("q", counts, size))

    readers = [batch for chunk in chunks for batch in {batch for batch, _ in rows_of(chunk, counts)}]
    assert {batch for batch in readers if readers.count(batch) > 1} <= {b for b, n in enumerate(counts) if n > size}


@given(counts=row_counts, size=sizes)
def test_there_are_at_most_about_twice_as_many_chunks_as_are_needed(counts: list[int], size: int) -> None:
    """Two neighbours that fit into one chunk would have been one."""
    chunks = list(one_scan.plan("q", counts, size))

    assert all(one.rows + two.rows > size for one, two in pairwise(chunks))


@given(counts=row_counts, size=sizes)
def test_the_same_result_is_always_cut_in_the_same_way(counts: list[int], size: int) -> None:
    assert list(one_scan.plan("q", counts, size)) == list(one_scan.plan("q", tuple(counts), size))


@given(counts=row_counts, size=sizes, parts=st.integers(min_value=1, max_value=9), data=st.data())
def test_a_split_keeps_exactly_the_rows_in_their_order(
    counts: list[int], size: int, parts: int, data: st.DataObject
) -> None:
    chunks = list(one_scan.plan("q", counts, size))
    if not chunks:
        return
    chunk = data.draw(st.sampled_from(chunks))

    halves = one_scan.split(chunk, counts, parts)

    assert [row for half in halves for row in rows_of(half, counts)] == rows_of(chunk, counts)
    assert len(halves) == min(parts, chunk.rows)
    assert max(h.rows for h in halves) - min(h.rows for h in halves) <= 1
    assert all(0 <= half.offset < counts[half.first_batch] for half in halves)


@given(counts=row_counts, size=sizes)
def test_splits_of_splits_end_at_single_rows(counts: list[int], size: int) -> None:
    left = list(one_scan.plan("q", counts, size))
    rows = []
    while left:
        chunk = left.pop(0)
        if chunk.rows == 1:
            rows += rows_of(chunk, counts)
        else:
            left[:0] = one_scan.split(chunk, counts, 4)

    assert rows == all_rows(counts)


def test_an_empty_result_has_no_chunk() -> None:
    assert list(one_scan.plan("q", [], 10)) == []
    assert list(one_scan.plan("q", [0, 0, 0], 10)) == []


def test_a_chunk_names_the_query_whose_rows_it_is() -> None:
    assert {chunk.query_id for chunk in one_scan.plan("01b2-77", [5, 5, 5], 4)} == {"01b2-77"}


@pytest.mark.parametrize("size", [0, -1])
def test_a_chunk_of_no_rows_cannot_be_asked_for(size: int) -> None:
    with pytest.raises(ConfigError, match=f"batch_size must be at least 1, not {size}"):
        list(one_scan.plan("q", [1], size))


@pytest.mark.parametrize(
    ("stored_bytes", "megabytes"),
    [(None, 16), (0, 16), (1_000_000_000, 16), (20_000_000_000, 48), (100_000_000_000, 48), (400_000_000_000, 64)],
)
def test_batches_of_a_result_are_larger_where_it_has_many(stored_bytes: int | None, megabytes: int) -> None:
    assert one_scan.batch_megabytes(stored_bytes) == megabytes
    assert 3 * (stored_bytes or 0) / (megabytes * 1_000_000) < 20_000
