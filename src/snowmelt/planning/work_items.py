"""Hand chunks out: which ones an invocation is given together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

from snowmelt.models import WorkItem

ITEMS_PER_WORKER = 8
"""So many items for each worker of a round that a slow one does not leave the others idle at its end."""
MOST_CHUNKS_PER_ITEM = 500
MOST_ITEMS = 10_000
"""What one Map is given; the rest comes in the next round."""


@dataclass(frozen=True)
class PendingChunk:
    """A chunk that can be claimed."""

    table_id: int
    table: str
    chunk_id: int


def plan(chunks: Sequence[PendingChunk], *, workers: int, slowest_seconds: Mapping[int, float]) -> Iterator[WorkItem]:
    """Yield work items that hold every chunk once, each of one table, at most ``MOST_ITEMS`` of them.

    Chunks come sorted by table. Neighbours stay together: they read neighbouring batches of the same result.
    """
    size = max(1, min(MOST_CHUNKS_PER_ITEM, -(-len(chunks) // (max(1, workers) * ITEMS_PER_WORKER))))
    item_id = 0
    for (table_id, table), of_table in groupby(chunks, key=lambda c: (c.table_id, c.table)):
        while group := tuple(islice(of_table, size)):
            if item_id == MOST_ITEMS:
                return
            yield WorkItem(
                item_id=item_id,
                table_id=table_id,
                table=table,
                chunks=tuple(c.chunk_id for c in group),
                slowest_seconds=round(slowest_seconds.get(table_id, 0.0), 3),
            )
            item_id += 1
