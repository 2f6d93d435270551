"""Cut a table by a key of one column or several, with one query, or two where rows crowd.

    histogram = read_histogram(spec, run(first_query(spec)))
    statement = second_query(spec, histogram)
    pieces = read_pieces(spec, run(statement)) if statement else ()
    ranges = plan(spec, histogram, pieces)

The first query counts the first column on a grid. Where too many rows share a cell, the second one looks into it: at
its values on a finer grid, at the next column where there is but one value, and key by key where even that is not
enough. Both ask one thing of the grid, that cells are in the order of keys: how rows are spread over it makes planning
quicker or slower, never wrong.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from snowmelt.errors import SourceChangedError
from snowmelt.planning.key_sql import divisible, histogram, read_histogram, read_pieces, refinement, spannable
from snowmelt.planning.keys import Bucket, Histogram, Key, KeyRange, KeySpec, Piece, mergeable_rows

__all__ = ["first_query", "plan", "read_histogram", "read_pieces", "second_query"]


def first_query(spec: KeySpec) -> str:
    """The statement whose answer ``read_histogram`` reads: at most about two rows per chunk."""
    return histogram(spec)


def second_query(spec: KeySpec, found: Histogram) -> str | None:
    """The statement whose answer ``read_pieces`` reads, about one row per chunk; None where none is needed."""
    return refinement(spec, found)


def plan(spec: KeySpec, found: Histogram, pieces: Sequence[Piece] = ()) -> tuple[KeyRange, ...]:
    """Ranges that hold every row once, in the key's order, NULLs of the first column apart and last.

    No range is planned with twice ``batch_size`` rows or more unless a single key has as many.
    Ranges are open at both ends, so that rows are not lost even where the table was not frozen. An empty table has
    none. DataError where the two answers or their sums do not agree: then the table changed in between.
    """
    counted = sum(bucket.rows for bucket in found.buckets)
    if counted != found.rows:
        raise SourceChangedError(
            f"{spec.table}: the key's histogram counts {counted} rows, COUNT(*) {found.rows}; "
            "plan it again, or set chunking to one_scan if it is never still"
        )
    steps = list(_merged(list(_steps(spec, found, pieces)), mergeable_rows(spec)))
    if not steps:
        return ()
    outer = spec.within or KeyRange(rows=0)
    bounds = [outer.start, *(step.start for step in steps[1:]), outer.stop]
    return tuple(
        KeyRange(start=start, stop=stop, rows=step.rows)
        for step, (start, stop) in zip(steps, pairwise(bounds), strict=True)
    )


@dataclass(frozen=True)
class _Step:
    start: Key
    rows: int

    @property
    def nulls(self) -> bool:
        return self.start[0] is None


def _steps(spec: KeySpec, found: Histogram, pieces: Sequence[Piece]) -> Iterator[_Step]:
    by_bucket: defaultdict[str | None, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_bucket[piece.low].append(piece)
    cut = {bucket.low for bucket in (*spannable(found), *divisible(spec, found))}
    for bucket in found.buckets:
        if bucket.full and bucket.low in cut:
            yield from _cut(spec, bucket, by_bucket.pop(bucket.low, []))
        else:
            yield _Step((bucket.low,), bucket.rows)
    if by_bucket:
        raise SourceChangedError(
            f"{spec.table}: the second query found {len(by_bucket)} buckets more than the first; plan it again"
        )


def _cut(spec: KeySpec, bucket: Bucket, pieces: Sequence[Piece]) -> Iterator[_Step]:
    counted = sum(piece.rows for piece in pieces)
    if counted != bucket.rows:
        raise SourceChangedError(
            f"{spec.table}: keys from {bucket.low!r} to {bucket.high!r} had {bucket.rows} rows in the first query, "
            f"{counted} in the second; plan it again, or set chunking to one_scan if it is never still"
        )
    yield _Step((bucket.low,), pieces[0].rows)  # with all that begins with the value, NULL or not
    for piece in pieces[1:]:
        yield _Step(piece.start, piece.rows)


def _merged(steps: Sequence[_Step], most_rows: int) -> Iterator[_Step]:
    """Neighbours together up to that many rows, but NULLs with NULLs only."""
    pending: _Step | None = None
    for step in steps:
        if pending is not None and pending.nulls == step.nulls and pending.rows + step.rows <= most_rows:
            pending = _Step(pending.start, pending.rows + step.rows)
            continue
        if pending is not None:
            yield pending
        pending = step
    if pending is not None:
        yield pending
