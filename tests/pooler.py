"""Stands in for PgBouncer, as far as a client can tell: one TCP port before a server, whose sessions clients share.

It speaks the part of the protocol that libpq's simple queries and COPY take, and takes every password.
"""

import contextlib
import queue
import secrets
import socket
import struct
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Self

from snowmelt.local.faults.postgres_wire import error_response
from snowmelt.local.faults.proxy import read_exactly
from snowmelt.local.postgres import LocalPostgres

_ASKS_FOR_ENCRYPTION = (80877103, 80877104)
_STATUS = {"server_version": "15.0", "client_encoding": "UTF8", "standard_conforming_strings": "on", "DateStyle": "ISO"}


class Pooler:
    """A pooler with ``size`` sessions of the server for each user and database.

    In ``session`` mode a client has one until it leaves, in ``transaction`` mode until its transaction ends; who finds
    none waits. ``options`` of a client's start are refused, as PgBouncer does by default, or ignored, as it does when
    ``ignore_startup_parameters`` names them.
    """

    def __init__(
        self,
        server: LocalPostgres,
        *,
        mode: Literal["session", "transaction"],
        size: int = 20,
        options: Literal["refused", "ignored"] = "ignored",
    ) -> None:
        self.mode = mode
        self.options = options
        self._server = server
        self._size = size
        self._pools: dict[tuple[str, str], queue.LifoQueue[socket.socket | None]] = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.host, self.port = self._listener.getsockname()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for pool in self._pools.values():
            while not pool.empty():
                if session := pool.get():
                    session.close()

    def pool(self, start: Mapping[str, str]) -> "queue.LifoQueue[socket.socket | None]":
        """Return the sessions of that user in that database that nobody has; None for one that is not open yet."""
        key = (start["user"], start["database"])
        with self._lock:
            if key not in self._pools:
                self._pools[key] = queue.LifoQueue()
                for _ in range(self._size):
                    self._pools[key].put(None)
            return self._pools[key]

    def open_session(self, start: Mapping[str, str]) -> socket.socket:
        """Sign in to the server."""
        session = socket.create_connection((self._server.host, self._server.port))
        wanted = {name: start[name] for name in ("user", "database", "application_name") if name in start}
        body = struct.pack("!i", 196608) + b"".join(f"{k}\0{v}\0".encode() for k, v in wanted.items()) + b"\0"
        session.sendall(struct.pack("!i", len(body) + 4) + body)
        while _read(session)[:1] != b"Z":
            pass
        return session

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=_Client(self, client).serve, daemon=True).start()


class _Client:
    def __init__(self, pooler: Pooler, client: socket.socket) -> None:
        self._pooler = pooler
        self._client = client
        self._session: socket.socket | None = None

    def serve(self) -> None:
        with self._client, contextlib.suppress(OSError, EOFError):
            start = self._start()
            pool = self._pooler.pool(start)
            try:
                while (message := _read(self._client))[:1] != b"X":
                    if self._session is None:
                        self._session = pool.get() or self._pooler.open_session(start)
                    is_idle = self._answer(self._session, message)
                    if is_idle and self._pooler.mode == "transaction":
                        pool.put(self._session)
                        self._session = None
            finally:
                if self._session is not None:  # what a client leaves behind is not the next one's
                    self._session.close()
                    pool.put(None)

    def _start(self) -> Mapping[str, str]:
        while True:
            size = struct.unpack("!i", read_exactly(self._client, 4))[0]
            body = read_exactly(self._client, size - 4)
            if struct.unpack("!i", body[:4])[0] not in _ASKS_FOR_ENCRYPTION:
                break
            self._client.sendall(b"N")
        words = body[4:].decode().split("\0")
        start = dict(zip(words[0::2], words[1::2], strict=False))
        if "options" in start and self._pooler.options == "refused":
            self._client.sendall(error_response("FATAL", "08P01", "unsupported startup parameter: options"))
            raise EOFError
        key = struct.pack("!ii", secrets.randbelow(1 << 31), secrets.randbelow(1 << 31))
        status = b"".join(_message(b"S", f"{k}\0{v}\0".encode()) for k, v in _STATUS.items())
        self._client.sendall(_message(b"R", struct.pack("!i", 0)) + status + _message(b"K", key) + _message(b"Z", b"I"))
        return start

    def _answer(self, session: socket.socket, message: bytes) -> bool:
        """Pass a statement on, and its answer back; whether no transaction is open after it."""
        session.sendall(message)
        while True:
            answer = _read(session)
            self._client.sendall(answer)
            if answer[:1] == b"Z":
                return answer[5:6] == b"I"
            if answer[:1] == b"G":
                while message[:1] not in (b"c", b"f"):
                    message = _read(self._client)
                    session.sendall(message)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _read(end: socket.socket) -> bytes:
    head = read_exactly(end, 5)
    return head + read_exactly(end, struct.unpack("!i", head[1:])[0] - 4)
