"""What the dashboard answers over HTTP, to whom, and what it keeps to itself."""

import http.client
import json
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import pytest

from snowmelt.cli import watch
from snowmelt.errors import ConfigError
from snowmelt.monitoring.dashboard import impatience, server
from snowmelt.monitoring.reconnecting import Lookout
from support import scenes
from support.scenes import Served, Stage, command, dashboard


@dataclass(frozen=True)
class Answer:
    """A status, headers in small letters, and a body."""

    status: int
    headers: dict[str, str]
    body: str

    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


def ask(served: Served, path: str, *, method: str = "GET", **headers: str) -> Answer:
    """One request to the dashboard; ``path`` is the whole of it."""
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host="Host" in named)
        for name, value in named.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return Answer(
            answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
        )


@pytest.fixture(scope="module")
def served(shared: Stage) -> Iterator[Served]:
    with (
        shared.run("older", status="failed", completed=1, loading=0, workers=0, age_seconds=7200),
        shared.run("newest", names=["<img src=x onerror=alert(1)>", "PLAIN"], tables=3, completed=1, loading=2),
        dashboard(shared) as served,
    ):
        yield served


# --- what is answered -------------------------------------------------------------------------------------------------


def test_the_overview_holds_the_latest_runs_and_all_of_the_newest(served: Served) -> None:
    answer = ask(served, f"/{served.token}/overview.json")
    scene = answer.json()

    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert [(run["run_id"], run["status"]) for run in scene["runs"]] == [("newest", "running"), ("older", "failed")]
    assert scene["run"]["run_id"] == "newest"
    assert scene["run"]["tables"][0]["table"] == "<img src=x onerror=alert(1)>"
    assert len(scene["run"]["tables"][0]["cells"]) == 20
    assert len(scene["run"]["workers"]) == scene["run"]["workers_total"] == 3
    assert scene["run"]["pulse"]["state"] == "moves"


def test_a_run_can_be_asked_for_by_name(served: Served) -> None:
    run = ask(served, f"/{served.token}/overview.json?run=older").json()["run"]

    assert (run["status"], run["pulse"], run["workers"]) == ("failed", None, [])
    assert run["verdict"] == "Failed: PostgreSQL refuses the sign-in; fix it"


def test_a_run_that_there_is_not_is_said_so(served: Served) -> None:
    answer = ask(served, f"/{served.token}/overview.json?run=nix")

    assert (answer.status, answer.json()["code"]) == (404, "MissingError")


def test_a_chunk_is_told_in_all_detail(served: Served) -> None:
    answer = ask(served, f"/{served.token}/chunks.json?run=newest&table=1&position=19&count=1")

    assert answer.json()[0]["chunk_id"] == 19
    assert answer.json()[0]["status"] == "pending"


@pytest.mark.parametrize(
    "query", ["", "run=newest", "run=newest&table=x&position=0&count=1", "run=newest&table=-1&position=0&count=1"]
)
def test_chunks_that_are_not_named_properly_are_refused(served: Served, query: str) -> None:
    assert ask(served, f"/{served.token}/chunks.json?{query}").status == 400


def test_no_call_brings_more_than_fifty_chunks(served: Served) -> None:
    huge = "9" * 19
    answers = [
        ask(served, f"/{served.token}/chunks.json?run=newest&table=0&position=0&count={count}").json()
        for count in (3, 10_000, huge)
    ]

    assert [len(answer) for answer in answers] == [3, 20, 20]


def test_the_page_is_whole_and_asks_nothing_of_anyone_else(served: Served) -> None:
    page = ask(served, f"/{served.token}/")

    assert page.headers["content-type"].startswith("text/html")
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+", re.sub(r"^\s*//.*$", "", page.body, flags=re.MULTILINE)))
    assert addresses <= {"http://www.w3.org"}  # the name of SVG, which nobody fetches
    assert "innerHTML" not in page.body
    assert len(page.body) < 60_000


# --- who may ask, and how ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/overview.json", "/{token}", "/{token}x/", "/x{token}/overview.json", "//{token}/", "/%00/"]
)
def test_without_the_token_there_is_nothing(served: Served, path: str) -> None:
    answer = ask(served, path.format(token=served.token))

    assert (answer.status, answer.body) == (404, "not found\n")


def test_another_token_is_drawn_each_time(shared: Stage, served: Served) -> None:
    with dashboard(shared) as another:
        assert another.token != served.token
        assert len(another.token) >= 32
        assert ask(another, f"/{served.token}/").status == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:{port}", ""]
)
def test_a_name_that_was_made_to_point_here_is_turned_away(served: Served, host: str) -> None:
    """DNS rebinding: the browser sends the name of the page that asks."""
    answer = ask(served, f"/{served.token}/overview.json", Host=host.format(port=served.port))

    assert (answer.status, answer.body) == (421, "this host is not served here\n")


def test_this_machine_has_two_names(served: Served) -> None:
    assert ask(served, f"/{served.token}/", Host=f"localhost:{served.port}").status == 200
    assert ask(served, f"/{served.token}/", Host=f"127.0.0.1:{served.port}").status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_sites_may_not_ask(served: Served, site: str) -> None:
    assert ask(served, f"/{served.token}/overview.json", Sec_Fetch_Site=site).status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", ["", "overview.json"])
