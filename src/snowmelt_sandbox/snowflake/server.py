"""The HTTP side: the requests that Snowflake's connector sends, and the control API of this stand-in."""

import asyncio
import gzip
import json
import secrets
from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from snowmelt_sandbox.snowflake.broken import WAITS_SECONDS, json_rows
from snowmelt_sandbox.snowflake.control import Control
from snowmelt_sandbox.snowflake.errors import SqlError
from snowmelt_sandbox.snowflake.queries import Queries, Query
from snowmelt_sandbox.snowflake.results import StoredResult
from snowmelt_sandbox.snowflake.sessions import Session, Sessions
from snowmelt_sandbox.snowflake.sign_in import Users

_IN_PROGRESS, _IN_PROGRESS_ASYNC = "333333", "333334"
Handler = Callable[[Request], Awaitable[Response]]


class _BatchResponse(FileResponse):
    """A result batch, in pieces big enough that what is measured is not this server's own work."""

    chunk_size = 1 << 20


class SnowflakeApi:
    """Answers the connector."""

    def __init__(self, users: Users, sessions: Sessions, queries: Queries, *, poll_seconds: float) -> None:
        self._users = users
        self._sessions = sessions
        self._queries = queries
        self._poll_seconds = poll_seconds

    def routes(self) -> list[Route]:
        """Every path the connector asks for."""
        by_path: list[tuple[str, Handler, str]] = [
            ("/session/v1/login-request", self.log_in, "POST"),
            ("/session/token-request", self.renew, "POST"),
            ("/session/heartbeat", self.heartbeat, "POST"),
            ("/session", self.end_session, "POST"),
            ("/queries/v1/query-request", self.query, "POST"),
            ("/queries/v1/abort-request", self.abort, "POST"),
            ("/queries/{query_id}/result", self.result, "GET"),
            ("/monitoring/queries/{query_id}", self.status, "GET"),
            ("/monitoring/queries//{query_id}", self.status, "GET"),  # as connector 5 asks
            ("/local/batches/{query_id}/{index:int}", self.batch, "GET"),
            ("/telemetry/send", self.ignore, "POST"),
        ]
        return [Route(path, handler, methods=[method]) for path, handler, method in by_path]

    async def log_in(self, request: Request) -> Response:
        """Sign a user in and open a session."""
        asked = request.query_params
        data = (await body_of(request)).get("data") or {}
        role = asked.get("roleName")
        try:
            user = self._users.sign_in(data, _name(role))
        except SqlError as error:
            return _refused(error)
        session = self._sessions.open(
            user,
            database=_name(asked.get("databaseName")),
            schema=_name(asked.get("schemaName")),
            role=_name(role),
            warehouse=_name(asked.get("warehouse")),
            parameters=data.get("SESSION_PARAMETERS") or {},
        )
        return _ok(
            {
                "token": session.token,
                "masterToken": secrets.token_urlsafe(16),
                "validityInSeconds": 3600,
                "masterValidityInSeconds": 14400,
                "sessionId": session.session_id,
                "displayUserName": user.name.upper(),
                "serverVersion": "9.30.0",
                "parameters": _parameters(session),
                "sessionInfo": {
                    "databaseName": session.connection.database,
                    "schemaName": session.connection.schema,
                    "warehouseName": session.warehouse,
                    "roleName": session.role,
                },
            }
        )

    async def renew(self, request: Request) -> Response:
        """Give a session another hour."""
        body = await body_of(request)
        return _ok(
            {
                "sessionToken": body.get("oldSessionToken"),
                "masterToken": secrets.token_urlsafe(16),
                "validityInSecondsST": 3600,
                "validityInSecondsMT": 14400,
            }
        )

    async def heartbeat(self, request: Request) -> Response:
        """Keep a session open."""
        return _ok(None) if self._session(request) else _no_session()

    async def end_session(self, request: Request) -> Response:
        """Close a session and cancel what it still runs."""
        session = self._session(request)
        if session is None:
            return _no_session()
        if request.query_params.get("delete"):
            self._queries.cancel_all(session.token)
            self._sessions.close(session.token)
        return _ok(None)

    async def query(self, request: Request) -> Response:
        """Run a statement, and answer when it is done or when the client should ask again."""
        session = self._session(request)
        if session is None:
            return _no_session()
        body = await body_of(request)
        query, _ = self._queries.start(session, body, request.query_params.get("requestId", ""))
        if query.asynchronous:
            if self._queries.is_broken("submitted-statements-go-on"):
                await self._queries.wait(query.query_id, WAITS_SECONDS)
            return _in_progress(query.query_id, _IN_PROGRESS_ASYNC)
        if not await self._queries.wait(query.query_id, self._poll_seconds):
            return _in_progress(query.query_id, _IN_PROGRESS)
        return await asyncio.to_thread(self._answer, request, session, query.query_id)

    async def result(self, request: Request) -> Response:
        """The result of any query of this user, with fresh URLs; waits a while for one that still runs."""
        session = self._session(request)
        if session is None:
            return _no_session()
        query_id = request.path_params["query_id"]
        if not await self._queries.wait(query_id, self._poll_seconds):
            return _in_progress(query_id, _IN_PROGRESS)
        query = self._queries.find(query_id)
        if query is not None:
            query.reopened += 1
            if self._queries.is_broken("results-open-by-id") and query.session_token != session.token:
                return _failed(SqlError(709, "02000", f"Statement {query_id} not found"), query_id)
            if self._queries.is_broken("results-never-change"):
                await asyncio.to_thread(self._queries.run_again, query, session)
        return await asyncio.to_thread(self._answer, request, session, query_id)

    async def status(self, request: Request) -> Response:
        """What has become of a query."""
        if self._session(request) is None:
            return _no_session()
        query = self._queries.find(request.path_params["query_id"])
        if query is None:
            return _ok({"queries": []})
        hides_start = self._queries.is_broken("starts-are-told")
        entry: dict[str, Any] = {
            "id": query.query_id,
            "status": query.state,
            "state": query.state,
            "sqlText": query.text,
            "startTime": _milliseconds(datetime.now(UTC) if hides_start else query.started),
            "endTime": _milliseconds(query.ended) if query.ended else 0,
        }
        if query.error:
            entry |= {"errorCode": query.error.code, "errorMessage": query.error.message}
        return _ok({"queries": [entry]})

    async def abort(self, request: Request) -> Response:
        """Cancel the statement that a request started."""
        query = self._queries.of_request(str((await body_of(request)).get("requestId")))
        if query is not None:
            query.cancel()
        return _ok(None)

    async def batch(self, request: Request) -> Response:
        """The rows of one batch, for whoever holds a URL that is still valid."""
        query_id, index = request.path_params["query_id"], request.path_params["index"]
        asked = request.query_params
        issue, signature = asked.get("issue", ""), asked.get("signature", "")
        store = self._queries.store
        path = store.batch_file(query_id, index)
        if path is None or not issue.isdigit() or not store.opens(query_id, index, int(issue), signature):
            return Response("Request has expired", status_code=403)
        await asyncio.sleep(self._queries.delays.batch_seconds)
        query = self._queries.find(query_id)
        if query is not None:
            query.downloads[index] += 1
        return _BatchResponse(path, media_type="binary/octet-stream")

    async def ignore(self, request: Request) -> Response:
        """Take what needs no answer."""
        await request.body()
        return _ok(None)

    def _session(self, request: Request) -> Session | None:
        authorization = request.headers.get("Authorization", "")
        return self._sessions.find(authorization.removeprefix('Snowflake Token="').removesuffix('"'))

    def _answer(self, request: Request, session: Session, query_id: str) -> Response:
        query = self._queries.find(query_id)
        if query is not None and query.error is not None:
            return _failed(query.error, query_id)
        if query is not None and query.described is not None:
            return _ok(_description(query, session))
        try:
            stored = self._queries.reopen(query_id, session.user.name)
        except SqlError as error:
            return _failed(error, query_id)
        return _ok(self._data(request, session, stored))

    def _data(self, request: Request, session: Session, stored: StoredResult) -> dict[str, Any]:
        data: dict[str, Any] = {
            "parameters": _parameters(session),
            "rowtype": [c.rowtype() for c in stored.columns],
            "total": stored.rows,
            "returned": stored.rows,
            "queryId": stored.query_id,
            "sqlState": "00000",
            "statementTypeId": stored.statement_type,
            "numberOfBinds": 0,
            "arrayBindSupported": False,
            "databaseProvider": None,
            "finalDatabaseName": session.connection.database,
            "finalSchemaName": session.connection.schema,
            "finalWarehouseName": session.warehouse,
            "finalRoleName": session.role,
            "version": 1,
        }
        if stored.json_rows is not None:
            return data | {"queryResultFormat": "json", "rowset": stored.json_rows}
        if self._queries.is_broken("arrow-results"):
            rows = json_rows(self._queries.store.read(stored), stored.columns)
            return data | {"queryResultFormat": "json", "rowset": rows}
        first = self._queries.store.batch_file(stored.query_id, 0)
        # without rows not even a schema: the connector cannot read a stream that holds no batch
        data["rowsetBase64"] = b64encode(first.read_bytes()).decode() if first else ""
        data["queryResultFormat"] = "arrow"
        paths = self._queries.store.url_paths(stored)
        if paths:
            host = f"{request.url.scheme}://{request.headers.get('host', request.url.netloc)}"
            data["chunkHeaders"] = {}
            data["chunks"] = [
                {
                    "url": host + path,
                    "rowCount": batch.rows + self._queries.is_broken("batches-as-announced"),
                    "uncompressedSize": batch.size_bytes,
                    "compressedSize": batch.size_bytes,
                }
                for path, batch in zip(paths, stored.batches[1:], strict=True)
            ]
        return data


