"""Queries from their first request to their last: run in threads, logged, cancelled, re-opened."""

import asyncio
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from fakesnow.converter import from_binding

from snowmelt.sql_text.lexer import tokens
from snowmelt.sql_text.literals import constant
from snowmelt_sandbox.snowflake.broken import MOST_ROWS
from snowmelt_sandbox.snowflake.catalog import TableRef
from snowmelt_sandbox.snowflake.declared_types import Column
from snowmelt_sandbox.snowflake.engine import Engine
from snowmelt_sandbox.snowflake.errors import SqlError, canceled, of_engine, timed_out
from snowmelt_sandbox.snowflake.policies import Policies
from snowmelt_sandbox.snowflake.query_history import Entry
from snowmelt_sandbox.snowflake.results import BatchGrowth, ResultStore, StoredResult, capped_at
from snowmelt_sandbox.snowflake.sessions import Session
from snowmelt_sandbox.snowflake.statements import Answer, Statement, Surroundings
from snowmelt_sandbox.snowflake.wire import as_json_rows

_LOG_LENGTH = 20_000
_MISSING = frozenset({2_003, 2_043})
"""Numbers of the errors about what is not there, or hidden."""
_TIME_LIMIT = re.compile(r"\bgenerator\s*\(\s*timelimit\s*=>\s*(\d+)")


@dataclass
class Query:
    """A statement that was sent, and what has become of it."""

    query_id: str
    text: str
    query_tag: str
    user: str
    session_token: str
    describe_only: bool
    asynchronous: bool
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    reads_since: datetime | None = None
    """When it began to read: it sees what was committed by then."""
    changed_at: datetime | None = None
    """When its changes count as made, of a statement that changes rows."""
    rows: int | None = None
    batches: int | None = None
    size_bytes: int = 0
    warehouse: str = ""
    error: SqlError | None = None
    reopened: int = 0
    downloads: Counter[int] = field(default_factory=Counter)
    database: str | None = None
    schema: str | None = None
    described: tuple[tuple[Column, ...], int] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    timed_out_after: float | None = None
    connection: Any = None

    @property
    def state(self) -> str:
        """The status in the words of Snowflake's monitoring."""
        if self.ended is None:
            return "RUNNING"
        if self.error is None:
            return "SUCCESS"
        return "ABORTED" if self.error.errno == 604 else "FAILED_WITH_ERROR"

    def cancel(self) -> None:
        """Stop the statement, whether it waits or runs."""
        self.cancelled.set()
        if self.connection is not None and self.ended is None:
            self.connection._duck_conn.interrupt()

    def as_dict(self) -> dict[str, Any]:
        """The query's line of the log."""
        return {
            "query_id": self.query_id,
            "text": self.text,
            "query_tag": self.query_tag,
            "user": self.user,
            "state": self.state,
            "reads": self.reads_since is not None,
            "started": self.started.isoformat(),
            "seconds": ((self.ended or datetime.now(UTC)) - self.started).total_seconds(),
            "rows": self.rows,
            "batches": self.batches,
            "asynchronous": self.asynchronous,
            "describe_only": self.describe_only,
            "reopened": self.reopened,
            "downloads": {str(i): n for i, n in sorted(self.downloads.copy().items())},
            "error": self.error and {"code": self.error.code, "message": self.error.message},
        }


@dataclass
class Delays:
    """How slow the stand-in pretends to be, in seconds."""

    query_seconds: float = 0.0
    """Between the start of each query that reads a table, whose rows it sees, and its end."""
    batch_seconds: float = 0.0
    """Before each download of a batch."""
    containing: str = ""
    """Only for statements with this text in them."""

    def of(self, text: str) -> float:
        """Seconds a statement takes at least."""
        folded = text.lower()
        reads = " from " in folded.replace("\n", " ") and folded.lstrip().startswith(("select", "with"))
        generates = max((float(limit) for limit in _TIME_LIMIT.findall(folded)), default=0.0)
        return max(generates, self.query_seconds if reads and self.containing.lower() in folded else 0.0)


