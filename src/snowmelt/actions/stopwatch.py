"""How long one waits for what comes from elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


class _End:
    """What comes after the last item."""


_END = _End()


@dataclass
class Stopwatch:
    """Seconds that were spent waiting, not working."""

    seconds: float = 0.0
    clock: Callable[[], float] = time.monotonic

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time that the block takes, however it ends."""
        began = self.clock()
        try:
            yield
        finally:
            self.seconds += self.clock() - began

    def while_taking(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items; the time that each takes to come is counted."""
        iterator = iter(items)
        while True:
            with self.running():
                found = next(iterator, _END)
            if isinstance(found, _End):
                return
            yield found
            del found  # or it would stay in memory while the next one is fetched
