"""A proxy that breaks HTTP between the connector and the stand-in at the request it is told."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from fault_injection.proxy import Proxy
from fault_injection.snowflake_wire import SnowflakeLink
from fault_injection.traps import Blow, Moment, Trap, Traps, Way


class _Echo(BaseHTTPRequestHandler):
    seen: list[bytes]

    def do_POST(self) -> None:
        if "Content-Length" not in self.headers:  # cut off within its headers: no request that a server would take
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Web:
    """A server that repeats what it is sent, behind a proxy."""

    def __init__(self, proxy: Proxy, traps: Traps, seen: list[bytes]) -> None:
        self._url = f"http://127.0.0.1:{proxy.port}"
        self._traps = traps
        self.seen = seen

    def strike(self, blow: Blow) -> Trap:
        trap = Trap(Moment("snowflake", "^POST /queries", 1), blow)
        self._traps.put(trap)
        return trap

    def post(self, body: bytes = b"0123456789") -> bytes:
        request = urllib.request.Request(f"{self._url}/queries?requestId=1", data=body)
        with urllib.request.urlopen(request, timeout=120) as answer:
            if "Content-Length" not in answer.headers:  # an answer of which headers are missing looks like an empty one
                raise EOFError
            read: bytes = answer.read()
            return read


@pytest.fixture
def web() -> Iterator[Web]:
    handler = type("Echo", (_Echo,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    traps = Traps()
    try:
        with Proxy(SnowflakeLink, "127.0.0.1", server.server_address[1], traps) as proxy:
            yield Web(proxy, traps, handler.seen)  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def test_without_a_trap_requests_and_answers_pass(web: Web) -> None:
    assert web.post(b"x" * 300_000) == b"x" * 300_000


@pytest.mark.parametrize(
    ("way", "arrives"),
    [("cut before", False), ("cut half", False), ("cut unanswered", True), ("cut half answer", True)],
)
def test_a_request_that_is_cut_off_may_have_arrived(web: Web, way: Way, arrives: bool) -> None:
    trap = web.strike(Blow(way))
    with pytest.raises((OSError, EOFError)):
        web.post()
    assert trap.struck == "POST /queries"
    assert web.seen == [b"0123456789"] * arrives
    assert web.post() == b"0123456789"


def test_a_refusal_comes_without_the_server(web: Web) -> None:
    web.strike(Blow("refuse", code="503", message="Service Unavailable"))
    with pytest.raises(urllib.error.HTTPError, match="503"):
        web.post()
    assert web.seen == []


def test_a_slow_answer_is_whole(web: Web) -> None:
    web.strike(Blow("delay", seconds=0.2))
    began = time.monotonic()
    assert web.post() == b"0123456789"
    assert time.monotonic() - began > 0.2