class Queries:
    """All queries of the account."""

    def __init__(self, engine: Engine, store: ResultStore, *, account: str, growth: BatchGrowth) -> None:
        self.delays = Delays()
        self.keep_copies = True
        self.window: timedelta | None = None
        self._warehouses: dict[str, str] = {}
        self.broken: frozenset[str] = frozenset()
        """Assumptions that do not hold for now."""
        self._policies: dict[str, Policies] = {}
        self.store = store
        self._engine = engine
        self._growth = growth
        self._queries: dict[str, Query] = {}
        self._by_request: dict[str, tuple[Query, asyncio.Future[None]]] = {}
        self._running: dict[str, asyncio.Future[None]] = {}
        self._denied: dict[str, set[str]] = {}
        self._pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="query")
        self._around = Surroundings(
            catalog=engine.catalog,
            account=account,
            period=self._period,
            may_read=self._may_read,
            open_result=self._opened,
            keeps_copies=lambda: self.keep_copies,
            window=lambda: self.window,
            policies=self._policies,
            warehouse_state=lambda name: self._warehouses.get(name.upper(), "running"),
            history=self._history,
            is_broken=self.is_broken,
        )

    def start(self, session: Session, body: dict[str, Any], request_id: str) -> tuple[Query, asyncio.Future[None]]:
        """Start a statement; a request that is sent again finds the one it started the first time."""
        if request_id in self._by_request:
            return self._by_request[request_id]
        parameters = {k.upper(): v for k, v in (body.get("parameters") or {}).items()}
        query = Query(
            query_id=str(uuid.uuid4()),
            text=body["sqlText"],
            query_tag=str(parameters.get("QUERY_TAG", session.parameter("QUERY_TAG") or "")),
            user=session.user.name,
            session_token=session.token,
            warehouse=session.warehouse,
            describe_only=bool(body.get("describeOnly")),
            asynchronous=bool(body.get("asyncExec")),
        )
        self._queries[query.query_id] = query
        while len(self._queries) > _LOG_LENGTH:
            self._queries.pop(next(iter(self._queries)))
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._pool, self._run, query, session, body.get("bindings"), parameters)
        self._running[query.query_id] = done
        done.add_done_callback(lambda _: self._running.pop(query.query_id, None))
        if request_id:
            self._by_request[request_id] = (query, done)
            done.add_done_callback(lambda _: loop.call_later(300, self._by_request.pop, request_id, None))
        return query, done

    def is_broken(self, assumption: str) -> bool:
        """Whether that assumption does not hold for now."""
        return assumption in self.broken

    def find(self, query_id: str) -> Query | None:
        """A query since the server started."""
        return self._queries.get(query_id)

    def of_request(self, request_id: str) -> Query | None:
        """The query that a request started."""
        found = self._by_request.get(request_id)
        return found[0] if found else None

    async def wait(self, query_id: str, seconds: float) -> bool:
        """Wait for a query; says whether it has ended."""
        done = self._running.get(query_id)
        if done is not None:
            await asyncio.wait({done}, timeout=seconds)
        return query_id not in self._running or self._running[query_id].done()

    def cancel_all(self, session_token: str | None = None) -> None:
        """Cancel what is running, of one session or of all."""
        for query in list(self._queries.values()):
            if query.ended is None and session_token in (None, query.session_token):
                query.cancel()

    def log(self) -> list[dict[str, Any]]:
        """Every query, oldest first."""
        return [q.as_dict() for q in list(self._queries.values())]  # others are added meanwhile

    def deny(self, user: str, tables: Iterable[str]) -> None:
        """Withhold tables (``DATABASE.SCHEMA.TABLE``) from a user; replaces what was withheld before."""
        self._denied[user.upper()] = {t.lower() for t in tables}

    def set_policies(self, table: str, policies: Policies) -> None:
        """Set policies on a table (``DATABASE.SCHEMA.TABLE``); they replace those it had."""
        self._policies[table.lower()] = policies

    def set_warehouse(self, name: str, state: str) -> None:
        """Let a warehouse run (``running``), drop it, or have its monitor suspend it at once (``quota``).

        What runs on it ends with it.
        """
        self._warehouses[name.upper()] = state
        for query in list(self._queries.values()):
            if state != "running" and query.ended is None and query.warehouse == name.upper() and query.reads_since:
                query.cancel()

    def close(self) -> None:
        """Cancel what runs and take nothing new."""
        self.cancel_all()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _may_read(self, user: str, table: TableRef) -> bool:
        return str(table).lower() not in self._denied.get(user.upper(), ())

    def _period(self, query_id: str) -> tuple[datetime, datetime] | None:
        query = self._queries.get(query_id)
        if query is None or query.ended is None:
            return None
        if self.is_broken("before-is-the-completion"):
            return query.started.replace(tzinfo=None), query.started.replace(tzinfo=None)
        return query.started.replace(tzinfo=None), query.changed_at or query.ended.replace(tzinfo=None)

    def _history(self) -> list[Entry]:
        """Every statement that has ended, for a statement that asks."""
        return [
            Entry(
                query_id=query.query_id,
                text=query.text,
                tag="" if self.is_broken("history-has-tags") else query.query_tag,
                user=query.user,
                warehouse=query.warehouse,
                state=query.state,
                started=query.started,
                ended=query.ended,
                rows=query.rows or 0,
                size_bytes=query.size_bytes,
            )
            for query in list(self._queries.values())
            if query.ended is not None and not query.describe_only
        ]

    def _opened(self, query_id: str, user: str) -> "tuple[tuple[Column, ...], Iterator[pa.Table]]":
        """The columns and the batches of a result, for a statement that reads it."""
        self._refuse_scan(query_id)
        stored = self.reopen(query_id, user)
        return stored.columns, self.store.read(stored)

    # --- in a thread ---------------------------------------------------------------------------------------------

    def _run(self, query: Query, session: Session, bindings: Any, parameters: dict[str, Any]) -> None:
        try:
            if query.asynchronous:
                self._run_detached(query, session, bindings, parameters)
            else:
                with session.lock:
                    self._run_on(session.connection, query, session, bindings, parameters)
        except Exception as error:
            query.error = self._translated(query, error)
        finally:
            if not query.describe_only:
                session.last_query_id = query.query_id
            query.connection = None
            query.ended = datetime.now(UTC)

    def _translated(self, query: Query, error: Exception) -> SqlError:
        if query.timed_out_after is not None:
            return timed_out(query.timed_out_after)
        said = canceled() if query.cancelled.is_set() else of_engine(error)
        if said.errno in _MISSING and self.is_broken("missing-as-hidden"):
            return SqlError(1003, "42000", said.message)
        return said

    def _run_detached(self, query: Query, session: Session, bindings: Any, parameters: dict[str, Any]) -> None:
        own = session.connection
        connection = self._engine.connect(own.database, own.schema)
        connection.variables = own.variables
        try:
            session.prepare(connection)
            self._run_on(connection, query, session, bindings, parameters)
        finally:
            connection.close()

    def _run_on(
        self, connection: Any, query: Query, session: Session, bindings: Any, parameters: dict[str, Any]
    ) -> None:
        query.connection = connection
        limit = parameters.get("STATEMENT_TIMEOUT_IN_SECONDS", session.parameter("STATEMENT_TIMEOUT_IN_SECONDS"))
        seconds = 0.0 if self.is_broken("statement-timeout") else float(limit or 0)
        timer = _timer(query, seconds) if seconds > 0 else None
        if self.is_broken("session-time-zone"):
            connection._duck_conn.execute("set TimeZone = 'America/New_York'")
        try:
            text, values = inlined(query.text, bindings)
            statement = Statement(text, session=session, connection=connection, around=self._around)
            if query.cancelled.is_set():
                raise canceled()
            if query.describe_only:
                query.described = statement.describe()
                return
            answer = statement.run(values)
            query.changed_at = answer.changed_at
            query.reads_since = datetime.now(UTC)
            self._take_time(query)
            self._store(query, session, answer, parameters)
        finally:
            query.database, query.schema = connection.database, connection.schema
            if self.is_broken("session-time-zone"):
                session.prepare(connection)
            if timer is not None:
                timer.cancel()

    def _take_time(self, query: Query) -> None:
        """Wait as long as the delays in force say: shorter ones, set meanwhile, let a waiting statement go."""
        began = time.monotonic()
        while (rest := began + self.delays.of(query.text) - time.monotonic()) > 0:
            if query.cancelled.wait(min(rest, 0.05)):
                raise canceled()
        if query.cancelled.is_set():
            raise canceled()

    def _store(self, query: Query, session: Session, answer: Answer, parameters: dict[str, Any]) -> None:
        if answer.cancel is not None:
            answer = self._cancelled(answer.cancel)
        if answer.result_of is not None:
            self._refuse_scan(answer.result_of)
            stored = self.store.copy(self.reopen(answer.result_of, session.user.name), query.query_id)
        elif answer.rows is not None and session.parameter("PYTHON_CONNECTOR_QUERY_RESULT_FORMAT") == "JSON":
            stored = self.store.write_answer(
                query.query_id,
                user=query.user,
                columns=answer.columns,
                rows=[row for batch in answer.rows for row in as_json_rows(pa.Table.from_batches([batch]))],
                statement_type=answer.statement_type,
            )
        elif answer.rows is not None:
            stored = self.store.write_rows(
                query.query_id,
                user=query.user,
                columns=answer.columns,
                reader=Cancellable(self._cut_short(answer.rows), query),
                growth=self._growth_for(session, parameters),
                statement_type=answer.statement_type,
            )
        else:
            rows = as_json_rows(answer.table) if answer.table is not None else []
            stored = self.store.write_answer(
                query.query_id,
                user=query.user,
                columns=answer.columns,
                rows=rows,
                statement_type=answer.statement_type,
            )
        query.rows, query.batches = stored.rows, len(stored.batches)
        query.size_bytes = sum(batch.size_bytes for batch in stored.batches)

    def _growth_for(self, session: Session, parameters: dict[str, Any]) -> BatchGrowth:
        size = parameters.get("CLIENT_RESULT_CHUNK_SIZE", session.number("CLIENT_RESULT_CHUNK_SIZE"))
        return capped_at(int(size), self._growth) if size else self._growth

    def _cancelled(self, query_id: str) -> Answer:
        query = self._queries.get(query_id)
        if query is not None and not self.is_broken("cancel-by-id"):
            query.cancel()
        text = f"query [{query_id}] {'terminated' if query and query.ended is None else 'is not running'}."
        table = pa.table({"SYSTEM$CANCEL_QUERY": [text]})
        return Answer((), 0, table=table)

    def reopen(self, query_id: str, user: str) -> StoredResult:
        """The stored result of a finished query of that user; Snowflake's own error when there is none."""
        stored = self.store.find(query_id)
        if stored is not None and stored.user == user:
            return stored
        if self.store.has_expired(query_id):
            raise SqlError(710, "02000", f"The result of statement {query_id} has expired and is no longer available")
        if self.is_broken("unknown-results-are-gone"):
            raise SqlError(603, "XX000", "SQL execution internal error")
        raise SqlError(709, "02000", f"Statement {query_id} not found")

    # --- what is broken on purpose -------------------------------------------------------------------------------

    def _refuse_scan(self, query_id: str) -> None:
        if self.is_broken("result-scan"):
            raise SqlError(709, "02000", f"Statement {query_id} not found")

    def _cut_short(self, reader: Any) -> Any:
        if not self.is_broken("all-rows-arrive"):
            return reader
        return pa.RecordBatchReader.from_batches(reader.schema, _first_rows(reader, MOST_ROWS))

    def run_again(self, query: Query, session: Session) -> None:
        """Put in place of a query's result the one that it has now."""
        is_query = query.text.lower().lstrip().startswith(("select", "with"))
        if query.error is not None or not is_query or "?" in query.text:  # what was bound is not kept
            return
        connection = self._engine.connect(query.database, query.schema)
        try:
            session.prepare(connection)
            answer = Statement(query.text, session=session, connection=connection, around=self._around).run()
            if answer.rows is not None:
                self.store.remove(query.query_id)
                self._store(query, session, answer, {})
        finally:
            connection.close()


