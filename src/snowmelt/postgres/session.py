"""One connection to PostgreSQL, and the one place where its errors become ours."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from types import TracebackType
from typing import Any, Self

import psycopg2
import psycopg2.extensions
from psycopg2.extras import RealDictCursor
from psycopg2.sql import Composable

from snowmelt import disclosure
from snowmelt.config import PostgresConfig
from snowmelt.config.names import quoted
from snowmelt.disclosure import ServerText
from snowmelt.errors import (
    AccessError,
    ConfigError,
    DataError,
    DiskFullError,
    DuplicateKeyError,
    MissingError,
    RejectedRowsError,
    SnowmeltError,
    TargetChangedError,
    TargetRefusedError,
    TransientError,
    UnreachableError,
)
from snowmelt.postgres import iam, poolers, roots
from snowmelt.sql_text import queries
from snowmelt.wording import WITH_NO_RESUME

Row = dict[str, Any]
Cursor = psycopg2.extensions.cursor

CONNECT_TIMEOUT_SECONDS = 15
SEARCH_PATH = "pg_catalog,pg_temp"
"""Where names without a schema are looked up: nowhere that anyone else may create anything."""
LOCK_TIMEOUT_SECONDS = 60
_TIMEOUTS = ("statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout")
_KEEPS_SESSIONS: dict[tuple[PostgresConfig, str], float] = {}
"""Poolers that were seen to keep a session of the server for each of ours, and when, on the monotonic clock."""
POOLER_TRUSTED_SECONDS = 5.0
"""How long what was seen of a pooler counts: someone may set another mode while this process lives, and a burst of
connections needs but one look."""
_LINK_OPTIONS: dict[str, Any] = {
    # NAT and Lambda networking drop silent flows after some 350 s, and a vanished client would hold its
    # locks for hours: probe early, give up within a minute and a half, on both ways.
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 90_000,
}


class _OtherCursor(RealDictCursor):
    """A cursor of a session whose status schema is not called as the SQL files call it."""

    status_schema = queries.STATUS_SCHEMA

    def execute(self, query: str | bytes | Composable, vars: Any = None) -> None:  # noqa: A002 - as it is called there
        """Execute a statement, a named one with the name of the schema put in."""
        named = queries.in_schema(queries.Query(query), self.status_schema) if isinstance(query, str) else query
        super().execute(named, vars)


@cache
def _cursors(schema: str) -> type[RealDictCursor]:
    if schema == queries.STATUS_SCHEMA:
        return RealDictCursor
    return type("_CursorOfSchema", (_OtherCursor,), {"status_schema": schema})


class Session:
    """A connection in autocommit, with transactions where they are asked for.

    Statements are named queries or composed from identifiers; a plain string is not accepted.
    """

    def __init__(
        self, connection: psycopg2.extensions.connection, *, where: str, status_schema: str = queries.STATUS_SCHEMA
    ) -> None:
        self._connection = connection
        self.status_schema = status_schema
        self._cursors = _cursors(status_schema)
        self.where = where
        self.pooled = False
        """Whether a pooler stands between; one that keeps a session of the server for this one."""
        self._guard: Callable[[Cursor], None] | None = None

    @classmethod
    def connect(cls, config: PostgresConfig, *, database: str, application_name: str) -> Self:
        """Open a session in UTC whose waits all end, and which no time-out of its role or database ends.

        AccessError says what to change when there is none to be had.
        """
        session = cls._open(config, database=database, application_name=application_name)
        try:
            session._settle(config, database)
        except SnowmeltError:
            session.close()
            raise
        return session

    @classmethod
    def _open(cls, config: PostgresConfig, *, database: str, application_name: str) -> Self:
        where = f"PostgreSQL {config.host}:{config.port}, database {database}"
        password = iam.token(config) if config.iam_auth else _password(config)
        try:
            connection = psycopg2.connect(
                host=config.host,
                port=config.port,
                user=config.user,
                password=password,
                dbname=database,
                sslmode=config.sslmode,
                sslrootcert=roots.file_of(config.sslrootcert),
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                application_name=application_name[:63],
                options=" ".join(f"-c {name}={_escaped(value)}" for name, value in _settings(config).items()),
                **_LINK_OPTIONS,
            )
        except psycopg2.Error as error:
            raise _connect_error(error, where=where, user=config.user) from error
        connection.autocommit = True
        return cls(connection, where=where, status_schema=config.status_schema)

    def _settle(self, config: PostgresConfig, database: str) -> None:
        """Put the session's settings in place; AccessError where a pooler would give it to others meanwhile."""
        let_in = self._connection.info.backend_pid
        with poolers.answering(self._connection, where=self.where):
            row = self.row(queries.query("settle"), backend_pid=let_in)
        if row is None or row["backend_pid"] == let_in:
            return
        self.pooled = True
        key = (config, database)
        if time.monotonic() - _KEEPS_SESSIONS.get(key, float("-inf")) >= POOLER_TRUSTED_SECONDS:
            with self._open(config, database=database, application_name="snowmelt looks for a pooler") as other:
                with poolers.answering(other._connection, where=self.where):
                    other._process()
                poolers.refuse_shared(self._process, other._process, where=self.where)
            _KEEPS_SESSIONS[key] = time.monotonic()
        settings = {**_settings(config), **dict.fromkeys(_TIMEOUTS, "0")}
        self.rows(queries.query("put_in_place"), names=list(settings), values=list(settings.values()))

    def _process(self) -> int:
        row = self.row(queries.query("this_process"))
        return int(row["backend_pid"]) if row else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection; a transaction that is open is rolled back by the server."""
        self._connection.close()

    @property
    def closed(self) -> bool:
        """Whether the connection is known to be gone."""
        return bool(self._connection.closed)

    def alive(self) -> bool:
        """Ask the server, so that a connection kept warm is not trusted blindly."""
        if self.closed:
            return False
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2.Error:
            self.close()
            return False
        return True

    def look_only(self) -> None:
        """From here on the server itself refuses whatever this session would change."""
        self.run(queries.query("look_only"))

    def backend(self) -> tuple[int, datetime]:
        """The server's pid and start of this session, in which no later one can be mistaken for it."""
        row = self.row(queries.query("this_backend"))
        if row is None:
            raise TransientError(f"{self.where}: the session is not in pg_stat_activity")
        return row["pid"], row["backend_start"]

    def guard(self, check: Callable[[Cursor], None] | None) -> None:
        """Begin every later transaction with a check that raises when the session may do no more; None lifts it.

        A single statement becomes a transaction of its own, so that it is checked too.
        """
        self._guard = check

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """A cursor in a transaction that commits when the block ends well, and is rolled back otherwise."""
        try:
            with self._translated():
                self._connection.autocommit = False
                with self._connection, self._connection.cursor(cursor_factory=self._cursors) as cursor:
                    if self._guard is not None:
                        self._guard(cursor)
                    yield cursor
        finally:
            if not self.closed:
                self._connection.autocommit = True

    def rows(self, statement: queries.Query | Composable, **values: object) -> list[Row]:
        """What a statement returns, outside any transaction."""
        with self._checked() as cursor:
            return fetch(cursor, statement, **values)

    def row(self, statement: queries.Query | Composable, **values: object) -> Row | None:
        """The first row a statement returns, or None."""
        return next(iter(self.rows(statement, **values)), None)

    def run(self, statement: queries.Query | Composable, **values: object) -> int:
        """Do it, and say how many rows it touched."""
        with self._checked() as cursor:
            cursor.execute(statement, values or None)
            return cursor.rowcount

    @contextmanager
    def _checked(self) -> Iterator[Cursor]:
        """A cursor for one statement: in the transaction that is open, or in one of its own where there is a guard."""
        if self._guard is not None and self._connection.autocommit:
            with self.transaction() as cursor:
                yield cursor
        else:
            with self._translated(), self._connection.cursor(cursor_factory=self._cursors) as cursor:
                yield cursor

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg2.Error as error:
            # Rolling back a connection that is gone fails too, and would hide what ended it.
            first = error.__context__
            cause = first if not error.pgcode and isinstance(first, psycopg2.Error) else error
            raise translate(cause, where=self.where) from error
        except ValueError as error:
            if "NUL" not in str(error):
                raise
            raise ConfigError(
                f"{self.where}: a text of the call or the config holds a NUL character, which PostgreSQL has in no text"
            ) from None


