"""Sessions: who signed in, with which parameters, on which connection."""

import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from snowmelt_sandbox.snowflake.engine import Engine
from snowmelt_sandbox.snowflake.sign_in import User

_ALTER_SESSION = re.compile(r"\s*alter\s+session\s+(set|unset)\s+(.*)", re.IGNORECASE | re.DOTALL)
_ASSIGNMENT = re.compile(r"(\w+)\s*=\s*('(?:[^']|'')*'|[^\s,;]+)")
_USE = re.compile(r"\s*use\s+(role|warehouse)\s+(\S+?)\s*;?\s*", re.IGNORECASE)


@dataclass
class Session:
    """A signed-in client. Its statements run one after the other, those sent asynchronously beside them."""

    token: str
    session_id: int
    user: User
    role: str
    warehouse: str
    parameters: dict[str, Any]
    connection: Any
    account: dict[str, Any] = field(default_factory=dict)
    """The account's parameters, which hold where the session has none of its own."""
    last_query_id: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def parameter(self, name: str) -> str | None:
        """A session parameter as text."""
        value = self.parameters.get(name, self.account.get(name))
        return None if value is None else str(value)

    def number(self, name: str) -> int | None:
        """A session parameter as a whole number, None when unset or no number."""
        value = self.parameter(name)
        return int(value) if value is not None and value.isdigit() else None

    def holds(self, name: str) -> bool:
        """Whether a session parameter is true."""
        return str(self.parameter(name)).lower() == "true"

    def prepare(self, connection: Any) -> None:
        """Make a connection behave as the session's parameters say."""
        zone = self.parameter("TIMEZONE") or "UTC"
        connection._duck_conn.execute("set TimeZone = " + exp.Literal.string(zone).sql(dialect="duckdb"))

    def alter(self, sql: str) -> bool:
        """Apply ALTER SESSION, USE ROLE and USE WAREHOUSE; says whether the statement was one of them."""
        if used := _USE.fullmatch(sql):
            setattr(self, used[1].lower(), used[2].strip('"') if used[2].startswith('"') else used[2].upper())
            return True
        altered = _ALTER_SESSION.fullmatch(sql)
        if not altered:
            return False
        if altered[1].lower() == "unset":
            for name in re.findall(r"\w+", altered[2]):
                self.parameters.pop(name.upper(), None)
            self.prepare(self.connection)
            return True
        for name, value in _ASSIGNMENT.findall(altered[2]):
            plain = value[1:-1].replace("''", "'") if value.startswith("'") else value
            self.parameters[name.upper()] = plain
            if name.upper() == "AUTOCOMMIT":
                self.connection.autocommit(plain.lower() == "true")
        self.prepare(self.connection)
        return True


class Sessions:
    """The open sessions by token."""

    def __init__(self, engine: Engine) -> None:
        self.account: dict[str, Any] = {}
        self._engine = engine
        self._sessions: dict[str, Session] = {}
        self._next_id = 1

    def open(
        self,
        user: User,
        *,
        database: str | None,
        schema: str | None,
        role: str | None,
        warehouse: str | None,
        parameters: dict[str, Any],
    ) -> Session:
        """Open a session for a user who has proved who they are."""
        named = {name.upper(): value for name, value in parameters.items()}
        autocommit = str((self.account | named).get("AUTOCOMMIT", True)).lower() == "true"
        session = Session(
            token=secrets.token_urlsafe(32),
            session_id=self._next_id,
            user=user,
            role=(role or (user.roles[0] if user.roles else "PUBLIC")).upper(),
            warehouse=(warehouse or "COMPUTE_WH").upper(),
            parameters=named,
            account=self.account,
            connection=self._engine.connect(database, schema, autocommit=autocommit),
        )
        session.prepare(session.connection)
        self._next_id += 1
        self._sessions[session.token] = session
        return session

    def find(self, token: str) -> Session | None:
        """The session of a token, if it is still open."""
        return self._sessions.get(token)

    def close(self, token: str) -> None:
        """End a session."""
        self._sessions.pop(token, None)
