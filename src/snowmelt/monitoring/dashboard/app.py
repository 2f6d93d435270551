"""What the dashboard answers: one page and two kinds of figures, to those who know the token, and nothing else."""

import secrets
from functools import cache
from importlib.resources import files

from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from snowmelt.errors import MissingError, SnowmeltError
from snowmelt.models import is_run_id
from snowmelt.monitoring.dashboard.guard import Guard
from snowmelt.monitoring.monitor import ChunkProgress
from snowmelt.monitoring.reconnecting import Lookout

MOST_CHUNKS = 50
_LARGEST_INTEGER = 2**31 - 1
_NONCE = "{{nonce}}"
_NO_RUN = '{"code": "MissingError", "message": "that is no id of a run"}'
_CHUNKS = TypeAdapter(tuple[ChunkProgress, ...])

_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)


def build(lookout: Lookout, *, token: str, port: int) -> Starlette:
    """The application; everything lies below ``/TOKEN/``, and is asked for from this machine by its own name."""

    async def overview(request: Request) -> Response:
        """The latest runs, and the one of ``?run=`` or the latest of them with all there is to see."""
        run_id = request.query_params.get("run") or None
        if run_id is not None and not is_run_id(run_id):
            return _json(_NO_RUN, 404)
        scene = await run_in_threadpool(lookout.scene, run_id)
        return _json(scene.model_dump_json())

    async def chunks(request: Request) -> Response:
        """Some chunks of a table: ``?run=…&table=…&position=…&count=…``."""
        asked = request.query_params
        numbers = [_whole(asked.get(name, "")) for name in ("table", "position", "count")]
        run_id = asked.get("run")
        if not run_id or None in numbers:
            return _json('{"code": "ConfigError", "message": "run, table, position and count are needed"}', 400)
        if not is_run_id(run_id):
            return _json(_NO_RUN, 404)
        table_id, position, count = (number or 0 for number in numbers)
        found = await run_in_threadpool(
            lookout.chunks, run_id, table_id, position=position, limit=min(count, MOST_CHUNKS)
        )
        return _json(_CHUNKS.dump_json(found).decode())

    return Starlette(
        routes=[
            Route("/", page, methods=["GET"]),
            Route("/overview.json", overview, methods=["GET"]),
            Route("/chunks.json", chunks, methods=["GET"]),
        ],
        middleware=[Middleware(Guard, token=token, port=port)],
        exception_handlers={SnowmeltError: _explained},
    )


async def page(_: Request) -> Response:
    """The page; its own script and style are the only ones that a browser may run in it."""
    nonce = secrets.token_urlsafe(16)
    return Response(
        _page_text().replace(_NONCE, nonce),
        media_type="text/html",
        headers={"Content-Security-Policy": _POLICY.format(nonce=nonce)},
    )


@cache
def _page_text() -> str:
    return files(__package__).joinpath("page.html").read_text(encoding="utf-8")


def _whole(text: str) -> int | None:
    return min(int(text), _LARGEST_INTEGER) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _json(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json")


def _explained(_: Request, error: Exception) -> Response:
    """What went wrong, for the page to show; it asks again by itself."""
    if not isinstance(error, SnowmeltError):
        return PlainTextResponse("error", 500)
    return _json(_Trouble.dump_json({"code": error.code, "message": error.message}).decode(), _status(error))


_Trouble = TypeAdapter(dict[str, str])


def _status(error: SnowmeltError) -> int:
    return 404 if isinstance(error, MissingError) else 503
