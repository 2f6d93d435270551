"""The stand-in's results: so many are kept, whoever writes, reads and expires them at once."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from snowmelt_sandbox.snowflake.results import ResultStore

KEPT, WRITTEN = 5, 400


def write(store: ResultStore, query_id: str) -> None:
    store.write_answer(query_id, user="U", columns=(), rows=[["done"]], statement_type=0)


def test_statements_that_end_at_once_drop_the_oldest_results_and_none_fails(tmp_path: Path) -> None:
    store = ResultStore(tmp_path, keep=KEPT)
    names = [f"q{number}" for number in range(WRITTEN)]
    with ThreadPoolExecutor(16) as threads:
        written: list[Future[Any]] = [threads.submit(write, store, name) for name in names]
        expired: list[Future[Any]] = [threads.submit(store.expire, name) for name in names[::7]]
    assert [each.exception() for each in written + expired if each.exception()] == []
    kept = [name for name in names if store.find(name) is not None]
    assert 0 < len(kept) <= KEPT
    assert [name for name in names if store.has_expired(name) == (name in kept)] == []


def test_the_oldest_result_goes_first(tmp_path: Path) -> None:
    store = ResultStore(tmp_path, keep=2)
    for name in ("first", "second", "third"):
        write(store, name)
    assert [name for name in ("first", "second", "third") if store.find(name)] == ["second", "third"]