def _password(config: PostgresConfig) -> str | None:
    return config.password.get_secret_value() if config.password else None


def _settings(config: PostgresConfig) -> Mapping[str, str]:
    """Return what each session has from its first moment on."""
    owner = config.status_schema_owner
    return {
        # Not left to the role, the database or the server: whoever may create in a schema of the path could put a
        # function there that fits better than PostgreSQL's own, and have it run with the rights of this session.
        "search_path": SEARCH_PATH,
        "timezone": "UTC",
        "datestyle": "ISO",
        "client_encoding": "UTF8",
        **({"snowmelt.status_schema_owner": owner} if owner is not None else {}),
        "lock_timeout": str(LOCK_TIMEOUT_SECONDS * 1000),
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }


def _escaped(value: str) -> str:
    """Return a value as the options of a connection take it."""
    return re.sub(r"([\\\s])", r"\\\1", value)


def fetch(cursor: Cursor, statement: queries.Query | Composable, **values: object) -> list[Row]:
    """What a statement returns inside the cursor's transaction."""
    cursor.execute(statement, values or None)
    return [dict(row) for row in cursor.fetchall()] if cursor.description else []


def fetch_one(cursor: Cursor, statement: queries.Query | Composable, **values: object) -> Row | None:
    """The first row a statement returns inside the cursor's transaction, or None."""
    return next(iter(fetch(cursor, statement, **values)), None)


