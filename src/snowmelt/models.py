"""The values that travel: events and results of the actions, plans, work items.

Everything here is frozen, and whatever crosses a process is JSON: an event, an object in S3, a status row.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

PLAN_FORMAT = 1
"""Version of the frozen plans; a run is only resumed by code that reads its format."""


class Value(BaseModel):
    """Base of every value: frozen, and no field it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceColumn(Value):
    """A column as Snowflake describes it.

    ``type`` is the connector's own word: FIXED, REAL, TEXT, DATE, TIMESTAMP_NTZ, TIMESTAMP_LTZ, TIMESTAMP_TZ, VARIANT,
    OBJECT, ARRAY, BINARY, TIME, BOOLEAN, GEOGRAPHY, GEOMETRY, VECTOR ...
    ``scale`` is the number of digits after the point of a FIXED, and of a second for times.
    """

    name: str
    type: str
    precision: int | None = None
    scale: int | None = None
    length: int | None = None
    nullable: bool = True


class TargetColumn(Value):
    """A column as PostgreSQL's catalog has it.

    ``type`` is ``pg_type.typname`` (int4, numeric, varchar, timestamptz ...); of an array that of its elements with
    ``[]``, of a type that an extension brings with the extension's name (citext.citext), of a domain the type beneath
    it. ``typmod`` is ``pg_attribute.atttypmod``, or that of the domain.
    """

    name: str
    type: str
    typmod: int = -1
    kind: Literal["base", "array", "enum", "range", "composite"] = "base"
    domain: str = ""
    """The domain's name as SQL, if the column has one."""
    declared: str = ""
    """The type's name as SQL, without what the typmod says: what a text is cast to."""
    operators: str = "pg_catalog"
    """Schema of the type's own operators, which of an extension's type are not PostgreSQL's."""
    nullable: bool = True
    has_default: bool = False
    generated: bool = False
    identity: Literal["", "always", "by default"] = ""
    folds: bool = False
    """Whether texts that differ may be equal here: a collation of the column, or of a unique index, says so."""
    folds_by: str = ""
    """That collation, as SQL."""


Compatibility = Literal["predecessor"]
"""Whose files a config is read as."""
NarrowPolicy = Literal["reject", "round", "truncate"]
"""What becomes of a column whose type in the target has fewer digits: reject refuses it before anything moves."""


class Policies(Value):
    """What becomes of a value that PostgreSQL cannot take as it is.

    ``reject`` refuses the row and names it. Whatever else is done to a value is counted.
    """

    nul_characters: Literal["reject", "strip", "replace"] = "reject"
    invalid_utf8: Literal["reject", "strip", "replace"] = "reject"
    too_long: Literal["reject", "truncate"] = "reject"
    out_of_range: Literal["reject", "null"] = "reject"
    nan: Literal["keep", "reject", "null"] = "keep"
    before_year_1: Literal["keep", "reject", "null"] = "keep"
    sub_microsecond: Literal["truncate", "reject"] = "truncate"
    narrow: NarrowPolicy = "reject"


PolicyName = Literal[
    "nul_characters", "invalid_utf8", "too_long", "out_of_range", "nan", "before_year_1", "sub_microsecond", "narrow"
]
Change = Literal[PolicyName, "rounded"]
"""What happened to a value on its way; ``rounded`` is said beforehand of the pair of types, and is no one's choice."""


class ColumnPlan(Value):
    """How one column travels: which expression reads it, as what it is sent, where it goes."""

    source: SourceColumn
    target: TargetColumn
    select: str
    """SQL expression over the quoted source column, without an alias."""
    wire: str
    """Arrow type in which values are handed to the encoder, as ``pyarrow`` prints it."""
    cut: str | None = None
    """SQL condition, true for a value that loses digits when it is fetched; None where no value can."""
    narrowed: bool = False
    """Whether the policy ``narrow`` lets values lose digits; then that is what ``cut`` tells of."""
    staged_as: str | None = None
    """Type of the column in a staging table, for values that PostgreSQL itself must convert; None for the target's."""
    cast: str | None = None
    """PostgreSQL's SQL expression over the staged column that gives the target's value; with ``staged_as`` only."""
    policies: Policies = Policies()


class TableName(Value):
    """A table in one database, its parts exact."""

    schema_name: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.name}"


