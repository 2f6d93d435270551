"""Decide everything about the tables of a run before anything moves, or say all that stands against it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from snowmelt import schema_compare
from snowmelt.config import Config, SourceConfig, TableConfig, ValuePolicies
from snowmelt.errors import AccessError, ConfigError, DataError
from snowmelt.models import (
    ColumnPlan,
    KeyColumn,
    KeySpec,
    Policies,
    SourceColumn,
    TableName,
    TablePlan,
    WatermarkPlan,
)
from snowmelt.planning import load_mode, statement, ties, watermarks
from snowmelt.planning.keys import KINDS, key_column
from snowmelt.planning.load_mode import Loading, NoLoading
from snowmelt.planning.ties import Tied
from snowmelt.postgres import facts, status_store, tables
from snowmelt.postgres.facts import TableFacts
from snowmelt.postgres.session import Row, Session
from snowmelt.postgres.tables import TargetTable
from snowmelt.snowflake_source import SnowflakeSource

_ALL_ROWS = 2**62


def table_plans(
    config: Config,
    source: SourceConfig,
    selected: Sequence[TableConfig],
    snowflake: SnowflakeSource,
    session: Session,
    *,
    moment: datetime,
) -> tuple[TablePlan, ...]:
    """The plan of every table; ConfigError with every problem of every table. Nothing is written anywhere.

    ``selected`` have the global settings filled in. ``moment`` is when the run's tables are frozen, where they can be.
    """
    return _Planner(config, source, selected, snowflake, session, moment).plans()


def target_problems(source: SourceConfig, selected: Sequence[TableConfig], session: Session) -> tuple[str, ...]:
    """Targets that are not there or may not be loaded, each with what to do."""
    names = [TableName(schema_name=source.postgres_schema, name=t.postgres_name) for t in selected]
    found = tables.read(session, names)
    return tuple(
        problem
        for table, name in zip(selected, names, strict=True)
        for problem in _target_problems(table, name, found.get(name), session.where)
    )


@dataclass(frozen=True)
class _Cutting:
    """How a table is cut into chunks: by ranges of keys, or by the one scan where there are none."""

    columns: tuple[KeyColumn, ...] = ()
    at: str = ""
    is_frozen: bool = True
    order_by: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Targets:
    """What the target database says of all tables at once."""

    found: Mapping[TableName, TargetTable]
    filled: frozenset[TableName]
    facts: Mapping[TableName, TableFacts]
    tied: Mapping[int, Tied]
    watermarks: Sequence[Row]


class _Planner:
    def __init__(
        self,
        config: Config,
        source: SourceConfig,
        selected: Sequence[TableConfig],
        snowflake: SnowflakeSource,
        session: Session,
        moment: datetime,
    ) -> None:
        self._config = config
        self._source = source
        self._selected = selected
        self._snowflake = snowflake
        self._session = session
        self._moment = moment
        self._names = [TableName(schema_name=source.postgres_schema, name=t.postgres_name) for t in selected]
        self._problems: list[str] = []

    def plans(self) -> tuple[TablePlan, ...]:
        targets = self._targets()
        plans = [
            self._plan(table_id, table, name, targets)
            for table_id, (table, name) in enumerate(zip(self._selected, self._names, strict=True))
        ]
        if self._problems:
            raise ConfigError(f"source {self._source.source_name} cannot be migrated as it is", self._problems)
        return tuple(plan for plan in plans if plan is not None)

    def _targets(self) -> _Targets:
        found = tables.read(self._session, self._names)
        readable = [n for n, t in found.items() if t.is_table and t.may_use_schema and t.may_select]
        truncated = [i for i, t in enumerate(self._selected) if t.truncate_onstart]
        tied = ties.plan(
            dict(enumerate(self._names)),
            truncated,
            tables.foreign_keys(self._session, self._names),
            [i for i, t in enumerate(self._selected) if t.drop_foreign_keys],
        )
        self._problems += tied.problems
        return _Targets(
            found=found,
            filled=frozenset(tables.filled(self._session, readable)),
            facts=facts.read(self._session, self._names),
            tied=tied.tables,
            watermarks=status_store.read_watermarks(self._session, self._source.source_name),
        )

    def _plan(self, table_id: int, table: TableConfig, name: TableName, targets: _Targets) -> TablePlan | None:
        described = self._described(table)
        target = targets.found.get(name)
        unusable = list(_target_problems(table, name, target, self._session.where))
        self._problems += unusable
        if described is None or target is None or unusable:
            return None
        filled = name in targets.filled
        compared = schema_compare.compare(table.source, described, target.columns)
        columns = self._with_policies(table, compared.columns)
        loading = load_mode.choose(table, name, columns, filled=filled, unique_keys=target.unique_keys)
        self._problems += compared.problems
        if isinstance(loading, NoLoading):
            self._problems += loading.problems
            return None
        is_staged = loading.load_mode != "copy" or any(column.cast for column in columns)
        problems, warnings = _consequences(table, name, loading, targets.facts[name], is_staged=is_staged)
        self._problems += problems
        self._refuse_duplicates(table, columns, loading)
        stored = status_store.watermark_of(targets.watermarks, name)
        cutting = self._cutting(table, described, targets.tied[table_id])
        watermark, said = self._watermark(table, name, described, columns, at=cutting.at, stored=stored, filled=filled)
        said = (*compared.warnings, *loading.warnings, *warnings, *said, *cutting.warnings)
        return self._put_together(
            table_id, table, name, columns, loading, targets.tied[table_id], watermark, cutting, said
        )

    def _with_policies(self, table: TableConfig, columns: Sequence[ColumnPlan]) -> tuple[ColumnPlan, ...]:
        """The columns with what the config says about values that do not fit; a problem for a name that is none."""
        named = {}
        for name, policies in table.column_policies.items():
            alike = [c.target.name for c in columns if c.target.name == name] or [
                c.target.name
                for c in columns
                if name.casefold() in (c.target.name.casefold(), c.source.name.casefold())
            ]
            if len(alike) != 1:
                self._problems.append(
                    f"table {table.source}: column_policies names {name}, which is not among the columns that "
                    "are loaded"
                )
            named.update(dict.fromkeys(alike[:1], policies))
        return tuple(
            column.model_copy(
                update={
                    "policies": Policies.model_validate(
                        named.get(column.target.name, ValuePolicies())
                        .over(table.value_policies)
                        .model_dump(exclude_none=True)
                    )
                }
            )
            for column in columns
        )

    def _put_together(
        self,
        table_id: int,
        table: TableConfig,
        name: TableName,
        columns: tuple[ColumnPlan, ...],
        loading: Loading,
        tied: Tied,
        watermark: WatermarkPlan | None,
        cutting: _Cutting,
        warnings: tuple[str, ...],
    ) -> TablePlan:
        conditions = _conditions(table, watermark)
        batch_size = _batch_size(table, tied)
        keys = (
            KeySpec(
                table=self._source_table(table),
                columns=cutting.columns,
                batch_size=batch_size,
                at=cutting.at,
                source_filter=statement.all_of(conditions) or None,
            )
            if cutting.columns
            else None
        )
        return TablePlan(
            table_id=table_id,
            source=table.source,
            target=name,
            columns=columns,
            reads_from=f"{self._source_table(table)} {cutting.at}".rstrip(),
            conditions=conditions,
            order_by=cutting.order_by,
            strategy="key_range" if keys else "one_scan",
            keys=keys,
            is_frozen=cutting.is_frozen,
            load_mode=loading.load_mode,
            key=loading.key,
            watermark=watermark,
            disable_index=table.disable_index,
            truncate_onstart=table.truncate_onstart,
            starts_with=tied.starts_with,
            loads_after=tied.loads_after,
            dropped_keys=tied.dropped_keys,
            refers_to_itself=tied.refers_to_itself,
            allow_shrink_to=table.allow_shrink_to,
            append=table.append,
            batch_size=batch_size,
            parallel_threads=table.parallel_threads or self._config.parallel_threads,
            max_retry_attempts=table.max_retry_attempts or self._config.max_retry_attempts,
            max_rejected_rows=table.max_rejected_rows or 0,
            warnings=warnings,
        )

    # --- how it is cut ----------------------------------------------------------------------------------------------

    def _cutting(
        self,
        table: TableConfig,
        described: Sequence[SourceColumn],
        tied: Tied,
    ) -> _Cutting:
        """By ranges of the key where the config names one and the table can be frozen; else by the one scan."""
        sort = self._columns_named(table, "sort_columns", described)
        key = self._columns_named(table, "chunking_columns", described)
        if table.chunking == "one_scan" or not key or tied.refers_to_itself:
            return _Cutting(order_by=tuple(c.name for c in sort))
        at, refusal = self._frozen_at(table)
        if refusal and table.chunking == "auto":
            text = f"table {table.source}: it cannot be frozen at a moment ({refusal}), so one scan reads it"
            return _Cutting(order_by=tuple(c.name for c in sort), warnings=(text,))
        if refusal and not table.allow_moving_source:
            self._problems.append(
                f"table {table.source}: it cannot be frozen at a moment ({refusal}), and key ranges of a table that "
                "moves can miss rows; set chunking to auto or one_scan, or allow_moving_source if nothing writes to it"
            )
        columns = tuple(key_column(column) for column in key)
        return _Cutting(
            columns=columns,
            at=at,
            is_frozen=not refusal,
            order_by=tuple(c.name for c in sort or key),
            warnings=_declared_otherwise(table, columns),
        )

    def _columns_named(
        self, table: TableConfig, setting: str, described: Sequence[SourceColumn]
    ) -> tuple[SourceColumn, ...]:
        """The source columns that a setting names; a problem for each name that is none."""
        found = []
        for name in getattr(table, setting):
            column = _column_named(name, described)
            if column is None:
                self._problems.append(f"table {table.source}: {setting} names {name}, which the source does not have")
            elif setting == "chunking_columns" and column.type not in KINDS:
                self._problems.append(
                    f"table {table.source}: chunking column {name} is {column.type}, which no range can cut; name a "
                    "number, text, date or timestamp column, or set chunking to one_scan"
                )
            else:
                found.append(column)
        return tuple(found) if len(found) == len(getattr(table, setting)) else ()

    def _frozen_at(self, table: TableConfig) -> tuple[str, str | None]:
        """The clause that freezes the table at the run's moment, or nothing and the reason why it cannot be."""
        at = statement.at(self._moment)
        try:
            self._snowflake.aggregate(statement.probe(f"{self._source_table(table)} {at}"))
        except (AccessError, DataError) as error:
            return "", error.message
        return at, None

    def _described(self, table: TableConfig) -> tuple[SourceColumn, ...] | None:
        source = self._source
        try:
            return self._snowflake.describe_table(
                source.snowflake_database, source.snowflake_schema, table.snowflake_name
            )
        except (AccessError, ConfigError, DataError) as error:
            self._problems.append(f"table {table.source}: {error.message}")
            return None

    def _source_table(self, table: TableConfig) -> str:
        return statement.source_table(
            self._source.snowflake_database, self._source.snowflake_schema, table.snowflake_name
        )

    def _refuse_duplicates(self, table: TableConfig, columns: Sequence[ColumnPlan], loading: Loading) -> None:
        """Rows of one key in two chunks would overwrite each other in any order, unless a watermark orders them."""
        if loading.load_mode != "upsert" or table.source_watermark is not None:
            return
        key = [c.source.name for k in loading.key for c in columns if c.target.name == k]
        conditions = _conditions(table, None)
        found = self._snowflake.aggregate(
            statement.duplicates(key, source=self._source_table(table), conditions=conditions)
        )
        if found:
            named = "; ".join(", ".join(f"{k}={v}" for k, v in zip(key, row, strict=False)) for row in found)
            self._problems.append(
                f"table {table.source}: the source holds the key ({', '.join(key)}) more than once, as in {named}, and "
                "no watermark says which row is newer; mend uniqueness_columns or the source, or name source_watermark"
            )

    # --- watermarks -------------------------------------------------------------------------------------------------

    def _watermark(
        self,
        table: TableConfig,
        name: TableName,
        described: Sequence[SourceColumn],
        columns: Sequence[ColumnPlan],
        *,
        at: str,
        stored: str | None,
        filled: bool,
    ) -> tuple[WatermarkPlan | None, tuple[str, ...]]:
        """The bounds of an incremental run, and what the reader should know of them.

        They are asked of the very rows that will be read: what is newer than a frozen table is for the next run.
        """
        if table.source_watermark is None:
            return None, ()
        column = _column_named(table.source_watermark, described)
        source = table.source_watermark if column is None else column.name
        target = watermarks.target_column(columns, source, table.target_watermark)
        if column is None or target is None or watermarks.kind_of(column) is None:
            self._problems.append(_no_watermark(table, column))
            return None, ()
        low, said = self._low(table, name, target, stored=stored, filled=filled)
        query = watermarks.bounds_query(
            column, source_table=f"{self._source_table(table)} {at}".rstrip(), source_filter=table.source_filter
        )
        ((high, null_rows),) = self._snowflake.aggregate(query)
        bounds = watermarks.plan(
            column, target, stored=low, high=high, null_rows=null_rows, overlap=table.watermark_overlap
        )
        if null_rows:
            text = (
                f"table {table.source}: {null_rows} rows have no {column.name}; they are read by every run, "
                "as nothing tells whether they changed"
            )
            said = (*said, text)
        return bounds, said

    def _low(
        self, table: TableConfig, name: TableName, target: str, *, stored: str | None, filled: bool
    ) -> tuple[str | None, tuple[str, ...]]:
        """The watermark to go on from, or None to read all rows."""
        if table.truncate_onstart:
            return None, ()
        if not filled:
            text = f"table {table.source}: the target {name} is empty, so all rows are loaded, and not only newer ones"
            return None, (text,) if stored else ()
        if stored is None and table.watermark_from_target:
            return tables.highest(self._session, name, target), ()
        return stored, ()