def search_path(code_path: Sequence[str]) -> str:
    """Return the setting that finds names in these schemas too, after PostgreSQL's own."""
    return ", ".join(("pg_catalog", *map(quoted, code_path), "pg_temp"))


@contextmanager
def code_of_targets(cursor: Cursor, code_path: Sequence[str]) -> Iterator[None]:
    """Let triggers and other code of the targets find, within, what it names without a schema in these schemas.

    Nothing else runs under such a path: whoever may create in one of the schemas runs code with the rights of this
    session. What is deferred to the end of the transaction is checked under it too.
    """
    if not code_path:
        yield
        return
    fetch(cursor, queries.query("set_search_path"), search_path=search_path(code_path))
    yield
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    fetch(cursor, queries.query("set_search_path"), search_path=SEARCH_PATH)


# --- errors ---------------------------------------------------------------------------------------------------------

_STRUCK = (
    "although Snowmelt sets it to 0 after connecting: something else sets it, such as a pooler or a hook of the "
    "server; connect past it, or set it to 0 there"
)
_TRANSIENT_STATES = {
    "40001": "it conflicted with another transaction",
    "40P01": "it was chosen to end a deadlock",
    "53300": "the server has no connection left: lower parallel_threads or raise max_connections",
    "55P03": "a lock was not granted in time: while a worker waits, `snowmelt status` names who holds it",
    "57P01": "the server ended the connection",
    "57P05": f"idle_session_timeout ended the session {_STRUCK}",
    "25P03": f"idle_in_transaction_session_timeout ended the session {_STRUCK}",
    "25P04": f"transaction_timeout ended the session {_STRUCK}",
    "57P02": "the server crashed",
    "57P03": "the server is starting or stopping",
    "25006": (
        "the server is read-only for now, as during a failover, or default_transaction_read_only is on for the role or "
        "the database"
    ),
}
_MAY_HAVE_ENDED_IT = (
    "; where this comes back after the same time, see the server's log: idle_session_timeout, transaction_timeout or a "
    "limit of a pooler or the network may have ended the session"
)
_SIGNS_OF_TIMEOUTS = {  # libpq may give the text of what ended a session without its SQLSTATE
    "terminating connection due to idle-session timeout": "57P05",
    "terminating connection due to idle-in-transaction timeout": "25P03",
    "terminating connection due to transaction timeout": "25P04",
}
_REMEDIES: Mapping[str, tuple[type[SnowmeltError], str]] = {
    "42501": (AccessError, "GRANT the privilege to the user of the config's postgres section"),
    "42P01": (
        TargetChangedError,
        (
            "create the table, or fix its name in the config; where a trigger or function of the target names it "
            "without its schema, list that schema in target_search_path"
        ),
    ),
    "42883": (
        TargetRefusedError,
        "where a trigger or function of the target calls it without its schema, list that schema in target_search_path",
    ),
    "42703": (
        TargetChangedError,
        f"the table was changed since the run was planned: undo that, or start {WITH_NO_RESUME}",
    ),
    "3F000": (ConfigError, "create the schema, or fix target_pg_schema"),
    "23505": (
        DuplicateKeyError,
        (
            "the source holds the key twice, or the target held it before: delete one of the rows and start again: a "
            "new run begins, as what was read does not change; or name uniqueness_columns, by which rows are merged, "
            f"or set max_rejected_rows, within which such rows are rejected, and start {WITH_NO_RESUME}"
        ),
    ),
    "23502": (RejectedRowsError, "the source has NULL where the target forbids it"),
    "23503": (RejectedRowsError, "load the referenced table first, or drop the foreign key while loading"),
    "23514": (RejectedRowsError, "the source has rows that the target's CHECK forbids"),
    "23P01": (RejectedRowsError, "the source has rows that the target's exclusion constraint forbids"),
    "54000": (
        RejectedRowsError,
        "the source has a value that is larger than PostgreSQL, or an index of the target, takes",
    ),
    "54001": (
        RejectedRowsError,
        "the source has a value that is nested deeper than the server follows: see its max_stack_depth",
    ),
    "P0001": (RejectedRowsError, "a trigger or function of the target refuses such rows"),
    "SM001": (
        AccessError,
        (
            "drop that schema, or have a superuser change the owner; where you trust that role, name "
            "it in postgres.status_schema_owner"
        ),
    ),
    "53100": (DiskFullError, "the server's disk is full: make room, then start again and the run resumes"),
    "57014": (TransientError, "somebody cancelled the statement, or statement_timeout ended it, as the text says"),
}
_NOT_REACHED = (
    "check host and port, that the server runs, and that the network (security group, VPC) lets this machine in"
)
_TRUST = (
    'postgres.sslrootcert or POSTGRES_SSLROOTCERT: "rds" for RDS and Aurora, the path or the PEM text of the '
    'authority of another server, or "system" for one that the operating system knows'
)
_ROOTS = f"set {_TRUST}"
_UNKNOWN_AUTHORITY = (
    f"the server's certificate is of an authority that is not among those that are trusted: set {_TRUST}; where it is "
    "set so, the authority is newer: give its PEM"
)
_ENCRYPT = (
    "where the server asks for encryption, as RDS does (rds.force_ssl), set postgres.sslmode to verify-full; "
    "otherwise allow this host, user and database in pg_hba.conf"
)
_CONNECT_CAUSES: tuple[tuple[str, type[SnowmeltError], str], ...] = (
    (
        "password authentication failed",
        AccessError,
        (
            "check POSTGRES_USER and POSTGRES_PASSWORD or the config's postgres section; with postgres.iam_auth, GRANT "
            "rds_iam to the user"
        ),
    ),
    (
        "PAM authentication failed",
        AccessError,
        (
            "the server signs this user in by IAM: set postgres.iam_auth (PostgresDbUserArn of the stack does), allow "
            "the identity of AWS rds-db:connect for this user of this server, name the endpoint of the server itself "
            "as postgres.host, and see that this machine's clock is right"
        ),
    ),
    ("nsupported startup parameter", AccessError, f"that is a pooler's answer; {poolers.PAST_THE_POOLER}"),
    ("no more connections allowed", TransientError, f"the pooler has no place left; {poolers.PAST_THE_POOLER}"),
    ("no password supplied", AccessError, "set postgres.password or POSTGRES_PASSWORD"),
    *((sign, AccessError, _ENCRYPT) for sign in (", no encryption", ", SSL off")),  # of "no pg_hba.conf entry for …"
    (
        "no pg_hba.conf entry",
        AccessError,
        "allow this host, user and database in pg_hba.conf, or fix postgres.sslmode",
    ),
    # Before what says that something does not exist, or names SSL: of either there is more than one kind.
    ("root certificate file", AccessError, _ROOTS),
    ("sslrootcert=system", AccessError, "set postgres.sslmode to verify-full, without which system trusts too many"),
    ("certificate verify failed", AccessError, _UNKNOWN_AUTHORITY),
    (
        "does not match host name",
        AccessError,
        "set postgres.host to a name that the certificate has: the endpoint that RDS gives, no alias and no address",
    ),
    (
        "server does not support SSL",
        AccessError,
        "turn ssl on at the server; or, where the way to it is trusted, set postgres.sslmode to disable",
    ),
    ("does not exist", AccessError, "create it, or fix target_pg_database or postgres.user"),
    ("SSL SYSCALL error", UnreachableError, _NOT_REACHED),
    ("SSL connection has been closed", UnreachableError, _NOT_REACHED),
    ("SSL", AccessError, "fix postgres.sslmode or postgres.sslrootcert"),
    ("too many clients", TransientError, "lower parallel_threads or raise max_connections"),
    (
        "too many connections for role",
        TransientError,
        "lower parallel_threads, end other sessions of the role, or raise its limit (ALTER ROLE … CONNECTION LIMIT …)",
    ),
    (
        "too many connections for database",
        TransientError,
        "lower parallel_threads, end other sessions, or raise its limit (ALTER DATABASE … CONNECTION LIMIT …)",
    ),
    ("remaining connection slots", TransientError, "lower parallel_threads or raise max_connections"),
    ("starting up", TransientError, "the server is starting: try again"),
    ("in recovery mode", TransientError, "the server recovers from a crash: try again"),
    ("not yet accepting connections", TransientError, "the server is starting or recovers from a crash: try again"),
    ("shutting down", TransientError, "the server is stopping: try again"),
    ("could not translate host name", UnreachableError, "check POSTGRES_HOST or postgres.host"),
    (
        "",
        UnreachableError,
        _NOT_REACHED,
    ),
)


