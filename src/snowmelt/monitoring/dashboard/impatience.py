"""A connection that sends its question slowly, or none, does not hold the server."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

QUESTION_SECONDS = 5.0
"""How long a question may take from its first byte, or from the beginning of the connection."""


class ImpatientProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, which itself waits for ever for the end of a question's headers."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first question."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came; a question that is whole by now has made it in time."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._deadline is None:  # more bytes of the same question do not put it off
            self._deadline = self.loop.call_later(QUESTION_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
