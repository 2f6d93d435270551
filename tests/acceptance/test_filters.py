"""Every statement that Snowflake really gets of a filtered table has the filter as one operand."""

from typing import Any

import pyarrow as pa
import pytest

from support.filter_operand import MARKER, places
from support.world import World

ROWS = 400
FILTER = f"{MARKER} = 1 OR {MARKER} = $$) OR (1 = 1 --$$ OR {MARKER}::VARCHAR = '2' -- ) OR (1 = 1"
TABLES: dict[str, dict[str, Any]] = {
    "scanned": {"truncate_onstart": True},
    "ranged": {"truncate_onstart": True, "chunking_columns": ["ID", "NOTE"]},
    "merged": {"uniqueness_columns": ["ID"], "source_watermark": "ID", "target_watermark": "id"},
    "newest": {"truncate_onstart": True, "uniqueness_columns": ["ID"], "on_duplicate_keys": "reject"}
    | {"max_rejected_rows": ROWS},
}
COMMANDS = (
    *("preflight", "migrate --dry-run", "migrate", "migrate --allow-shrink", "verify", "verify --mode rows"),
    *("verify --mode counts --all-rows", "verify --sample 10", "report"),
)


@pytest.mark.full
def test_each_statement_that_is_sent_has_the_filter_as_one_operand(world: World) -> None:
    rows = pa.table(
        {
            "ID": pa.array([i // 2 if i < 20 else i for i in range(ROWS)], pa.int64()),
            "NOTE": pa.array([f"note {i % 7}" for i in range(ROWS)]),
            MARKER: pa.array([f"{i % 4}" for i in range(ROWS)]),
        }
    )
    for name, settings in TABLES.items():
        world.snowflake.load_table(world.source_database, "PUBLIC", name.upper(), rows)
        world.target.execute(f"CREATE TABLE {name} (id bigint, note text)")
        world.tables.append({"source": name.upper(), "source_filter": FILTER, "exclude_columns": [MARKER], **settings})
    world.target.execute(
        "ALTER TABLE merged ADD PRIMARY KEY (id); ALTER TABLE newest ADD PRIMARY KEY (id);"
        "CREATE TABLE parents (id bigint PRIMARY KEY)"
    )
    world.tables[2]["source_filter"] = f"{FILTER}\n AND ID > 9"  # where no key is there twice
    world.configure(batch_size=100, max_retry_attempts=1)

    for command in COMMANDS:
        done = world.cli(*command.split())
        assert "Traceback" not in done.err
        assert done.exit_code in (0, 3), (command, done)

    sent = [query["text"] for query in world.snowflake.queries(containing=MARKER)]
    sent = [text for text in sent if f'"{world.source_database}"' in text]
    assert len(sent) > 20
    for text in sent:
        held = [condition for condition in {table["source_filter"] for table in world.tables} if condition in text]
        assert held, text
        assert places(text, max(held, key=len)) >= 1  # one of them begins with another
