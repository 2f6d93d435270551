"""How slices are handed from the encoder to the sender, and how either side ends the other."""

import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import psycopg2
import pyarrow as pa
import pytest
from psycopg2.extensions import QueryCanceledError
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from snowmelt.columns.batch_conversion import sent_schema
from snowmelt.columns.type_pairs import Match, match
from snowmelt.errors import DataError, TransientError
from snowmelt.loading import copy
from snowmelt.loading.copy import CopyResult, copy_batches
from snowmelt.models import ColumnPlan, Policies, SourceColumn, TableName, TargetColumn

TARGET = TableName(schema_name="public", name="t")


class Reading:
    """A cursor that reads its input as psycopg2 does, and reports a reader's error as psycopg2 does."""

    def __init__(self, *, fails_after_reads: int | None = None, drops_rows: int = 0) -> None:
        self.received = bytearray()
        self.statements = 0
        self.rowcount = -1
        self._fails_after_reads = fails_after_reads
        self._drops_rows = drops_rows

    def copy_expert(self, statement: object, file: Any, size: int) -> None:
        self.statements += 1
        reads = 0
        while True:
            if reads == self._fails_after_reads:
                raise psycopg2.OperationalError("server closed the connection unexpectedly")
            try:
                piece = file.read(size)
            except BaseException as error:
                raise QueryCanceledError(f"error in .read() call: {error}") from None
            reads += 1
            assert isinstance(piece, bytes)
            if not piece:
                break
            self.received += piece
        self.rowcount = file.rows - self._drops_rows


def copied(cursor: Reading, columns: tuple[ColumnPlan, ...], batches: Any, **options: Any) -> CopyResult:
    return copy_batches(cast("Cursor", cursor), TARGET, columns, batches, **options)


def planned(source_type: str, target_type: str, typmod: int = -1) -> ColumnPlan:
    found = match(
        SourceColumn(name="THE COLUMN", type=source_type, scale=0),
        TargetColumn(name="the column", type=target_type, typmod=typmod),
    )
    assert isinstance(found, Match)
    return found.plan


NUMBERS = (planned("FIXED", "int8"),)


def numbers(rows: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(range(rows), pa.int64())], schema=sent_schema(NUMBERS))


def texts(*values: str | None, column: ColumnPlan) -> tuple[tuple[ColumnPlan, ...], list[pa.RecordBatch]]:
    return (column,), [pa.record_batch([pa.array(values, pa.string())], schema=sent_schema((column,)))]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


# --- the format ---------------------------------------------------------------------------------------------


def test_a_stream_has_one_header_every_row_and_one_end() -> None:
    cursor = Reading()

    result = copied(cursor, NUMBERS, [numbers(3), numbers(0), numbers(20_000)])

    header, per_row, trailer = 19, 2 + 4 + 8, 2
    assert cursor.received.startswith(b"PGCOPY\n\xff\r\n\0")
    assert cursor.received.endswith(b"\xff\xff")
    assert len(cursor.received) == header + 20_003 * per_row + trailer
    assert result == CopyResult(rows=20_003, size_bytes=len(cursor.received))


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_without_rows_nothing_is_sent(batches: int) -> None:
    cursor = Reading()

    assert copied(cursor, NUMBERS, [numbers(0)] * batches) == CopyResult(rows=0, size_bytes=0)
    assert cursor.statements == 0


def test_a_row_that_cannot_be_stored_is_named_by_its_place_in_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "SLICE_ROWS", 2)
    columns, batches = texts("a", "b", "c", "d", "too long", column=planned("TEXT", "varchar", 3 + 4))

    with pytest.raises(DataError, match="row 10 of the chunk"):
        copied(Reading(), columns, [*texts("1", "2", "3", "4", "5", column=columns[0])[1], *batches])


def test_values_that_a_policy_changes_are_counted_over_all_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "SLICE_ROWS", 2)
    column = planned("TEXT", "varchar", 3 + 4).model_copy(update={"policies": Policies(too_long="truncate")})
    columns, batches = texts("long 1", "b", "long 2", None, "long 3", column=column)

    result = copied(Reading(), columns, batches)

    assert result.rows == 5
    assert result.changes == {("the column", "too_long"): 3}


def test_wide_rows_travel_in_small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "SLICE_BYTES", 1000)
    slices = 0

    def count() -> None:
        nonlocal slices
        slices += 1

    columns, batches = texts(*["x" * 1000] * 10, column=planned("TEXT", "text"))
    assert copied(Reading(), columns, batches, check=count).rows == 10
    assert slices >= 10


def test_a_batch_is_let_go_before_the_next_is_fetched() -> None:
    held_before_fetch = []

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(4):
            held_before_fetch.append(pa.total_allocated_bytes() - before)
            yield pa.record_batch([pa.array([0] * 1_000_000, pa.int64())], schema=sent_schema(NUMBERS))

    before = pa.total_allocated_bytes()
    copied(Reading(), NUMBERS, batches())

    assert max(held_before_fetch) < 1_000_000


# --- ends ---------------------------------------------------------------------------------------------------


def broken_after(batches: int, error: BaseException) -> Iterator[pa.RecordBatch]:
    for _ in range(batches):
        yield numbers(10)
    raise error


@pytest.mark.parametrize("batches", [0, 1, 20])
@pytest.mark.parametrize("error", [TransientError("403"), TimeoutError("slow"), KeyboardInterrupt()])
def test_an_error_of_the_source_is_raised_itself(batches: int, error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        copied(Reading(), NUMBERS, broken_after(batches, error))

    assert raised.value is error


@pytest.mark.parametrize("slices", [0, 1, 7])
def test_a_check_that_raises_ends_the_copy(slices: int) -> None:
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks > slices:
            raise TransientError("out of time")

    def endless() -> Iterator[pa.RecordBatch]:
        while True:
            yield numbers(10)

    with pytest.raises(TransientError, match="out of time"):
        copied(Reading(), NUMBERS, endless(), check=check)


def test_a_source_that_is_slow_does_not_keep_the_check_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "WAIT_SECONDS", 0.01)
    asked_to_stop = threading.Event()

    def slow() -> Iterator[pa.RecordBatch]:
        yield numbers(10)
        assert asked_to_stop.wait(120)
        yield numbers(10)

    started = time.monotonic()

    def check() -> None:
        if time.monotonic() > started + 0.05:
            asked_to_stop.set()
            raise TransientError("out of time")

    with pytest.raises(TransientError, match="out of time"):
        copied(Reading(), NUMBERS, slow(), check=check)


@pytest.mark.parametrize("reads", [0, 1, 5])
def test_an_error_of_the_server_is_raised_as_it_is(reads: int) -> None:
    with pytest.raises(psycopg2.OperationalError, match="server closed the connection"):
        copied(Reading(fails_after_reads=reads), NUMBERS, (numbers(5000) for _ in range(1000)))


def test_rows_that_the_server_drops_are_an_error() -> None:
    with pytest.raises(DataError, match=r"public\.t: PostgreSQL kept 9 of 10 rows .* trigger"):
        copied(Reading(drops_rows=1), NUMBERS, [numbers(10)])
