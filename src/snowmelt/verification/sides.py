"""The two ways to ask the source for hashes: Snowflake computes them itself, or its rows are staged in PostgreSQL."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from snowmelt.loading import staging
from snowmelt.loading.copy import copy_batches
from snowmelt.models import ScanSlice, TablePlan
from snowmelt.postgres.session import Cursor, Row, Session, fetch
from snowmelt.snowflake_source import ScanResult, SnowflakeSource
from snowmelt.verification import comparing, target_hashes
from snowmelt.verification.comparing import Pair, Tally
from snowmelt.verification.source_sql import SourceRows
from snowmelt.verification.target_hashes import Hashing, Statement

STAGED_ROWS = 100_000
"""Rows that are staged at a time, about: whole record batches."""


@dataclass(frozen=True)
class SnowflakeSide:
    """The source's rows, hashed by Snowflake; nothing but sums and hashes leaves it."""

    snowflake: SnowflakeSource
    source: SourceRows
    rejected: tuple[Pair, ...] = ()
    """Hashes of keys and rows that the load rejected: they do not count."""

    def total(self) -> Tally:
        """Rows, and the sum of their hashes, in one query."""
        return _tally(self.snowflake.aggregate(self.source.total())) - Tally.of_pairs(self.rejected)

    def submit_total(self) -> str:
        """Have Snowflake begin with it; the id of the statement."""
        return self.snowflake.submit(self.source.total())

    def submitted_total(self, query_id: str) -> Tally:
        """What that statement gives when it ends."""
        self.snowflake.wait(query_id)
        return _tally(self.snowflake.rows(query_id)) - Tally.of_pairs(self.rejected)

    def buckets(self, count: int) -> dict[int, Tally]:
        """The rows by the key's hash."""
        rows = self.snowflake.aggregate(self.source.buckets(count))
        tallies = {int(bucket): Tally.of(found, hashes) for bucket, found, hashes in rows}
        for key, row in self.rejected:
            if key % count in tallies:
                tallies[key % count] -= Tally(1, row)
        return tallies

    def pairs(self, count: int, buckets: Collection[int]) -> list[Pair]:
        """The hashes of every row in those buckets."""
        rows = self.snowflake.aggregate(self.source.pairs(count, buckets))
        found = [(int(key), int(row)) for key, row in rows]
        return list(comparing.without(found, self.rejected)) if self.rejected else found


def _tally(answer: Sequence[Sequence[Any]]) -> Tally:
    ((rows, hashes),) = answer
    return Tally.of(rows, hashes)


class StagedSide:
    """The source's rows, fetched, staged and hashed by PostgreSQL as it hashes its own; each question reads them again.

    What is staged went the way of the load, so that a value is what the load would have made of it.
    """

    def __init__(
        self, session: Session, plan: TablePlan, hashing: Hashing, open_rows: Callable[[], ScanResult]
    ) -> None:
        self._session = session
        self._plan = plan
        self._hashing = hashing
        self._open = open_rows

    def total(self) -> Tally:
        """Rows, and the sum of their hashes."""
        return sum(self.buckets(1).values(), start=Tally())

    def buckets(self, count: int) -> dict[int, Tally]:
        """The rows by the key's hash."""
        query = target_hashes.buckets_query(staging.rows(self._plan), self._hashing, count)
        tallies: dict[int, Tally] = {}
        for rows in self._asked(query):
            for bucket, tally in target_hashes.bucket_tallies(rows).items():
                tallies[bucket] = tallies.get(bucket, Tally()) + tally
        return tallies

    def pairs(self, count: int, buckets: Collection[int]) -> list[Pair]:
        """The hashes of every row in those buckets."""
        query = target_hashes.pairs_query(staging.rows(self._plan), self._hashing, count, buckets)
        return [pair for rows in self._asked(query) for pair in target_hashes.as_pairs(rows)]

    def kept(self, unmatched: Collection[int]) -> dict[int, int]:
        """Rows whose target's row stays, by the hash of their key; of a key with several rows some may have to go.

        ``unmatched`` as in ``fingerprints.kept_query``.
        """
        found: dict[int, int] = {}
        for rows in self._asked(target_hashes.kept_query(self._plan, self._hashing, unmatched)):
            for key, count in target_hashes.kept(rows).items():
                found[key] = found.get(key, 0) + count
        return found

    def _asked(self, query: Statement) -> Iterator[list[Row]]:
        staging.create(self._session, self._plan)
        for part in _parts(whole(self._open())):
            with self._session.transaction() as cursor:
                copy_batches(cursor, staging.name(self._plan), self._plan.columns, part)
                yield fetch(cursor, query)


def whole(result: ScanResult) -> Iterator[pa.RecordBatch]:
    """Every row of a result."""
    rows = sum(result.row_counts)
    return result.read(ScanSlice(query_id=result.query_id, first_batch=0, offset=0, rows=rows))


def _parts(batches: Iterator[pa.RecordBatch]) -> Iterator[Sequence[pa.RecordBatch]]:
    part: list[pa.RecordBatch] = []
    for batch in batches:
        part.append(batch)
        if sum(each.num_rows for each in part) >= STAGED_ROWS:
            yield part
            part = []
    if part:
        yield part


@contextmanager
def staged(cursor: Cursor, plan: TablePlan, result: ScanResult) -> Iterator[None]:
    """The rows of a result in the staging table while the block lasts, within the cursor's transaction."""
    copy_batches(cursor, staging.name(plan), plan.columns, whole(result))
    yield
    target_hashes.clear_staging(cursor, plan)
