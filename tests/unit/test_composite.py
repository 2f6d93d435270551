"""Ranges of a key of several columns, NULL in any of them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from snowmelt.planning.keys import KeyKind, KeyRange
from support.key_planning import Place, Row, assert_cut_well, planned, spec_of

values = st.one_of(st.none(), st.integers(-3, 3), st.integers(-(10**9), 10**9))
grids: "st.SearchStrategy[Place]" = st.sampled_from(
    [lambda key: key, lambda key: key // 3, lambda key: key // 10**6, lambda key: 0]
)


def keys_of(columns: int) -> "st.SearchStrategy[list[Row]]":
    return st.lists(st.tuples(*[values] * columns), max_size=120)


@given(st.integers(1, 3).flatmap(keys_of), st.integers(1, 20), grids, grids)
def test_ranges_hold_every_key_once_whatever_is_null(
    rows: list[Row], batch_size: int, outer: Place, inner: Place
) -> None:
    kinds: list[KeyKind] = ["number"] * (len(rows[0]) if rows else 1)
    spec = spec_of(*kinds, batch_size=batch_size)
    assert_cut_well(spec, rows, planned(spec, rows, outer, inner))


@given(st.lists(st.tuples(st.sampled_from(["2026-01-01", "2026-01-02", None]), st.integers(0, 99)), max_size=200))
def test_a_day_that_is_too_full_is_cut_by_the_second_column(rows: list[tuple[Any, ...]]) -> None:
    spec = spec_of("date", "number", batch_size=10)
    assert_cut_well(spec, rows, planned(spec, rows, lambda key: key))


def test_a_crowded_first_value_is_cut_from_its_very_beginning_to_its_nulls() -> None:
    rows = [("a", 1), *(("b", i) for i in range(6)), ("b", None), ("c", 1)]
    spec = spec_of("text", "number", batch_size=3)
    assert planned(spec, rows, lambda key: key).ranges == (
        KeyRange(stop=("b",), rows=1),
        KeyRange(start=("b",), stop=("b", "3"), rows=3),
        KeyRange(start=("b", "3"), stop=("b", None), rows=3),
        KeyRange(start=("b", None), rows=2),
    )


def test_many_rows_without_a_first_value_are_cut_by_the_second() -> None:
    rows = [(1, 1), *((None, i) for i in range(6))]
    spec = spec_of("number", "number", batch_size=3)
    ranges = planned(spec, rows, lambda key: key).ranges
    assert ranges == (
        KeyRange(stop=(None,), rows=1),
        KeyRange(start=(None,), stop=(None, "3"), rows=3),
        KeyRange(start=(None, "3"), rows=3),
    )
    assert [each.nulls for each in ranges] == [False, True, True]
