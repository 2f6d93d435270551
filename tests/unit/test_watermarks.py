"""Bounds of incremental runs."""

from datetime import timedelta

import pytest

from snowmelt.errors import ConfigError
from snowmelt.models import SourceColumn, WatermarkPlan
from snowmelt.planning import watermarks

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
    expected = f"'2024-03-01 {hour:02}:00:00.{fraction.removeprefix('.'):0<6} +0000'::TIMESTAMP_TZ"
    assert watermarks.literal("moment", low) == expected


def test_without_a_stored_watermark_every_row_up_to_the_highest_is_read() -> None:
    column = SourceColumn(name="N", type="FIXED")
    bounds = watermarks.plan(column, "n", stored=None, high="7", null_rows=0, overlap=HOUR)
    assert watermarks.predicate(bounds) == '("N" <= 7) OR "N" IS NULL'


def test_between_two_watermarks_rows_of_both_bounds_and_those_without_any_are_read() -> None:
    column = SourceColumn(name="D", type="DATE")
    bounds = watermarks.plan(column, "d", stored="2024-03-01", high="2024-03-09", null_rows=0, overlap=timedelta(0))
    between = "\"D\" >= '2024-03-01'::DATE AND \"D\" <= '2024-03-09'::DATE"
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
        ("text", "B", "a", "a"),
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
    ("kind", "value"), [("number", "1; DROP TABLE t"), ("date", "2024-13-01"), ("timestamp", "x"), ("moment", "'")]
)
def test_a_watermark_that_is_no_value_of_its_kind_never_reaches_snowflake(kind: watermarks.Kind, value: str) -> None:
    with pytest.raises(ConfigError, match="watermark"):
        watermarks.literal(kind, value)


def test_a_quote_in_a_text_stays_in_it() -> None:
    assert watermarks.literal("text", "it's \\") == "'it''s \\\\'"
