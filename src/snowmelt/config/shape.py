"""The config's shape: every key, its type, its bounds and its default.

The attributes' docstrings are the descriptions in the JSON Schema.
"""

from collections.abc import Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from snowmelt.config import names
from snowmelt.config.values import (
    Age,
    Authenticator,
    Chunking,
    Condition,
    Count,
    Duration,
    Flag,
    Host,
    KeyType,
    NoneOrMore,
    Port,
    PostgresName,
    Retention,
    SchemaName,
    Seconds,
    Secret,
    Share,
    SnowflakeName,
    SslMode,
    Text,
    Threads,
    default_sslmode,
    protocol_for,
)
from snowmelt.errors import ConfigError
from snowmelt.models import (
    Compatibility,
    NarrowPolicy,
    OnDuplicateKeys,
    OnExtraColumns,
    VerificationAtEnd,
    WatermarkLimit,
)

SignIn = Literal["private_key", "rsa_key", "private_key_path", "token", "password"]

SIGN_IN_KEYS: tuple[SignIn, ...] = ("private_key", "rsa_key", "private_key_path", "token", "password")
"""Ways to sign in to Snowflake, the one that is taken first coming first."""

PROVEN_BY: dict[Authenticator, tuple[SignIn, ...]] = {
    "SNOWFLAKE": ("password",),
    "SNOWFLAKE_JWT": ("private_key", "rsa_key", "private_key_path"),
    "OAUTH": ("token",),
    "PROGRAMMATIC_ACCESS_TOKEN": ("token", "password"),
}
"""What each authenticator signs in with. A programmatic access token may also stand where a password does."""

SECRET_KEYS = frozenset({"private_key", "rsa_key", "private_key_passphrase", "token", "password"})
"""Keys whose values are never shown."""


class _Part(BaseModel):
    """Base of the config's parts: frozen, no key it does not know, no input in the text of its errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


# --- connections --------------------------------------------------------------------------------------------


class SnowflakeConfig(_Part):
    """How to reach Snowflake. Absent keys come from the environment: SNOWFLAKE_ACCOUNT and so on."""

    account: Text
    """Account identifier, such as myorg-myaccount."""
    user: Text
    """User that reads the source tables."""
    private_key: Secret | None = None
    """Key pair: the RSA private key as PEM text or base64 of its DER, or the path of its file."""
    rsa_key: Secret | None = None
    """Another name of private_key."""
    private_key_path: Text | None = None
    """Key pair: file of the RSA private key."""
    private_key_passphrase: Secret | None = None
    """Passphrase of an encrypted private key."""
    token: Secret | None = None
    """OAuth access token; or a programmatic access token, which authenticator must then say."""
    password: Secret | None = None
    """Password, where the account still lets one sign in alone; or a programmatic access token in its place."""
    authenticator: Authenticator | None = None
    """Which of them signs in, and as what; by default the first that is given, a token being OAuth's."""
    role: Text | None = None
    """Role to use; the user's default role otherwise."""
    warehouse: Text | None = None
    """Warehouse to use; the user's default warehouse otherwise."""
    host: Host | None = None
    """Server, if not <account>.snowflakecomputing.com."""
    port: Port = 443
    """Port of the server."""
    protocol: Literal["https", "http"] = "https"
    """http is for a stand-in on this machine, and refused for any other host."""
    statement_timeout_seconds: Annotated[Count, Field(le=604_800)] = 21_600
    """Snowflake ends a statement that runs longer."""

    @field_validator("protocol")
    @classmethod
    def _only_this_machine_in_the_clear(cls, protocol: str, info: ValidationInfo) -> str:
        return protocol if "host" not in info.data else protocol_for(protocol, info.data["host"])

    @property
    def sign_in(self) -> SignIn:
        """The way to sign in that is used: the first one given that the authenticator, if any, takes."""
        for key in SIGN_IN_KEYS if self.authenticator is None else PROVEN_BY[self.authenticator]:
            if getattr(self, key) is not None:
                return key
        if self.authenticator is not None:
            needed = " or ".join(PROVEN_BY[self.authenticator])
            raise ConfigError(f"snowflake.authenticator: {self.authenticator} needs {needed}; set it")
        raise ConfigError("snowflake: no way to sign in; set private_key, rsa_key, private_key_path, token or password")


