"""Chunks are handed out once each, in items that are small in every respect."""

import json
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.engine import work_items
from snowmelt.engine.work_items import MOST_CHUNKS_PER_ITEM, MOST_ITEMS, PendingChunk
from snowmelt.models import WorkItem

per_table = st.lists(st.integers(min_value=0, max_value=300), max_size=12)
worker_counts = st.integers(min_value=0, max_value=200)
thread_counts = st.integers(min_value=1, max_value=8)


def pending(counts: list[int]) -> list[PendingChunk]:
    """That many chunks of each table, sorted as the status store gives them."""
    return [
        PendingChunk(table_id, f"TABLE_{table_id}", chunk_id)
        for table_id, chunks in enumerate(counts)
        for chunk_id in range(1, chunks + 1)
    ]


def planned(chunks: list[PendingChunk], workers: int = 4, threads: int = 1) -> list[WorkItem]:
    return list(work_items.plan(chunks, workers=workers, threads=threads, slowest_seconds={0: 1.23456}))


def chunks_of(items: list[WorkItem]) -> list[tuple[int, int]]:
    return [(item.table_id, chunk_id) for item in items for chunk_id in item.chunks]


@given(counts=per_table, workers=worker_counts, threads=thread_counts)
def test_every_chunk_is_in_exactly_one_item_and_neighbours_stay_together(
    counts: list[int], workers: int, threads: int
) -> None:
    chunks = pending(counts)

    assert chunks_of(planned(chunks, workers, threads)) == [(c.table_id, c.chunk_id) for c in chunks]


@given(counts=per_table, workers=worker_counts)
def test_an_item_holds_chunks_of_one_table_and_names_it(counts: list[int], workers: int) -> None:
    items = planned(pending(counts), workers)

    assert all(item.chunks for item in items)
    assert all(item.table == f"TABLE_{item.table_id}" for item in items)
    assert [item.item_id for item in items] == list(range(len(items)))


@given(counts=per_table, workers=worker_counts, threads=thread_counts)
def test_no_worker_of_a_round_is_left_idle_while_chunks_are_left(counts: list[int], workers: int, threads: int) -> None:
    items = planned(pending(counts), workers, threads)

    assert len(items) >= min(sum(counts), workers)


@settings(max_examples=10)
@given(tables=st.integers(min_value=1, max_value=40), workers=st.integers(min_value=1, max_value=1000))
def test_a_round_has_at_most_ten_thousand_items_and_takes_the_first_chunks(tables: int, workers: int) -> None:
    chunks = pending([60_000 // tables] * tables)

    items = planned(chunks, workers)

    assert len(items) <= MOST_ITEMS == 10_000
    given_out = chunks_of(items)
    assert given_out == [(c.table_id, c.chunk_id) for c in chunks[: len(given_out)]]


def test_what_does_not_fit_into_a_round_is_left_for_the_next() -> None:
    """Eleven thousand tables of one chunk: an item holds only one table, and the Map takes ten thousand items."""
    chunks = pending([1] * 11_000)

    first = planned(chunks)
    done = set(chunks_of(first))
    second = planned([c for c in chunks if (c.table_id, c.chunk_id) not in done])

    assert (len(first), len(second)) == (10_000, 1_000)
    assert Counter(chunks_of([*first, *second])) == Counter((c.table_id, 1) for c in chunks)


def test_the_largest_item_is_far_below_a_hundred_kilobytes_of_json() -> None:
    """An item travels as an event; Step Functions ends an execution at 256 KiB."""
    name = '"' + "ä" * 253 + '"'
    chunks = [PendingChunk(9_999, name, 2_000_000_000 + i) for i in range(50_000)]

    items = list(work_items.plan(chunks, workers=1, slowest_seconds={9_999: 899.999}))

    assert max(len(item.chunks) for item in items) == MOST_CHUNKS_PER_ITEM
    assert max(len(json.dumps(item.model_dump()).encode()) for item in items) < 100_000


def test_an_item_carries_how_slow_its_table_has_been() -> None:
    items = planned(pending([1, 1]))

    assert [item.slowest_seconds for item in items] == [1.235, 0.0]


def test_no_chunks_make_no_items() -> None:
    assert planned([]) == []


@given(threads=st.integers(min_value=2, max_value=8), workers=st.integers(min_value=1, max_value=20))
def test_an_item_has_chunks_for_all_threads_of_its_worker(threads: int, workers: int) -> None:
    items = planned(pending([threads * workers]), workers, threads)

    assert [len(item.chunks) for item in items] == [threads] * workers


@given(counts=per_table, workers=worker_counts, threads=thread_counts)
def test_items_are_counted_as_they_are_planned(counts: list[int], workers: int, threads: int) -> None:
    items = planned(pending(counts), workers, threads)

    assert work_items.count(counts, workers=workers, threads=threads) == len(items)


def test_each_worker_is_given_eight_items_of_the_same_size_rounded_up() -> None:
    assert [len(item.chunks) for item in planned(pending([320]), workers=4)] == [10] * 32
    assert [len(item.chunks) for item in planned(pending([330]), workers=4)] == [11] * 30


def test_a_table_is_given_to_no_more_workers_than_it_allows_and_the_rest_is_left_for_the_next_round() -> None:
    chunks = pending([100, 5])
    bounded = list(work_items.plan(chunks, workers=10, slowest_seconds={}, most_at_once={0: 1}))
    assert [len(item.chunks) for item in bounded if item.table_id == 0] == [100]
    assert chunks_of(bounded)[100:] == [(1, n) for n in range(1, 6)]

    too_many = list(work_items.plan(pending([2_000]), workers=10, slowest_seconds={}, most_at_once={0: 2}))
    assert [len(item.chunks) for item in too_many] == [MOST_CHUNKS_PER_ITEM] * 2
