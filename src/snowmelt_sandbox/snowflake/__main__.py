"""``python -m snowmelt_sandbox.snowflake``: serve until SIGTERM."""

import argparse
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import warnings
from pathlib import Path

import uvicorn

from snowmelt_sandbox.snowflake.control import Control, user_of
from snowmelt_sandbox.snowflake.engine import Engine
from snowmelt_sandbox.snowflake.queries import Delays, Queries
from snowmelt_sandbox.snowflake.results import MEGABYTE, BatchGrowth, ResultStore
from snowmelt_sandbox.snowflake.server import SnowflakeApi, build_app
from snowmelt_sandbox.snowflake.sessions import Sessions
from snowmelt_sandbox.snowflake.sign_in import Users


def main(arguments: list[str] | None = None) -> None:
    """Serve one account from one folder."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # fakesnow's small answers; the rows of queries take another way
    warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
    directory: Path = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    known = json.loads(options.users.read_text()) if options.users else []
    users = Users(options.account, map(user_of, known))
    engine = Engine(directory, memory_limit=options.memory_limit)
    growth = BatchGrowth(options.inline_rows, options.first_rows, options.chunk_megabytes * MEGABYTE)
    store = ResultStore(directory / "results", keep=options.keep_results)
    queries = Queries(engine, store, account=options.account, growth=growth)
    queries.delays = Delays(options.query_delay_seconds, options.batch_delay_seconds)
    queries.keep_copies = not options.no_time_travel
    sessions = Sessions(engine)
    sessions.account.update(json.loads(options.account_parameters))
    api = SnowflakeApi(users, sessions, queries, poll_seconds=options.poll_seconds)
    token = options.control.read_text() if options.control else None
    app = build_app(api, Control(engine, queries, users, sessions, token=token))

    def stop(*_: object) -> None:
        # threads in the middle of a query would hold up an orderly exit; the files are safe at any moment
        os._exit(0)

    listener = socket.create_server((options.host, options.port))
    # inherited by what it accepts; asyncio leaves it off here, and each answer waits 40 ms for an acknowledgement
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    signal.signal(signal.SIGTERM, stop)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=120))
    setattr(server, "capture_signals", contextlib.nullcontext)  # noqa: B010 - it would put its own in place of ours
    sys.stdout.write(json.dumps({"port": listener.getsockname()[1]}) + "\n")
    sys.stdout.flush()
    server.run(sockets=[listener])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m snowmelt_sandbox.snowflake", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; it is printed on stdout")
    parser.add_argument("--directory", type=Path, required=True, help="where databases and results are kept")
    parser.add_argument("--account", default="local")
    parser.add_argument("--users", type=Path, help="JSON file with a list of users")
    parser.add_argument(
        "--control", type=Path, help="file with the token of the control paths; without it they are shut"
    )
    parser.add_argument("--memory-limit", default="2GB")
    parser.add_argument("--inline-rows", type=int, default=500, help="rows that travel with the answer")
    parser.add_argument("--first-rows", type=int, default=1000, help="rows of the first batch after them")
    parser.add_argument("--chunk-megabytes", type=int, default=160, help="largest batch, unless the session says")
    parser.add_argument("--keep-results", type=int, default=1000)
    parser.add_argument("--poll-seconds", type=float, default=45.0, help="how long a request waits for its query")
    parser.add_argument("--query-delay-seconds", type=float, default=0.0)
    parser.add_argument("--batch-delay-seconds", type=float, default=0.0)
    parser.add_argument("--account-parameters", default="{}", help="JSON: what a session does not set for itself")
    parser.add_argument("--no-time-travel", action="store_true", help="keep no copies of changed tables")
    return parser


if __name__ == "__main__":
    main()