class PostgresConfig(_Part):
    """How to reach PostgreSQL. Absent keys come from the environment: POSTGRES_HOST and so on."""

    host: Host
    """Server, or the folder of its socket."""
    port: Port = 5432
    """Port of the server."""
    user: Text
    """Role that owns or may write the target tables."""
    password: Secret | None = None
    """Password; absent where the server asks for none or libpq finds it by itself."""
    iam_auth: Flag = False
    """true signs in to RDS or Aurora as this process's identity of AWS, by a token for each connection."""
    region: Text | None = None
    """Region of the server, for iam_auth; that of the process by default."""
    sslmode: SslMode = Field(default_factory=lambda data: default_sslmode(data.get("host")))
    """As in libpq; verify-full by default, prefer for a server on this machine."""
    sslrootcert: Text | None = None
    """Certificate authorities that are trusted: PEM text, the path of its file, rds for those of AWS, or system."""
    status_schema: SchemaName = "migration_status"
    """Schema in which runs keep their status; runs with another one know nothing of these."""
    status_schema_owner: Text | None = None
    """Role that may own the status schema, beside user, the roles it is a member of, and superusers."""

    def trusting(self, sslrootcert: str | None) -> Self:
        """Return the same with these authorities where it checks the server's certificate and names none.

        Only then: libpq, given any, checks certificates under every other sslmode too, and under ``prefer`` goes on
        in the clear where the check fails.
        """
        if sslrootcert is None or self.sslrootcert is not None or not self.sslmode.startswith("verify-"):
            return self
        return self.model_copy(update={"sslrootcert": sslrootcert})


# --- values -------------------------------------------------------------------------------------------------


class ValuePolicies(_Part):
    """What becomes of values that PostgreSQL cannot take as they are; what is left out is as one level above."""

    nul_characters: Literal["reject", "strip", "replace"] | None = None
    """NUL characters in a text: reject (default) refuses the row, replace writes U+FFFD."""
    invalid_utf8: Literal["reject", "strip", "replace"] | None = None
    """Bytes of a text that are not UTF-8: reject (default), strip, or replace by U+FFFD."""
    too_long: Literal["reject", "truncate"] | None = None
    """A text longer than varchar(n) or char(n): reject (default), or truncate to n characters."""
    out_of_range: Literal["reject", "null"] | None = None
    """A number too big for the target: reject (default), or null."""
    nan: Literal["keep", "reject", "null"] | None = None
    """NaN and infinities in a FLOAT: keep (default), reject, or null."""
    before_year_1: Literal["keep", "reject", "null"] | None = None
    """Dates and times before the year 1: keep (default; PostgreSQL writes them BC), reject, or null."""
    sub_microsecond: Literal["truncate", "reject"] | None = None
    """Digits of a second below the microsecond: truncate (default), or reject."""
    narrow: NarrowPolicy | None = None
    """A column whose type in the target has fewer digits: reject (default) refuses it, or round or truncate values."""

    def over(self, fallback: Self | None) -> Self:
        """These policies, with those of a fallback where they say nothing."""
        if fallback is None:
            return self
        return fallback.model_copy(update=self.model_dump(exclude_none=True))


# --- what moves ---------------------------------------------------------------------------------------------