def _first_rows(reader: Any, most: int) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        yield batch.slice(0, most)
        most -= min(most, batch.num_rows)


def inlined(text: str, bindings: Any) -> tuple[str, Any]:
    """Put bound texts into a statement, as literals: what is compared with them is then read as Snowflake reads it.

    Bindings of other types are left for DuckDB to bind.
    """
    if not bindings:
        return text, None
    if not all(k.isdigit() for k in bindings):
        return text, {name: from_binding(b) for name, b in bindings.items()}
    bound = [bindings[str(i)] for i in range(1, len(bindings) + 1)]
    if any(isinstance(b["value"], list) for b in bound):
        raise SqlError(2, "0A000", "Unsupported feature 'array bindings'.")
    if any(b["type"] != "TEXT" or b["value"] is None for b in bound):
        return text, [from_binding(b) for b in bound]
    waiting = iter(bound)
    parts = [part.text for part in tokens(text)]
    try:
        return "".join(constant(next(waiting)["value"]) if part == "?" else part for part in parts), None
    except StopIteration:
        raise SqlError(2049, "42601", "SQL compilation error: Bind variable not set.") from None


def _timer(query: Query, seconds: float) -> threading.Timer:
    def stop() -> None:
        query.timed_out_after = seconds
        query.cancel()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    return timer


class Cancellable:
    """The batches of a reader, as long as nobody cancels the query."""

    def __init__(self, reader: Any, query: Query) -> None:
        self.schema = reader.schema
        self._reader = reader
        self._query = query

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._reader:
            if self._query.cancelled.is_set():
                raise canceled()
            yield batch
