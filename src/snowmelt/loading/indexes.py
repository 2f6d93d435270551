"""Indexes and foreign keys of the targets: saved and dropped for a load, and put back after it by the server itself.

A definition is saved in the transaction that drops its index, and marked as restored in the transaction that builds it:
whatever dies, and whenever, each index is either there or saved. What is saved belongs to its table: the next run that
loads the table takes it over.
"""

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from psycopg2 import sql as compose

from snowmelt.deadline import Deadline
from snowmelt.errors import DataError, IndexNotRestoredError, TransientError
from snowmelt.models import TableName
from snowmelt.postgres.session import Cursor, Row, Session, fetch, fetch_one, search_path
from snowmelt.postgres.tables import identifier
from snowmelt.sql_text import queries

logger = logging.getLogger(__name__)

MOST_ATTEMPTS = 5
"""Builds of one index that may end without a result - cancelled, or with their server - before it is given up."""
LOCK_TIMEOUT_SECONDS = 60
FOREIGN_KEY = "foreign key"
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_REFUSED_SECONDS = 60.0
"""How long the server may refuse every connection for a build, while none is going on, before that is an error."""


@dataclass(frozen=True)
class TargetIndex:
    """An index of a target table."""

    table: TableName
    name: str
    definition: str
    is_unique: bool
    size_bytes: int
    tablespace: str
    afterwards: tuple[str, ...]
    """Statements for what a definition does not hold: comment, statistics targets, CLUSTER."""
    stays_because: str | None
    """Why it is not dropped for a load; None when it may be."""


@dataclass(frozen=True)
class MissingIndex:
    """An index, or a foreign key, that was dropped for a load and is not there again yet."""

    saved_id: int
    kind: str
    run_id: str
    table_id: int
    table: TableName
    name: str
    definition: str
    is_unique: bool
    size_bytes: int
    is_loading: bool
    """Its run is still loading the table."""
    is_building: bool
    seconds: float | None
    """How long it has been building."""
    phase: str | None
    percent_of_phase: float | None
    is_failed: bool
    """It is not tried again before someone has looked at it."""
    error_code: str | None
    error_text: str | None

    def __str__(self) -> str:
        if self.kind == FOREIGN_KEY:
            return f"foreign key {self.name} of table {self.table}"
        return f"index {self.table.schema_name}.{self.name} of table {self.table}"

    @property
    def problem(self) -> str | None:
        """What stands against it and what to do about it, on one line."""
        if self.error_text is None:
            return None
        remedy = _REMEDIES.get(self.error_code or "", "fix the cause")
        verdict = "cannot be" if self.is_failed else "is not yet"
        return f"{self} {verdict} built: {self.error_text.rstrip('.')}; {remedy}{_AND_THEN}"


_AND_THEN = ", then run `snowmelt indexes restore`"
_REMEDIES: Mapping[str, str] = {
    "23503": "remove the rows that refer to nothing, or bring in what they refer to",
    "23505": "remove the duplicate rows there and in the source, or make the index one that is not unique",
    "42501": "let the user of the config's postgres section own the table, and GRANT the owner CREATE on its schema",
    "42703": "a column was renamed or dropped since: correct the definition in saved_indexes of the status schema",
    "42710": "drop or rename what has its name",
    "42P01": "put the table back, or delete the row in saved_indexes of the status schema",
    "53100": "make room on the server",
    "53200": "give the build less memory, or the server more",
    "SM002": "ask that role why, delete the row in saved_indexes of the status schema, and build the index by hand",
    "55P03": "see in pg_stat_activity who holds the table",
    "BuildLost": "see the server's log",
}


@dataclass(frozen=True)
class RestoreResult:
    """What became of the indexes to rebuild."""

    built: tuple[str, ...] = ()
    """Indexes that were put back while this call was at work, with their schemas."""
    building: tuple[MissingIndex, ...] = ()
    """The server is at work on them, and goes on when this process ends."""
    remaining: tuple[MissingIndex, ...] = ()
    """Not begun, or to be tried again."""
    failed: tuple[MissingIndex, ...] = ()
    loading: tuple[MissingIndex, ...] = ()
    """Left alone, as their tables are being loaded; only where no run was named."""

    @property
    def more(self) -> bool:
        """Whether another call is needed."""
        return bool(self.building or self.remaining)

    @property
    def error(self) -> DataError | None:
        """Why some cannot be built, when some cannot."""
        problems = [index.problem or f"{index} cannot be built" for index in self.failed]
        return (
            IndexNotRestoredError("; ".join(p.removesuffix(_AND_THEN) for p in problems) + _AND_THEN)
            if problems
            else None
        )