def translate(error: psycopg2.Error, *, where: str) -> SnowmeltError:
    """What a driver's error means to the reader."""
    state = error.pgcode or ""
    told = shown_of(error)
    text, context = told.primary, "; ".join(part for part in (told.detail, told.context) if part)
    context = f" ({context})" if context else ""
    if state in _NAMES_NOTHING and f"{_schema_of(error)}." in text:
        return MissingError(
            f"{where}: {text}: the status schema, or part of it, is gone, and with it what runs had done: see who "
            "dropped it; then start again, and a new run begins; a target that a run had begun to load must be emptied "
            "before, or have truncate_onstart"
        )
    if state in _TRANSIENT_STATES:
        return TransientError(f"{where}: {_TRANSIENT_STATES[state]}: {text}{context}")
    if state in _REMEDIES:
        kind, remedy = _REMEDIES[state]
        return kind(f"{where}: {text}{context}; {remedy}")
    for sign, cause in _SIGNS_OF_TIMEOUTS.items():
        if sign in str(error):
            return TransientError(f"{where}: {_TRANSIENT_STATES[cause]}: {text}{context}")
    if not state or state.startswith("08"):
        return TransientError(f"{where}: the connection was lost: {text}{_MAY_HAVE_ENDED_IT}")
    kind = next((kind for sign, kind in _CLASSES if state.startswith(sign)), DataError)
    return kind(f"{where}: {text}{context} [SQLSTATE {state}]")