# --- what chunks read -----------------------------------------------------------------------------------------------

KeyKind = Literal["number", "text", "date", "timestamp_ntz", "timestamp_ltz", "timestamp_tz"]

Key = tuple[str | None, ...]
"""A place in the order: the values of the first columns in their exact text, None for NULL.

Numbers are decimal digits, dates 2026-01-31, times 2026-01-31 23:59:59.123456789, in UTC where the type has a zone.
"""


class KeyColumn(Value):
    """A column of the key, its name exact."""

    name: str = Field(min_length=1)
    kind: KeyKind


class KeyRange(Value):
    """Rows from ``start`` up to, not including, ``stop``; None is the very beginning or the very end, NULLs included.

    The columns are those of the table's plan: thousands of ranges would only repeat them.
    """

    start: Key | None = None
    stop: Key | None = None
    rows: int = Field(ge=0)
    """How many there were when the range was planned."""

    @property
    def nulls(self) -> bool:
        """Whether it holds the rows, or some of them, whose first column is NULL, and no others."""
        return self.start is not None and self.start[0] is None


class KeySpec(Value):
    """What is to be cut, and how."""

    table: str
    """The table's full name as SQL, every part quoted."""
    columns: tuple[KeyColumn, ...] = Field(min_length=1)
    batch_size: int = Field(ge=1)
    at: str = ""
    """The clause after the name that freezes what is read, or nothing."""
    source_filter: str | None = None
    """The user's own condition."""
    within: KeyRange | None = None
    """Only these rows: a range that turned out too big for one invocation."""

    @model_validator(mode="after")
    def _distinct_columns(self) -> Self:
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"chunking_columns names a column twice: {', '.join(names)}")
        return self


class WatermarkPlan(Value):
    """Which rows an incremental run reads; ``low`` and ``high`` are inclusive, as text of the kind."""

    source: str
    target: str
    kind: Literal["number", "date", "timestamp", "moment", "text"]
    low: str | None
    high: str | None
    null_rows: int
    limit: str | None = None
    """A watermark beyond it counts as none: every run reads such rows, and ``high`` is taken from the others."""


LoadMode = Literal["copy", "upsert", "insert_only"]
OnExtraColumns = Literal["warn", "fail"]
OnDuplicateKeys = Literal["fail", "newest", "reject"]
VerificationAtEnd = Literal["off", "counts", "checksums"]
WatermarkLimit = Literal["now", "none"]
WhenResultIsGone = Literal["restarts", "merges again", "stops", "does not apply"]


