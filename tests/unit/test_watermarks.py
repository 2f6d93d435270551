"""Bounds of incremental runs."""

from datetime import timedelta

import pytest

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
