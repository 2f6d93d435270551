"""What tests and the sandbox ask of the stand-in and no Snowflake would answer."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from snowmelt_sandbox.snowflake.broken import BREAKS
from snowmelt_sandbox.snowflake.bulk_load import BulkLoad, load
from snowmelt_sandbox.snowflake.engine import Engine
from snowmelt_sandbox.snowflake.errors import of_engine
from snowmelt_sandbox.snowflake.policies import Policies
from snowmelt_sandbox.snowflake.queries import Delays, Queries
from snowmelt_sandbox.snowflake.sessions import Sessions
from snowmelt_sandbox.snowflake.sign_in import CONTROL_HEADER, User, Users

ReadBody = Callable[[Request], Awaitable[dict[str, Any]]]


class Control:
    """Answers under ``/local``, for whoever has the token: every user of the machine reaches the port."""

    def __init__(
        self, engine: Engine, queries: Queries, users: Users, sessions: Sessions, *, token: str | None
    ) -> None:
        self._token = (token or secrets.token_urlsafe()).encode()
        self._engine = engine
        self._queries = queries
        self._users = users
        self._sessions = sessions

    def routes(self, read_body: ReadBody) -> list[Route]:
        """Every control path."""
        commands: dict[str, Callable[[dict[str, Any]], Any]] = {
            "account-parameters": self._set_account_parameters,
            "expire": lambda b: self._queries.store.expire(b.get("query_id")),
            "expire-urls": lambda b: self._queries.store.expire_urls(b.get("query_id")),
            "break": self._break,
            "deny": lambda b: self._queries.deny(b["user"], b["tables"]),
            "delays": self._set_delays,
            "time-travel": self._set_time_travel,
            "policies": lambda b: self._queries.set_policies(b.pop("table"), Policies(**b)),
            "warehouse": lambda b: self._queries.set_warehouse(b["name"], b["state"]),
            "users": lambda b: self._users.put(user_of(b)),
            "schemas": lambda b: self._engine.create_schema(b["database"], b["schema"]),
            "load": lambda b: load(self._engine, bulk_load_of(b)),
        }
        reads: dict[str, Callable[[], Any]] = {"health": lambda: "ready", "queries": self._queries.log}
        return [
            *(
                Route(f"/local/{n}", self._guarded(_command(c, read_body)), methods=["POST"])
                for n, c in commands.items()
            ),
            *(Route(f"/local/{n}", self._guarded(_read(r)), methods=["GET"]) for n, r in reads.items()),
        ]

    def _guarded(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            if not secrets.compare_digest(request.headers.get(CONTROL_HEADER, "").encode(), self._token):
                return JSONResponse({"error": "only the owner of this server may ask that"}, status_code=403)
            return await answer(request)

        return guarded

    def _set_account_parameters(self, body: Mapping[str, Any]) -> None:
        self._sessions.account.clear()
        self._sessions.account.update({name.upper(): value for name, value in body.items()})

    def _set_delays(self, body: Mapping[str, Any]) -> None:
        known = {f.name for f in fields(Delays)}
        self._queries.delays = Delays(**{k: v for k, v in body.items() if k in known})

    def _break(self, body: Mapping[str, Any]) -> None:
        names = frozenset(body["assumptions"])
        if unknown := names - BREAKS.keys():
            raise KeyError(f"a break of {', '.join(sorted(unknown))}")
        self._queries.broken = names

    def _set_time_travel(self, body: Mapping[str, Any]) -> None:
        self._queries.keep_copies = bool(body["enabled"])
        seconds = body.get("window_seconds")
        self._queries.window = None if seconds is None else timedelta(seconds=seconds)


def user_of(body: Mapping[str, Any]) -> User:
    """The user that a JSON object describes."""
    roles = body.get("roles")
    return User(
        name=body["name"],
        password=body.get("password"),
        rsa_public_key=body.get("rsa_public_key"),
        oauth_token=body.get("oauth_token"),
        expired_oauth_tokens=tuple(body.get("expired_oauth_tokens") or ()),
        programmatic_access_token=body.get("programmatic_access_token"),
        roles=None if roles is None else tuple(roles),
    )


def bulk_load_of(body: Mapping[str, Any]) -> BulkLoad:
    """The load that a JSON object describes."""
    return BulkLoad(
        path=Path(body["path"]),
        database=body["database"],
        schema=body["schema"],
        table=body["table"],
        null_text=body.get("null_text", ""),
        types=dict(body.get("types") or {}),
    )


def _command(command: Callable[[dict[str, Any]], Any], read_body: ReadBody) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        body = await read_body(request)
        try:
            result = await asyncio.to_thread(command, body)
        except KeyError as error:
            return JSONResponse({"error": f"{error.args[0]} is missing"}, status_code=400)
        except Exception as error:
            return JSONResponse({"error": of_engine(error).message}, status_code=400)
        return JSONResponse({"result": result})

    return answer


def _read(read: Callable[[], Any]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return JSONResponse({"result": await asyncio.to_thread(read)})

    return answer
