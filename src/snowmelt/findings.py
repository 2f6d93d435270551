"""What stands between a source and its target: how bad it is, where it is, and what fixes it.

Whatever looks at a source or a target says what it found in these values, so that the start of a run and pre-flight
tell the same of the same tables. ``CHECKS`` names every check there is; nothing is found under another name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import field_validator

from snowmelt.columns.type_pairs import quoted
from snowmelt.config import Config, SourceConfig, TableConfig
from snowmelt.models import TableName, Value

Severity = Literal["error", "warning", "note"]
"""An error stands against a run, a warning is for someone to judge, a note is good to know."""

CHECKS: Mapping[str, str] = {
    # the source
    "source_table": "the source table is there and may be read",
    "source_filter": "Snowflake understands the table's condition",
    "time_travel": "a table that key ranges cut can be read as of one moment, for as long as its load takes",
    "duration": "the load ends before Snowflake gives the result of its scan away, or can restart",
    "collation": "texts by which rows are told apart or cut have no collation of Snowflake's",
    "masking": "no policy masks a column for the role; one that masks a key is an error",
    "row_access": "no row access policy hides rows from the role",
    # the target
    "target_missing": "the target table is there",
    "target_kind": "the target is a table, neither a view nor a foreign table",
    "target_privileges": "the role may use, read, fill, update and truncate what its config asks for",
    "target_filled": "a target that holds rows says what is meant to become of them",
    "unlogged": "a crash of the server does not empty the target",
    "row_security": "row-level security does not refuse COPY",
    "rules": "rewrite rules do not bend rows that come through a staging table",
    "triggers": "triggers fire for every row, or on TRUNCATE",
    "constraints": "CHECK and exclusion constraints, which only PostgreSQL can try",
    "partitions": "a partitioned target has a partition, a target is not a single partition",
    "inheritance": "what else is emptied when the target is truncated",
    "index_owner": "the role may drop indexes and build them again, where `disable_index` asks for that",
    "index_partitioned": "`disable_index` has an effect",
    "sequences": "the role may move the sequences that number loaded columns",
    # columns
    "column_type": "every pair of types can travel: digits, fractions and lengths included",
    "column_lossy": "what a pair of types cannot keep",
    "column_ambiguous": "names that differ in case only have one partner each",
    "column_name_long": "names fit into PostgreSQL's 63 bytes, and stay different within them",
    "column_missing": "every column of the source has one in the target",
    "column_unfed": "every column of the target that is NOT NULL without a default has one in the source",
    "column_extra": "every other column of the target has one in the source",
    "column_generated": "no column of the source goes where PostgreSQL writes its own values",
    "column_none": "source and target have columns in common",
    # keys and settings
    "key_unknown": "`uniqueness_columns` are columns of both sides",
    "key_undeclared": "the target keeps the key unique",
    "key_duplicates": "no two rows of the source have the same key",
    "key_uncompared": "keys that only PostgreSQL can compare could be compared before the load",
    "key_shared": "tables that are merged into one target have no key in common, or the newest row counts",
    "key_nulls": "no key of the source holds NULL",
    "unique_unknown": "the target has no unique index that only PostgreSQL can judge: partial, or on an expression",
    "unique_duplicates": "no two rows of the source have what a unique index of the target keeps apart",
    "setting_unknown": "`chunking_columns`, `sort_columns` and `column_policies` name columns that are there",
    "chunking_type": "chunking columns have an order to cut by, and the type that the config declares",
    "watermark": "watermark columns are there, have an order, are not NULL, and not beyond the clock",
    "column_excluded": "every name in `exclude_columns` is a column of the source",
    "column_mapped": "every pair in `column_map` is a column of the source and one of the target",
    # values
    "nulls": "no NULL goes into a column that is NOT NULL",
    "too_long": "no text is longer than its column",
    "out_of_range": "no number is beyond its column",
    "nul_characters": "no text holds a NUL character",
    "nan": "no NaN or infinity where `value_policies` forbid it",
    "before_year_1": "no date before the year 1 where `value_policies` forbid it",
    "sub_microsecond": "digits of a second below the microsecond, which PostgreSQL does not keep",
    "narrow": "digits that `value_policies.narrow` lets go",
    "unreadable_text": "texts are UUIDs, labels, JSON where the target wants that",
    "values": "the values of the table could be looked at",
    # foreign keys
    "foreign_key_blocks": "no table that keeps its rows refers to one that is truncated",
    "foreign_key_circle": "foreign keys do not go round in a circle",
    "orphans": "every row finds the one that it refers to",
    # the servers
    "server": "version, role, place of the status schema, and that the server can be written to",
    "status_privileges": "the role may use the status schema",
    "temporary": "the role may make temporary tables, where rows are staged",
    "encoding": "the target database keeps its texts in UTF-8",
    "pooler": "no pooler stands before the server of the targets",
    "connections": "there are connections enough for the run",
    "timeouts": "no limit of the role or the database ends a load in its middle",
    "slots": "no replication slot without a reader keeps the log for ever",
    "archiving": "the log is archived without failures",
    "room": "how much is going to be written, and what to compare it with",
    "clock": "the clocks of both servers and of this machine agree",
}


class Finding(Value):
    """One thing that was found: ``message`` says what, ``advice`` what to do, ``fix`` the very lines that do it."""

    severity: Severity
    check: str
    message: str
    advice: str = ""
    fix: tuple[str, ...] = ()
    """SQL for PostgreSQL or Snowflake, or lines of the config; any one of them fixes it."""
    table: str | None = None
    """The source table as the config writes it; None for what is not about a table."""
    target: TableName | None = None
    column: str | None = None
    setting: str | None = None
    """The path of the config's key, if that is what is to be looked at."""
    server: Literal["PostgreSQL", "Snowflake"] | None = None
    """The server that it is about, if it is about no table."""

    @field_validator("check")
    @classmethod
    def _known(cls, check: str) -> str:
        if check not in CHECKS:
            raise ValueError(f"there is no check {check}")
        return check

    @property
    def place(self) -> str:
        """Where it is: a key of the config, a table on both sides, a column of it, or a server."""
        if self.setting:
            return self.setting
        if self.table is None:
            return self.server or "config"
        into = f" -> {self.target}" if self.target else ""
        return f"table {self.table}{into}" + (f', column "{self.column}"' if self.column is not None else "")

    @property
    def brief(self) -> str:
        """The message beside its place, which need not say the column again."""
        return self.message.removeprefix(f'column "{self.column}": ')

    def __str__(self) -> str:
        said = "; ".join(part for part in (self.message, self.advice) if part)
        return said if self.table is None else f"table {self.table}: {said}"


