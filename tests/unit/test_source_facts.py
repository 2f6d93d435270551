"""What Snowflake's own catalog says of tables."""

from decimal import Decimal

from snowmelt.planning import source_facts
from snowmelt.planning.source_facts import SourceFacts


def test_each_table_is_known_by_its_exact_name_and_views_have_no_size() -> None:
    rows = [
        ("ORDERS", Decimal(10), Decimal(4096), "1", "BASE TABLE"),
        ("orders", None, None, None, "VIEW"),
    ]
    assert source_facts.read(rows) == {
        "ORDERS": SourceFacts(10, 4096, 1),
        "orders": SourceFacts(None, None, None, is_view=True),
    }
