"""Build the clients an action needs, from the config and the environment; nothing else does."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from snowmelt import config as configs
from snowmelt import manifest_store
from snowmelt.aws import executions
from snowmelt.aws.secret import Secrets
from snowmelt.config import Config, PostgresConfig, SnowflakeConfig, SourceConfig
from snowmelt.deadline import Deadline
from snowmelt.engine import connection_count, leases, status_store
from snowmelt.engine.status_store import Driver, RunRow
from snowmelt.errors import AccessError, ConfigError, OutOfTimeError, SnowmeltError, TransientError, UnreachableError
from snowmelt.manifest_store import Store
from snowmelt.models import Compatibility, RunPlan, TablePlan
from snowmelt.postgres.session import Session
from snowmelt.settings import Settings
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.wiring.connection_pool import Pool
from snowmelt.wording import WITH_NO_RESUME

DRIVER_SECONDS = 960.0
"""How long a driver may be silent: longer than the longest invocation."""
_REMEMBERED = 64

_logger = logging.getLogger(__name__)
_Connection = TypeVar("_Connection")
_Section = TypeVar("_Section", PostgresConfig, SnowflakeConfig)


class Wiring:
    """What one process may build: config, store, sessions.

    Each worker thread opens its own sessions; a connection is never shared.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._given_environment = environment
        self._secrets = Secrets(settings.secret_id, settings.postgres_secret_id)
        self._driver_backend: tuple[int, datetime] | None = None
        self._runs: dict[str, RunPlan] = {}
        self._tables: OrderedDict[tuple[str, int], TablePlan] = OrderedDict()
        self.targets: Pool[Session] = Pool()
        self.sources: Pool[SnowflakeSource] = Pool()

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment, what it lacks filled in from the secrets it names and, for a local config, ``.env``.

        Both may change while the process lives, so it is asked for whenever a config is read.
        """
        environment = self._given_environment
        if self._secrets:
            environment = {**self._secrets.values(), **environment}
        if not self._settings.config.startswith("s3://"):
            environment = configs.read_dotenv(Path(self._settings.config).parent / ".env", environment)
        return environment

    def config(self, compatibility: Compatibility | None = None) -> Config:
        """The config as it is now, read as the files of whom the caller or the settings say.

        ConfigError with every problem in it.
        """
        return self.loaded(config_text(self._settings.config), compatibility)

    def loaded(self, text: str, compatibility: Compatibility | None = None) -> Config:
        """Return the config that a text describes, completed like the one that the settings name."""
        where, read_as = self._settings.config, compatibility or self._settings.compatibility
        config = configs.load(text, self.environment, where=where, compatibility=read_as)
        return config.model_copy(update={"postgres": config.postgres.trusting(self._default_roots())})

    def _default_roots(self) -> str | None:
        """Return the authorities for a config without any; libpq's own variable counts before ours."""
        return None if self._given_environment.get("PGSSLROOTCERT") else self._settings.sslrootcert

    @cached_property
    def store(self) -> Store:
        """Where plans and manifests are kept."""
        return manifest_store.open_store(self._settings.store)

    def driver(self, execution_id: str) -> Driver:
        """The execution as the status schema records it."""
        return Driver(execution_id, DRIVER_SECONDS, self._driver_backend)

    @contextmanager
    def driven_by(self, session: Session) -> Iterator[None]:
        """Within, this process drives runs as long as that session lives; when it dies, others see it at once."""
        self._driver_backend = session.backend()
        try:
            yield
        finally:
            self._driver_backend = None

    def execution_state(self, execution_id: str) -> Literal["running", "ended", "unknown"]:
        """What AWS says of an execution."""
        return executions.state(execution_id)

    @contextmanager
    def target(self, config: Config, database: str, application_name: str) -> Iterator[Session]:
        """A session in the target database."""
        with self.connect_target(config, database, application_name) as session:
            yield session

    def connect_target(self, config: Config, database: str, application_name: str) -> Session:
        """The same, for the caller to close."""
        return self.signed_in(
            config.postgres,
            lambda postgres: Session.connect(postgres, database=database, application_name=application_name),
            lambda: self.config().postgres,
        )

    def signed_in(
        self, section: _Section, connect: Callable[[_Section], _Connection], again: Callable[[], _Section]
    ) -> _Connection:
        """Return what ``connect`` makes of the section; where it is refused, once more of what ``again`` reads then.

        A secret may have been rotated since the config was read. The error is the first one, where nothing has changed.
        """
        try:
            return connect(section)
        except AccessError as refused:
            if self._secrets:
                try:
                    self._secrets.read_again()
                except (AccessError, ConfigError) as error:
                    raise AccessError(f"{refused.message}; and {error.message}") from refused
            renewed = again()
            if renewed == section:
                if not self._secrets:
                    raise
                raise type(refused)(f"{refused.message}; {self._secrets.refused_again()}") from refused
        _logger.info("signing in again: the credentials have changed since they were read")
        return connect(renewed)

    @contextmanager
    def source(self, config: Config, source: SourceConfig, run_id: str | None) -> Iterator[SnowflakeSource]:
        """A signed-in session in the source's database and schema."""
        snowflake = self.signed_in(
            config.snowflake,
            lambda section: SnowflakeSource.connect(
                section, database=source.snowflake_database, schema=source.snowflake_schema, run_id=run_id
            ),
            lambda: self.config().snowflake,
        )
        with snowflake:
            yield snowflake

    def open_run(self, run_id: str) -> "RunResources":
        """What the later actions of a run need; connects to nothing yet."""
        return RunResources(self, run_id)

    def run_plan(self, run_id: str) -> RunPlan:
        """The frozen plan of the run, read once per process."""
        if run_id not in self._runs:
            self._runs[run_id] = manifest_store.load_run(self.store, run_id)
        return self._runs[run_id]

    def table_plan(self, run_id: str, table_id: int) -> TablePlan:
        """The frozen plan of one table, read once per process."""
        key = (run_id, table_id)
        if key not in self._tables:
            self._tables[key] = manifest_store.load_table(self.store, run_id, table_id)
        while len(self._tables) > _REMEMBERED:
            self._tables.popitem(last=False)
        return self._tables[key]


