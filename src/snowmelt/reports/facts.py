"""What is known of a run when its report is made; every part of it is also a part of ``report.json``."""

from datetime import datetime
from typing import Any, Literal

from snowmelt.models import LoadMode, Value


class Run(Value):
    """The run itself."""

    run_id: str
    source_name: str
    status: Literal["running", "completed", "completed_with_rejects", "failed", "abandoned"]
    started_at: datetime
    completed_at: datetime | None
    as_of: datetime
    """The moment the report speaks of: the end of the run, or of one that is on the moment it was looked at."""
    seconds: float
    snapshot_at: datetime
    """Up to when the source was read, on Snowflake's clock."""
    rounds: int
    config_hash: str
    store: str
    allow_shrink: bool
    accept_rejected: bool
    error_code: str | None = None
    error: str | None = None


class Execution(Value):
    """Who drove the run: an execution of the state machine, or a process of the command line."""

    execution_id: str
    started_at: datetime
    ended_at: datetime | None

    @property
    def is_local(self) -> bool:
        """Whether it was a process on someone's machine."""
        return self.execution_id.startswith("local:")


class Table(Value):
    """A table of the run, and what became of its chunks. Seconds of a chunk go from its claim to its mark."""

    table_id: int
    table: str
    target: str
    status: str
    strategy: str
    load_mode: LoadMode | None
    source_rows: int | None
    """None until the source is counted."""
    rows: int
    """That went in or were there already; refused ones are not among them."""
    inserted: int
    updated: int
    unchanged: int
    deduplicated: int
    kept_newer: int = 0
    """Not loaded: the target has a newer row."""
    rejected: int
    size_bytes: int
    seconds: float | None
    """From the submission of its scan to its end, which comes after that of the last table's load."""
    load_seconds: float | None
    """From the first claim of a chunk to the last mark."""
    rows_per_second: float | None
    """While it was loaded."""
    chunks: int
    chunks_completed: int
    chunks_running: int
    chunks_failed: int
    chunks_retried: int
    """That needed more than one attempt since the run was last resumed."""
    retries: int
    """Attempts beyond the first of each chunk."""
    median_seconds: float | None
    p95_seconds: float | None
    slowest_seconds: float | None
    total_seconds: float
    """Of all completed chunks together."""
    truncated_at: datetime | None
    started_at: datetime | None
    first_claimed_at: datetime | None
    last_loaded_at: datetime | None
    completed_at: datetime | None
    query_ids: tuple[str, ...]
    changed_values: dict[str, dict[str, int]]
    """Values that were changed on the way: column, what was done, how many."""
    warnings: tuple[str, ...]
    """What was said before the first row moved: columns left out, triggers, NULL where the target has NOT NULL."""
    may_lose: tuple[str, ...]
    """Of what was said, types that may lose something."""
    omitted: str = ""
    """Source columns that are not loaded, and what pairs of types lose, in one clause."""
    error_code: str | None
    error: str | None


class Pace(Value):
    """A part of the time in which rows were loaded."""

    starts_at: datetime
    seconds: float
    rows: float
    size_bytes: float
    chunks_at_once: float

    @property
    def rows_per_second(self) -> float:
        """Rows over seconds."""
        return self.rows / self.seconds


class Durations(Value):
    """So many chunks took at least ``low_seconds`` and at most ``high_seconds``."""

    low_seconds: float
    high_seconds: float
    chunks: int


class Rejected(Value):
    """Rejected rows for the same reason; fingerprints stand for values of rows in it."""

    table: str
    column: str | None
    sqlstate: str | None
    reason: str
    rows: int


class Problem(Value):
    """Errors that are alike: how many, where the first of them is, and what to do."""

    code: str
    what: str
    table: str | None
    count: int
    first: str | None
    example: str
    is_over: bool
    """Whether it was tried again since, or will be by itself."""
    remedy: str | None


class Verified(Value):
    """What was found when a table's target was compared with its source."""

    table_id: int
    table: str
    mode: str
    verdict: Literal["equal", "different", "not comparable"]
    source_rows: int | None
    target_rows: int | None
    missing: int | None
    extra: int | None
    changed: int | None
    kept_newer: int = 0
    """Rows of the source that the target has newer."""
    reason: str = ""
    seconds: float | None
    checked_at: datetime | None


class Index(Value):
    """An index that was dropped for the load."""

    index: str
    table: str
    is_unique: bool
    size_bytes: int
    """Before it was dropped."""
    seconds: float | None
    """Of the build that succeeded."""
    attempts: int
    state: Literal["built", "building", "failed", "not begun"]
    error_code: str | None
    error: str | None


class Warehouse(Value):
    """A warehouse of Snowflake, and what statements of the run used of it."""

    name: str
    size: str
    """As Snowflake writes it, such as X-Small; empty where it says nothing."""
    queries: int
    bytes_scanned: int
    execution_seconds: float
    """Of all statements together, time in queues not counted."""
    span_seconds: float
    """From the start of the first to the end of the last."""

    @property
    def busy_seconds(self) -> float:
        """The longest that it can have been busy: statements that ran at the same time share it."""
        return min(self.execution_seconds, self.span_seconds)


class SnowflakeUse(Value):
    """The statements of the run in Snowflake's own history."""

    warehouses: tuple[Warehouse, ...]
    is_partial: bool
    """Whether the history gave no more than its latest 10,000 statements, so that all of this is at least so much."""

    @property
    def queries(self) -> int:
        """Statements of all warehouses, and of none."""
        return sum(each.queries for each in self.warehouses)

    @property
    def bytes_scanned(self) -> int:
        """What they scanned."""
        return sum(each.bytes_scanned for each in self.warehouses)

    @property
    def execution_seconds(self) -> float:
        """How long they ran, all together."""
        return sum(each.execution_seconds for each in self.warehouses)


class Workers(Value):
    """How the run was set up to work. Memory is None where no function was asked."""

    invocations: int
    """At most, at the same time."""
    threads: int
    """Chunks that one invocation loads at once."""
    memory_mb: int | None


class Versions(Value):
    """What the run and this report were made with."""

    snowmelt: str
    """That began the run."""
    report_by: str
    python: str
    postgres: str
    plan_format: int


class Facts(Value):
    """All there is to say of a run."""

    run: Run
    executions: tuple[Execution, ...]
    tables: tuple[Table, ...]
    pace: tuple[Pace, ...]
    durations: tuple[Durations, ...]
    rejects: tuple[Rejected, ...]
    problems: tuple[Problem, ...]
    verification: tuple[Verified, ...]
    indexes: tuple[Index, ...]
    snowflake: SnowflakeUse | None
    workers: Workers
    config: dict[str, Any]
    """The frozen config: what shaped the run, every default filled in, no secret in it."""
    versions: Versions
    not_known: tuple[str, ...] = ()
    """What could not be found out, and why; what was left out as there was too much of it."""
