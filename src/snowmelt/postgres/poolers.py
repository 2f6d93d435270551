"""What stands between us and the server: nothing, or a pooler, which must keep one session for each of ours."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

import psycopg2.extensions

from snowmelt.errors import AccessError, TransientError

FIRST_ANSWER_SECONDS = 30.0
"""How long the first statement of a session may take, which a server answers at once."""
_LOOKS = 5
"""Between two clients that are busy, one look may find the same session twice by chance."""
PAST_THE_POOLER = "connect past the pooler: name the server itself in postgres.host and postgres.port"


@contextlib.contextmanager
def answering(connection: psycopg2.extensions.connection, *, where: str) -> Iterator[None]:
    """Cut the connection when the first statement, within, has no answer: TransientError then.

    A pooler lets everyone in, and keeps a statement until it has a session of the server to give. A pool that is too
    small would keep it for ever, and no setting of the client ends that wait.
    """
    is_cut = threading.Event()
    end = socket.socket(fileno=os.dup(connection.fileno()))

    def cut() -> None:
        is_cut.set()
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(FIRST_ANSWER_SECONDS, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except TransientError as error:
        silent = f"{where}: the first statement of a session had no answer within {FIRST_ANSWER_SECONDS:g} s"
        raise TransientError(
            f"{silent if is_cut.is_set() else error.message}; a pooler does so that has no session of the server left "
            f"to give: raise the size of its pool to parallel_threads and five more, or {PAST_THE_POOLER}"
        ) from error
    finally:
        timer.cancel()
        end.close()


def refuse_shared(pids: Callable[[], int], other: Callable[[], int], *, where: str) -> None:
    """AccessError where a pooler gives a session of the server away between two statements.

    ``pids`` and ``other`` ask, each in a connection of its own, which process of the server answers.
    """
    looks = [(pids(), other(), pids()) for _ in range(_LOOKS)]
    if any(first != again or first == others for first, others, again in looks):
        raise AccessError(
            f"{where}: a pooler stands before the server and gives each statement another session of it (transaction "
            "mode, or a proxy that multiplexes): settings, temporary tables and advisory locks would be lost or be "
            f"others'; {PAST_THE_POOLER}; or have the pooler keep a session for each client (pool_mode = session)"
        )
