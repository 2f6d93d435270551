"""Who may ask: this machine, by its own name, with the token, and only to read."""

import logging
import secrets
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_logger = logging.getLogger(__name__)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Lets through what may be asked, without the token in its path; every answer carries the security headers.

    The Host must be this machine's own name: another site's name that is made to point here is turned away, as is
    whatever another site's page asks for.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have the application answer."""
        if scope["type"] != "http":
            return

        is_begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        path = "/" + scope["path"].split("/", 2)[2]
        inner = {**scope, "path": path, "raw_path": path.encode()}
        try:
            await self._app(inner, receive, send_guarded)
        except Exception:
            if is_begun:
                raise
            # Beyond this there is nobody to put the headers on the answer.
            _logger.exception("the dashboard could not answer")
            await PlainTextResponse("error\n", 500)(inner, receive, send_guarded)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if headers.getlist("host") not in ([host] for host in self._hosts):
            return PlainTextResponse("this host is not served here\n", 421)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return PlainTextResponse("other sites may not ask\n", 403)
        if not self._knows_token(scope["path"].split("/")):
            return PlainTextResponse("not found\n", 404)
        if scope["method"] != "GET":
            return PlainTextResponse("nothing can be changed here\n", 405, headers={"Allow": "GET"})
        return None

    def _knows_token(self, parts: Iterable[str]) -> bool:
        match list(parts):
            case ["", token, *rest] if rest:
                return secrets.compare_digest(token.encode(), self._token)
        return False