class TablePlan(Value):
    """All that is decided about a table before its first row moves; frozen in the store for the run's life."""

    table_id: int
    source: str
    """The source table as the config writes it; how status rows and messages name the table."""
    target: TableName
    columns: tuple[ColumnPlan, ...]
    reads_from: str
    """The source table's full name as SQL, with the clause that freezes it, if it can be frozen."""
    stored_bytes: int | None = None
    """What Snowflake stored of the source table when it was planned; None where it does not say, as of a view."""
    counted_as: str | None = None
    """The name under which Snowflake's catalog counts just the rows that are read; None where it counts others."""
    conditions: tuple[str, ...] = ()
    """What the rows must meet: the config's filter, the watermark's bounds."""
    order_by: tuple[str, ...] = ()
    """Source columns by which a chunk is sorted."""
    strategy: Literal["one_scan", "key_range"] = "one_scan"
    keys: KeySpec | None = None
    """How key ranges are cut; only with that strategy."""
    is_frozen: bool = True
    """Whether every statement of the run reads the same rows; if not, counts are estimates."""
    load_mode: LoadMode = "copy"
    on_duplicate_keys: OnDuplicateKeys | None = None
    """What becomes of rows with one key; None, as in plans of earlier versions: newest where there is a watermark."""
    repeat_number: str = ""
    """SQL that numbers the rows of a key from 1, the one to load first; only where the others are to be rejected."""
    one_row_per_key: bool = False
    """Whether a merge may meet a key again only where a watermark says which row is newer."""
    key: tuple[str, ...] = ()
    """Target columns that identify a row; what upsert and insert-only need, and COPY falls back on."""
    watermark: WatermarkPlan | None = None
    """Bounds of an incremental run, and the target column that tells the newer of two rows with the same key."""
    truncate_onstart: bool
    disable_index: bool = False
    starts_with: tuple[int, ...] = ()
    """Tables of the run that foreign keys tie to this one, itself among them: made ready in one transaction."""
    loads_after: tuple[int, ...] = ()
    """Tables of the run that this one refers to."""
    dropped_keys: tuple[str, ...] = ()
    """Foreign keys of the target that are dropped for the load, and put back after it."""
    refers_to_itself: bool = False
    """All rows come in one transaction, at the end of which PostgreSQL checks that each finds the one it refers to."""
    allow_shrink_to: float = 0.5
    """The part of the target's rows that the source must have for the target to be truncated."""
    append: bool
    shares_target: bool = False
    """Whether other tables are merged into the same target."""
    code_path: tuple[str, ...] = ()
    """Schemas in which the target's own code, such as its triggers, finds names without a schema."""
    batch_size: int
    parallel_threads: int = 1000
    """Chunks of the table that are loaded at once, at most."""
    max_retry_attempts: int
    max_rejected_rows: int = 0
    """Rows that may be rejected, in all chunks together, for the table to count as complete."""
    warnings: tuple[str, ...] = ()
    omitted: str = ""
    """One clause: which source columns are not loaded, and what pairs of types lose; nothing where all is kept."""

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Target columns that tell rows apart, or else those whose source columns cut the table into ranges."""
        if self.key or self.keys is None:
            return self.key
        targets = {column.source.name: column.target.name for column in self.columns}
        return tuple(targets[column.name] for column in self.keys.columns if column.name in targets)

    @property
    def is_cast(self) -> bool:
        """Whether rows go through a staging table because PostgreSQL has to convert some of their values."""
        return any(column.cast for column in self.columns)

    @property
    def is_staged(self) -> bool:
        """Whether rows go through a staging table: to be converted, or to be merged."""
        return self.is_cast or self.load_mode != "copy"

    @property
    def when_result_is_gone(self) -> WhenResultIsGone:
        """What becomes of the table when the run outlives the day that Snowflake keeps the scan's result.

        A table that is truncated is scanned and truncated again, one that is merged is scanned and merged again; rows
        that were only added cannot be told from those still to come. Key ranges read the table itself.
        """
        if self.keys is not None:
            return "does not apply"
        if self.truncate_onstart:
            return "restarts"
        return "stops" if self.load_mode == "copy" else "merges again"

    @property
    def keeps_newer(self) -> bool:
        """Whether a row of the target with a newer watermark stays as it is, now or in the runs that follow."""
        return self.watermark is not None and bool(self.key) and not self.truncate_onstart

    @property
    def target_watermark(self) -> str | None:
        """The target column that tells the newer of two rows."""
        return self.watermark.target if self.watermark else None

    @property
    def watermark_of(self) -> str:
        """Which source table a stored watermark of the target is of; nothing where the target has only one."""
        return self.source if self.shares_target else ""

    @property
    def takes_newest(self) -> bool:
        """Whether of rows with one key the newest is loaded and the others give way to it."""
        return self.watermark is not None and self.on_duplicate_keys in (None, "newest")


class DryRunTable(Value):
    """What would become of one table; ``statements`` are what Snowflake would be asked, one of each kind.

    Of a table that one scan reads ``chunks`` is about right: it depends on how Snowflake cuts the result.
    """

    table: str
    target: str
    strategy: str
    load_mode: LoadMode
    rows: int
    chunks: int
    staged_columns: tuple[str, ...] = ()
    """Columns that PostgreSQL converts on their way through a staging table, each with its expression."""
    truncates: bool
    on_duplicate_keys: OnDuplicateKeys | None = None
    """What becomes of rows with one key; None where the table has no key."""
    drops_indexes: tuple[str, ...]
    drops_foreign_keys: tuple[str, ...] = ()
    loads_after: tuple[str, ...]
    when_result_is_gone: WhenResultIsGone
    statements: tuple[str, ...]
    warnings: tuple[str, ...]


class DryRunSkipped(Value):
    """A table that a run would skip, and why."""

    table: str
    target: str
    problems: tuple[str, ...]


class DryRunPlan(Value):
    """What a run would do."""

    message: str
    tables: tuple[DryRunTable, ...]
    skipped: tuple[DryRunSkipped, ...] = ()
    connections_needed: int
    connections_free: int
    warnings: tuple[str, ...]


class RunPlan(Value):
    """What a run carries from its first action to its last."""

    plan_format: int = PLAN_FORMAT
    snowmelt_version: str
    run_id: str
    source_name: str
    config_hash: str
    config: dict[str, Any]
    """The part of the config that the hash covers, to say later what changed; no secrets."""
    target_database: str
    snowflake_database: str
    snowflake_schema: str
    snowflake_user: str
    snowflake_role: str
    parallel_threads: int
    threads_per_invocation: int = 1
    code_path: tuple[str, ...] = ()
    """Schemas in which the targets' own code finds names without a schema."""
    lambda_timeout_buffer_seconds: float
    tables: tuple[str, ...]
    """Source tables; the position is the ``table_id``."""
    compatibility: Compatibility | None = None
    """Whose files the config was read as."""
    skipped: tuple[int, ...] = ()
    """Those of them that a check refused, which have no plan."""

    @property
    def threads(self) -> int:
        """Chunks that one invocation loads at once."""
        return min(self.threads_per_invocation, self.parallel_threads)

    @property
    def max_concurrency(self) -> int:
        """Invocations at once, so that their threads together are no more than ``parallel_threads``."""
        return self.parallel_threads // self.threads