_NAMES_NOTHING = ("42P01", "3F000", "42883")
"""SQLSTATEs of a table, a schema, a function that is not there."""
_DATA_EXCEPTIONS = "22"
"""Class of the SQLSTATEs that say something about a value."""
_CLASSES: tuple[tuple[str, type[SnowmeltError]], ...] = (
    (_DATA_EXCEPTIONS, RejectedRowsError),
    ("42", TargetRefusedError),  # syntax, names, types, operators
    ("0A", TargetRefusedError),  # a feature that is not there
    ("21", TargetRefusedError),  # a trigger's query that finds several rows for one
    ("23", TargetRefusedError),  # a constraint whose error does not say which row
    ("2B", TargetRefusedError),
    ("2F", TargetRefusedError),  # a function in SQL
    ("3D", TargetRefusedError),
    ("3F", TargetRefusedError),
    ("38", TargetRefusedError),  # a function outside of SQL
    ("39", TargetRefusedError),
    ("P0", TargetRefusedError),  # a function in PL/pgSQL
    ("44", TargetRefusedError),  # WITH CHECK OPTION
    ("54", TargetRefusedError),  # a limit of the program, such as columns
    ("55", TargetRefusedError),  # the object is not in the state for it; a lock comes under 55P03
)
"""What classes of SQLSTATEs mean whose errors come back however often they are tried."""