class TableConfig(_Part):
    """One table that moves."""

    enabled: Flag = True
    """false leaves the table out."""
    source: SnowflakeName
    """Table or view in Snowflake: upper case, unless in double quotes."""
    target: PostgresName | None = None
    """Table in PostgreSQL: lower case, unless in double quotes; by default the source's name so."""
    source_filter: Condition | None = None
    """Condition in Snowflake's SQL; only rows for which it is true are read."""
    exclude_columns: tuple[Text, ...] = ()
    """Columns of the source that are not loaded."""
    on_extra_columns: OnExtraColumns | None = None
    """What a source column is that the target lacks and is not excluded; the global setting by default."""
    column_map: dict[Text, Text] = {}
    """Columns whose name differs: the source's name, and the target's."""
    chunking: Chunking = "auto"
    """How the table is cut: auto, one_scan, or key_range."""
    chunking_columns: tuple[Text, ...] = ()
    """Columns whose ranges make the chunks, the most significant first."""
    chunking_column_types: tuple[KeyType, ...] = ()
    """Types of the chunking columns, in their order."""
    uniqueness_columns: tuple[Text, ...] = ()
    """Columns that identify a row."""
    on_duplicate_keys: OnDuplicateKeys | None = None
    """What becomes of rows with the same key: fail, newest, or reject; the global setting by default."""
    allow_moving_source: Flag = False
    """true cuts by key ranges even where the table cannot be frozen at a moment; only safe if nothing writes to it."""
    sort_columns: tuple[Text, ...] = ()
    """Order in which a chunk is read; the chunking columns by default."""
    source_watermark: Text | None = None
    """Column of the source that grows with every change of a row."""
    target_watermark: Text | None = None
    """Column of the target that holds the source's watermark."""
    watermark_overlap: Duration = timedelta(hours=1)
    """How far before the stored watermark an incremental run reads again, for transactions that committed late."""
    watermark_limit: WatermarkLimit = "none"
    """now has watermarks beyond the clock, such as 9999-12-31, count as none: their rows are read by every run."""
    watermark_from_target: Flag = False
    """true takes the target's highest watermark where none is stored, for a target that another tool filled."""
    truncate_onstart: Flag = False
    """true empties the target once, before a new run loads it."""
    allow_shrink_to: Share = 0.5
    """The target is truncated only if the source has at least this part of the target's rows; 0 allows any loss."""
    append: Flag = False
    """true adds the rows to a target that is not empty."""
    disable_index: Flag = False
    """true drops the target's indexes for the load and builds them again."""
    drop_foreign_keys: Flag = False
    """true drops the target's foreign keys to other tables of the run for the load and puts them back, checked."""
    value_policies: ValuePolicies = ValuePolicies()
    """What becomes of values of this table that do not fit."""
    column_policies: dict[Text, ValuePolicies] = {}
    """What becomes of values of single columns that do not fit, by the target column's name."""
    insert_only_mode: Flag | None = None
    """true skips rows that exist; the global setting by default."""
    parallel_threads: Threads | None = None
    """Chunks of this table that are loaded at once; the global setting by default."""
    batch_size: Count | None = None
    """Rows per chunk; the global setting by default."""
    max_rejected_rows: NoneOrMore | None = None
    """Rows of this table that may be refused; the global setting by default."""
    max_retry_attempts: Count | None = None
    """How often a chunk is tried; the global setting by default."""
    verification: VerificationAtEnd | None = None
    """How the table is compared with its source at the end of a run; the global setting by default."""

    @property
    def renamed(self) -> dict[str, str]:
        """Source columns that have another name in a target made for them, with that name."""
        pair = {self.source_watermark: self.target_watermark} if self.source_watermark and self.target_watermark else {}
        return {of: to for of, to in {**pair, **self.column_map}.items() if of.casefold() != to.casefold()}

    @property
    def snowflake_name(self) -> str:
        """The exact name of the table in Snowflake."""
        return names.in_snowflake(self.source)

    @property
    def postgres_name(self) -> str:
        """The exact name of the table in PostgreSQL."""
        return names.default_target(self.source) if self.target is None else names.in_postgres(self.target)