class ScanSlice(Value):
    """Rows of one immutable result: from a row of one result batch, on through the following batches."""

    query_id: str
    first_batch: int
    offset: int
    rows: int


ChunkRead = ScanSlice | KeyRange
"""What a chunk reads: rows of a result that is there, or a range of keys of the table itself."""
_CHUNK_READ: TypeAdapter[ChunkRead] = TypeAdapter(ChunkRead)


def chunk_read(value: object) -> ChunkRead:
    """What a status row says that a chunk reads."""
    return _CHUNK_READ.validate_python(value, strict=False)


class WorkItem(Value):
    """Chunks of one table that one invocation is given."""

    item_id: int
    table_id: int
    table: str
    chunks: tuple[int, ...]
    slowest_seconds: float = 0.0
    """The longest that a chunk of this table has taken so far; what the next one may need."""
    threads: int | None = None
    """Chunks that are loaded at once; None for as many as the run's plan says."""


class Location(Value):
    """An object of the store."""

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """How people name it: a path where the store is a folder, else ``s3://…``."""
        return f"{self.bucket}/{self.key}" if "/" in self.bucket else f"s3://{self.bucket}/{self.key}"


# --- events ---------------------------------------------------------------------------------------------------------


class Consents(Value):
    """What someone agreed to for one run; what is agreed once holds when the run is resumed."""

    allow_shrink: bool = False
    """Targets may lose most of their rows."""
    accept_rejected: bool = False
    """Tables are complete however many of their rows are refused."""


RUN_ID = r"^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$"
"""What every run's id is like: it names folders of the store, lock keys and sessions."""
RunId = Annotated[str, StringConstraints(pattern=RUN_ID, max_length=128)]


def is_run_id(text: str) -> bool:
    """Return whether a run can have the id; the one check of what others send."""
    return len(text) <= 128 and re.fullmatch(RUN_ID.strip("^$"), text) is not None


ExecutionId = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", min_length=1, max_length=1024)]


class Asked(Value):
    """What a start may say, whoever sends it."""

    source_name: str | None = None
    no_resume: bool = False
    resume_run_id: RunId | None = None
    tables: tuple[str, ...] | None = None
    dry_run: bool = False
    allow_shrink: bool = False
    accept_rejected: bool = False
    skip_failing_tables: bool = False
    """Tables that a check refuses are skipped, and the others loaded; the run then ends as failed."""
    resume_max_age: int | float | str | None = None
    """Replaces the config's for this start; a bare number counts hours."""
    compatibility: Compatibility | None = None
    """Whose files the config is read as, before what it says itself."""


class ValidateConfigEvent(Asked):
    """Check everything, then open a run or resume one."""

    action: Literal["validate_config"]
    execution_id: ExecutionId

    @property
    def consents(self) -> Consents:
        """What this start agrees to."""
        return Consents(allow_shrink=self.allow_shrink, accept_rejected=self.accept_rejected)


class PlanChunksEvent(Value):
    """Free what is dead, plan what is left."""

    action: Literal["plan_chunks"]
    run_id: RunId
    execution_id: ExecutionId
    round: int = Field(ge=0)