# --- save and drop --------------------------------------------------------------------------------------------------


def read(
    session: Session, targets: Mapping[TableName, Sequence[Sequence[str]]]
) -> dict[TableName, tuple[TargetIndex, ...]]:
    """The indexes of the tables, with what would become of each; touches nothing.

    ``targets`` gives with each table the column sets whose unique index its load needs: the keys of an upsert.
    """
    with session.transaction() as cursor:
        return _read(cursor, targets)


def save_and_drop(
    cursor: Cursor, run_id: str, table_id: int, target: TableName, keep: Sequence[Sequence[str]] = ()
) -> tuple[TargetIndex, ...]:
    """Drop the table's indexes inside the caller's transaction, and save them; those that were dropped now.

    What an earlier load left unbuilt is this run's to rebuild now. Called again it finds nothing to drop. Primary keys
    stay, and what is behind a constraint or a foreign key, what identifies rows for replication, what an upsert
    on the columns of ``keep`` needs, indexes of partitioned tables and of partitions, and indexes that are not valid.
    """
    adopt(cursor, run_id, table_id, target)
    if not _droppable(cursor, target, keep):
        return ()
    # Nothing changes between reading the definitions and dropping what they define.
    _lock(cursor, target)
    dropped = _droppable(cursor, target, keep)
    if not dropped:
        return ()
    cursor.execute(queries.query("save_indexes"), {**_owner(run_id, table_id, target), "indexes": _as_json(dropped)})
    names = [compose.Identifier(target.schema_name, index.name) for index in dropped]
    cursor.execute(compose.SQL("DROP INDEX {}").format(compose.SQL(", ").join(names)))
    return dropped


def save_and_drop_keys(
    cursor: Cursor, run_id: str, table_id: int, target: TableName, names: Sequence[str]
) -> tuple[str, ...]:
    """Drop foreign keys of the table inside the caller's transaction, and save them; those that were there."""
    if not names:
        return ()
    _lock(cursor, target)
    saved = fetch(cursor, queries.query("save_foreign_keys"), **_owner(run_id, table_id, target), names=list(names))
    for row in saved:
        cursor.execute(
            compose.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
                identifier(target), compose.Identifier(row["index_name"])
            )
        )
    return tuple(row["index_name"] for row in saved)


def adopt(cursor: Cursor, run_id: str, table_id: int, target: TableName) -> tuple[str, ...]:
    """Take over what an earlier load of the table left unbuilt, failed ones included; their names.

    Builds that are still going on are ended: they would hold the table against the load. For every table that a run
    begins to load, also one whose own indexes stay.
    """
    key = _owner(run_id, table_id, target)
    found = fetch_one(cursor, queries.query("has_unbuilt_indexes"), **key)
    if found is None or not found["unbuilt"]:
        return ()
    fetch(cursor, queries.query("end_builds"), **key)
    # A build asks under the same lock whether the index is still its own; here it has ended or not yet asked.
    _lock(cursor, target)
    return tuple(row["index_name"] for row in fetch(cursor, queries.query("adopt_indexes"), **key))


def _owner(run_id: str, table_id: int, target: TableName) -> dict[str, object]:
    return {
        "run_id": run_id,
        "table_id": table_id,
        "target_schema": target.schema_name,
        "target_table": target.name,
    }


def _lock(cursor: Cursor, target: TableName) -> None:
    cursor.execute(compose.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(identifier(target)))


def _as_json(indexes: Sequence[TargetIndex]) -> str:
    fields = ("name", "definition", "tablespace", "afterwards", "is_unique", "size_bytes")
    return json.dumps([{field: getattr(index, field) for field in fields} for index in indexes])


def _droppable(cursor: Cursor, target: TableName, keep: Sequence[Sequence[str]]) -> tuple[TargetIndex, ...]:
    return tuple(index for index in _read(cursor, {target: keep}).get(target, ()) if index.stays_because is None)


def _read(
    cursor: Cursor, targets: Mapping[TableName, Sequence[Sequence[str]]]
) -> dict[TableName, tuple[TargetIndex, ...]]:
    rows = fetch(
        cursor,
        queries.query("target_indexes"),
        schemas=[t.schema_name for t in targets],
        tables=[t.name for t in targets],
    )
    found: dict[TableName, tuple[TargetIndex, ...]] = dict.fromkeys(targets, ())
    for row in rows:
        table = TableName(schema_name=row["schema_name"], name=row["table_name"])
        index = TargetIndex(
            table=table,
            name=row["name"],
            definition=row["definition"],
            is_unique=row["is_unique"],
            size_bytes=row["size_bytes"],
            tablespace=row["tablespace"],
            afterwards=tuple(row["afterwards"]),
            stays_because=_why_it_stays(row, targets[table]),
        )
        found[table] = (*found[table], index)
    return found


