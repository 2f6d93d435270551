"""Ranges of a numeric key."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from snowmelt.errors import ConfigError, DataError
from snowmelt.models import SourceColumn
from snowmelt.planning.composite import plan, second_query
from snowmelt.planning.keys import Bucket, Histogram, KeyColumn, KeyRange, KeySpec, Piece, key_column, mergeable_rows
from support.key_planning import assert_cut_well, planned, spec_of

whole_numbers = st.integers(-(10**38) + 1, 10**38 - 1)
distributions = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-30, 30)), max_size=120),
    st.lists(st.one_of(st.none(), whole_numbers), max_size=60),
    st.lists(st.sampled_from([None, 0, 1, 10**18]), max_size=80),
    st.integers(0, 200).map(lambda count: list(range(-50, count - 50))),
    st.integers(0, 50).map(lambda count: [7] * count),
)


def on_grid(keys: list[int | None], cells: int) -> "tuple[float, float]":
    """Low and width as the first query would take them."""
    values = [key for key in keys if key is not None] or [0]
    return float(min(values)), float(max(1, (max(values) - min(values)) // cells + 1))


@given(distributions, st.integers(1, 20), st.sampled_from([1, 8, 512]))
def test_ranges_hold_every_key_once_whatever_the_distribution(
    keys: list[int | None], batch_size: int, cells: int
) -> None:
    low, width = on_grid(keys, cells)
    rows = [(key,) for key in keys]
    spec = spec_of("number", batch_size=batch_size)
    assert_cut_well(spec, rows, planned(spec, rows, lambda key: (float(key) - low) // width))


@given(distributions, st.integers(1, 20))
def test_ranges_are_cut_even_where_the_grid_tells_no_keys_apart(keys: list[int | None], batch_size: int) -> None:
    rows = [(key,) for key in keys]
    spec = spec_of("number", batch_size=batch_size)
    assert_cut_well(spec, rows, planned(spec, rows, lambda key: 0))


@given(distributions, st.integers(1, 20))
def test_no_two_neighbours_could_be_one_range(keys: list[int | None], batch_size: int) -> None:
    rows = [(key,) for key in keys]
    spec = spec_of("number", batch_size=batch_size)
    for one, other in pairwise(planned(spec, rows, lambda key: key).ranges):
        assert one.rows + other.rows > mergeable_rows(spec) or other.nulls


@given(distributions, st.integers(1, 20))
def test_ranges_follow_each_other_without_a_gap(keys: list[int | None], batch_size: int) -> None:
    ranges = planned(spec_of("number", batch_size=batch_size), [(key,) for key in keys], lambda key: key).ranges
    if ranges:
        assert ranges[0].start is None
        assert ranges[-1].stop is None
    assert [each.stop for each in ranges[:-1]] == [each.start for each in ranges[1:]]


def test_null_keys_are_a_range_of_their_own() -> None:
    spec = spec_of("number", batch_size=10)
    ranges = planned(spec, [(1,), (None,), (2,), (None,)], lambda key: key).ranges
    assert ranges == (KeyRange(stop=(None,), rows=2), KeyRange(start=(None,), rows=2))
    assert [each.nulls for each in ranges] == [False, True]


def test_a_key_with_too_many_rows_stays_one_range_and_takes_no_second_query() -> None:
    spec = spec_of("number", batch_size=3)
    found = Histogram((Bucket("1", "2", 2, False), Bucket("5", "5", 9, True), Bucket("6", "6", 1, False)), 1, 12)
    assert second_query(spec, found) is None
    assert [each.rows for each in plan(spec, found)] == [2, 9, 1]


def test_an_empty_table_has_no_ranges() -> None:
    assert plan(spec_of("number", batch_size=3), Histogram((), None, 0)) == ()


def test_a_histogram_that_does_not_add_up_is_refused() -> None:
    found = Histogram((Bucket("1", "2", 2, False),), 1, 3)
    with pytest.raises(DataError, match=r'"T": the key\'s histogram counts 2 rows, COUNT\(\*\) 3; plan it again'):
        plan(spec_of("number", batch_size=3), found)


FULL = Histogram((Bucket("1", "9", 4, True),), 1, 4)


@pytest.mark.parametrize("pieces", [(), (Piece("1", ("1",), 3),)])
def test_a_full_bucket_whose_pieces_do_not_add_up_is_refused(pieces: tuple[Piece, ...]) -> None:
    with pytest.raises(DataError, match=r"keys from '1' to '9' had 4 rows in the first query, [03] in the second"):
        plan(spec_of("number", batch_size=3), FULL, pieces)


def test_pieces_of_a_bucket_that_was_not_full_are_refused() -> None:
    pieces = (Piece("1", ("1",), 3), Piece("1", ("4",), 1), Piece("7", ("7",), 1))
    with pytest.raises(DataError, match="the second query found 1 buckets more than the first"):
        plan(spec_of("number", batch_size=3), FULL, pieces)


def test_a_range_inside_another_keeps_its_bounds() -> None:
    wide = KeyRange(start=("1",), stop=("10",), rows=4)
    spec = spec_of("number", batch_size=3).model_copy(update={"within": wide})
    found = Histogram((Bucket("2", "4", 3, False), Bucket("5", "9", 3, False)), 1, 6)
    assert plan(spec, found) == (
        KeyRange(start=("1",), stop=("5",), rows=3),
        KeyRange(start=("5",), stop=("10",), rows=3),
    )


def test_a_range_survives_json() -> None:
    narrow = KeyRange(start=("-5", None), stop=("99999999999999999999999999999999999999",), rows=7)
    assert KeyRange.model_validate_json(narrow.model_dump_json()) == narrow


@pytest.mark.parametrize("source_type", ["REAL", "BOOLEAN", "VARIANT", "BINARY", "TIME"])
def test_a_column_without_an_order_to_cut_by_is_refused(source_type: str) -> None:
    with pytest.raises(ConfigError, match=f"chunking column K is {source_type}, which no range can cut; name a number"):
        key_column(SourceColumn(name="K", type=source_type))


def test_the_kind_of_a_key_is_what_snowflake_has() -> None:
    assert key_column(SourceColumn(name="k", type="FIXED", precision=38, scale=0)) == KeyColumn(name="k", kind="number")


def test_a_column_can_be_in_a_key_once_only() -> None:
    twice = (KeyColumn(name="K", kind="date"), KeyColumn(name="K", kind="date"))
    with pytest.raises(ValidationError, match="chunking_columns names a column twice: K, K"):
        KeySpec(table='"T"', columns=twice, batch_size=1)
