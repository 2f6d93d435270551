"""Cut the result of one scan into chunks.

Snowflake keeps the result of a statement, immutable, as a row of result batches whose row counts are known
before any is fetched. A chunk is a run of whole batches, or part of one that is too big; so no two chunks
fetch the same batch unless that batch alone holds more than a chunk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from snowmelt.errors import ConfigError
from snowmelt.models import ScanSlice
from snowmelt.planning.source_facts import UNPACKED


@dataclass(frozen=True)
class _Piece:
    first_batch: int
    offset: int
    rows: int


SMALL_BATCH_MB, MEDIUM_BATCH_MB, LARGE_BATCH_MB = 16, 48, 64
_MEDIUM_BYTES, _LARGE_BYTES = 50_000_000_000, 500_000_000_000


def batch_megabytes(stored_bytes: int | None) -> int:
    """Return how large Snowflake may make the batches of a result, given what it stores of the table.

    Whoever opens a result parses the list of all its batches: 16 MB make 60,000 of a terabyte. But a worker holds a
    batch in memory, and loads it at one go, so those of small tables stay small.
    """
    result_bytes = (stored_bytes or 0) * UNPACKED
    if result_bytes >= _LARGE_BYTES:
        return LARGE_BATCH_MB
    return MEDIUM_BATCH_MB if result_bytes >= _MEDIUM_BYTES else SMALL_BATCH_MB


def plan(query_id: str, row_counts: Sequence[int], rows_per_chunk: int) -> Iterator[ScanSlice]:
    """Yield slices that cover every row of the result once, in its order, none over ``rows_per_chunk``.

    An empty result has no slice.
    """
    if rows_per_chunk < 1:
        raise ConfigError(f"batch_size must be at least 1, not {rows_per_chunk}")

    pending: _Piece | None = None
    for piece in _pieces(row_counts, rows_per_chunk):
        if pending is not None and pending.rows + piece.rows <= rows_per_chunk:
            pending = _Piece(pending.first_batch, pending.offset, pending.rows + piece.rows)
            continue
        if pending is not None:
            yield _slice(query_id, pending)
        pending = piece
    if pending is not None:
        yield _slice(query_id, pending)


def split(chunk: ScanSlice, row_counts: Sequence[int], parts: int) -> tuple[ScanSlice, ...]:
    """The same rows in that many slices of nearly the same size, or in as many as there are rows."""
    parts = min(parts, chunk.rows)
    bounds = [chunk.rows * i // parts for i in range(parts + 1)]
    return tuple(
        _slice(chunk.query_id, _locate(row_counts, chunk, skipped=low, rows=high - low))
        for low, high in pairwise(bounds)
    )


def _pieces(row_counts: Sequence[int], rows_per_chunk: int) -> Iterator[_Piece]:
    for batch, rows in enumerate(row_counts):
        parts = -(-rows // rows_per_chunk)
        bounds = [rows * i // parts for i in range(parts + 1)] if parts else []
        for low, high in pairwise(bounds):
            yield _Piece(batch, low, high - low)


def _locate(row_counts: Sequence[int], chunk: ScanSlice, *, skipped: int, rows: int) -> _Piece:
    batch, offset = chunk.first_batch, chunk.offset + skipped
    while offset >= row_counts[batch]:
        offset -= row_counts[batch]
        batch += 1
    return _Piece(batch, offset, rows)


def _slice(query_id: str, piece: _Piece) -> ScanSlice:
    return ScanSlice(query_id=query_id, first_batch=piece.first_batch, offset=piece.offset, rows=piece.rows)