def _column_named(name: str, columns: Sequence[SourceColumn]) -> SourceColumn | None:
    """The column of that name, or the only one that differs from it in case alone."""
    exact = [c for c in columns if c.name == name]
    alike = exact or [c for c in columns if c.name.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


def _conditions(table: TableConfig, watermark: WatermarkPlan | None) -> tuple[str, ...]:
    return (
        *((table.source_filter,) if table.source_filter else ()),
        *((watermarks.predicate(watermark),) if watermark else ()),
    )


def _batch_size(table: TableConfig, tied: Tied) -> int:
    """Rows per chunk; all of them where they refer to each other, as PostgreSQL checks that when a transaction ends."""
    return _ALL_ROWS if tied.refers_to_itself else table.batch_size or _ALL_ROWS


_FAMILIES = {"int": "number", "bigint": "number", "uuid": "text", "varchar": "text", "date": "date"}


def _declared_otherwise(table: TableConfig, columns: Sequence[KeyColumn]) -> tuple[str, ...]:
    return tuple(
        f"table {table.source}: chunking column {column.name} is declared {declared}, but Snowflake has {column.kind}, "
        "which is what counts"
        for column, declared in zip(columns, table.chunking_column_types, strict=False)
        if not column.kind.startswith(_FAMILIES.get(declared, "timestamp"))
    )


def _consequences(
    table: TableConfig, name: TableName, loading: Loading, facts: TableFacts, *, is_staged: bool
) -> tuple[list[str], list[str]]:
    """What about the target forbids the load, and what the load would set off."""
    here = f"table {table.source}: the target {name}"
    problems = {
        f"{here} has row-level security, under which COPY is refused; load as its owner, or as a user with BYPASSRLS": (
            facts.has_row_security
        ),
        f"{here} is unlogged: a crash of the server would empty it, and rows marked as loaded would be gone; "
        f"ALTER TABLE {name} SET LOGGED": facts.is_unlogged,
        f"{here} belongs to another user, so disable_index cannot drop its indexes; load as its owner, or set "
        "disable_index to false": table.disable_index and not facts.is_owned,
        f"{here} is in a schema where this user may not create, so indexes that disable_index drops could not be built "
        f'again; GRANT CREATE ON SCHEMA "{name.schema_name}", or set disable_index to false': (
            table.disable_index and not facts.may_create_beside_it
        ),
        f"{here} has rules ({', '.join(facts.rules)}), which rows from a staging table would set off; drop them for "
        "the load": is_staged and bool(facts.rules),
    }
    triggers = facts.insert_triggers + (facts.update_triggers if loading.load_mode == "upsert" else ())
    warnings = {
        f"{here} has triggers that fire for every row: {', '.join(dict.fromkeys(triggers))}; disable them if they "
        "are not meant for a load": bool(triggers),
        f"{here} has triggers on TRUNCATE: {', '.join(facts.truncate_triggers)}": (
            table.truncate_onstart and bool(facts.truncate_triggers)
        ),
        f"{here} is truncated with what belongs to it: {', '.join(facts.children)}": (
            table.truncate_onstart and bool(facts.children)
        ),
        f"{here} is partitioned, whose indexes are kept: disable_index has no effect": (
            table.disable_index and facts.is_partitioned
        ),
    }
    return [text for text, holds in problems.items() if holds], [text for text, holds in warnings.items() if holds]


def _no_watermark(table: TableConfig, column: SourceColumn | None) -> str:
    where = f"table {table.source}: source_watermark {table.source_watermark}"
    if column is None:
        return f"{where} is no column of the source; mend the name"
    if watermarks.kind_of(column) is None:
        return f"{where} has the type {column.type}; name a column of numbers, dates or times"
    if table.target_watermark:
        return f"{where}: target_watermark {table.target_watermark} is not among the columns that are loaded"
    return f"{where} is not among the columns that are loaded; add it to the target, or name target_watermark"


def _target_problems(table: TableConfig, name: TableName, target: TargetTable | None, where: str) -> Sequence[str]:
    here = f"table {table.source}: the target {name}"
    if target is None:
        return (f"{here} is not there in {where}; create it, or mend target and target_pg_schema",)
    if not target.is_table:
        return (f"{here} is not a table; name a table as the target",)
    wanted = {
        "USAGE on its schema": target.may_use_schema,
        "INSERT": target.may_insert,
        "SELECT": target.may_select,
        "TRUNCATE": target.may_truncate or not table.truncate_onstart,
    }
    lacking = [privilege for privilege, there in wanted.items() if not there]
    if lacking:
        return (f"{here} may not be loaded by this user; GRANT {', '.join(lacking)}",)
    return ()