def _why_it_stays(row: Row, keep: Sequence[Sequence[str]]) -> str | None:
    reasons = (
        (row["is_primary"], "it is the primary key"),
        (row["constraint_name"], f"it is behind the constraint {row['constraint_name']}"),
        (row["referenced_by"], f"it is what the foreign key {row['referenced_by']} refers to"),
        (row["is_replica_identity"], "it identifies rows for logical replication"),
        (row["is_of_partitioned"], "the table is partitioned"),
        (row["is_partition"], "it belongs to an index of the partitioned table"),
        (
            row["is_arbiter"] and any(set(columns) == set(row["key_columns"]) for columns in keep),
            "the upsert needs it to find existing rows",
        ),
        (not row["is_valid"], "it is not valid"),
    )
    return next((reason for applies, reason in reasons if applies), None)


# --- restore --------------------------------------------------------------------------------------------------------


def missing(session: Session, run_id: str | None = None, table_id: int | None = None) -> tuple[MissingIndex, ...]:
    """Indexes to rebuild, by a run or by any, the biggest first, with how far their builds are."""
    return tuple(
        MissingIndex(
            saved_id=row["saved_id"],
            kind=row["kind"],
            run_id=row["run_id"],
            table_id=row["table_id"],
            table=TableName(schema_name=row["target_schema"], name=row["target_table"]),
            name=row["index_name"],
            definition=row["definition"],
            is_unique=row["is_unique"],
            size_bytes=row["size_bytes"],
            is_loading=row["is_loading"],
            is_building=row["backend_pid"] is not None,
            seconds=row["seconds"],
            phase=row["phase"],
            percent_of_phase=row["percent_of_phase"],
            is_failed=row["is_failed"],
            error_code=row["error_code"],
            error_text=row["error_text"],
        )
        for row in session.rows(queries.query("missing_indexes"), run_id=run_id, table_id=table_id)
    )


def retry_failed(session: Session, run_id: str | None = None, table_id: int | None = None) -> int:
    """Let what failed be tried again, as someone may have fixed the cause; how many there were."""
    return session.run(queries.query("retry_indexes"), run_id=run_id, table_id=table_id)


def restore(
    connect: Callable[[], Session],
    run_id: str | None = None,
    table_id: int | None = None,
    *,
    workers: int,
    deadline: Deadline,
    maintenance_work_mem: str | None = None,
    parallel_workers: int | None = None,
    code_path: Sequence[str] = (),
    session: Session | None = None,
) -> RestoreResult:
    """Rebuild dropped indexes, the biggest first, ``workers`` at once; what was built, and what is left at the end.

    The server builds: a build that outlives this call, or this process, goes on to its end and is recorded, and the
    next call finds it at work or done. An index that was made by hand meanwhile is taken as it is if it is the same,
    and rebuilt if it is not valid. One that cannot be built is not tried again before ``retry_failed``, and does
    not keep others from being built. Without a run, tables that are being loaded are left alone.
    What is saved is executed only where it is the definition of that very index, with the rights of the table's owner.
    ``code_path`` are schemas for functions in index expressions that find names without one. ``session`` is one of the
    caller's to watch the builds with, where a further connection might be one too many.
    TransientError when the server lets nobody in; then, too, nothing is lost.
    """
    settings = _settings(maintenance_work_mem, parallel_workers)
    with connect() if session is None else nullcontext(session) as watching:
        return _Restoration(connect, watching, settings, workers, deadline, code_path).result(run_id, table_id)


def _settings(maintenance_work_mem: str | None, parallel_workers: int | None) -> Mapping[str, str]:
    return {
        # Nothing may stop a build but its own failure: no time-out, no look whether the client is still there,
        # and no message on the way, which a client that is gone could not take.
        "statement_timeout": "0",
        "transaction_timeout": "0",
        "client_connection_check_interval": "0",
        "client_min_messages": "error",
        "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
        **({"maintenance_work_mem": maintenance_work_mem} if maintenance_work_mem else {}),
        **({"max_parallel_maintenance_workers": str(parallel_workers)} if parallel_workers is not None else {}),
    }