class RunResources:
    """The clients of one invocation for one run: sessions are opened when asked for, and closed with the block."""

    def __init__(self, wiring: Wiring, run_id: str) -> None:
        self._wiring = wiring
        self.run_id = run_id
        self.store = wiring.store
        self._driven_by: str | None = None

    @cached_property
    def plan(self) -> RunPlan:
        """The frozen plan of the run."""
        return self._wiring.run_plan(self.run_id)

    @property
    def memory_mb(self) -> int | None:
        """Memory of the function that this is; None when it is none."""
        given = self._wiring.environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        return int(given) if given.isdigit() else None

    @cached_property
    def config(self) -> Config:
        """The config as it is now, for its connections; what moves is taken from the frozen plan alone."""
        return self._wiring.config(self.plan.compatibility)

    def drive(self, session: Session, execution_id: str) -> RunRow:
        """The run, driven by this execution: this session and those opened later do only what its driver may.

        HeldError when another execution drives it.
        """
        row = status_store.drive(session, self.run_id, self.driver(execution_id))
        self._driven_by = execution_id if row.status == "running" else None
        return row

    @contextmanager
    def target(self) -> Iterator[Session]:
        """A session in the run's target database.

        A server that cannot be reached in the middle of a run may come back: TransientError.
        """
        with self.connect_target() as session:
            yield session

    def connect_target(self) -> Session:
        """The same, for the caller to close."""
        session = self._connect_target(f"snowmelt {self.run_id}")
        if self._driven_by is not None:
            try:
                status_store.guard_driver(session, self.run_id, self._driven_by)
            except SnowmeltError:
                session.close()
                raise
        return session

    @contextmanager
    def warm_target(self) -> Iterator[Session]:
        """A session for a worker, which this process keeps for the next one as long as the config names the same.

        It is not kept where the server is short of connections.
        """
        name = leases.worker_name(self.run_id)
        key = (self.run_id, self.config.postgres)
        with self._wiring.targets.lend(key, lambda: self._connect_target(name)) as session:
            yield session
            connection_count.leave_room(session)

    def _connect_target(self, application_name: str) -> Session:
        try:
            session = self._wiring.connect_target(self.config, self.plan.target_database, application_name)
        except UnreachableError as error:
            raise TransientError(error.message) from error
        status_store.adopt_fingerprint_key(session)
        return session

    @contextmanager
    def source(self) -> Iterator[SnowflakeSource]:
        """A session in Snowflake, signed in as the user and role the run began with.

        Results can be read only by the user whose statement they are; another one is a ConfigError.
        """
        with self._connect_source() as snowflake:
            yield snowflake

    def warm_source(self) -> AbstractContextManager[SnowflakeSource]:
        """The same for a worker, which this process keeps for the next one as long as the config names the same."""
        return self._wiring.sources.lend((self.run_id, self.config.snowflake), self._connect_source)

    def source_aside(self, statement_seconds: int) -> SnowflakeSource:
        """A session for short statements that are no part of the run; for the caller to close."""
        return self._signed_in(run_id=None, statement_timeout_seconds=statement_seconds)

    def _connect_source(self) -> SnowflakeSource:
        return self._signed_in(run_id=self.run_id)

    def _signed_in(self, *, run_id: str | None, **changes: object) -> SnowflakeSource:
        return self._wiring.signed_in(
            self._source_config(self.config.snowflake).model_copy(update=changes),
            lambda section: SnowflakeSource.connect(
                section, database=self.plan.snowflake_database, schema=self.plan.snowflake_schema, run_id=run_id
            ),
            lambda: self._source_config(self._wiring.config().snowflake).model_copy(update=changes),
        )

    def _source_config(self, config: SnowflakeConfig) -> SnowflakeConfig:
        if config.user.upper() != self.plan.snowflake_user.upper():
            raise ConfigError(
                f"run {self.run_id} was begun as Snowflake user {self.plan.snowflake_user}, whose results no one "
                f"else can read; the config now names {config.user}: put it back, or start {WITH_NO_RESUME}"
            )
        return config.model_copy(update={"role": self.plan.snowflake_role})

    def within_buffer(self, deadline: Deadline) -> Deadline:
        """The deadline with the run's buffer kept back; ConfigError when that leaves nothing."""
        return keep_back(deadline, self.plan.lambda_timeout_buffer_seconds, self.plan.compatibility)

    def table(self, table_id: int) -> TablePlan:
        """The frozen plan of one table."""
        return self._wiring.table_plan(self.run_id, table_id)

    def driver(self, execution_id: str) -> Driver:
        """The execution as the status schema records it."""
        return self._wiring.driver(execution_id)


