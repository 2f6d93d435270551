"""HTTP between the connector and the stand-in: whole requests one way, pieces of answers the other."""

import re

from fault_injection.proxy import Link, read_exactly
from fault_injection.traps import Blow, Side

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_MOST_HEAD = 64 * 1024


class SnowflakeLink(Link):
    """A connection of the connector's, request by request; the text of a request is its method and path."""

    side: Side = "snowflake"

    def _pump_requests(self) -> None:
        while True:
            head = self._head()
            length = _LENGTH.search(head)
            body = read_exactly(self.client, int(length[1]) if length else 0)
            method, path, *_ = head.split(b" ", 2)
            self.pass_on(head + body, f"{method.decode()} {path.partition(b'?')[0].decode()}")

    def _head(self) -> bytes:
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            head += read_exactly(self.client, 1)
            if len(head) > _MOST_HEAD:
                raise EOFError
        return bytes(head)

    def _pump_answers(self) -> None:
        while True:
            piece = self.server.recv(1 << 16)
            if not piece:
                return
            self.give(piece, ends_answer=True)

    def _refuse(self, text: str, blow: Blow) -> None:
        head = f"HTTP/1.1 {blow.code} {blow.message}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self.client.sendall(head.encode())
        self.cut()
