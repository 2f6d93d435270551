"""The stand-in as a child process, and the ways to talk to it."""

import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import snowflake.connector

from snowmelt import private_files
from snowmelt.errors import AccessError, ConfigError
from snowmelt_sandbox.child_process import start_child
from snowmelt_sandbox.snowflake.account_parameters import USUAL
from snowmelt_sandbox.snowflake.sign_in import CONTROL_HEADER, User

SANDBOX_USER = User(name="SANDBOX", password=secrets.token_urlsafe(18))
"""Known to the process that starts the server, and to whom it tells: other users of the machine reach the port too."""
_READY_SECONDS = 60.0
READABLE = (".parquet", ".csv", ".csv.gz")
"""Ends of the names of files that can become tables. Nothing is imported here that the server alone needs: that cannot
run with version 5 of the connector, which a client may have."""


class LocalSnowflake:
    """A Snowflake account on this machine that the real connector talks to.

    Without ``directory`` everything is gone when it stops; with one, databases and results survive a restart.
    The first of ``users`` is the one whose sign-in the environment and ``execute`` use. The process ends with
    its parent.
    """

    protocol = "http"

    def __init__(
        self,
        *,
        directory: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        account: str = "local",
        users: Sequence[User] = (SANDBOX_USER,),
        role: str = "SYSADMIN",
        warehouse: str = "COMPUTE_WH",
        poll_seconds: float = 45.0,
        query_delay_seconds: float = 0.0,
        batch_delay_seconds: float = 0.0,
        time_travel: bool = True,
        inline_rows: int = 500,
        first_rows: int = 1000,
        chunk_megabytes: int = 160,
        memory_limit: str = "2GB",
        account_parameters: Mapping[str, Any] | None = None,
        python: str = sys.executable,
    ) -> None:
        self.host = host
        self.port = port
        self.account = account
        self.users = tuple(users)
        self.role = role
        self.warehouse = warehouse
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="local-snowflake-"))
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._control_token = secrets.token_urlsafe(32)
        self._options = {
            "poll-seconds": poll_seconds,
            "query-delay-seconds": query_delay_seconds,
            "batch-delay-seconds": batch_delay_seconds,
            "inline-rows": inline_rows,
            "first-rows": first_rows,
            "chunk-megabytes": chunk_megabytes,
            "memory-limit": memory_limit,
            "account-parameters": json.dumps(dict(account_parameters or {})),
        }
        self._flags = [] if time_travel else ["--no-time-travel"]

    @property
    def user(self) -> str:
        """The name of the first user."""
        return self.users[0].name

    @property
    def password(self) -> str:
        """The password of the first user."""
        return self.users[0].password or ""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.protocol}://{self.host}:{self.port}"

    @property
    def log_file(self) -> Path:
        """What the server has to say."""
        return self.directory / "server.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        private_files.make_folder(self.directory)
        self.directory.chmod(0o700)
        users, control = self.directory / "users.json", self.directory / "control"
        private_files.write(users, json.dumps([asdict(u) for u in self.users]).encode())
        private_files.write(control, self._control_token.encode())
        arguments = [self._python, "-m", "snowmelt_sandbox.snowflake", "--directory", str(self.directory)]
        arguments += ["--host", self.host, "--port", str(self.port), "--account", self.account, "--users", str(users)]
        arguments += ["--control", str(control)]
        for name, value in self._options.items():
            arguments += [f"--{name}", str(value)]
        with self.log_file.open("ab") as log:
            self._process = start_child(
                [*arguments, *self._flags], stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL
            )
        self.port = self._await_port(self._process)
        self._control("health")

    def stop(self) -> None:
        """End the server; without a directory of its own, everything it held is gone."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()
            if self._process.stdout:
                self._process.stdout.close()
            self._process = None
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def is_running(self) -> bool:
        """Whether the server process is there."""
        return self._process is not None and self._process.poll() is None

    # --- as a client of Snowflake ------------------------------------------------------------------------------

    def connection_parameters(self, **changes: Any) -> dict[str, Any]:
        """Arguments of ``snowflake.connector.connect``; ``changes`` replace or add some."""
        parameters: dict[str, Any] = {
            "account": self.account,
            "user": self.user,
            "password": self.password,
            "role": self.role,
            "warehouse": self.warehouse,
            "host": self.host,
            "port": self.port,
            "protocol": self.protocol,
        }
        return {k: v for k, v in (parameters | changes).items() if v is not None}

    def environment(self) -> dict[str, str]:
        """The connection as environment variables."""
        return {
            f"SNOWFLAKE_{name.upper()}": str(value)
            for name, value in self.connection_parameters().items()
            if name != "database"
        }

    def connect(self, **changes: Any) -> Any:
        """Return a connection of the real connector, which the account's parameters do not reach."""
        quick = {
            "session_parameters": USUAL | {"QUERY_TAG": "fixture"},
            "arrow_number_to_decimal": True,
            "platform_detection_timeout_seconds": 0.0,
        }
        return snowflake.connector.connect(**(quick | self.connection_parameters(**changes)))

    def execute(self, sql: str, *, database: str | None = None, schema: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement as the first user and fetch what it gives."""
        with self.connect(database=database, schema=schema) as connection, connection.cursor() as cursor:
            rows: list[tuple[Any, ...]] = cursor.execute(sql).fetchall()
            return rows

    # --- data --------------------------------------------------------------------------------------------------

    def create_schema(self, database: str, schema: str) -> None:
        """Make a database and a schema in it, unless they are there."""
        self._control("schemas", {"database": database, "schema": schema})

    def load_table(
        self, database: str, schema: str, table: str, rows: pa.Table, *, types: Mapping[str, str] | None = None
    ) -> int:
        """Make a table of that exact name from Arrow rows; ``types`` are Snowflake types by column."""
        incoming = self.directory / "incoming"
        incoming.mkdir(exist_ok=True)
        path = incoming / f"{uuid.uuid4()}.parquet"
        pq.write_table(rows, path, compression="zstd")
        try:
            return self.load_file(path, database, schema, table, types=types)
        finally:
            path.unlink()

    def load_file(
        self,
        path: Path,
        database: str,
        schema: str,
        table: str,
        *,
        null_text: str = "",
        types: Mapping[str, str] | None = None,
    ) -> int:
        """Make a table of that exact name from a CSV or Parquet file; returns its rows."""
        order = {"path": str(path.resolve()), "database": database, "schema": schema, "table": table}
        return int(self._control("load", order | {"null_text": null_text, "types": dict(types or {})}))

    def load_folder(self, folder: Path, database: str, schema: str, *, null_text: str = "") -> dict[str, int]:
        """Make a table of each CSV and Parquet file, named as the file without its ending; returns rows by table."""
        files = sorted(p for p in folder.iterdir() if p.name.lower().endswith(READABLE))
        if not files:
            raise ConfigError(f"{folder} holds no file to load: put CSV (.csv, .csv.gz) or Parquet files there")
        loaded = {}
        for path in files:
            ending = next(e for e in sorted(READABLE, key=len, reverse=True) if path.name.lower().endswith(e))
            table = path.name[: -len(ending)]
            loaded[table] = self.load_file(path, database, schema, table, null_text=null_text)
        return loaded

    # --- control -----------------------------------------------------------------------------------------------

    def queries(self, *, containing: str = "", include_describe: bool = False) -> list[dict[str, Any]]:
        """The log of statements, oldest first; those with that text only."""
        log: list[dict[str, Any]] = self._control("queries")
        wanted = containing.lower()
        return [q for q in log if wanted in q["text"].lower() and (include_describe or not q["describe_only"])]

    def downloads(self, query_id: str) -> dict[int, int]:
        """How often each batch of a result was downloaded; the first travels with the answer and is not counted."""
        for query in self.queries():
            if query["query_id"] == query_id:
                return {int(i): n for i, n in query["downloads"].items()}
        return {}

    def expire_results(self, query_id: str | None = None) -> int:
        """Forget one result or all, as Snowflake does after a day."""
        return int(self._control("expire", {"query_id": query_id}))

    def expire_urls(self, query_id: str | None = None) -> None:
        """Make every URL handed out so far useless, as after six hours."""
        self._control("expire-urls", {"query_id": query_id})

    def deny(self, tables: Sequence[str], *, user: str | None = None) -> None:
        """Withhold tables (``DATABASE.SCHEMA.TABLE``) from a user; an empty list gives all back."""
        self._control("deny", {"user": user or self.user, "tables": list(tables)})

    def set_delays(self, *, query_seconds: float = 0.0, batch_seconds: float = 0.0, containing: str = "") -> None:
        """Make queries (with that text) and downloads of batches slow."""
        order = {"query_seconds": query_seconds, "batch_seconds": batch_seconds, "containing": containing}
        self._control("delays", order)

    def set_time_travel(self, *, enabled: bool, window_seconds: float | None = None) -> None:
        """Keep copies of tables before they change, or not; those of moments in the window can be read."""
        self._control("time-travel", {"enabled": enabled, "window_seconds": window_seconds})

    def set_policies(
        self,
        table: str,
        *,
        masking: Mapping[str, str] | None = None,
        row_access: str | None = None,
        permitted: bool = True,
    ) -> None:
        """Set masking policies by column, and a row access policy, on a table (``DATABASE.SCHEMA.TABLE``)."""
        order = {"masking": dict(masking or {}), "row_access": row_access, "permitted": permitted}
        self._control("policies", {"table": table, **order})

    def set_warehouse(self, state: str, *, name: str = "COMPUTE_WH") -> None:
        """Let a warehouse be ``running`` or ``dropped``, or out of its ``quota``; what runs on it ends with it."""
        self._control("warehouse", {"name": name, "state": state})

    def break_assumptions(self, *assumptions: str) -> None:
        """Break assumptions of the contract, by their ids; without any, all hold again."""
        self._control("break", {"assumptions": assumptions})

    def set_account_parameters(self, **parameters: Any) -> None:
        """Set what the account has for parameters that a session does not set; replaces what it had."""
        self._control("account-parameters", parameters)

    def put_user(self, user: User) -> None:
        """Add a user or replace one."""
        self._control("users", asdict(user))

    # --- inside ------------------------------------------------------------------------------------------------

    def _control(self, name: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {CONTROL_HEADER: self._control_token}
        request = urllib.request.Request(f"{self.url}/local/{name}", data=data, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310
                return json.load(response)["result"]
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")
            raise ConfigError(f"the local Snowflake refused {name}: {detail}; see {self.log_file}") from error
        except OSError as error:
            raise AccessError(f"the local Snowflake at {self.url} does not answer; see {self.log_file}") from error

    def _await_port(self, process: "subprocess.Popen[bytes]") -> int:
        lines: list[bytes] = []
        stdout = process.stdout
        reader = threading.Thread(target=lambda: lines.append(stdout.readline() if stdout else b""), daemon=True)
        reader.start()
        reader.join(_READY_SECONDS)
        if not lines or not lines[0]:
            process.kill()
            process.wait()
            raise AccessError(f"the local Snowflake did not start within {_READY_SECONDS:g} s; see {self.log_file}")
        return int(json.loads(lines[0])["port"])