async def body_of(request: Request) -> dict[str, Any]:
    """A request's JSON, compressed or not."""
    raw = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        raw = gzip.decompress(raw)
    parsed = json.loads(raw or b"{}")
    return parsed if isinstance(parsed, dict) else {}


def build_app(api: SnowflakeApi, control: Control) -> Starlette:
    """The application of both APIs."""
    return Starlette(routes=[*api.routes(), *control.routes(body_of)])


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _name(asked: str | None) -> str | None:
    if not asked:
        return None
    return asked[1:-1] if asked.startswith('"') and asked.endswith('"') else asked.upper()


def _parameters(session: Session) -> list[dict[str, Any]]:
    timezone = session.parameter("TIMEZONE") or "Etc/UTC"
    values: dict[str, Any] = {
        "AUTOCOMMIT": str(session.parameter("AUTOCOMMIT") or "true").lower() == "true",
        "TIMEZONE": timezone,
        "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY": 3600,
        "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD": 0,
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def _description(query: Query, session: Session) -> dict[str, Any]:
    columns, statement_type = query.described or ((), 0)
    return {
        "parameters": _parameters(session),
        "rowtype": [c.rowtype() for c in columns],
        "total": 0,
        "returned": 0,
        "queryId": query.query_id,
        "statementTypeId": statement_type,
        "numberOfBinds": 0,
        "arrayBindSupported": False,
        "finalDatabaseName": session.connection.database,
        "finalSchemaName": session.connection.schema,
        "queryResultFormat": "arrow",
        "rowsetBase64": "",
    }


def _ok(data: Any) -> Response:
    return JSONResponse({"data": data, "code": None, "message": None, "success": True})


def _in_progress(query_id: str, code: str) -> Response:
    data = {
        "getResultUrl": f"/queries/{query_id}/result",
        "queryId": query_id,
        "queryAbortsAfterSecs": 300,
        "progressDesc": None,
    }
    return JSONResponse({"data": data, "code": code, "message": "Query execution in progress.", "success": True})


def _failed(error: SqlError, query_id: str) -> Response:
    # data must be an object: the connector looks for its keys even in an error
    data = {"internalError": False, "errorCode": error.code, "sqlState": error.sqlstate, "queryId": query_id}
    return JSONResponse({"data": data, "code": error.code, "message": error.message, "success": False})


def _refused(error: SqlError) -> Response:
    data = {"nextAction": "RETRY_LOGIN", "authnMethod": "USERNAME_PASSWORD"}
    return JSONResponse({"data": data, "code": error.code, "message": error.message, "success": False})


def _no_session() -> Response:
    message = "Session no longer exists. New login required to access the service."
    return JSONResponse({"data": None, "code": "390111", "message": message, "success": False})