class _Restoration:
    """One call of ``restore``: it starts builds on threads of their own, and watches the server.

    The threads are left behind when time is over. Each waits for an answer that the server has already recorded, or
    will: nothing depends on its being heard.
    """

    def __init__(
        self,
        connect: Callable[[], Session],
        session: Session,
        settings: Mapping[str, str],
        workers: int,
        deadline: Deadline,
        code_path: Sequence[str],
    ) -> None:
        self._connect = connect
        self._session = session
        self._settings = settings
        self._workers = workers
        self._deadline = deadline
        self._code_path = code_path
        self._waiting: set[int] = set()
        self._not_before: dict[int, float] = {}
        self._answers: queue.SimpleQueue[tuple[int, str | Exception]] = queue.SimpleQueue()
        self._last_heard = time.monotonic()

    def result(self, run_id: str | None, table_id: int | None) -> RestoreResult:
        seen: dict[int, str] = {}
        pause = _FIRST_PAUSE_SECONDS
        while True:
            rows = missing(self._session, run_id, table_id)
            loading = [i for i in rows if i.is_loading and run_id is None]
            unbuilt = [i for i in rows if i not in loading]
            seen.update((i.saved_id, f"{i.table.schema_name}.{i.name}") for i in unbuilt)
            open_ = [i for i in unbuilt if not i.is_failed]
            if not open_ or not self._deadline.allows(0):
                left = {i.saved_id for i in unbuilt}
                return RestoreResult(
                    built=tuple(name for saved_id, name in seen.items() if saved_id not in left),
                    building=tuple(i for i in open_ if i.is_building),
                    remaining=tuple(i for i in open_ if not i.is_building),
                    failed=tuple(i for i in unbuilt if i.is_failed),
                    loading=tuple(loading),
                )
            self._start(open_)
            pause = _FIRST_PAUSE_SECONDS if self._listen(pause) else min(_LONGEST_PAUSE_SECONDS, 2 * pause)

    def _start(self, open_: Sequence[MissingIndex]) -> None:
        busy = {i.saved_id for i in open_ if i.is_building} | self._waiting
        # A foreign key may need an index that is not there yet.
        due = [i for i in open_ if i.kind != FOREIGN_KEY] or open_
        ready = [i for i in due if i.saved_id not in busy and self._not_before.get(i.saved_id, 0) <= time.monotonic()]
        for index in ready[: max(0, self._workers - len(busy))]:
            self._waiting.add(index.saved_id)
            logger.info("putting back", extra={"kind": index.kind, "name_of_it": index.name, "table": str(index.table)})
            # A daemon: a process that ends does not wait for it.
            threading.Thread(target=self._build, args=(index,), name=f"build {index.name}", daemon=True).start()

    def _build(self, index: MissingIndex) -> None:
        try:
            with self._connect() as session:
                self._answers.put((index.saved_id, build(session, index, self._settings, self._code_path)))
        except Exception as error:
            self._answers.put((index.saved_id, error))

    def _listen(self, pause: float) -> bool:
        """Wait for an answer, not past the deadline; whether there was one."""
        try:
            saved_id, answer = self._answers.get(timeout=min(pause, max(0.001, self._deadline.remaining_seconds())))
        except queue.Empty:
            return False
        self._waiting.discard(saved_id)
        now = time.monotonic()
        if isinstance(answer, Exception) and not isinstance(answer, TransientError):
            raise answer
        if isinstance(answer, TransientError):
            # The server counts a connection for a moment after it was closed: a first refusal says nothing yet.
            lasts = now - self._last_heard > _LONGEST_PAUSE_SECONDS
            logger.log(logging.WARNING if lasts else logging.DEBUG, answer.message)
            if not self._waiting and now - self._last_heard > _REFUSED_SECONDS:
                raise answer
        else:
            self._last_heard = now
        if answer not in ("restored", "failed", "gone"):
            self._not_before[saved_id] = now + _LONGEST_PAUSE_SECONDS
        return True


def build(session: Session, index: MissingIndex, settings: Mapping[str, str], code_path: Sequence[str] = ()) -> str:
    """Let the server build one index in this session, and wait for it; the answer of ``restore_index``."""
    named = {**settings, "application_name": f"snowmelt index {index.table.schema_name}.{index.name}"}
    session.rows(queries.query("build_settings"), names=list(named), values=list(named.values()))
    key = {"saved_id": index.saved_id, "run_id": index.run_id}
    begun = session.row(queries.query("begin_build"), **key, most=MOST_ATTEMPTS)
    if begun is None or not begun["begun"]:
        return "gone"
    # Outside of any transaction of this client, and not to be ended by a takeover: a build outlives whoever began it.
    session.guard(None)
    session.rows(queries.query("leave_drivers"))
    row = session.row(queries.query("restore_index"), **key, code_path=search_path(code_path))
    return str(row["outcome"]) if row else "gone"
