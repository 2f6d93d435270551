"""Bounds of incremental runs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.errors import ConfigError
from snowmelt.models import SourceColumn, WatermarkPlan
from snowmelt.planning import calendar_text, watermarks
from snowmelt.sql_text import literals

HOUR = timedelta(hours=1)


def plan(kind: str, stored: str | None, *, overlap: timedelta = HOUR) -> WatermarkPlan:
    column = SourceColumn(name="UPDATED_AT", type=kind)
    return watermarks.plan(column, "updated_at", stored=stored, high=stored, null_rows=0, overlap=overlap)


@pytest.mark.parametrize(
    ("kind", "stored", "low"),
    [
        ("TIMESTAMP_NTZ", "2024-03-01 00:30:00.123456789", "2024-02-29 23:30:00.123456789"),
        ("TIMESTAMP_TZ", "2024-03-01 00:30:00.000000000", "2024-02-29 23:30:00.000000000"),
        ("DATE", "2024-03-01", "2024-02-29"),
        ("DATE", "0001-01-01", "0000-12-31"),
        ("TIMESTAMP_NTZ", "0001-01-01 00:30:00.000000001", "0000-12-31 23:30:00.000000001"),
        ("TIMESTAMP_NTZ", "10000-01-01 00:30:00", "9999-12-31 23:30:00.000000000"),
        ("TIMESTAMP_TZ", "294276-12-31 23:59:59.999999+00", "294276-12-31 22:59:59.999999000"),
        ("TIMESTAMP_TZ", "0044-03-15 00:00:00+00 BC", "-0043-03-14 23:00:00.000000000"),
        ("DATE", "0001-03-01 BC", "0000-02-29"),
        ("DATE", "-0043-03-01", "-0043-02-28"),
        ("FIXED", "12345678901234567890", "12345678901234567890"),
        ("TEXT", "v1.2", "v1.2"),
    ],
)
def test_the_lower_bound_reaches_back_by_the_overlap(kind: str, stored: str, low: str) -> None:
    assert plan(kind, stored).low == low


@pytest.mark.parametrize("fraction", ["", ".5", ".123456"])
@pytest.mark.parametrize("overlap", [timedelta(0), HOUR])
def test_a_moment_as_postgresql_writes_it_becomes_one_that_snowflake_reads(fraction: str, overlap: timedelta) -> None:
    low = plan("TIMESTAMP_TZ", f"2024-03-01 01:00:00{fraction}+00", overlap=overlap).low
    assert low is not None
    hour = 1 - overlap // HOUR
    expected = literals.timestamp_tz(f"2024-03-01 {hour:02}:00:00.{fraction.removeprefix('.'):0<9}")
    assert watermarks.literal("moment", low) == expected


def test_without_a_stored_watermark_every_row_up_to_the_highest_is_read() -> None:
    column = SourceColumn(name="N", type="FIXED")
    bounds = watermarks.plan(column, "n", stored=None, high="7", null_rows=0, overlap=HOUR)
    assert watermarks.predicate(bounds) == f'("N" <= {literals.number("7")}) OR "N" IS NULL'


def test_between_two_watermarks_rows_of_both_bounds_and_those_without_any_are_read() -> None:
    column = SourceColumn(name="D", type="DATE")
    bounds = watermarks.plan(column, "d", stored="2024-03-01", high="2024-03-09", null_rows=0, overlap=timedelta(0))
    between = f'"D" >= {literals.date("2024-03-01")} AND "D" <= {literals.date("2024-03-09")}'
    assert watermarks.predicate(bounds) == f'({between}) OR "D" IS NULL'


def test_where_no_row_has_a_watermark_those_without_are_read() -> None:
    column = SourceColumn(name="N", type="FIXED")
    bounds = watermarks.plan(column, "n", stored="5", high=None, null_rows=3, overlap=HOUR)
    assert watermarks.predicate(bounds) == '"N" IS NULL'


@pytest.mark.parametrize(
    ("kind", "one", "other", "later"),
    [
        ("number", "9", "10", "10"),
        ("number", "10", "9", "10"),
        ("number", "-9", "-10", "-9"),
        ("number", "9.5", "9.25", "9.5"),
        ("date", "2024-03-01", "2023-12-31", "2024-03-01"),
        (
            "timestamp",
            "2024-03-01 00:00:00.000000001",
            "2024-03-01 00:00:00.000000000",
            "2024-03-01 00:00:00.000000001",
        ),
        ("timestamp", "10000-01-01 00:00:00", "9999-12-31 00:00:00.000000000", "10000-01-01 00:00:00"),
        ("date", "-0043-03-15", "-0044-03-15", "-0043-03-15"),
        ("date", "-0043-03-15", "0001-01-01", "0001-01-01"),
        ("text", "B", "a", "a"),
        ("text", "\U0001f600", "\uffff", "\U0001f600"),
        ("number", None, "3", "3"),
        ("number", "3", None, "3"),
        ("number", None, None, None),
    ],
)
def test_of_two_watermarks_the_later_is_kept(
    kind: watermarks.Kind, one: str | None, other: str | None, later: str | None
) -> None:
    assert watermarks.later(kind, one, other) == later


def test_a_part_of_a_day_of_overlap_is_a_whole_day_for_dates() -> None:
    assert plan("DATE", "2024-03-02", overlap=timedelta(hours=25)).low == "2024-02-29"
    assert plan("DATE", "2024-03-02", overlap=timedelta(0)).low == "2024-03-02"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("number", "1; DROP TABLE t"),
        ("number", "NaN"),
        ("number", "Infinity"),
        ("date", "2024-13-01"),
        ("date", "infinity"),
        ("date", "2023-02-29"),
        ("timestamp", "x"),
        ("timestamp", "-infinity"),
        ("timestamp", "2024-01-01 24:00:00"),
        ("timestamp", "2024-01-01 00:00:00'"),
        ("moment", "'"),
        ("moment", "2024-01-01 00:00:00+02"),
    ],
)
def test_a_watermark_that_is_no_value_of_its_kind_never_reaches_snowflake(kind: watermarks.Kind, value: str) -> None:
    assert not watermarks.is_value(kind, value)
    with pytest.raises(ConfigError, match="watermark"):
        watermarks.literal(kind, value)


def test_a_quote_in_a_text_stays_in_it() -> None:
    assert watermarks.literal("text", "it's \\") == "/*?*/'it''s \\\\'"


# --- years that Python does not have ----------------------------------------------------------------------------------


@given(
    st.datetimes(datetime(401, 1, 1), datetime(9599, 12, 31)),  # noqa: DTZ001 - without a zone, as the values are
    st.timedeltas(timedelta(0), timedelta(days=100_000)),
    st.integers(-20, 700),
)
def test_a_span_is_taken_off_in_every_year_as_python_does_in_its_own(
    there: datetime, span: timedelta, cycles: int
) -> None:
    moment = calendar_text.parse(there.isoformat())
    earlier = there - span
    far = calendar_text.Moment(moment.cycle + cycles, moment.day, moment.nanosecond).minus(span)
    assert far.year == earlier.year + 400 * cycles
    assert far.day_text(2000 + earlier.year % 400) == f"{2000 + earlier.year % 400}{earlier:-%m-%d}"
    assert far.time_text(6) == f"{earlier:%H:%M:%S.%f}"
    assert calendar_text.parse(f"{far.day_text()} {far.time_text()}") == far
    assert (far == calendar_text.parse(there.isoformat())) == (span == timedelta(0) and cycles == 0)


@pytest.mark.parametrize(
    ("kind", "value", "literal"),
    [
        ("date", "0001-01-01", literals.date("0001-01-01")),
        ("date", "0000-02-29", f"DATEADD(year, -2000, {literals.date('2000-02-29')})"),
        ("date", "-0043-03-15", f"DATEADD(year, -2043, {literals.date('2000-03-15')})"),
        (
            "timestamp",
            "10000-02-29 01:02:03.123456789",
            f"DATEADD(year, 8000, {literals.timestamp_ntz('2000-02-29 01:02:03.123456789')})",
        ),
        (
            "moment",
            "12000-01-01 00:00:00",
            f"DATEADD(year, 10000, {literals.timestamp_tz('2000-01-01 00:00:00.000000000')})",
        ),
    ],
)
def test_a_year_that_snowflake_reads_in_no_literal_is_counted_from_one(
    kind: watermarks.Kind, value: str, literal: str
) -> None:
    assert watermarks.literal(kind, value) == literal


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("timestamp", "2024-01-01 00:00:00.123456789", "2024-01-01 00:00:00.123456"),
        ("moment", "10000-01-01 00:00:00.000000000", "10000-01-01 00:00:00.000000"),
        ("date", "-0043-03-15", "0044-03-15 BC"),
        ("timestamp", "0000-01-01 00:00:00.5", "0001-01-01 00:00:00.500000 BC"),
        ("date", "-9999-01-01", "-infinity"),
        ("moment", "300000-01-01 00:00:00", "infinity"),
        ("number", "5", "5"),
    ],
)
def test_a_bound_is_written_as_postgresql_reads_it(kind: watermarks.Kind, value: str, text: str) -> None:
    assert watermarks.in_postgres(kind, value) == text


# --- watermarks beyond the clock --------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        ("moment", "2026-11-29 12:00:00.000000000"),
        ("timestamp", "2026-11-30 02:00:00.000000000"),  # 12:00 in UTC is 02:00 of the next day on Kiritimati
        ("date", "2026-11-30"),
        ("number", None),
        ("text", None),
    ],
)
def test_the_clock_is_the_easternmost_one_where_a_column_does_not_say_its_zone(
    kind: watermarks.Kind, limit: str | None
) -> None:
    assert watermarks.clock_limit(kind, NOW) == limit


def limited(stored: str | None, high: str | None) -> WatermarkPlan:
    column = SourceColumn(name="D", type="DATE")
    return watermarks.plan(column, "d", stored=stored, high=high, null_rows=0, overlap=timedelta(0), limit="2026-11-30")


def test_rows_beyond_the_limit_are_read_by_every_run() -> None:
    always = f'"D" > {literals.date("2026-11-30")} OR "D" IS NULL'
    assert watermarks.predicate(limited(None, None)) == always
    assert watermarks.predicate(limited("2026-01-01", "2026-02-01")) == (
        f'("D" >= {literals.date("2026-01-01")} AND "D" <= {literals.date("2026-02-01")}) OR {always}'
    )


@pytest.mark.parametrize(
    ("stored", "high", "kept"),
    [
        (None, "2026-02-01", "2026-02-01"),
        ("2026-03-01", "2026-02-01", "2026-03-01"),
        ("9999-12-31", "2026-02-01", "2026-02-01"),
        ("infinity", "2026-02-01", "2026-02-01"),
        ("2026-03-01", None, None),
    ],
)
def test_what_is_stored_is_never_beyond_the_limit_and_otherwise_never_moves_back(
    stored: str | None, high: str | None, kept: str | None
) -> None:
    assert watermarks.to_store(limited(None, high), stored) == kept


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("99991231", True),
        ("9999-12-31", True),
        ("9999-12-31 23:59:59", True),
        ("9999999999", True),
        ("9223372036854775807", True),
        ("2147483647", True),
        ("999", False),
        ("20261129", False),
        ("1764417600000", False),
        ("99990000", False),
    ],
)
def test_a_number_or_a_text_that_stands_for_no_end_is_told(value: str, is_one: bool) -> None:
    assert watermarks.looks_like_a_sentinel("number", value) is is_one
    assert not watermarks.looks_like_a_sentinel("date", value)
