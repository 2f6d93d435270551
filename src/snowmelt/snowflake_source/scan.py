"""One scan: a statement that Snowflake runs once, whose immutable result is read by slices, from anywhere."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from snowflake.connector import SnowflakeConnection
from snowflake.connector.errors import Error
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from snowmelt.errors import (
    DataError,
    ResultGoneError,
    SnowmeltError,
    SourceChangedError,
    StatementError,
    TransientError,
)
from snowmelt.models import ScanSlice
from snowmelt.snowflake_source import connector
from snowmelt.snowflake_source.failures import (
    is_about_connection,
    is_in_progress,
    is_result_gone,
    translate,
    translated,
)

_URLS_ARE_FRESH_SECONDS = 5 * 3600.0
"""Snowflake signs the URLs of result batches for six hours."""
_TRIES = 6
"""Of a download, which the connector ends after seven seconds of silence."""


@dataclass(frozen=True)
class ScanRunning:
    """The statement is queued or at work."""


@dataclass(frozen=True)
class ScanDone:
    """The statement has a result: so many rows in each of its result batches; when it began, on Snowflake's clock."""

    row_counts: tuple[int, ...]
    began_at: datetime | None = None


@dataclass(frozen=True)
class ScanFailed:
    """The statement ended without a result; ``kind`` says what that means."""

    message: str
    kind: type[SnowmeltError] = StatementError


@dataclass(frozen=True)
class ScanGone:
    """Snowflake does not know the statement, or no longer keeps its result."""

    message: str


ScanState = ScanRunning | ScanDone | ScanFailed | ScanGone


@dataclass(frozen=True)
class BatchPart:
    """Consecutive rows of one result batch."""

    batch: int
    offset: int
    rows: int


def batch_parts(scan_slice: ScanSlice, row_counts: Sequence[int]) -> Iterator[BatchPart]:
    """Yield the parts of result batches that make up a slice, in order; one that gives no row is left out.

    Raises DataError where the slice begins outside its first batch or reaches beyond the last.
    """
    first, offset, missing = scan_slice.first_batch, scan_slice.offset, scan_slice.rows
    for batch in range(first, len(row_counts)):
        start = offset if batch == first else 0
        rows = min(missing, row_counts[batch] - start)
        if rows > 0:
            yield BatchPart(batch=batch, offset=start, rows=rows)
            missing -= rows
    if missing:
        raise SourceChangedError(
            f"the result of query {scan_slice.query_id} lacks {missing} of the {scan_slice.rows} rows "
            f"planned from row {offset} of result batch {first} on; plan the table again"
        )


class ScanResult:
    """An opened result; it belongs to the thread of its connection.

    Neither its order nor its cut into result batches ever changes, whoever opens it, so disjoint slices
    give disjoint rows. Before a download is tried again ``check`` is asked, and may raise to end the reading.
    """

    def __init__(
        self,
        connection: SnowflakeConnection,
        query_id: str,
        check: Callable[[], None] | None = None,
        *,
        opened: "OpenedResults | None" = None,
    ) -> None:
        self.query_id = query_id
        self._check = check
        self._connection = connection
        if opened is None:
            self._batches, self._opened_at = _opened(connection, query_id), time.monotonic()
        else:
            self._batches, self._opened_at = opened.get(connection, query_id)
        self._kept: tuple[int, pa.Table] | None = None

    @property
    def row_counts(self) -> tuple[int, ...]:
        """Rows in each result batch, as Snowflake announces them."""
        return _row_counts(self._batches)

    def read(self, scan_slice: ScanSlice) -> Iterator[pa.RecordBatch]:
        """Yield exactly the rows of the slice, as Snowflake sends them: widths of integers may differ between batches.

        One result batch is in memory at a time. The last one is kept while it has rows beyond the slice: a neighbouring
        slice, read next, need not download it again. Raises DataError when the rows are not those that were planned,
        and ResultGoneError when Snowflake has dropped the result meanwhile; some batches may have been yielded before.
        """
        if scan_slice.query_id != self.query_id:
            raise DataError(
                f"the slice belongs to query {scan_slice.query_id}, and query {self.query_id} is open; "
                "plan the table again"
            )
        for part in list(batch_parts(scan_slice, self.row_counts)):
            for batch in self._rows(part).to_batches():
                yield batch
            del batch  # or it would keep its result batch in memory while the next one is fetched

    def _rows(self, part: BatchPart) -> pa.Table:
        """Some rows of one result batch, which is downloaded unless the last slice ended in it."""
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] == part.batch:
            table = kept[1]
        else:
            del kept  # before the next one is there
            table = self._downloaded(part)
        if part.offset + part.rows < table.num_rows:
            self._kept = part.batch, table
        return table.slice(part.offset, part.rows)

    def _downloaded(self, part: BatchPart) -> pa.Table:
        """A whole result batch, with fresh URLs if need be."""
        if time.monotonic() - self._opened_at > _URLS_ARE_FRESH_SECONDS:
            self._reopen()
        tries = Retrying(
            # Each cloud answers an expired URL in its own way (403, 400), and a body that was cut off looks
            # like a short one, so every failure gets more tries, on fresh URLs.
            retry=retry_if_exception_type((Error, OSError, _WrongCountError)),
            wait=_pause_seconds,
            stop=stop_after_attempt(_TRIES),
            before_sleep=lambda _: self._before_next_try(),
            reraise=True,
        )
        try:
            with translated(query_id=self.query_id):
                return tries(self._fetched, part)
        except _WrongCountError as error:
            raise TransientError(f"result batch {part.batch} of query {self.query_id} {error}; try again") from error

    def _fetched(self, part: BatchPart) -> pa.Table:
        batch = self._batches[part.batch]
        if connector.is_json(batch):
            raise StatementError(
                f"Snowflake sent the result of query {self.query_id} as JSON, though Arrow was asked for: its types "
                "are others; see that no policy of the account sets PYTHON_CONNECTOR_QUERY_RESULT_FORMAT, and try again"
            )
        table = connector.to_arrow(batch, self._connection)
        if table.num_rows != batch.rowcount:
            raise _WrongCountError(f"delivers {table.num_rows} rows where {batch.rowcount} were announced")
        return table

    def _before_next_try(self) -> None:
        if self._check is not None:
            self._check()
        self._reopen()

    def _reopen(self) -> None:
        batches = _opened(self._connection, self.query_id)
        if _row_counts(batches) != self.row_counts:
            raise SourceChangedError(
                f"the result of query {self.query_id} is now cut into other batches; plan the table again"
            )
        self._batches, self._opened_at = batches, time.monotonic()


