"""A pooler before PostgreSQL, as far as clients notice: few server connections, each lent for a session or less."""

import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from fault_injection.listener import Listener
from fault_injection.postgres_wire import error_response, framed, is_cancel, read_message, read_startup
from fault_injection.scram import sign_in

Lends = Literal["session", "transaction"]
_ENDS_ANSWER = ("Z", "G")
"""ReadyForQuery, and CopyInResponse: the client's turn."""
_ASKS_FOR_PASSWORD = struct.pack("!i", 10)
"""AuthenticationSASL."""
_UNSUPPORTED = "08P01"
_KEY = 0x7FFFFFFF
"""The backend's id that clients are told, which is nobody's."""


@dataclass(frozen=True)
class Rules:
    """How a pooler is set up.

    ``lends``: a server connection is a client's until it leaves, or until its transaction ends. ``wait_seconds``: how
    long a statement waits for a connection before its client is sent away. ``takes_options``: whether the start-up
    parameter ``options`` is ignored (``ignore_startup_parameters``) or refused.
    """

    lends: Lends
    connections: int
    wait_seconds: float = 10.0
    takes_options: bool = True


class Pooler(Listener):
    """Listens on a port of its own. As PgBouncer does, it lets clients in at once and keeps their statements waiting.

    Who may come in is the server's affair: the pooler signs in there with the one password that it knows, and asks its
    clients for none. ``options`` of a client never reach the server, and what one session sets in the mode
    ``transaction`` stays behind in a connection that another client gets next.
    """

    def __init__(self, rules: Rules, host: str, port: int, *, password: str | None = None) -> None:
        super().__init__()
        self.rules = rules
        """How it is set up; those set later are for clients that come later."""
        self._password = password
        self._server = (host, port)
        self._idle: list[socket.socket] = []
        self._free = threading.Semaphore(rules.connections)
        self._greeting: bytes | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        with self._lock:
            for end in self._open:
                _close(end)

    def serve(self, client: socket.socket) -> None:
        """Lend the client connections as the rules say."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(client)
        try:
            with suppress(OSError, EOFError):
                startup = read_startup(client)
                if not is_cancel(startup):  # whom a client would cancel, only the server's own ids say
                    _Client(self, client, _parameters(startup), self.rules).serve()
        finally:
            self._forget(client)

    # --- server connections ---

    def greeting(self, parameters: dict[str, str]) -> bytes:
        """What the server tells a client that it lets in, asked for once."""
        with self._lock:
            known = self._greeting
        if known is not None:
            return known
        server, said = self._connect(parameters)
        self._forget(server)
        with self._lock:
            self._greeting = said
        return said

    def borrow(self, parameters: dict[str, str]) -> socket.socket | None:
        """A server connection of one's own; None when none came free in time."""
        if not self._free.acquire(timeout=self.rules.wait_seconds):
            return None
        with self._lock:
            if self._idle:
                return self._idle.pop()
        try:
            server, _ = self._connect(parameters)
        except BaseException:
            self._free.release()
            raise
        return server

    def give_back(self, server: socket.socket, *, clean: bool) -> None:
        """Lend it to the next; one that is not clean is closed."""
        if clean:
            with self._lock:
                self._idle.append(server)
        else:
            self._forget(server)
        self._free.release()

    def _connect(self, parameters: dict[str, str]) -> tuple[socket.socket, bytes]:
        server = socket.create_connection(self._server)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(server)
        kept = {name: value for name, value in parameters.items() if name != "options"}
        body = b"".join(f"{name}\0{value}\0".encode() for name, value in kept.items()) + b"\0"
        server.sendall(struct.pack("!ii", len(body) + 8, 3 << 16) + body)
        said = bytearray()
        while True:
            kind, piece = read_message(server)
            if kind == "R" and piece[5:9] == _ASKS_FOR_PASSWORD:
                sign_in(server, self._password or "")
                continue
            said += _greeted(kind, piece)
            if kind == "E":
                raise RefusedError(bytes(said))
            if kind == "Z":
                return server, bytes(said)

    def _forget(self, end: socket.socket) -> None:
        with self._lock:
            self._open.discard(end)
        _close(end)


class RefusedError(OSError):
    """The server does not let the pooler in; with its own words as they came."""

    def __init__(self, said: bytes) -> None:
        super().__init__("refused")
        self.said = said


class _Client:
    """One client's session, half duplex: a message of its, then all that the server answers to it."""

    def __init__(self, pooler: Pooler, client: socket.socket, parameters: dict[str, str], rules: Rules) -> None:
        self._pooler = pooler
        self._client = client
        self._parameters = parameters
        self._rules = rules
        self._server: socket.socket | None = None
        self._in_transaction = False

    def serve(self) -> None:
        try:
            if "options" in self._parameters and not self._rules.takes_options:
                self._say_no("unsupported startup parameter: options")
                return
            self._client.sendall(self._pooler.greeting(self._parameters))
            self._answer_all()
        except RefusedError as refused:
            self._client.sendall(refused.said)
        finally:
            if self._server is not None:
                self._pooler.give_back(self._server, clean=False)

    def _answer_all(self) -> None:
        while True:
            kind, sent = read_message(self._client)
            if kind == "X":
                return
            if self._server is None:
                self._server = self._pooler.borrow(self._parameters)
                if self._server is None:
                    self._say_no("query_wait_timeout")
                    return
                self._name_session(self._server)
            self._server.sendall(sent)
            if kind != "d":
                self._pass_answer(self._server)
            if self._rules.lends == "transaction" and kind != "d" and not self._in_transaction:
                self._pooler.give_back(self._server, clean=True)
                self._server = None

    def _pass_answer(self, server: socket.socket) -> None:
        while True:
            kind, piece = read_message(server)
            self._client.sendall(piece)
            if kind in _ENDS_ANSWER:
                # Of a COPY, the rest of the messages are the same transaction's.
                self._in_transaction = kind == "G" or piece[5:6] != b"I"
                return

    def _name_session(self, server: socket.socket) -> None:
        name = self._parameters.get("application_name", "").replace("'", "''")
        server.sendall(framed("Q", f"SET application_name = '{name}'".encode() + b"\0"))
        while read_message(server)[0] != "Z":
            pass

    def _say_no(self, text: str) -> None:
        with suppress(OSError):
            self._client.sendall(error_response("FATAL", _UNSUPPORTED, text))
            # A client that has more to say would lose the answer to a reset.
            self._client.shutdown(socket.SHUT_WR)
            until = time.monotonic() + 1
            while time.monotonic() < until and self._client.recv(1 << 16):
                pass


def _parameters(startup: bytes) -> dict[str, str]:
    words = startup[8:].rstrip(b"\0").split(b"\0")
    return dict(zip((w.decode() for w in words[::2]), (w.decode() for w in words[1::2]), strict=False))


def _greeted(kind: str, piece: bytes) -> bytes:
    return framed("K", struct.pack("!ii", _KEY, _KEY)) if kind == "K" else piece


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        end.close()
