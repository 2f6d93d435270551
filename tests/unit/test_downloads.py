"""Result batches that fail, are cut off or change while they are downloaded, from a connector that answers as told."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
from snowflake.connector.errors import OperationalError

from snowmelt.errors import DataError, SnowmeltError, SourceChangedError, TransientError
from snowmelt.models import ScanSlice
from snowmelt.snowflake_source import scan
from snowmelt.snowflake_source.scan import ScanResult

WHOLE = ScanSlice(query_id="q", first_batch=0, offset=0, rows=3)
TRIES_OF_ONE_DOWNLOAD = 6


@dataclass
class Batch:
    """A result batch that announces so many rows, and delivers what it is told to."""

    rowcount: int
    deliver: Callable[[], int]
    place: int = 0

    def to_arrow(self, connection: Any, force_microsecond_precision: bool = False) -> pa.Table:
        return pa.table({"ID": [100 * self.place + row for row in range(self.deliver())]})


@dataclass
class Connector:
    """A connection, its cursor and its one result."""

    deliver: Callable[[], int]
    cuts: list[tuple[int, ...]] = field(default_factory=lambda: [(3,)])
    """How the result is cut each time it is opened; the last for ever."""
    opened: int = 0
    account: str = "acc"
    user: str = "USER"

    def cursor(self) -> "Connector":
        return self

    def query_result(self, query_id: str) -> "Connector":
        return self

    def get_result_batches(self) -> list[Batch]:
        cut = self.cuts[min(self.opened, len(self.cuts) - 1)]
        self.opened += 1
        return [Batch(rows, self.deliver, place) for place, rows in enumerate(cut)]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_growing_pause_seconds", lambda _: 0.0)


def rows_read(connector: Connector, *, check: Callable[[], None] | None = None) -> int:
    result = ScanResult(connector, "q", check)  # type: ignore[arg-type]
    return sum(batch.num_rows for batch in result.read(WHOLE))


class Failing:
    """Fails the first so many downloads, then delivers all three rows."""

    def __init__(self, times: float, error: Exception) -> None:
        self.times, self.error, self.asked = times, error, 0

    def __call__(self) -> int:
        self.asked += 1
        assert self.asked <= 100, "it is tried for ever"
        if self.asked <= self.times:
            raise self.error
        return 3


@pytest.mark.parametrize("error", [OperationalError("250003: cut off"), OSError("reset by peer")])
def test_a_download_that_fails_five_times_succeeds_at_the_sixth_on_fresh_urls(error: Exception) -> None:
    deliver = Failing(5, error)
    connector = Connector(deliver)
    assert rows_read(connector) == 3
    assert deliver.asked == TRIES_OF_ONE_DOWNLOAD
    assert connector.opened == TRIES_OF_ONE_DOWNLOAD


@pytest.mark.parametrize("error", [OperationalError("250003: cut off"), OSError("reset by peer")])
def test_a_download_that_fails_for_ever_ends_after_six_tries(error: Exception) -> None:
    deliver = Failing(float("inf"), error)
    with pytest.raises(SnowmeltError, match=str(error).removeprefix("250003: ")):
        rows_read(Connector(deliver))
    assert deliver.asked == TRIES_OF_ONE_DOWNLOAD


@pytest.mark.parametrize("delivered", [0, 2, 4])
def test_a_batch_that_does_not_hold_the_rows_it_announces_is_never_accepted(delivered: int) -> None:
    asked: list[int] = []

    def deliver() -> int:
        asked.append(delivered)
        assert len(asked) <= 100, "it is tried for ever"
        return delivered

    with pytest.raises(TransientError, match=f"batch 0 of query q delivers {delivered} rows where 3 were announced"):
        rows_read(Connector(deliver))
    assert len(asked) == TRIES_OF_ONE_DOWNLOAD


def test_a_batch_that_was_cut_off_once_is_downloaded_again() -> None:
    deliveries = iter([2, 3])
    assert rows_read(Connector(lambda: next(deliveries))) == 3


def test_a_result_that_is_cut_otherwise_when_it_is_opened_again_is_refused() -> None:
    connector = Connector(Failing(1, OSError("reset by peer")), cuts=[(3,), (2, 1)])
    with pytest.raises(SourceChangedError, match="cut into other batches"):
        rows_read(connector)


def test_before_each_further_try_the_deadline_is_asked() -> None:
    deliver = Failing(float("inf"), OSError("reset by peer"))

    def check() -> None:
        if deliver.asked == 3:
            raise SnowmeltError("time is over")

    with pytest.raises(SnowmeltError, match="time is over"):
        rows_read(Connector(deliver), check=check)
    assert deliver.asked == 3


def test_urls_that_are_five_hours_old_are_renewed_before_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    connector = Connector(lambda: 3)
    result = ScanResult(connector, "q")  # type: ignore[arg-type]
    now = time.monotonic()
    monkeypatch.setattr("snowmelt.snowflake_source.scan.time.monotonic", lambda: now + 5 * 3600 + 1)
    assert sum(batch.num_rows for batch in result.read(WHOLE)) == 3
    assert connector.opened == 2


def test_a_slice_of_another_query_is_refused() -> None:
    result = ScanResult(Connector(lambda: 3), "q")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="belongs to query other"):
        list(result.read(ScanSlice(query_id="other", first_batch=0, offset=0, rows=3)))


def test_neighbouring_slices_of_one_batch_download_it_once() -> None:
    asked: list[None] = []

    def deliver() -> int:
        asked.append(None)
        return 3

    result = ScanResult(Connector(deliver), "q")  # type: ignore[arg-type]
    rows = [
        row
        for offset, count in ((0, 1), (1, 2))
        for batch in result.read(ScanSlice(query_id="q", first_batch=0, offset=offset, rows=count))
        for row in batch.column(0).to_pylist()
    ]
    assert rows == [0, 1, 2]
    assert len(asked) == 1


def test_a_slice_of_the_next_batch_is_not_read_from_the_one_that_is_kept() -> None:
    result = ScanResult(Connector(lambda: 3, cuts=[(3, 3)]), "q")  # type: ignore[arg-type]
    rows = [
        row
        for first_batch in (0, 1)
        for batch in result.read(ScanSlice(query_id="q", first_batch=first_batch, offset=0, rows=2))
        for row in batch.column(0).to_pylist()
    ]
    assert rows == [0, 1, 100, 101]


def test_of_threads_that_ask_for_a_result_at_once_one_opens_it_and_none_does_later() -> None:
    connector, opened = Connector(lambda: 3), scan.OpenedResults()
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: ScanResult(connector, "q", opened=opened), range(40)))  # type: ignore[arg-type]
    assert [sum(batch.num_rows for batch in result.read(WHOLE)) for result in results] == [3] * 40
    assert connector.opened == 1


def test_an_opened_result_of_another_user_is_not_theirs() -> None:
    opened, mine, theirs = scan.OpenedResults(), Connector(lambda: 3), Connector(lambda: 3, user="OTHER")
    for connector in (mine, theirs, mine, theirs):
        opened.get(connector, "q")  # type: ignore[arg-type]
    assert (mine.opened, theirs.opened) == (1, 1)


def test_few_results_are_kept_open_and_fewer_of_many_batches() -> None:
    connector = Connector(lambda: 3, cuts=[(1,) * 10])
    few, small = scan.OpenedResults(most_results=3), scan.OpenedResults(most_batches=25)
    for query in range(6):
        few.get(connector, str(query))  # type: ignore[arg-type]
        small.get(connector, str(query))  # type: ignore[arg-type]
    assert (len(few), len(small)) == (3, 2)
    before = connector.opened
    few.get(connector, "5")  # type: ignore[arg-type]
    assert connector.opened == before
    few.get(connector, "0")  # type: ignore[arg-type]
    assert connector.opened == before + 1