class OpenedResults:
    """Results that this process has opened, so that no other thread and no later chunk parses their lists again.

    A result of 20,000 batches takes seconds and 90 MB to open. Kept are the last few, and no more batches than
    ``most_batches`` unless a single result has them. A result that Snowflake has dropped since is noticed by its
    downloads, which then fail.
    """

    def __init__(self, *, most_results: int = 4, most_batches: int = 50_000) -> None:
        self._most_results, self._most_batches = most_results, most_batches
        self._lock = threading.Lock()
        self._opening: dict[tuple[str, str], threading.Lock] = {}
        self._opened: OrderedDict[tuple[str, str], tuple[list[Any], float]] = OrderedDict()

    def get(self, connection: SnowflakeConnection, query_id: str) -> tuple[list[Any], float]:
        """Return the batches of a result and when they were opened; of threads that ask at once, one opens it."""
        key = f"{connection.account}/{connection.user}", query_id
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:
            with self._lock:
                kept = self._opened.get(key)
                if kept is not None and time.monotonic() - kept[1] < _URLS_ARE_FRESH_SECONDS / 2:
                    self._opened.move_to_end(key)
                    return kept
            fresh = _opened(connection, query_id), time.monotonic()
            with self._lock:
                self._opened[key] = fresh
                self._opened.move_to_end(key)
                self._drop_oldest()
            return fresh

    def __len__(self) -> int:
        return len(self._opened)

    def _drop_oldest(self) -> None:
        while len(self._opened) > 1 and (
            len(self._opened) > self._most_results
            or sum(len(batches) for batches, _ in self._opened.values()) > self._most_batches
        ):
            key, _ = self._opened.popitem(last=False)
            self._opening.pop(key, None)


_growing_pause_seconds = wait_random_exponential(multiplier=0.5, max=4)


def _pause_seconds(state: RetryCallState) -> float:
    """None before the second try: most likely the first one had URLs that have expired."""
    return 0.0 if state.attempt_number == 1 else _growing_pause_seconds(state)


def scan_state(connection: SnowflakeConnection, query_id: str) -> ScanState:
    """How a statement stands that this user submitted in any session.

    Its failure is a state and not an error; an error says that Snowflake could not be asked.
    """
    try:
        is_at_work, began_at = _progress(connection, query_id)
        if is_at_work:
            return ScanRunning()
        return ScanDone(_row_counts(_result_batches(connection, query_id)), began_at)
    except _StillRunning:
        return ScanRunning()
    except (Error, OSError) as error:
        verdict = translate(error, query_id=query_id)
        if is_about_connection(error):
            raise verdict from error
        return ScanGone(verdict.message) if is_result_gone(error) else ScanFailed(verdict.message, type(verdict))
    except ResultGoneError as error:
        return ScanGone(error.message)


class _StillRunning(Exception):  # noqa: N818 - a state, not a failure
    """The result was asked for while the statement was at work."""


class _WrongCountError(Exception):
    """A result batch does not hold the rows it announces."""


def _row_counts(batches: Sequence[Any]) -> tuple[int, ...]:
    return tuple(batch.rowcount for batch in batches)


def _opened(connection: SnowflakeConnection, query_id: str) -> list[Any]:
    try:
        with translated(query_id=query_id):
            return _result_batches(connection, query_id)
    except _StillRunning as error:
        raise TransientError(f"query {query_id} is still running; ask for its result again later") from error


def _result_batches(connection: SnowflakeConnection, query_id: str) -> list[Any]:
    try:
        return list(connection.cursor().query_result(query_id).get_result_batches() or ())
    except KeyError as error:  # connector 4 looks for rows in every success, also in "in progress"
        raise _StillRunning from error
    except TypeError as error:  # connector 4 looks for data in every answer, also in an error without any
        connection.cursor().execute("select 1")  # raises if it is the session that is gone
        raise ResultGoneError(f"Snowflake does not know query {query_id}; scan the table again") from error
    except Error as error:
        if is_in_progress(error):
            raise _StillRunning from error
        raise


def _progress(connection: SnowflakeConnection, query_id: str) -> tuple[bool, datetime | None]:
    """Return whether Snowflake calls the statement queued or running, and when it began; False leaves it to the result.

    NO_DATA, which the connector counts as running, is said of an unknown statement as of one just submitted.
    """
    read = getattr(connection, "_get_query_status", None)  # what is public keeps the times to itself
    try:
        status, answer = read(query_id) if read else (connection.get_query_status(query_id), None)
    except (KeyError, TypeError):  # an answer without data, or a status newer than the connector
        return False, None
    is_at_work = status.name != "NO_DATA" and connection.is_still_running(status)
    return is_at_work, _began_at(answer)


def _began_at(answer: Any) -> datetime | None:
    """Return the moment in an answer of Snowflake's monitoring, which counts milliseconds."""
    try:
        milliseconds = int(answer["data"]["queries"][0]["startTime"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds > 0 else None
