"""A Snowflake session, and what is asked of it."""

import json
import logging
import random
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import snowflake.connector
from snowflake.connector import SnowflakeConnection
from snowflake.connector.constants import FIELD_ID_TO_NAME
from snowflake.connector.errors import Error

from snowmelt import disclosure
from snowmelt.config import SnowflakeConfig
from snowmelt.errors import AccessError, NotRunningError, SnowmeltError, StatementError
from snowmelt.models import SourceColumn
from snowmelt.snowflake_source import connector, scan, session_parameters
from snowmelt.snowflake_source.failures import is_not_authorised, sign_in_failure, text_of, translate, translated
from snowmelt.snowflake_source.sign_in import credentials, fingerprint
from snowmelt.sql_text import literals
from snowmelt.sql_text.literals import constant

_REACH_SECONDS = 10.0
_LOGIN_SECONDS = 20
_REQUEST_SECONDS = 120
"""How long one request may be tried again; the connector's default is for ever."""
_ANSWER_SECONDS = 900
"""How long a description, or a question about the session, may take before the connector cancels it: with a warehouse
that has to wake up, and the queue before it. By itself it would take ``_REQUEST_SECONDS`` for that."""
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_SILENCE_SECONDS = 50
"""Snowflake answers a statement that takes longer after 45 seconds with "in progress"."""

_opened_results = scan.OpenedResults()
_first_conversion = threading.Lock()
_converted = threading.Event()


@dataclass(frozen=True)
class Identity:
    """Who is signed in, as Snowflake names it, and what time it is there."""

    user: str
    role: str
    warehouse: str
    now: datetime


