"""Ranges of dates and time stamps."""

from datetime import UTC, date, datetime, timedelta

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.planning import date_range
from snowmelt.planning.keys import KeyKind, KeyRange
from support.key_planning import assert_cut_well, planned, spec_of

MIDNIGHT = datetime(2026, 1, 1)  # noqa: DTZ001 - time stamps without a zone are keys too

dates = st.one_of(
    st.dates(), st.dates(date(2026, 1, 1), date(2026, 1, 9)), st.sampled_from([date.min, date.max, date(2026, 1, 1)])
)
moments = st.one_of(
    st.datetimes(),
    st.datetimes(MIDNIGHT, MIDNIGHT + timedelta(seconds=9)),
    st.sampled_from([MIDNIGHT.replace(year=1), MIDNIGHT.replace(year=9999)]),
)


def moment_text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds") + "000"


@given(st.lists(st.one_of(st.none(), dates), max_size=100), st.integers(1, 20))
def test_ranges_hold_every_date_once(keys: list[date | None], batch_size: int) -> None:
    rows = [(None if key is None else key.isoformat(),) for key in keys]
    spec = spec_of("date", batch_size=batch_size)
    assert_cut_well(spec, rows, planned(spec, rows, lambda key: key))


@given(
    st.lists(st.one_of(st.none(), moments), max_size=100),
    st.integers(1, 20),
    st.sampled_from(["timestamp_ntz", "timestamp_ltz", "timestamp_tz"]),
    st.sampled_from([10, 13, 16, 19]),
)
def test_ranges_hold_every_moment_once_by_day_hour_minute_and_second(
    keys: list[datetime | None], batch_size: int, kind: KeyKind, unit: int
) -> None:
    rows = [(None if key is None else moment_text(key),) for key in keys]
    spec = spec_of(kind, batch_size=batch_size)
    assert_cut_well(spec, rows, planned(spec, rows, lambda key: key[:10], lambda key: key[:unit]))


@pytest.mark.parametrize("unit", [13, 10])
def test_a_crowded_day_is_cut_inside_the_day(unit: int) -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    quiet = [start + timedelta(hours=i) for i in range(24 * 10)]
    crowded = [start + timedelta(days=5, minutes=i) for i in range(24 * 60)]
    rows = [(moment_text(moment),) for moment in quiet + crowded]
    spec = spec_of("timestamp_ntz", batch_size=120)
    result = planned(spec, rows, lambda key: key[:10], lambda key: key[:unit])
    assert_cut_well(spec, rows, result)
    inside = [each for each in result.ranges if each.start and str(each.start[0]).startswith("2026-05-06")]
    assert len(inside) >= 12


def test_sparse_days_share_a_range_of_months() -> None:
    rows = [(f"2026-{month:02d}-{day:02d}",) for month in range(1, 13) for day in (1, 6, 11, 21)]
    ranges = planned(spec_of("date", batch_size=12), rows, lambda key: key).ranges
    assert ranges == (
        KeyRange(stop=("2026-04-01",), rows=12),
        KeyRange(start=("2026-04-01",), stop=("2026-07-01",), rows=12),
        KeyRange(start=("2026-07-01",), stop=("2026-10-01",), rows=12),
        KeyRange(start=("2026-10-01",), rows=12),
    )


HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("extent", "cells", "width"),
    [
        (HOUR, 1, HOUR),
        (HOUR, 4, 900_000_000),
        (HOUR, 12, 300_000_000),
        (HOUR, 60, 60_000_000),
        (HOUR, 240, 15_000_000),
        (HOUR, 720, 5_000_000),
        (HOUR, 3_600, 1_000_000),
        (HOUR, 36_000, 100_000),
        (50, 100, 1),
    ],
)
def test_an_hour_that_is_crowded_gets_cells_as_short_as_its_density_asks_for(
    extent: int, cells: int, width: int
) -> None:
    expression = date_range.timestamp_width(str(extent), str(cells)).replace("NUMBER", "DECIMAL")
    assert duckdb.connect().execute(f"SELECT {expression}").fetchall() == [(width,)]
