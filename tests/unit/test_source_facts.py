"""What Snowflake's own catalog says of tables."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from snowmelt.planning import source_facts
from snowmelt.planning.source_facts import Count, SourceFacts


def test_each_table_is_known_by_its_exact_name_and_views_have_no_size() -> None:
    rows = [
        ("ORDERS", Decimal(10), Decimal(4096), "1", "BASE TABLE", "LINEAR(DAY)"),
        ("orders", None, None, None, "VIEW", None),
    ]
    assert source_facts.read(rows) == {
        "ORDERS": SourceFacts(10, 4096, 1, clustering_key="LINEAR(DAY)"),
        "orders": SourceFacts(None, None, None, is_view=True),
    }


# --- the independent count of a scan ----------------------------------------------------------------------------------

BEGAN = datetime(2026, 11, 1, 12, tzinfo=UTC)
BEFORE, AFTER = BEGAN - timedelta(milliseconds=1), BEGAN + timedelta(milliseconds=1)


def test_a_table_without_a_count_or_a_moment_is_not_counted() -> None:
    rows = [("A", Decimal(3), BEGAN), ("B", None, BEGAN), ("C", Decimal(3), None)]
    assert source_facts.read_counts(rows) == {"A": Count(3, BEGAN)}


@pytest.mark.parametrize(
    ("count", "rows", "began_at", "contradicted"),
    [
        (Count(3, BEFORE), 2, BEGAN, True),
        (Count(3, BEFORE), 4, BEGAN, True),
        (Count(3, BEFORE), 3, BEGAN, False),
        (Count(3, BEGAN), 2, BEGAN, False),
        (Count(3, AFTER), 2, BEGAN, False),
        (Count(3, BEFORE), 2, None, False),
    ],
)
def test_a_scan_is_contradicted_only_by_a_table_that_nobody_changed_since_it_began(
    count: Count, rows: int, began_at: datetime | None, contradicted: bool
) -> None:
    assert source_facts.contradicts(count, rows=rows, began_at=began_at) is contradicted


def test_names_are_texts_of_the_question() -> None:
    query = source_facts.counts_query('my "db"', "it's", ["B", "A"])
    assert '"my ""db""".INFORMATION_SCHEMA.TABLES' in query
    assert "TABLE_SCHEMA = 'it''s'" in query
    assert "TABLE_NAME IN ('A', 'B')" in query
