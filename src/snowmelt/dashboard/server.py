"""Serve the dashboard on the loopback interface until it is interrupted."""

import secrets
import socket
from collections.abc import Callable

import uvicorn

from snowmelt.dashboard import app
from snowmelt.errors import ConfigError
from snowmelt.lookout import Lookout

HOST = "127.0.0.1"
_TOKEN_BYTES = 24
_MOST_CONNECTIONS = 64


def serve(lookout: Lookout, *, port: int, on_url: Callable[[str], None]) -> None:
    """Answer until Ctrl-C; ``on_url`` is told the URL, whose token is another one each time.

    ConfigError when the port is taken; 0 is any that is free.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with _listen(port) as listening:
        taken = listening.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(
                app.build(lookout, token=token, port=taken),
                access_log=False,  # the token is in every path
                log_level="error",
                lifespan="off",
                http="h11",
                ws="none",
                proxy_headers=False,
                server_header=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=1,
            )
        )
        on_url(f"http://{HOST}:{taken}/{token}/")
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            return


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen()  # before the URL is told, so that whoever comes at once is let in
    except OSError as error:
        listening.close()
        raise ConfigError(f"--port {port}: {error.strerror}; name another one, or none") from error
    return listening
