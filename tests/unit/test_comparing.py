"""Which keys differ, found by sums of hashes, then of buckets, then by the hashes of few rows."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.verification import comparing
from snowmelt.verification.comparing import HASHES, Pair, Suspects, Tally, bucket_count, groups, in_parts, locate

hashes = st.integers(0, 7)
"""Few, so that rows share keys and keys share buckets."""
pairs = st.lists(st.tuples(hashes, hashes.map(lambda place: 13**place)), max_size=12)
"""No two lists of rows have the same sum, which hashes of so few bits would have."""


class Rows:
    """A side whose rows are known."""

    def __init__(self, rows: Iterable[Pair]) -> None:
        self.rows = list(rows)

    def total(self) -> Tally:
        return Tally.of_pairs(self.rows)

    def buckets(self, count: int) -> Mapping[int, Tally]:
        found: dict[int, Tally] = {}
        for key, row in self.rows:
            found[key % count] = found.get(key % count, Tally()) + Tally(1, row)
        return found

    def pairs(self, count: int, buckets: Collection[int]) -> Iterable[Pair]:
        return [pair for pair in self.rows if pair[0] % count in buckets]


def found(source: list[Pair], target: list[Pair], *, one_of: bool = False) -> Suspects:
    return locate(Rows(source), Rows(target), max(len(source), len(target)), one_of=one_of)


@given(pairs, pairs)
def test_the_keys_under_which_the_rows_differ_are_all_found_and_no_others(
    source: list[Pair], target: list[Pair]
) -> None:
    suspects = found(source, target)
    there, here = ({key: Counter(r for k, r in rows if k == key) for key, _ in rows} for rows in (source, target))
    differing = {key for key in there.keys() | here.keys() if there.get(key) != here.get(key)}
    assert suspects.missing | suspects.extra | suspects.changed == differing
    assert suspects.missing_rows >= sum(there[key].total() for key in differing if key not in here)


class Huge:
    """A side of so many rows that each of its buckets takes a statement; they are not to be asked for."""

    def __init__(self, hashes: int) -> None:
        self.hashes = hashes

    def total(self) -> Tally:
        return Tally(comparing.ROWS_AT_ONCE, self.hashes)

    def buckets(self, count: int) -> Mapping[int, Tally]:
        return {bucket: Tally(comparing.ROWS_AT_ONCE, self.hashes) for bucket in range(count)}

    def pairs(self, count: int, buckets: Collection[int]) -> Iterable[Pair]:
        raise AssertionError("a pass over the whole side for some of its buckets")


def test_suspects_are_not_looked_for_where_that_takes_more_passes_than_are_worth_it() -> None:
    rows = 64 * comparing.ROWS_AT_ONCE
    assert comparing.locate_within(Huge(1), Huge(2), rows, most_statements=4) is None
    few = comparing.locate_within(Rows([(1, 5)]), Rows([(1, 6)]), 1, most_statements=4)
    assert few is not None
    assert few.changed == {1}


@given(pairs)
def test_what_is_the_same_in_another_order_does_not_differ(rows: list[Pair]) -> None:
    assert found(rows, rows[::-1]) == Suspects()


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        ([(1, 5)], [], Suspects(missing={1}, missing_rows=1)),
        ([], [(1, 5)], Suspects(extra={1}, extra_rows=1)),
        ([(1, 5)], [(1, 6)], Suspects(changed={1})),
        ([(1, 5), (1, 5)], [(1, 5)], Suspects(changed={1})),
        ([(5, 5), (5, 5)], [(5, 5)], Suspects(missing={5}, missing_rows=1)),
        ([(5, 5)], [(5, 5), (5, 5), (5, 5)], Suspects(extra={5}, extra_rows=2)),
        ([(1, 5), (2, 6)], [(1, 6), (2, 5)], Suspects(changed={1, 2})),
    ],
)
def test_a_difference_is_called_by_its_kind(source: list[Pair], target: list[Pair], wanted: Suspects) -> None:
    assert found(source, target) == wanted


def test_of_rows_with_one_key_a_merge_leaves_any_one_and_no_other() -> None:
    rows = [(1, 5), (1, 6)]
    assert found(rows, [(1, 5)], one_of=True) == Suspects()
    assert found(rows, [(1, 6)], one_of=True) == Suspects()
    assert found(rows, [(1, 7)], one_of=True) == Suspects(changed={1})
    assert found(rows, [(1, 5), (1, 5)], one_of=True) == Suspects(changed={1})
    assert found(rows, [], one_of=True) == Suspects(missing={1}, missing_rows=2)


def test_hashes_with_and_without_a_sign_are_the_same() -> None:
    assert found([(-1, -2)], [(HASHES - 1, HASHES - 2)]) == Suspects()
    assert Tally.of(1, -2) == Tally.of(1, HASHES - 2)
    assert Tally.of(0, None) == Tally()
    beside = (255, 1)  # its bucket, which differs, is that of the key -1
    assert found([(-1, -2), beside], [(HASHES - 1, HASHES - 2)]) == Suspects(missing={255}, missing_rows=1)


def test_sums_made_in_parts_are_those_made_at_once() -> None:
    assert Tally(1, HASHES - 1) + Tally(1, 2) == Tally.of_pairs([(0, HASHES - 1), (0, 2)]) == Tally(2, 1)
    assert Tally(2, 1) - Tally(1, 2) == Tally(1, HASHES - 1)


@given(st.integers(0, 10**10))
def test_buckets_are_a_power_of_two_within_bounds(rows: int) -> None:
    count = bucket_count(rows)
    assert count & (count - 1) == 0
    assert 256 <= count <= 1 << 16


def test_buckets_hold_some_two_thousand_rows_each() -> None:
    assert bucket_count(0) == 256
    assert bucket_count(2_000 * 256) == 256
    assert bucket_count(2_000 * 257) == 512
    assert bucket_count(10**12) == 1 << 16


@given(st.dictionaries(st.integers(0, 50), st.integers(1, 9)), st.integers(1, 12))
def test_groups_hold_every_bucket_once_and_no_more_rows_than_wanted(unequal: dict[int, int], most: int) -> None:
    made = list(groups(unequal, most))
    assert [bucket for group in made for bucket in group] == sorted(unequal)
    for group in made:
        assert len(group) == 1 or sum(unequal[bucket] for bucket in group) <= most
    for one, other in pairwise(made):
        assert sum(unequal[b] for b in one) + unequal[other[0]] > most


@given(st.sets(st.integers(), max_size=30), st.integers(1, 10))
def test_parts_hold_every_key_once_in_order(keys: set[int], most: int) -> None:
    parts = list(in_parts(keys, most))
    assert [key for part in parts for key in part] == sorted(keys)
    assert all(0 < len(part) <= most for part in parts)


def test_a_bucket_counts_with_its_bigger_side() -> None:
    assert comparing.unequal_buckets({3: Tally(5, 1)}, {3: Tally(7, 1)}) == {3: 7}
    assert comparing.unequal_buckets({3: Tally(5, 1)}, {3: Tally(5, 1)}) == {}
    assert comparing.unequal_buckets({3: Tally(5, 1)}, {3: Tally(5, 2)}) == {3: 5}
    assert comparing.unequal_buckets({}, {3: Tally(5, 2)}) == {3: 5}