class SourceConfig(_Part):
    """A schema in Snowflake that goes to a schema in PostgreSQL; what one run moves."""

    enabled: Flag = True
    """false makes the source one that cannot be run."""
    source_name: Text
    """What commands, events and status rows call it."""
    source_sf_database: SnowflakeName
    """Database in Snowflake: upper case, unless in double quotes."""
    source_sf_schema: SnowflakeName
    """Schema in Snowflake: upper case, unless in double quotes."""
    target_pg_database: PostgresName
    """Database in PostgreSQL: lower case, unless in double quotes."""
    target_pg_schema: PostgresName
    """Schema in PostgreSQL: lower case, unless in double quotes."""
    target_search_path: tuple[PostgresName, ...] = ()
    """Schemas in which triggers, defaults, checks and index expressions of the targets find names without a schema."""
    tables: tuple[TableConfig, ...] = Field(min_length=1)
    """The tables that move."""

    @property
    def snowflake_database(self) -> str:
        """The exact name of the database in Snowflake."""
        return names.in_snowflake(self.source_sf_database)

    @property
    def snowflake_schema(self) -> str:
        """The exact name of the schema in Snowflake."""
        return names.in_snowflake(self.source_sf_schema)

    @property
    def postgres_database(self) -> str:
        """The exact name of the database in PostgreSQL."""
        return names.in_postgres(self.target_pg_database)

    @property
    def postgres_schema(self) -> str:
        """The exact name of the schema in PostgreSQL."""
        return names.in_postgres(self.target_pg_schema)

    @property
    def code_path(self) -> tuple[str, ...]:
        """The exact names of the schemas in which the targets' own code finds what it names without one."""
        return tuple(names.in_postgres(name) for name in self.target_search_path)

    def select(self, tables: Sequence[str] | None = None) -> tuple[TableConfig, ...]:
        """The enabled tables in the config's order; only those named, if any are named.

        A name matches as the config writes it, or as Snowflake knows the table.
        """
        enabled = tuple(table for table in self.tables if table.enabled)
        if tables is not None:
            wanted = {self._table(name).source for name in tables}
            enabled = tuple(table for table in enabled if table.source in wanted)
        if not enabled:
            raise ConfigError(f"source {self.source_name} has no table to move; enable or name at least one")
        return enabled

    def sharing_target(self, table: TableConfig) -> tuple[TableConfig, ...]:
        """The other enabled tables that are merged into the table's target."""
        return tuple(
            other
            for other in self.tables
            if other.enabled
            and not other.append
            and other.source != table.source
            and other.postgres_name == table.postgres_name
        )

    def _table(self, name: str) -> TableConfig:
        candidates = [table for table in self.tables if table.source == name] or [
            table for table in self.tables if table.snowflake_name == _folded(name)
        ]
        for table in candidates:
            if table.enabled:
                return table
        if candidates:
            raise ConfigError(f"table {name} of source {self.source_name} is disabled; set enabled to true")
        known = [table.source for table in self.tables]
        raise ConfigError(f"source {self.source_name} has no table {name}{_suggestion(name, known)}")