@dataclass(frozen=True)
class Place:
    """A table of the run, of which something is found."""

    table: str
    target: TableName
    path: str = ""
    """Where the config has it."""

    def error(self, check: str, message: str, advice: str = "", **more: object) -> Finding:
        """What stands against a run."""
        return self._finding("error", check, message, advice, more)

    def warning(self, check: str, message: str, advice: str = "", **more: object) -> Finding:
        """What is for someone to judge."""
        return self._finding("warning", check, message, advice, more)

    def note(self, check: str, message: str, advice: str = "", **more: object) -> Finding:
        """What is good to know."""
        return self._finding("note", check, message, advice, more)

    def key(self, setting: str) -> str:
        """The path of one of the table's keys in the config."""
        return f"{self.path}.{setting}".removeprefix(".")

    def line(self, setting: str, value: object) -> str:
        """A line of the config, by its path."""
        return f"{self.key(setting)}: {json.dumps(value, ensure_ascii=False)}"

    def alter(self, action: str) -> str:
        """DDL that changes the target."""
        return f"ALTER TABLE {sql_name(self.target)} {action};"

    def _finding(
        self, severity: Severity, check: str, message: str, advice: str, more: Mapping[str, object]
    ) -> Finding:
        about = {"severity": severity, "check": check, "message": message, "advice": advice}
        return Finding.model_validate({**about, "table": self.table, "target": self.target, **more})


def sql_name(name: TableName) -> str:
    """The table's name as SQL, each part quoted."""
    return f"{quoted(name.schema_name)}.{quoted(name.name)}"


def place_of(config: Config, source: SourceConfig, table: TableConfig) -> Place:
    """Where the config has the table, and where it goes."""
    sources = [s.source_name for s in config.sources]
    tables = [t.snowflake_name if t.enabled else None for t in source.tables]
    return Place(
        table=table.source,
        target=TableName(schema_name=source.postgres_schema, name=table.postgres_name),
        path=f"sources[{sources.index(source.source_name)}].tables[{tables.index(table.snowflake_name)}]",
    )


def of_severity(findings: Sequence[Finding], severity: Severity) -> tuple[Finding, ...]:
    """Those that are so bad."""
    return tuple(f for f in findings if f.severity == severity)


def checks_table() -> str:
    """All checks as a table of the documentation."""
    lines = (f"| `{check}` | {what} |" for check, what in CHECKS.items())
    return "\n".join(("| check | what is seen to |", "|---|---|", *lines)) + "\n"
