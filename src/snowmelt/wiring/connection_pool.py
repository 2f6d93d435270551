"""Connections that outlive the work they were opened for, so that the next piece of work begins at once."""

import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, Protocol, TypeVar


class Connection(Protocol):
    """What can be kept warm."""

    def alive(self) -> bool:
        """Whether the other side still answers."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


C = TypeVar("C", bound=Connection)


class Pool(Generic[C]):
    """Idle connections of one run at a time, each lent to one borrower.

    A process of AWS Lambda is kept after an invocation and given the next; what it signed in to once serves again.
    """

    def __init__(self) -> None:
        self._idle: defaultdict[Hashable, list[C]] = defaultdict(list)
        self._lock = threading.Lock()

    @contextmanager
    def lend(self, key: Hashable, connect: Callable[[], C]) -> Iterator[C]:
        """A connection that answers: an idle one of that key, or else a new one.

        It is kept when the block ends well and closed when it does not: after an error nobody knows what it is in the
        middle of. Idle connections of other keys are closed, as those of a run that is over.
        """
        connection = self._warm(key) or connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._idle[key].append(connection)

    def _warm(self, key: Hashable) -> C | None:
        with self._lock:
            others = [c for other in [k for k in self._idle if k != key] for c in self._idle.pop(other)]
        for connection in others:
            _close(connection)
        while True:
            with self._lock:
                if not self._idle[key]:
                    return None
                connection = self._idle[key].pop()
            if connection.alive():
                return connection
            _close(connection)


def _close(connection: Connection) -> None:
    with suppress(Exception):  # nobody waits for what it has to say any more
        connection.close()
