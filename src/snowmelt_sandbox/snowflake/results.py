"""Finished results on disk: immutable, cut into batches that grow, open to anyone who knows the query id."""

import hmac
import json
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from snowmelt_sandbox.snowflake.declared_types import Column, DeclaredType
from snowmelt_sandbox.snowflake.wire import encode

MEGABYTE = 1_000_000
DEFAULT_CHUNK_MEGABYTES = 160
SMALLEST_CHUNK_MEGABYTES, LARGEST_CHUNK_MEGABYTES = 16, 160


@dataclass(frozen=True)
class BatchGrowth:
    """How a result is cut: the first rows travel with the answer, each batch that follows is twice the one before.

    A batch stops growing at ``cap_bytes`` of uncompressed rows.
    """

    inline_rows: int = 500
    first_rows: int = 1000
    cap_bytes: int = DEFAULT_CHUNK_MEGABYTES * MEGABYTE

    def rows_of(self, index: int, row_bytes: float) -> int:
        """Rows of the batch at that position when a row takes about ``row_bytes``."""
        wanted = self.inline_rows if index == 0 else self.first_rows * 2 ** min(index - 1, 40)
        return max(1, min(wanted, int(self.cap_bytes / max(1.0, row_bytes))))


def capped_at(chunk_megabytes: int, growth: BatchGrowth) -> BatchGrowth:
    """The growth with the cap that the session asked for by CLIENT_RESULT_CHUNK_SIZE."""
    megabytes = min(max(chunk_megabytes, SMALLEST_CHUNK_MEGABYTES), LARGEST_CHUNK_MEGABYTES)
    return BatchGrowth(growth.inline_rows, growth.first_rows, megabytes * MEGABYTE)


@dataclass(frozen=True)
class StoredBatch:
    """One batch of a stored result."""

    rows: int
    size_bytes: int


@dataclass(frozen=True)
class StoredResult:
    """What is known of a result without reading its rows."""

    query_id: str
    user: str
    columns: tuple[Column, ...]
    batches: tuple[StoredBatch, ...]
    json_rows: list[list[str | None]] | None = None
    """Rows of an answer that is no query's result, and travels as JSON."""
    statement_type: int = 0

    @property
    def rows(self) -> int:
        """Rows of all batches."""
        return sum(b.rows for b in self.batches) if self.json_rows is None else len(self.json_rows)


