"""A monitor that outlives its connection, for whoever stays and watches."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from snowmelt.config import Config, SourceConfig
from snowmelt.engine import status_store
from snowmelt.errors import SnowmeltError
from snowmelt.models import Value
from snowmelt.monitoring import status_queries
from snowmelt.monitoring.monitor import ChunkProgress, ErrorGroup, Monitor
from snowmelt.monitoring.snapshot import RunOverview, RunSummary
from snowmelt.postgres.session import Session
from snowmelt.wiring import Wiring

STATEMENT_SECONDS = 10.0
"""A statement that takes longer is given up: watching must not weigh on what is watched."""

Seen = TypeVar("Seen")


class Scene(Value):
    """The latest runs of a source, and one of them with its errors, at one moment."""

    source_name: str
    runs: tuple[RunSummary, ...]
    run: RunOverview | None
    errors: tuple[ErrorGroup, ...]


class Lookout:
    """Looks at the runs of a source, one look at a time, from as many threads as like.

    The session can change nothing. When its server goes away a look fails with what happened, and the next one
    connects again.
    """

    def __init__(self, wiring: Wiring, config: Config, source: SourceConfig) -> None:
        self._wiring = wiring
        self._config = config
        self._source = source
        self._session: Session | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._close()

    @property
    def source_name(self) -> str:
        """Whose runs are looked at."""
        return self._source.source_name

    def scene(self, run_id: str | None = None) -> Scene:
        """The run of that name, or without one the latest; DataError when the source has none of that name."""

        def see(monitor: Monitor) -> Scene:
            runs = monitor.latest(self.source_name)
            chosen = run_id or next((run.run_id for run in runs), None)
            return Scene(
                source_name=self.source_name,
                runs=runs,
                run=monitor.overview(self.source_name, chosen) if chosen else None,
                errors=monitor.errors(chosen) if chosen else (),
            )

        return self._look(see)

    def chunks(self, run_id: str, table_id: int, *, position: int, limit: int) -> tuple[ChunkProgress, ...]:
        """Some chunks of a table in all detail, from a position in their order on."""
        return self._look(
            lambda monitor: monitor.chunks(self.source_name, run_id, table_id, position=position, limit=limit)
        )

    def _look(self, see: Callable[[Monitor], Seen]) -> Seen:
        with self._lock:
            kept = self._session is not None
            try:
                return self._once(see)
            except SnowmeltError:
                # A session that was kept may have died long ago with a server that is back.
                if not kept or self._session is not None:
                    raise
            return self._once(see)

    def _once(self, see: Callable[[Monitor], Seen]) -> Seen:
        session = self._session = self._session or self._connect()
        try:
            with session.transaction():
                return see(Monitor(session))
        except SnowmeltError:
            if session.closed:
                self._close()
            raise

    def _connect(self) -> Session:
        session = self._wiring.connect_target(self._config, self._source.postgres_database, "snowmelt watch")
        try:
            status_store.require_installed(session)
            status_queries.look_only(session, statement_seconds=STATEMENT_SECONDS)
        except SnowmeltError:
            session.close()
            raise
        return session

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