_LARGEST_BUFFER = 0.4
"""Of an invocation, for configs of the predecessor, which runs with any time-out whatever its buffer."""


_LEAST_SECONDS = 1.0
"""An invocation that has less beside its buffer never had time to work."""


def keep_back(deadline: Deadline, buffer_seconds: float, compatibility: Compatibility | None = None) -> Deadline:
    """The deadline with a buffer for an orderly exit.

    ConfigError when that leaves no invocation time to work, OutOfTimeError when this one has used its time up.
    """
    kept = with_buffer(deadline, buffer_seconds, compatibility)
    if not kept.allows(0):
        if kept.given_seconds > kept.buffer_seconds + _LEAST_SECONDS:  # enough for others, which have used it up
            raise OutOfTimeError("this invocation's time is nearly over; the same start resumes the run")
        raise ConfigError(
            f"lambda_timeout_buffer_seconds is {buffer_seconds:g}, but the function's time-out leaves this invocation "
            f"{deadline.lifetime_seconds():.0f} s; lower the buffer or raise the time-out"
        )
    return kept


def with_buffer(deadline: Deadline, buffer_seconds: float, compatibility: Compatibility | None) -> Deadline:
    """Return the deadline with that buffer, or with the largest that a config of the predecessor has."""
    if compatibility == "predecessor":
        buffer_seconds = min(buffer_seconds, _LARGEST_BUFFER * deadline.given_seconds)
    return deadline.with_buffer(buffer_seconds)


def config_text(where: str) -> str:
    """Return the text of a config, a file or an object of S3; ConfigError where it cannot be read."""
    if where.startswith("s3://"):
        parts = urlsplit(where)
        return manifest_store.read_s3(parts.netloc, parts.path.lstrip("/")).decode()
    try:
        return Path(where).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"config {where} is not there; pass --config, or set SNOWMELT_CONFIG") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {where} cannot be read: {error}") from error