def refuses_a_row(error: psycopg2.Error) -> bool:
    """Whether PostgreSQL refuses rows for what is in them; a key that is there already is another matter."""
    state = error.pgcode or ""
    return state.startswith(_DATA_EXCEPTIONS) or _REMEDIES.get(state, (None,))[0] is RejectedRowsError


def _connect_error(error: psycopg2.Error, *, where: str, user: str) -> SnowmeltError:
    text = _first_line(error)
    for sign, kind, remedy in _CONNECT_CAUSES:
        if sign in text:
            return kind(f"{where}, user {user}: {text}; {remedy}")
    raise AssertionError("the last sign is in every text")


def _first_line(error: psycopg2.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].removeprefix("ERROR:  ").strip()


def shown_of(error: psycopg2.Error) -> ServerText:
    """Return what may be told of an error outside the database: without the values that PostgreSQL quotes."""
    if not error.pgcode:
        return ServerText(primary=_first_line(error))
    return disclosure.of_postgres(
        disclosure.ServerError(
            sqlstate=error.pgcode,
            primary=error.diag.message_primary or "",
            detail=error.diag.message_detail or "",
            context=_as_the_files_call_it(error.diag.context or "", _schema_of(error)),
            statement=_statement(error),
            has_position=error.diag.statement_position is not None,
        )
    )


def _schema_of(error: psycopg2.Error) -> str:
    return str(getattr(error.cursor, "status_schema", queries.STATUS_SCHEMA))


def _as_the_files_call_it(context: str, schema: str) -> str:
    """Return the context of an error with our own functions, and no others, under the name that is trusted."""
    if schema == queries.STATUS_SCHEMA:
        return context
    anothers = context.replace(f"function {queries.STATUS_SCHEMA}.", "function another.")
    return anothers.replace(f"function {schema}.", f"function {queries.STATUS_SCHEMA}.")


def reason_in_full(error: psycopg2.Error) -> str:
    """Return PostgreSQL's own words with the values they quote: for ``rejected_rows``, and nowhere else."""
    detail = None if error.pgcode in disclosure.ROW_IN_DETAIL else error.diag.message_detail
    return f"{error.diag.message_primary or 'refused'}{f' ({detail})' if detail else ''}"


def _statement(error: psycopg2.Error) -> str:
    sent = error.cursor.query if error.cursor is not None else None
    return (sent or b"")[:200].decode(errors="replace")