class ProcessChunkEvent(Value):
    """Load the chunks of a work item."""

    action: Literal["process_chunk"]
    run_id: RunId
    item: WorkItem


class FinalizeEvent(Value):
    """Give the verdict."""

    action: Literal["finalize"]
    run_id: RunId
    execution_id: ExecutionId


class TestConnectionsEvent(Value):
    """Ask both servers whether they would let a run happen."""

    __test__ = False  # not a test class

    action: Literal["test_connections", "test_postgres", "test_snowflake"]
    source_name: str | None = None


class MigrateEvent(Asked):
    """Take whole runs as far as one invocation can; the same event again goes on.

    ``source_name`` may name several with commas between; without it all enabled ones are meant.
    """

    action: Literal["migrate"] = "migrate"


class NextSourceEvent(Value):
    """Say which source an execution runs next, and keep how the one before has ended."""

    action: Literal["next_source"]
    execution_id: ExecutionId
    given: dict[str, Any]
    """The execution's input at first, then the start of the source that has ended."""
    left: tuple[str, ...] | None = None
    """Sources that are still to be run; None before the first."""
    done: tuple["SourceOutcome", ...] = ()
    outcome: dict[str, Any] | None = None
    """What the state machine knows of the end: the verdict, or what a dry run says, or the failure of a state."""


Event = Annotated[
    NextSourceEvent
    | MigrateEvent
    | ValidateConfigEvent
    | PlanChunksEvent
    | ProcessChunkEvent
    | FinalizeEvent
    | TestConnectionsEvent,
    Field(discriminator="action"),
]


# --- results --------------------------------------------------------------------------------------------------------


class ValidateConfigResult(Value):
    """The run that is now open."""

    run_id: str
    resumed: bool
    message: str
    tables: int
    warnings: tuple[str, ...] = ()
    plan: Location | None = None
    """What a dry run found."""


class PlanChunksResult(Value):
    """What the workflow does next. A manifest comes only with ``process``; the numbers are always set."""

    next: Literal["process", "wait", "finalize"]
    round: int
    """The round to ask for next."""
    manifest: Location | None = None
    items: int = 0
    max_concurrency: int = 1
    wait_seconds: int = 0
    reason: str = ""


class ProcessChunkResult(Value):
    """Chunks by what became of them, and rows that are now in the target."""

    completed: int = 0
    released: int = 0
    failed: int = 0
    skipped: int = 0
    rows: int = 0
    rejected: int = 0
    load_seconds: float = 0.0
    """Of all threads together, from their first chunk to their last."""
    snowflake_seconds: float = 0.0
    """Of these, what fetching took; meanwhile PostgreSQL may still have been busy with what came before."""


class FinalizeResult(Value):
    """The verdict, or a call to come again."""

    next: Literal["done", "more"]
    status: Literal["running", "completed", "completed_with_rejects", "failed"]
    message: str
    report: Location | None = None
    """None when it could not be made; `snowmelt report` makes it afresh."""
    page: Location | None = None
    """The same for people."""
    wait_seconds: int = 0


class SourceOutcome(Value):
    """How far the run of one source has come."""

    source_name: str
    status: Literal["completed", "completed_with_rejects", "failed", "partial", "not_started", "dry_run"]
    message: str
    run_id: str | None = None
    warnings: tuple[str, ...] = ()


class MigrateResult(Value):
    """How far the runs of all sources that were asked for have come.

    ``partial``: time was nearly over; the same event again goes on where this invocation stopped.
    """

    status: Literal["completed", "failed", "partial"]
    message: str
    runs: tuple[SourceOutcome, ...]


class NextSourceResult(Value):
    """The start of the next source's run, or how all of them ended."""

    next: Literal["source", "completed", "failed"]
    sources: Literal["one", "several"]
    start: dict[str, Any] = {}
    done: tuple[SourceOutcome, ...] = ()
    left: tuple[str, ...] = ()
    message: str = ""
    result: MigrateResult | None = None


class ConnectionVerdict(Value):
    """Whether one server would let a run happen, and if not what to do."""

    server: Literal["snowflake", "postgres"]
    ok: bool
    message: str


class TestConnectionsResult(Value):
    """One verdict per server."""

    __test__ = False  # not a test class

    ok: bool
    verdicts: tuple[ConnectionVerdict, ...]