class ResultStore:
    """Keeps results in a folder per query id, each batch a file in the form it is sent in.

    Memory holds one batch of each query that is being written, and nothing of a finished one.
    """

    def __init__(self, directory: Path, *, keep: int) -> None:
        self._directory = directory
        self._keep = keep
        self._lock = threading.Lock()
        self._expired: set[str] = set()
        self._url_secret = secrets.token_bytes(16)
        self._issued = 0
        self._valid_from: dict[str, int] = {}
        self._all_valid_from = 0
        directory.mkdir(parents=True, exist_ok=True)

    def write_rows(
        self,
        query_id: str,
        *,
        user: str,
        columns: Sequence[Column],
        reader: Iterable[pa.RecordBatch],
        growth: BatchGrowth,
        statement_type: int,
    ) -> StoredResult:
        """Store what the reader yields. Nothing is visible before the last row is on disk."""
        folder = self._new_folder(query_id)
        batches: list[StoredBatch] = []
        try:
            for rows in cut(reader, growth):
                data = encode(rows, columns)
                (folder / f"{len(batches)}.arrow").write_bytes(data)
                batches.append(StoredBatch(rows.num_rows, len(data)))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        result = StoredResult(query_id, user, tuple(columns), tuple(batches), None, statement_type)
        return self._publish(folder, result)

    def write_answer(
        self,
        query_id: str,
        *,
        user: str,
        columns: Sequence[Column],
        rows: list[list[str | None]],
        statement_type: int,
    ) -> StoredResult:
        """Store the answer of a statement that is no query."""
        folder = self._new_folder(query_id)
        return self._publish(folder, StoredResult(query_id, user, tuple(columns), (), rows, statement_type))

    def copy(self, result: StoredResult, query_id: str) -> StoredResult:
        """The same rows under a new query id, as ``RESULT_SCAN`` gives them."""
        folder = self._new_folder(query_id)
        for index in range(len(result.batches)):
            source = self._directory / result.query_id / f"{index}.arrow"
            (folder / source.name).hardlink_to(source)
        copied = StoredResult(
            query_id, result.user, result.columns, result.batches, result.json_rows, result.statement_type
        )
        return self._publish(folder, copied)

    def remove(self, query_id: str) -> None:
        """Make room for another result of that query."""
        shutil.rmtree(self._directory / query_id, ignore_errors=True)

    def read(self, result: StoredResult) -> Iterator[pa.Table]:
        """Yield the result's batches, in the form they are sent in."""
        for index in range(len(result.batches)):
            with pa.ipc.open_stream((self._directory / result.query_id / f"{index}.arrow").read_bytes()) as stream:
                yield stream.read_all()

    def find(self, query_id: str) -> StoredResult | None:
        """The result of that query, or None when it never finished or is no longer kept."""
        try:
            stored = json.loads((self._directory / query_id / "result.json").read_text())
        except (OSError, ValueError):
            return None
        columns = tuple(Column(c["name"], DeclaredType(**c["type"]), c["nullable"]) for c in stored["columns"])
        batches = tuple(StoredBatch(**b) for b in stored["batches"])
        return StoredResult(query_id, stored["user"], columns, batches, stored["json_rows"], stored["statement_type"])

    def batch_file(self, query_id: str, index: int) -> Path | None:
        """The file of a batch, or None when there is none."""
        path = self._directory / query_id / f"{index}.arrow"
        return path if path.exists() else None

    def has_expired(self, query_id: str) -> bool:
        """Whether the result was there once and is gone."""
        return query_id in self._expired

    def expire(self, query_id: str | None) -> int:
        """Forget one result or all of them, as Snowflake does after 24 hours; returns how many."""
        names = [query_id] if query_id else [p.name for p in self._directory.iterdir() if p.is_dir()]
        count = 0
        for name in names:
            if (self._directory / name / "result.json").exists():
                self._drop(name)
                count += 1
        return count

    def expire_urls(self, query_id: str | None) -> None:
        """Refuse every URL handed out so far, as Snowflake does after six hours; new ones can be asked for."""
        with self._lock:
            if query_id is None:
                self._all_valid_from = self._issued
            else:
                self._valid_from[query_id] = self._issued

    def url_paths(self, result: StoredResult) -> list[str]:
        """Fresh paths of the batches after the first, which travels with the answer."""
        with self._lock:
            self._issued += 1
            issue = self._issued
        return [
            f"/local/batches/{result.query_id}/{i}?issue={issue}&signature={self._sign(result.query_id, i, issue)}"
            for i in range(1, len(result.batches))
        ]

    def opens(self, query_id: str, index: int, issue: int, signature: str) -> bool:
        """Whether a URL with these parts is one of ours and still valid."""
        if not hmac.compare_digest(self._sign(query_id, index, issue), signature):
            return False
        return issue > max(self._all_valid_from, self._valid_from.get(query_id, 0))

    def _sign(self, query_id: str, index: int, issue: int) -> str:
        return hmac.new(self._url_secret, f"{query_id}/{index}/{issue}".encode(), "sha256").hexdigest()

    def _new_folder(self, query_id: str) -> Path:
        folder = self._directory / query_id
        folder.mkdir(parents=True)
        return folder

    def _publish(self, folder: Path, result: StoredResult) -> StoredResult:
        unfinished = folder / "result.json.part"
        unfinished.write_text(json.dumps(asdict(result)))
        unfinished.rename(folder / "result.json")
        self._drop_oldest()
        return result

    def _drop_oldest(self) -> None:
        with self._lock:  # of two statements that end at once, each would drop what the other still looks at
            finished = sorted((age, path) for path in self._directory.glob("*/result.json") if (age := _age(path)))
            for _, path in finished[: max(0, len(finished) - self._keep)]:
                self._drop(path.parent.name)

    def _drop(self, query_id: str) -> None:
        self._expired.add(query_id)
        shutil.rmtree(self._directory / query_id, ignore_errors=True)


def _age(path: Path) -> float:
    """When the file was written; zero for one that is gone, as results expire at any time."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def cut(reader: Iterable[pa.RecordBatch], growth: BatchGrowth) -> Iterator[pa.Table]:
    """The rows of the reader in order, in pieces that follow the growth.

    The width of a row is judged by the rows seen so far, so the same rows are always cut at the same places.
    """
    waiting: list[pa.RecordBatch] = []
    waiting_rows = index = seen_rows = seen_bytes = 0
    for batch in reader:
        if not batch.num_rows:
            continue
        seen_rows += batch.num_rows
        seen_bytes += batch.nbytes
        waiting.append(batch)
        waiting_rows += batch.num_rows
        while waiting_rows >= (size := growth.rows_of(index, seen_bytes / seen_rows)):
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, size)
            waiting = table.slice(size).to_batches()
            waiting_rows -= size
            index += 1
    if waiting_rows:
        yield pa.Table.from_batches(waiting)