def test_nothing_can_be_asked_but_to_read(served: Served, method: str, path: str) -> None:
    answer = ask(served, f"/{served.token}/{path}", method=method)

    assert (answer.status, answer.headers["allow"]) == (405, "GET")


def test_only_the_loopback_interface_listens(served: Served) -> None:
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in {str(other) for other in others} | {"127.0.0.2"}:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((address, served.port), timeout=5)


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["{token}/", "{token}/overview.json", "{token}/nix", "nix", "{token}/overview.json?run=nix"]
)
def test_every_answer_is_kept_by_nobody_and_shown_in_no_frame(served: Served, path: str) -> None:
    headers = ask(served, "/" + path.format(token=served.token)).headers

    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers


def test_the_page_runs_only_its_own_script_by_a_nonce_of_its_own(served: Served) -> None:
    pages = [ask(served, f"/{served.token}/") for _ in range(2)]

    nonces = set()
    for page in pages:
        policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; ") if " " in part)
        assert "unsafe" not in page.headers["content-security-policy"]
        assert policy["connect-src"] == "'self'"
        (nonce,) = re.findall(r"'nonce-([\w-]+)'", policy["script-src"])
        assert policy["style-src"] == f"'nonce-{nonce}'"
        assert re.findall(r"<(?:script|style) nonce=\"([^\"]*)\"", page.body) == [nonce, nonce]
        assert len(re.findall(r"<(?:script|style)", page.body)) == 2
        assert not re.search(r"<[^>]+ (?:style|on\w+)=", page.body.split("<body>")[1].split("<script")[0])
        nonces.add(nonce)
    assert len(nonces) == 2


# --- attacks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["a%00b", "..%2F..%2Fetc", "%ff", "x" * 500, "a%0d%0aX-Evil:1", "%E2%80%AE"])
def test_an_id_that_no_run_has_is_answered_in_order(served: Served, run: str) -> None:
    for path in (f"overview.json?run={run}", f"chunks.json?run={run}&table=0&position=0&count=1"):
        answer = ask(served, f"/{served.token}/{path}")
        assert (answer.status, answer.json()["code"]) == (404, "MissingError")
        assert answer.headers["x-frame-options"] == "DENY"


def test_what_the_dashboard_did_not_foresee_has_the_security_headers_too(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("pl4nted")

    monkeypatch.setattr(Lookout, "scene", fail)

    answer = ask(served, f"/{served.token}/overview.json")

    assert (answer.status, answer.body) == (500, "error\n")
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_clients_that_never_end_their_question_do_not_keep_others_out(
    shared: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impatience, "QUESTION_SECONDS", 0.5)
    with dashboard(shared) as served, ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(70)]
        for number, client in enumerate(slow):
            client.settimeout(60)
            if number % 2:
                client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")

        assert all(_is_given_up(client) for client in slow)
        assert ask(served, f"/{served.token}/overview.json").status == 200


def _is_given_up(client: socket.socket) -> bool:
    try:
        return client.recv(1000)[:12] in (b"", b"HTTP/1.1 503")
    except ConnectionResetError:
        return True


# --- a server that goes away ------------------------------------------------------------------------------------------


def test_when_postgresql_goes_away_the_page_is_told_and_all_is_well_again_when_it_is_back(
    stage: Stage,
) -> None:
    with stage.run("r1", workers=0), dashboard(stage) as served:
        path = f"/{served.token}/overview.json"
        before = ask(served, path)
        with stage.unreachable():
            away = ask(served, path)
        back = ask(served, path)

    assert before.status == back.status == 200
    assert before.json()["run"]["rows"] == back.json()["run"]["rows"]
    assert away.status == 503
    assert "PostgreSQL 127.0.0.1" in away.json()["message"]
    assert away.headers["cache-control"] == "no-store"


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_url_and_ctrl_c_ends_it_in_order(shared: Stage) -> None:
    with command(shared, "dashboard", "--no-open") as process:
        assert process.stdout is not None
        served = Served(process.stdout.readline().strip())
        answer = ask(served, f"/{served.token}/overview.json")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out) == (0, "")
    assert answer.json()["source_name"] == scenes.SOURCE
    assert err == "only this machine can see it, and only by this URL; Ctrl-C ends it\n"


def test_a_port_that_is_taken_is_named(shared: Stage, served: Served) -> None:
    with shared.lookout() as lookout, pytest.raises(ConfigError, match=f"--port {served.port}: Address already in use"):
        server.serve(lookout, port=served.port, on_url=lambda _: None)


def test_without_the_extra_it_says_what_to_install(shared: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("snowmelt.monitoring.dashboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("snowmelt.monitoring.dashboard")
    monkeypatch.setitem(sys.modules, "starlette.applications", None)

    with pytest.raises(
        ConfigError, match=re.escape("the dashboard needs starlette; in the checkout: pip install '.[dashboard]'")
    ):
        watch.dashboard(str(shared.config))