class SnowflakeSource:
    """One Snowflake session. One thread at a time: shared ones have been seen to mix up their results."""

    def __init__(self, connection: SnowflakeConnection, check: Callable[[], None] | None = None) -> None:
        self._connection = connection
        self._check = check

    def within(self, check: Callable[[], None]) -> Self:
        """The same session, in which whatever takes long asks ``check`` on the way, and ends with what it raises."""
        return type(self)(self._connection, check)

    @classmethod
    def connect(cls, config: SnowflakeConfig, *, database: str, schema: str, run_id: str | None = None) -> Self:
        """Sign in, with the database and the schema as the session's own.

        A host that cannot be reached, a user that is refused: AccessError within half a minute. A host that
        takes the call and stays silent: TransientError within a minute.
        The connector wants a writable home directory; where there is none, as in AWS Lambda, HOME must
        be /tmp.
        """
        logging.getLogger("snowflake.connector").setLevel(logging.CRITICAL)  # it logs statements and signed URLs
        host = config.host or _host_of(config.account)
        where = f"{host}:{config.port}"
        _require_reachable(host=host, port=config.port, protocol=config.protocol)
        proof = credentials(config)
        options = _options(config, host=host, run_id=run_id) | proof
        connector.adjust_downloads()
        try:
            connection = snowflake.connector.connect(
                database=_session_name(database), schema=_session_name(schema), **options
            )
            _convert_once(connection)
        except (Error, OSError) as error:
            who = f"user {config.user} of account {config.account} with its {config.sign_in}"
            key = fingerprint(proof["private_key"]) if "private_key" in proof else None
            raise sign_in_failure(error, who=who, where=where, user=config.user, key=key) from error
        connection.telemetry_enabled = False
        return cls(connection)

    def close(self) -> None:
        """End the session on this side; scans that it submitted go on."""
        self._connection.close()

    def alive(self) -> bool:
        """Ask Snowflake, so that a session kept warm is not trusted blindly: it dies after four idle hours."""
        try:
            self._row("select 1")
        except SnowmeltError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def identity(self) -> Identity:
        """Who is signed in; AccessError where the session has no warehouse to work with."""
        user, role, warehouse, now = self._row(
            "select current_user(), current_role(), current_warehouse(), current_timestamp()"
        )
        if not warehouse:
            raise AccessError(
                f"user {user} has no warehouse in role {role}; set snowflake.warehouse, "
                f"and run: GRANT USAGE ON WAREHOUSE <name> TO ROLE {role}"
            )
        return Identity(user=user, role=role, warehouse=warehouse, now=now)

    def now(self) -> datetime:
        """Return the time on Snowflake's clock; no warehouse is needed for it."""
        (moment,) = self._row("select current_timestamp()")
        return datetime.fromisoformat(str(moment))

    def describe(self, statement: str) -> tuple[SourceColumn, ...]:
        """The columns that a SELECT would give; it is compiled and not run."""
        text, values = literals.bind(statement)
        with translated(statement=statement):
            described = self._connection.cursor().describe(text, values or None, timeout=_ANSWER_SECONDS)
        return tuple(_column(each) for each in described or ())

    def describe_table(self, database: str, schema: str, name: str) -> tuple[SourceColumn, ...]:
        """The columns of a table or view, whose name parts are exact.

        Raises AccessError, with the GRANTs that would help, where it does not exist or may not be read.
        """
        table = ".".join(quoted(part) for part in (database, schema, name))
        statement = f"select * from {table}"  # noqa: S608 - every part is a quoted identifier
        try:
            described = self._connection.cursor().describe(statement, timeout=_ANSWER_SECONDS)
        except (Error, OSError) as error:
            if not is_not_authorised(error):
                raise translate(error, statement=statement) from error
            role = self._connection.role or self._row("select current_role()")[0]
            grants = (
                f"GRANT USAGE ON DATABASE {quoted(database)} TO ROLE {role}",
                f"GRANT USAGE ON SCHEMA {quoted(database)}.{quoted(schema)} TO ROLE {role}",
                f"GRANT SELECT ON TABLE {table} TO ROLE {role}",
            )
            raise AccessError(
                f"cannot read {database}.{schema}.{name} in role {role}: {text_of(error)}; check the name "
                f"(case counts), or run: {'; '.join(grants)}",
                fix=[f"{grant};" for grant in grants],
            ) from error
        return tuple(_column(each) for each in described or ())

    def submit(self, statement: str, *, batch_megabytes: int | None = None) -> str:
        """Start a scan and come back at once with its query id; it goes on when this session ends.

        Values of rows in it are bound: Snowflake's history keeps the text of a statement. Batches of its result are as
        large as ``batch_megabytes`` at the most, or as the session says.
        """
        cursor = self._connection.cursor()
        text, values = literals.bind(statement)
        parameters = {"CLIENT_RESULT_CHUNK_SIZE": batch_megabytes} if batch_megabytes else None
        with translated(statement=statement):
            cursor.execute_async(text, values or None, _statement_params=parameters)
        if not cursor.sfqid:
            raise StatementError(
                f"Snowflake gave no query id ({disclosure.statement_text(statement)[:200]}); try again"
            )
        return cursor.sfqid

    def scan_state(self, query_id: str) -> scan.ScanState:
        """How a scan stands that this user submitted in any session; that it failed is no error here."""
        return scan.scan_state(self._connection, query_id)

    def open_result(self, query_id: str) -> scan.ScanResult:
        """The result of a finished scan that this user submitted in any session.

        Raises ResultGoneError where Snowflake does not have it, TransientError where it is not there yet.
        """
        return scan.ScanResult(self._connection, query_id, self._check)

    def shared_result(self, query_id: str) -> scan.ScanResult:
        """Return the same as ``open_result``, of which this process keeps what it opened for the next one who asks."""
        return scan.ScanResult(self._connection, query_id, self._check, opened=_opened_results)

    def cancel(self, query_id: str) -> None:
        """Have a scan ended, whichever session submitted it; one that is not at work stays as it is."""
        with suppress(NotRunningError), translated(query_id=query_id):
            self._connection.cursor().execute(f"select system$cancel_query({constant(query_id)})")

    def rows(self, query_id: str) -> list[tuple[Any, ...]]:
        """The rows of a finished statement that gives few."""
        with translated(query_id=query_id), self._connection.cursor() as cursor:
            cursor.query_result(query_id)
            return [tuple(row) for row in cursor.fetchall()]

    def run(self, statement: str) -> scan.ScanResult:
        """Run a statement to its end and open its result; DataError when it fails."""
        return self.open_result(self._finished(statement))

    def _finished(self, statement: str) -> str:
        """The id of a statement that was run to its end; one that may not end by itself is ended on the server too."""
        query_id = self.submit(statement)
        try:
            self.wait(query_id)
        except SnowmeltError:
            with suppress(SnowmeltError):
                self.cancel(query_id)
            raise
        return query_id

    def wait(self, query_id: str) -> None:
        """Come back when a statement that this user submitted has a result; DataError when it failed."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            match self.scan_state(query_id):
                case scan.ScanDone():
                    return
                case scan.ScanRunning():
                    if self._check is not None:
                        self._check()
                    time.sleep(pause)
                    pause = min(_LONGEST_PAUSE_SECONDS, 1.5 * pause)
                case scan.ScanFailed(message=message, kind=kind):
                    raise kind(message)
                case scan.ScanGone(message=message):
                    raise StatementError(message)

    def aggregate(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement that gives few: bounds, counts, histograms.

        It is submitted and waited for, as whatever reads a table: the connector cancels what it executes itself after
        ``network_timeout``, in which it counts the queue and a warehouse that has to wake up.
        """
        return self.rows(self._finished(statement))

    def _row(self, statement: str) -> tuple[Any, ...]:
        with translated(statement=statement):
            cursor = self._connection.cursor()
            cursor.execute(statement, timeout=_ANSWER_SECONDS)
            row = cursor.fetchone()
        if row is None:
            raise StatementError(f"Snowflake gave no row ({disclosure.statement_text(statement)[:200]}); try again")
        return tuple(row)


