"""PostgreSQL's protocol, as far as a proxy must know it: where messages begin and end, and which one is a COMMIT."""

import re
import socket
import struct

from fault_injection.proxy import Link, read_exactly
from fault_injection.traps import Blow, Side

CONNECT = "connect"
COPY_DATA = "copy data"
COPY_DONE = "copy done"
COMMIT = "COMMIT"
_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_COMMENTS = re.compile(r"^\s*--.*$", re.MULTILINE)
_ENDINGS = frozenset(b"ZG")
"""ReadyForQuery, and CopyInResponse: the client's turn."""
_ENDS_TRANSACTION = ("ROLLBACK", "ABORT")


class PostgresLink(Link):
    """A session of PostgreSQL's, message by message.

    A refusal is the server's own: it is given something to raise, or told that a COPY has failed, so that the session
    stands afterwards as it would after that error. Only the error's code and text are put in on the way back.
    """

    side: Side = "postgres"
    unanswered = frozenset({COPY_DATA})
    _replaces: str | None = None
    """The type of the server's message that becomes an error on its way: E of a COPY that is told to fail, C of the
    ROLLBACK that stands for a refused COMMIT."""
    _error: bytes = b""

    def _pump_requests(self) -> None:
        startup = read_startup(self.client)
        if is_cancel(startup):
            self.server.sendall(startup)
            return
        self.pass_on(startup, CONNECT)
        while True:
            kind, message = read_message(self.client)
            if kind == "X":
                self.server.sendall(message)
                continue
            text = _text(kind, message)
            if text.startswith(_ENDS_TRANSACTION):  # a server cannot refuse that
                self.server.sendall(message)
                continue
            self.pass_on(message, text)

    def _pump_answers(self) -> None:
        while True:
            kind, message = read_message(self.server)
            if kind == "K":
                self.backend_pid = struct.unpack("!i", message[5:9])[0]
            if kind == self._replaces:
                self._replaces = None
                message = self._error
            self.give(message, ends_answer=ord(kind) in _ENDINGS)

    def _refuse(self, text: str, blow: Blow) -> None:
        self._error = error_response("ERROR", blow.code, blow.message)
        if text == CONNECT:
            self.client.sendall(error_response("FATAL", blow.code, blow.message))
            self.cut()
        elif text == COMMIT:
            self._replaces = "C"
            self.server.sendall(framed("Q", b"ROLLBACK\0"))
        elif text in (COPY_DATA, COPY_DONE):
            # What the client has still to send, the server ignores after this.
            self._replaces = "E"
            self.server.sendall(framed("f", b"refused\0"))
        else:
            raised = f"DO $$BEGIN RAISE EXCEPTION '{blow.message}' USING ERRCODE = '{blow.code}'; END$$"
            self.server.sendall(framed("Q", raised.encode() + b"\0"))


def error_response(severity: str, code: str, text: str) -> bytes:
    """An ErrorResponse of the protocol, version 3."""
    fields = f"S{severity}\0V{severity}\0C{code}\0M{text}\0\0"
    return framed("E", fields.encode())


def framed(kind: str, body: bytes) -> bytes:
    """A message of the protocol, but for the first of a session."""
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def read_startup(client: socket.socket) -> bytes:
    """The first message of a session, or a request to cancel; encryption is declined."""
    while True:
        size = struct.unpack("!i", read_exactly(client, 4))[0]
        startup = struct.pack("!i", size) + read_exactly(client, size - 4)
        if _code(startup) not in (_SSL, _GSS):
            return startup
        client.sendall(b"N")


def is_cancel(startup: bytes) -> bool:
    """Whether it asks that another session's statement is cancelled."""
    return _code(startup) == _CANCEL


def _code(startup: bytes) -> int:
    code: int = struct.unpack("!i", startup[4:8])[0]
    return code


def read_message(end: socket.socket) -> tuple[str, bytes]:
    """The next message and its type."""
    head = read_exactly(end, 5)
    size = struct.unpack("!i", head[1:])[0]
    return chr(head[0]), head + read_exactly(end, size - 4)


def _text(kind: str, message: bytes) -> str:
    match kind:
        case "Q":
            return " ".join(_COMMENTS.sub("", message[5:-1].decode(errors="replace")).split())
        case "d":
            return COPY_DATA
        case "c":
            return COPY_DONE
        case _:
            return f"message {kind}"
