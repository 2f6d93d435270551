"""Stream Arrow record batches into a table by binary COPY.

A background thread fetches and encodes a few slices ahead, the calling thread sends them; so Snowflake, the
encoder and PostgreSQL work at the same time, and no more than one batch and those slices are in memory.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedIOBase
from itertools import chain

import psycopg2
import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from snowmelt.columns.batch_conversion import Changes, Preparation, sent_schema
from snowmelt.errors import RowsDroppedError
from snowmelt.models import ColumnPlan, TableName

SLICE_ROWS = 8192
SLICE_BYTES = 4 << 20
"""A slice is what is encoded and handed over at once: so many rows, or fewer where rows are wide."""

SLICES_AHEAD = 2
"""Enough for PostgreSQL to be busy while the next result batch is fetched; each more costs a worker some 3 MB."""

SEND_BYTES = 32 << 10
WAIT_SECONDS = 1.0
"""How often ``check`` is asked while a slice is slow to come."""


@dataclass(frozen=True)
class CopyResult:
    """What PostgreSQL took: rows, bytes of its binary format; and how many values were changed before."""

    rows: int
    size_bytes: int
    changes: Changes = field(default_factory=Changes)


def copy_batches(
    cursor: Cursor,
    target: TableName,
    columns: Sequence[ColumnPlan],
    batches: Iterable[pa.RecordBatch],
    *,
    check: Callable[[], None] | None = None,
) -> CopyResult:
    """Append every row of the batches to the target, within the cursor's transaction.

    The batches' columns are in the order of ``columns``, and are made ready on the way. ``batches`` is iterated in a
    thread of this call, which has ended when the call returns or raises. ``check`` is called between slices and while
    waiting for one; what it raises aborts the COPY and is raised here, as is an error of ``batches``. PostgreSQL's own
    errors are raised as psycopg2 has them. After any error the transaction can only be rolled back. Without rows
    nothing is sent.
    """
    preparation = Preparation(columns)
    sent = _sent(cursor, target, columns, _encoded(columns, _prepared(preparation, batches)), check or _never)
    return replace(sent, changes=preparation.changes)


def copy_prepared(
    cursor: Cursor, target: TableName, columns: Sequence[ColumnPlan], batch: pa.RecordBatch
) -> CopyResult:
    """The same for one batch that is ready to be encoded."""
    return _sent(cursor, target, columns, _encoded(columns, _sliced(batch)), _never)


def _sent(
    cursor: Cursor,
    target: TableName,
    columns: Sequence[ColumnPlan],
    encoded: "Generator[_Slice]",
    check: Callable[[], None],
) -> CopyResult:
    with closing(encoded), _made_ahead(encoded, check) as slices:
        first = next(slices, None)  # a chunk without rows has no header that COPY could read
        if first is None:
            return CopyResult(rows=0, size_bytes=0)
        stream = _Stream(chain((first,), slices))
        try:
            cursor.copy_expert(_statement(target, columns), stream, size=SEND_BYTES)
        except psycopg2.Error:
            if stream.error is None:
                raise
            raise stream.error from None  # psycopg2 itself only says QueryCanceled
    if cursor.rowcount != stream.rows:
        raise RowsDroppedError(
            f"{target}: PostgreSQL kept {cursor.rowcount} of {stream.rows} rows that were sent; look for a "
            "trigger on the table that drops rows."
        )
    return CopyResult(rows=stream.rows, size_bytes=stream.size_bytes)


def _never() -> None:
    """Check nothing."""


def _statement(target: TableName, columns: Sequence[ColumnPlan]) -> sql.Composed:
    return sql.SQL("COPY {}.{} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(target.schema_name),
        sql.Identifier(target.name),
        sql.SQL(", ").join(sql.Identifier(column.target.name) for column in columns),
    )


# --- handing over -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Slice:
    """The next bytes of COPY's binary format, possibly none yet, and how many rows went into the encoder."""

    data: bytes
    rows: int


@contextmanager
def _made_ahead(slices: Iterator[_Slice], check: Callable[[], None]) -> Iterator[Iterator[_Slice]]:
    """The same slices, made in a thread up to ``SLICES_AHEAD`` before they are asked for.

    Leaving the block ends the thread, after the slice that it is making.
    """
    maker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="copy-encoder")
    try:
        yield _taken(maker, slices, check)
    finally:
        maker.shutdown(wait=True, cancel_futures=True)


def _taken(maker: ThreadPoolExecutor, slices: Iterator[_Slice], check: Callable[[], None]) -> Iterator[_Slice]:
    ahead = deque(maker.submit(next, slices, None) for _ in range(SLICES_AHEAD))
    while (made := _result(ahead.popleft(), check)) is not None:
        ahead.append(maker.submit(next, slices, None))
        yield made


def _result(made: Future[_Slice | None], check: Callable[[], None]) -> _Slice | None:
    check()
    while not wait((made,), timeout=WAIT_SECONDS).done:
        check()
    return made.result()


class _Stream(BufferedIOBase):
    """What psycopg2 reads: the slices in pieces. Counts what was read, and keeps the error that ended it."""

    def __init__(self, slices: Iterator[_Slice]) -> None:
        self.rows = 0
        self.size_bytes = 0
        self.error: BaseException | None = None
        self._slices = slices
        self._unread = memoryview(b"")

    def read(self, size: int | None = SEND_BYTES, /) -> bytes:
        """Up to ``size`` bytes; none only at the very end, which COPY would take for the end of the rows."""
        while not self._unread and (made := self._next()) is not None:
            self.rows += made.rows
            self.size_bytes += len(made.data)
            self._unread = memoryview(made.data)  # empty while the encoder keeps small slices back
        piece, self._unread = self._unread[:size], self._unread[size:]
        return bytes(piece)

    def _next(self) -> _Slice | None:
        try:
            return next(self._slices, None)
        except BaseException as error:
            self.error = error
            raise


# --- encoding -----------------------------------------------------------------------------------------------


def _encoded(columns: Sequence[ColumnPlan], batches: Iterable[pa.RecordBatch]) -> Generator[_Slice]:
    """The batches in COPY's binary format; nothing at all, not even a header, if there are no rows."""
    encoder = _encoder(sent_schema(columns), columns)
    has_begun = False
    for batch in batches:
        header = b"" if has_begun else encoder.write_header()
        yield _Slice(header + encoder.write_batch(batch), rows=batch.num_rows)
        has_begun = True
        del batch  # or it would stay in memory while the next one is fetched
    if has_begun:
        yield _Slice(encoder.finish(), rows=0)


def _prepared(preparation: Preparation, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches in slices, ready to be encoded."""
    first_row = 1
    for batch in batches:
        for part in _sliced(batch):
            yield preparation.prepare(part, first_row=first_row)
            first_row += part.num_rows
            del part
        del batch


def _sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = max(1, min(SLICE_ROWS, batch.num_rows * SLICE_BYTES // max(batch.nbytes, 1)))
    for offset in range(0, batch.num_rows, rows):
        yield batch.slice(offset, rows)


def _encoder(schema: pa.Schema, columns: Sequence[ColumnPlan]) -> ArrowToPostgresBinaryEncoder:
    builders = {
        field.name: (
            StringEncoderBuilder.new_with_output(field, Jsonb())  # jsonb wants a version before the text
            if column.target.type == "jsonb"
            else ArrowToPostgresBinaryEncoder.infer_encoder(field)
        )
        for field, column in zip(schema, columns, strict=True)
    }
    return ArrowToPostgresBinaryEncoder.new_with_encoders(schema, builders)
