"""A TCP proxy that a script can make unreliable; what a message is, its two kinds know."""

import contextlib
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from fault_injection.listener import Listener
from fault_injection.traps import Blow, Side, Struck, Traps

ANSWER_SECONDS = 10.0
"""How long an answer is waited for before the connection is cut without it."""
_RESET = struct.pack("ii", 1, 0)


class Link(ABC):
    """One client's connection through the proxy, both ways, each pumped by a thread of its own."""

    side: Side
    unanswered: frozenset[str] = frozenset()
    """Messages after which the server waits for another."""

    def __init__(self, client: socket.socket, server: socket.socket, traps: Traps) -> None:
        self.client = client
        self.server = server
        self.traps = traps
        self.backend_pid: int | None = None
        self.answered = threading.Event()
        self._lock = threading.Lock()
        self._held: list[bytes] | None = None
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Pump until one of the ends closes."""
        for pump in (self._pump_requests, self._pump_answers):
            threading.Thread(target=self._pump, args=(pump,), daemon=True).start()

    def cut(self, *, reset: bool = False) -> None:
        """End both connections at once; with ``reset`` as when a host vanishes behind a firewall that says so."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.close()

    # --- what a kind of proxy knows ---

    @abstractmethod
    def _pump_requests(self) -> None:
        """Read messages of the client and ``pass_on`` each."""

    @abstractmethod
    def _pump_answers(self) -> None:
        """Read the server's answers and ``give`` each piece."""

    @abstractmethod
    def _refuse(self, text: str, blow: Blow) -> None:
        """Make the server say no to it, or say so in its place."""

    # --- what all do ---

    def pass_on(self, message: bytes, text: str) -> None:
        """Send a message to the server, unless it is one that a trap waits for."""
        blow = self.traps.meets(self.side, text)
        if blow is None:
            self.server.sendall(message)
            return
        struck = Struck(text, self.backend_pid)
        match blow.way:
            case "cut before":
                self.cut()
            case "cut half":
                self.server.sendall(message[: max(1, len(message) // 2)])
                self.cut()
            case "cut sent":
                with self._lock:
                    self._held = []  # an answer may be quicker than the cut
                self.server.sendall(message)
                self.cut(reset=True)
            case "cut unanswered" | "cut half answer" | "after":
                self._send_and_hold(message, text)
                self._end_hold(blow, struck)
            case "delay":
                time.sleep(blow.seconds)
                self.server.sendall(message)
            case "drop":
                time.sleep(blow.seconds)
                self.cut(reset=True)
            case "refuse":
                self._refuse(text, blow)
            case "before":
                blow.effect(struck)
                self.server.sendall(message)
            case "instead":
                blow.effect(struck)
                self.cut()

    def give(self, piece: bytes, *, ends_answer: bool) -> None:
        """Hand a piece of an answer to the client, or keep it while answers are held."""
        with self._lock:
            if self._held is None:
                self.client.sendall(piece)
                return
            self._held.append(piece)
        if ends_answer:
            self.answered.set()

    def _send_and_hold(self, message: bytes, text: str) -> None:
        with self._lock:
            self._held = []
        self.answered.clear()
        self.server.sendall(message)
        if text not in self.unanswered:
            self.answered.wait(ANSWER_SECONDS)

    def _end_hold(self, blow: Blow, struck: Struck) -> None:
        if blow.way == "cut unanswered":
            self.cut(reset=True)
            return
        if blow.way == "after":
            blow.effect(struck)
        with self._lock:
            held, self._held = b"".join(self._held or ()), None
            if blow.way == "cut half answer":
                held = held[: max(1, len(held) // 2)]
            with contextlib.suppress(OSError):
                self.client.sendall(held)
        if blow.way == "cut half answer":
            self.cut()

    def _pump(self, pump: Callable[[], None]) -> None:
        with contextlib.suppress(OSError, EOFError):
            pump()
        self.answered.set()
        self.cut()


class Proxy(Listener):
    """Listens on a port of its own and joins each client to the server by a link of that kind."""

    def __init__(self, kind: type[Link], host: str, port: int, traps: Traps) -> None:
        super().__init__()
        self._kind = kind
        self._server = (host, port)
        self._traps = traps

    def lead_to(self, host: str, port: int) -> None:
        """Join every client that comes from now on to this server."""
        self._server = (host, port)

    def serve(self, client: socket.socket) -> None:
        """Join the client to the server."""
        try:
            server = socket.create_connection(self._server)
        except OSError:
            client.close()
            return
        self._kind(client, server, self._traps).start()


def read_exactly(end: socket.socket, size: int) -> bytes:
    """So many bytes; EOFError when the other side closes before."""
    pieces = bytearray()
    while len(pieces) < size:
        piece = end.recv(min(1 << 20, size - len(pieces)))
        if not piece:
            raise EOFError
        pieces += piece
    return bytes(pieces)
