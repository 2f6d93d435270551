"""Serve the dashboard on the loopback interface until it is interrupted."""

import secrets
import socket
from collections.abc import Callable

import uvicorn

from snowmelt.errors import ConfigError
from snowmelt.monitoring.dashboard import app
from snowmelt.monitoring.dashboard.impatience import ImpatientProtocol
from snowmelt.monitoring.reconnecting import Lookout

HOST = "127.0.0.1"
_TOKEN_BYTES = 24
_MOST_CONNECTIONS = 64


def serve(lookout: Lookout, *, port: int, on_url: Callable[[str], None]) -> None:
    """Answer until Ctrl-C; ``on_url`` is told the URL, whose token is another one each time.

    ConfigError when the port is taken; 0 is any that is free.
    """
    with listen(port) as listening:
        server, url = prepare(lookout, listening)
        on_url(url)
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            return


def prepare(lookout: Lookout, listening: socket.socket) -> tuple[uvicorn.Server, str]:
    """A server for that socket, and the only URL that it answers."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    port: int = listening.getsockname()[1]
    config = uvicorn.Config(
        app.build(lookout, token=token, port=port),
        access_log=False,  # the token is in every path
        log_level="error",
        lifespan="off",
        http=ImpatientProtocol,
        ws="none",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config), f"http://{HOST}:{port}/{token}/"


def listen(port: int) -> socket.socket:
    """A socket on the loopback interface; whoever comes from now on waits to be let in."""
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise ConfigError(f"--port {port}: {error.strerror}; name another one, or none") from error
    return listening