class Config(_Part):
    """All that a run needs to know."""

    snowflake: SnowflakeConfig
    """Where tables come from."""
    postgres: PostgresConfig
    """Where tables go."""
    parallel_threads: Threads = 4
    """Chunks that are loaded at once."""
    threads_per_invocation: Threads = 1
    """How many of them share one invocation, and its memory and processor."""
    batch_size: Count = 500_000
    """Rows per chunk."""
    max_rejected_rows: NoneOrMore = 0
    """Rows of a table that may be rejected, and kept, before the table counts as failed."""
    on_duplicate_keys: OnDuplicateKeys | None = None
    """What becomes of rows with the same key: fail, newest, or reject; newest by default where there is a watermark."""
    max_retry_attempts: Count = 3
    """How often a chunk is tried before its table counts as failed."""
    verification: VerificationAtEnd = "checksums"
    """How each table is compared with its source at the end of a run: checksums, counts, or off."""
    insert_only_mode: Flag = False
    """true skips rows that exist in the target."""
    on_extra_columns: OnExtraColumns = "warn"
    """What a source column is that the target lacks: warn, or fail."""
    value_policies: ValuePolicies = ValuePolicies()
    """What becomes of values that do not fit."""
    lambda_timeout_buffer_seconds: Seconds = Field(default=90.0, gt=0, lt=900)
    """An invocation stops in order this long before its time-out; less than the function's time-out."""
    resume_max_age: Age = timedelta(days=7)
    """A run that was started longer ago is not resumed: 7d, 12h, or ISO 8601."""
    skip_failing_tables: Flag = False
    """true skips tables that a check refuses and loads the others; the run then ends as failed."""
    rejects_retention: Retention | None = None
    """How long rejected rows are kept, such as 90d; without it, until they are replayed or their run is deleted."""
    compatibility: Compatibility | None = None
    """predecessor reads the config as those of the tool that Snowmelt replaces; rsa_key implies it."""
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    """What can be moved."""

    def verification_of(self, source_name: str, table: str) -> VerificationAtEnd:
        """How a table is compared with its source at the end of a run; the global setting for one that is not here."""
        named = (t for s in self.sources if s.source_name == source_name for t in s.tables if t.source == table)
        chosen = next(named, None)
        return (chosen.verification if chosen else None) or self.verification

    def source(self, name: str | None = None) -> SourceConfig:
        """The enabled source of that name, or without a name the only enabled one."""
        if name is None:
            return self._only_source()
        for source in self.sources:
            if source.source_name == name:
                if not source.enabled:
                    raise ConfigError(f"source {name} is disabled; set enabled to true")
                return source
        known = [source.source_name for source in self.sources]
        raise ConfigError(f"the config has no source {name}{_suggestion(name, known)}")

    def sources_named(self, listed: str | None) -> tuple["SourceConfig", ...]:
        """Return the enabled sources of those names, commas between them, each once; all enabled ones without names."""
        if listed is None:
            return tuple(source for source in self.sources if source.enabled) or (self._only_source(),)
        given = [name.strip() for name in listed.split(",")]
        known = {source.source_name for source in self.sources}
        return tuple(self.source(name) for name in dict.fromkeys([listed] if listed in known else given))

    def sources_to_run(self, listed: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the sources that are asked for, and apart from them of those without an enabled table.

        One alone without an enabled table counts as to be run, and its run says what is wrong, except in a config of
        the predecessor, where it is complete.
        """
        sources = self.sources_named(listed)
        idle = tuple(s.source_name for s in sources if not any(table.enabled for table in s.tables))
        if len(sources) == 1 and self.compatibility != "predecessor":
            idle = ()
        return tuple(s.source_name for s in sources if s.source_name not in idle), idle

    def _only_source(self) -> SourceConfig:
        enabled = [source for source in self.sources if source.enabled]
        if len(enabled) == 1:
            return enabled[0]
        if not enabled:
            raise ConfigError("every source of the config is disabled; set enabled to true for one")
        listed = ", ".join(source.source_name for source in enabled)
        raise ConfigError(f"the config has {len(enabled)} enabled sources; name one of {listed}")

    def with_defaults(self, table: TableConfig) -> TableConfig:
        """The table with the global settings in place of those it leaves out."""
        inherited = (
            "insert_only_mode",
            "parallel_threads",
            "batch_size",
            "max_retry_attempts",
            "max_rejected_rows",
            "on_extra_columns",
        )
        absent: dict[str, object] = {key: getattr(self, key) for key in inherited if getattr(table, key) is None}
        if table.on_duplicate_keys is None:
            # Without a watermark no row is the newest.
            applies = table.source_watermark is not None or self.on_duplicate_keys != "newest"
            absent["on_duplicate_keys"] = self.on_duplicate_keys if applies else None
        return table.model_copy(update={**absent, "value_policies": table.value_policies.over(self.value_policies)})


def _folded(name: str) -> str | None:
    try:
        return names.in_snowflake(name)
    except ValueError:
        return None


def _suggestion(name: str, known: Sequence[str]) -> str:
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = get_close_matches(name.lower(), by_lower, n=1)
    meant = f"; did you mean {by_lower[close[0]]}?" if close else ""
    return f"{meant}; known: {', '.join(known)}"
