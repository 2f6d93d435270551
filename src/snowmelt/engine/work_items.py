"""Hand chunks out: which ones an invocation is given together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from snowmelt.models import WorkItem

ITEMS_PER_WORKER = 8
"""So many items for each worker of a round that a slow one does not leave the others idle at its end."""
CHUNKS_PER_THREAD = 4
"""So many chunks of an item for each thread that shares it, where there are enough: at its end threads are idle too."""
MOST_CHUNKS_PER_ITEM = 500
MOST_ITEMS = 10_000
"""What one Map is given; the rest comes in the next round."""


@dataclass(frozen=True)
class PendingChunk:
    """A chunk that can be claimed."""

    table_id: int
    table: str
    chunk_id: int


def plan(
    chunks: Sequence[PendingChunk],
    *,
    workers: int,
    threads: int = 1,
    slowest_seconds: Mapping[int, float],
    most_at_once: Mapping[int, int] | None = None,
) -> Iterator[WorkItem]:
    """Yield work items, each of one table, at most ``MOST_ITEMS`` of them; no chunk is in two.

    Chunks come sorted by table. Neighbours stay together: they read neighbouring batches of the same result.
    Each worker has that many ``threads``. ``most_at_once`` bounds the items of a table, and so the workers it is given
    to; what does not fit into them comes in the next round.
    """
    size = _size(len(chunks), workers=max(1, workers), threads=threads)
    item_id = 0
    for (table_id, table), group in groupby(chunks, key=lambda c: (c.table_id, c.table)):
        of_table = [c.chunk_id for c in group]
        bound = (most_at_once or {}).get(table_id, workers)
        its_size = size if bound >= workers else max(1, min(MOST_CHUNKS_PER_ITEM, -(-len(of_table) // bound)))
        starts = range(0, len(of_table), its_size)
        for start in starts if bound >= workers else starts[:bound]:
            if item_id == MOST_ITEMS:
                return
            yield WorkItem(
                item_id=item_id,
                table_id=table_id,
                table=table,
                chunks=tuple(of_table[start : start + its_size]),
                slowest_seconds=round(slowest_seconds.get(table_id, 0.0), 3),
                threads=threads,
            )
            item_id += 1


def count(chunks_of_tables: Sequence[int], *, workers: int, threads: int = 1) -> int:
    """How many work items so many chunks of each table make when all of them are handed out at once."""
    size = _size(sum(chunks_of_tables), workers=max(1, workers), threads=threads)
    return sum(-(-chunks // size) for chunks in chunks_of_tables)


def _size(chunks: int, *, workers: int, threads: int) -> int:
    """Chunks per item: few enough for all workers, and enough for all threads of one."""
    even = -(-chunks // (workers * ITEMS_PER_WORKER))
    shared = 1 if threads == 1 else min(threads * CHUNKS_PER_THREAD, chunks // workers)
    return max(1, min(MOST_CHUNKS_PER_ITEM, max(even, shared)))