def quoted(name: str) -> str:
    """A name, exact, as an identifier of Snowflake's SQL."""
    return '"' + name.replace('"', '""') + '"'


def _session_name(name: str) -> str:
    """A name for the sign-in, where Snowflake turns what is not quoted into upper case."""
    return name if re.fullmatch(r"[A-Z_][A-Z0-9_$]*", name) else quoted(name)


def _host_of(account: str) -> str:
    in_china = re.fullmatch(r"[^.]+\.cn-.+", account, re.IGNORECASE)
    return f"{account}.snowflakecomputing.{'cn' if in_china else 'com'}"


def query_tag(run_id: str | None) -> str:
    """The tag of every statement in Snowflake's history, of a run or of none."""
    return json.dumps({"app": "snowmelt"} | ({"run_id": run_id} if run_id else {}))


def _options(config: SnowflakeConfig, *, host: str, run_id: str | None) -> dict[str, Any]:
    """The connector's parameters, but for database, schema and credentials."""
    named = {"role": config.role, "warehouse": config.warehouse}
    return {key: value for key, value in named.items() if value is not None} | {
        "account": config.account,
        "user": config.user,
        "host": host,
        "port": config.port,
        "protocol": config.protocol,
        "application": "snowmelt",
        "arrow_number_to_decimal": True,
        "server_session_keep_alive": True,  # closing must not end the scans that were submitted
        "login_timeout": _LOGIN_SECONDS,
        "network_timeout": _REQUEST_SECONDS,
        "socket_timeout": _SILENCE_SECONDS,
        "backoff_policy": _pauses_seconds,
        "platform_detection_timeout_seconds": 0.0,  # asks no metadata service
        "log_imported_packages_in_telemetry": False,
        **connector.options(),
        "paramstyle": "qmark",  # values are bound by the server, and % in a statement means nothing
        "session_parameters": session_parameters.pinned(
            query_tag=query_tag(run_id), statement_seconds=config.statement_timeout_seconds
        ),
    }


def _pauses_seconds() -> Iterator[float]:
    """Pauses between tries of a request."""
    longest = 0.5
    while True:
        yield random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, guards nothing
        longest = min(longest * 2, 4.0)


def _require_reachable(*, host: str, port: int, protocol: str) -> None:
    """Fail in seconds where nothing listens, if no proxy is in between; the connector would go on trying."""
    proxies = urllib.request.getproxies()
    if (protocol in proxies or "all" in proxies) and not urllib.request.proxy_bypass(host):
        return
    try:
        socket.create_connection((host, port), timeout=_REACH_SECONDS).close()
    except socket.gaierror as error:
        raise AccessError(
            f"cannot find Snowflake's host {host}: {error.strerror}; check snowflake.account and "
            "snowflake.host, and that this machine may ask a name server"
        ) from error
    except OSError as error:
        raise AccessError(
            f"cannot reach Snowflake at {host}:{port}: {error.strerror or error}; check snowflake.host and "
            "snowflake.port, and that routes, security groups and firewalls let this machine out"
        ) from error


def _convert_once(connection: SnowflakeConnection) -> None:
    """Convert one Arrow result before any other: threads that race for a process's first one can deadlock."""
    if _converted.is_set():
        return
    with _first_conversion:
        if _converted.is_set():
            return
        cursor = connection.cursor()
        cursor.execute("select 1")
        for batch in cursor.get_result_batches() or ():
            connector.to_arrow(batch, connection)
        _converted.set()


def _column(described: Any) -> SourceColumn:
    name: str = FIELD_ID_TO_NAME[described.type_code]
    if name == "FIXED" and None in (described.precision, described.scale):
        name = "UNKNOWN"  # the connector takes every type it does not know for a FIXED
    return SourceColumn(
        name=described.name,
        type=name,
        precision=described.precision,
        scale=described.scale,
        length=described.internal_size,
        nullable=described.is_nullable,
    )
