"""Decide everything about the tables of a run before anything moves, or say all that stands against it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import combinations

from snowmelt.columns import type_pairs
from snowmelt.config import Config, SourceConfig, TableConfig
from snowmelt.deadline import Deadline
from snowmelt.engine import status_store
from snowmelt.errors import AccessError, ConfigError, DataError, TooLargeError
from snowmelt.findings import Finding, Place, of_severity, place_of
from snowmelt.loading import marks
from snowmelt.models import (
    ColumnPlan,
    KeyColumn,
    KeySpec,
    SourceColumn,
    TableName,
    TablePlan,
    TargetColumn,
    WatermarkPlan,
)
from snowmelt.planning import load_mode, source_facts, statement, ties, watermarks
from snowmelt.planning.keys import KINDS, key_column
from snowmelt.planning.load_mode import Loading, NoLoading
from snowmelt.planning.source_facts import SourceFacts
from snowmelt.planning.ties import ForeignKey, Tied
from snowmelt.postgres import facts, tables
from snowmelt.postgres.facts import TableFacts
from snowmelt.postgres.session import Row, Session
from snowmelt.postgres.tables import TargetTable
from snowmelt.preflight import collations, duplicates, policies, schema_compare, target_checks, watermark_findings
from snowmelt.preflight.key_comparison import KeyComparison
from snowmelt.preflight.policies import TablePolicies
from snowmelt.preflight.skipping import SkippedTable, skip
from snowmelt.snowflake_source import SnowflakeSource

_ALL_ROWS = 2**62
_MOST_OF_THE_TIME = 0.7
"""Of an invocation: the part that the checks must have had for it to be called too short for them."""
_TABLES_AT_ONCE = 100
"""Of which one statement asks for policies."""


@dataclass(frozen=True)
class TablePlans:
    """The tables of a run: those that it loads, and those that it skips."""

    loaded: tuple[TablePlan, ...]
    source_facts: Mapping[str, SourceFacts]
    """What Snowflake knows of the schema's tables, by their exact names."""
    skipped: tuple[SkippedTable, ...] = ()


def table_plans(
    config: Config,
    source: SourceConfig,
    selected: Sequence[TableConfig],
    snowflake: SnowflakeSource,
    session: Session,
    *,
    moment: datetime,
    skip_failing_tables: bool = False,
    deadline: Deadline | None = None,
) -> TablePlans:
    """Plan every table; ConfigError with every problem of every table. Nothing is written anywhere.

    ``selected`` have the global settings filled in. ``moment`` is when the run's tables are frozen, where they can be.
    With ``skip_failing_tables`` tables with problems are told beside the plans of the others, where there are others.
    TooLargeError where an invocation that ends at ``deadline`` is too short for all of them.
    """
    found = survey(config, source, selected, snowflake, session, moment=moment, deadline=deadline)
    errors = of_severity(found.findings, "error")
    plans = tuple(table.plan for table in found.tables if table.plan is not None)
    if not errors:
        return TablePlans(plans, found.source_facts)
    refusal = ConfigError(f"source {source.source_name} cannot be migrated as it is", map(str, errors))
    if not skip_failing_tables or not all(error.table for error in errors):
        raise refusal
    skipped, tied = skip([t.place for t in found.tables], selected, found.foreign_keys, errors)
    if not tied:
        raise refusal
    loaded = tuple(_tied_again(p, tied[p.table_id]) for p in plans if p.table_id in tied)
    return TablePlans(loaded, found.source_facts, skipped)


def _tied_again(plan: TablePlan, tied: Tied) -> TablePlan:
    return plan.model_copy(
        update={
            "starts_with": tied.starts_with,
            "loads_after": tied.loads_after,
            "dropped_keys": tied.dropped_keys,
        }
    )


def target_problems(
    config: Config, source: SourceConfig, selected: Sequence[TableConfig], session: Session
) -> tuple[str, ...]:
    """Targets that are not there or may not be loaded, each with what to do."""
    places = [place_of(config, source, table) for table in selected]
    found = tables.read(session, [place.target for place in places])
    return tuple(
        str(finding)
        for table, place in zip(selected, places, strict=True)
        for finding in target_checks.unusable(place, table, found.get(place.target), session.where)
    )


@dataclass(frozen=True)
class Surveyed:
    """A table as both sides have it, as far as they could be seen; a plan only where one could be made."""

    place: Place
    config: TableConfig
    described: tuple[SourceColumn, ...] | None = None
    target: TargetTable | None = None
    facts: TableFacts | None = None
    filled: bool = False
    columns: tuple[ColumnPlan, ...] = ()
    loading: Loading | None = None
    plan: TablePlan | None = None


@dataclass(frozen=True)
class Survey:
    """All tables of a run, the foreign keys that touch them, and whatever was found on the way."""

    tables: tuple[Surveyed, ...]
    foreign_keys: tuple[ForeignKey, ...]
    findings: tuple[Finding, ...]
    source_facts: Mapping[str, SourceFacts]
    """What Snowflake knows of the schema's tables, by their exact names."""


def survey(
    config: Config,
    source: SourceConfig,
    selected: Sequence[TableConfig],
    snowflake: SnowflakeSource,
    session: Session,
    *,
    moment: datetime,
    looks_for_duplicates: bool = True,
    reads_status: bool = True,
    deadline: Deadline | None = None,
) -> Survey:
    """Every table and every finding; nothing is written anywhere.

    A table that cannot be migrated does not keep others from being looked at. Whoever counts the rows anyway has no
    need to have duplicates looked for; a role that may not read the status schema learns of no watermark.
    """
    return _Planner(
        config,
        source,
        selected,
        snowflake,
        session,
        moment,
        looks_for_duplicates=looks_for_duplicates,
        reads_status=reads_status,
        deadline=deadline or Deadline.after(math.inf),
    ).survey()


@dataclass(frozen=True)
class _Cutting:
    """How a table is cut into chunks: by ranges of keys, or by the one scan where there are none."""

    columns: tuple[KeyColumn, ...] = ()
    at: str = ""
    is_frozen: bool = True
    order_by: tuple[str, ...] = ()
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Targets:
    """What the target database says of all tables at once."""

    found: Mapping[TableName, TargetTable]
    filled: frozenset[TableName]
    facts: Mapping[TableName, TableFacts]
    foreign_keys: tuple[ForeignKey, ...]
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
        *,
        looks_for_duplicates: bool,
        reads_status: bool,
        deadline: Deadline,
    ) -> None:
        self._config = config
        self._source = source
        self._selected = selected
        self._snowflake = snowflake
        self._session = session
        self._moment = moment
        self._looks_for_duplicates = looks_for_duplicates
        self._reads_status = reads_status
        self._deadline = deadline
        self._places = [place_of(config, source, table) for table in selected]
        self._findings: list[Finding] = []

    def survey(self) -> Survey:
        targets = self._targets()
        surveyed = tuple(self._each(targets))
        shared = self._keys_of_both(surveyed)
        self._findings += shared
        surveyed = tuple(_with_warnings(table, shared) for table in surveyed)
        return Survey(surveyed, targets.foreign_keys, tuple(self._findings), self._source_facts)

    def _each(self, targets: _Targets) -> Iterator[Surveyed]:
        """Look at one table after another; TooLargeError where a whole invocation is too short for all of them.

        One that began the checks late, after another source's run, is cut off by its end, and the next one goes on.
        """
        began, latest = self._deadline.clock(), 0.0
        for table_id, (table, place) in enumerate(zip(self._selected, self._places, strict=True)):
            looked = self._deadline.clock()
            had_it_all = looked - began > _MOST_OF_THE_TIME * self._deadline.given_seconds
            if had_it_all and not self._deadline.allows(latest):
                raise self._too_short(table_id, looked - began)
            yield self._survey(table_id, table, place, targets)
            latest = self._deadline.clock() - looked

    def _too_short(self, tables: int, seconds: float) -> TooLargeError:
        needed = math.ceil(seconds / max(1, tables) * len(self._selected) * 2)
        return TooLargeError(
            f"source {self._source.source_name}: all of its tables are checked before anything moves, and {tables} of "
            f"{len(self._selected)} took {seconds:.1f} s, so the function's time is too short; raise its time-out to "
            f"{needed} s or more, or name fewer tables at a time (`tables`)"
        )

    def _targets(self) -> _Targets:
        names = [place.target for place in self._places]
        found = tables.read(self._session, names)
        readable = [n for n, t in found.items() if t.is_table and t.may_use_schema and t.may_select]
        truncated = [i for i, t in enumerate(self._selected) if t.truncate_onstart]
        keys = tables.foreign_keys(self._session, names)
        drops_keys = [i for i, t in enumerate(self._selected) if t.drop_foreign_keys]
        tied = ties.plan(dict(enumerate(self._places)), truncated, keys, drops_keys)
        self._findings += tied.problems
        return _Targets(
            found=found,
            filled=frozenset(tables.filled(self._session, readable)),
            facts=facts.read(self._session, names),
            foreign_keys=keys,
            tied=tied.tables,
            watermarks=(
                status_store.read_watermarks(self._session, self._source.source_name) if self._reads_status else ()
            ),
        )

    def _survey(self, table_id: int, table: TableConfig, place: Place, targets: _Targets) -> Surveyed:
        described, target = self._described(table, place), targets.found.get(place.target)
        unusable = tuple(target_checks.unusable(place, table, target, self._session.where))
        self._findings += unusable
        seen = Surveyed(
            place, table, described, target, targets.facts.get(place.target), place.target in targets.filled
        )
        if target is None or not target.is_table:
            return seen
        if described is None:
            self._findings += self._consequences(seen, _meant(seen), is_staged=False)
            return seen
        compared = schema_compare.compare(place, described, target.columns, schema_compare.Choices.of(table))
        columns = compared.columns
        chosen = load_mode.choose(
            place,
            table,
            columns,
            filled=seen.filled,
            unique_keys=target.unique_keys,
            refused=compared.refused,
            shares_target=bool(self._source.sharing_target(table)),
        )
        self._findings += compared.findings
        if isinstance(chosen, NoLoading):
            self._findings += chosen.problems
            seen = replace(seen, columns=columns)
            self._plan(table_id, seen, _meant(seen), targets, compared.findings)
            return seen
        seen = replace(seen, columns=columns, loading=chosen)
        plan = self._plan(table_id, seen, chosen, targets, compared.findings)
        return replace(seen, plan=plan.model_copy(update={"omitted": compared.omitted}))

    def _plan(
        self,
        table_id: int,
        seen: Surveyed,
        loading: Loading,
        targets: _Targets,
        compared: tuple[Finding, ...],
    ) -> TablePlan:
        """The plan of a table whose sides are both there; whatever stands against it is among the findings."""
        table, place, columns = seen.config, seen.place, seen.columns
        described, tied = seen.described or (), targets.tied[table_id]
        is_staged = loading.load_mode != "copy" or any(column.cast for column in columns)
        own = [*loading.warnings, *self._consequences(seen, loading, is_staged=is_staged)]
        if not self._compiles_filter(place, table):  # every further query of the table would fail by it
            return self._put_together(
                table_id, table, place.target, columns, loading, tied, None, _Cutting(), tuple(map(str, own))
            )
        of_table = table.source if self._source.sharing_target(table) else ""
        stored = status_store.watermark_of(targets.watermarks, place.target, of_table)
        cutting = self._cutting(place, table, described, tied)
        watermark, said = self._watermark(
            place, table, described, columns, at=cutting.at, stored=stored, filled=seen.filled
        )
        if described:
            cut_by = [column.name for column in cutting.columns]
            key = loading.key or _wanted_key(table, columns)
            merged_by = [column.source.name for column in columns if column.target.name in key]
            keys = {*cut_by, *merged_by}
            own += policies.findings(place, self._policies[table_id], columns=columns, key=keys, watermark=watermark)
            own += collations.findings(place, self._declared_types(table), key=keys)
        own += (*said, *cutting.warnings, *self._duplicates(seen, loading, at=cutting.at, watermark=watermark))
        self._findings += own
        warnings = of_severity((*compared, *own), "warning")
        return self._put_together(
            table_id, table, place.target, columns, loading, tied, watermark, cutting, tuple(map(str, warnings))
        )

    @staticmethod
    def _consequences(seen: Surveyed, loading: Loading, *, is_staged: bool) -> tuple[Finding, ...]:
        if seen.target is None or seen.facts is None:
            return ()
        return tuple(
            target_checks.consequences(seen.place, seen.config, loading, seen.target, seen.facts, is_staged=is_staged)
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
            stored_bytes=self._known(table).size_bytes,
            counted_as=table.snowflake_name if self._reads_all(table_id, table, conditions, cutting) else None,
            conditions=conditions,
            order_by=cutting.order_by,
            strategy="key_range" if keys else "one_scan",
            keys=keys,
            is_frozen=cutting.is_frozen,
            load_mode=loading.load_mode,
            key=loading.key,
            on_duplicate_keys=duplicates.wanted(table) if loading.key else None,
            repeat_number=_repeat_number(table, columns, loading, watermark, cutting),
            watermark=watermark,
            disable_index=table.disable_index,
            truncate_onstart=table.truncate_onstart,
            starts_with=tied.starts_with,
            loads_after=tied.loads_after,
            dropped_keys=tied.dropped_keys,
            refers_to_itself=tied.refers_to_itself,
            allow_shrink_to=table.allow_shrink_to,
            append=table.append,
            shares_target=bool(self._source.sharing_target(table)) and not table.append,
            code_path=self._source.code_path,
            batch_size=batch_size,
            parallel_threads=table.parallel_threads or self._config.parallel_threads,
            max_retry_attempts=table.max_retry_attempts or self._config.max_retry_attempts,
            max_rejected_rows=table.max_rejected_rows or 0,
            warnings=warnings,
        )

    def _reads_all(self, table_id: int, table: TableConfig, conditions: Sequence[str], cutting: _Cutting) -> bool:
        """Whether one scan reads all rows that Snowflake counts in the table, as far as the role may know."""
        is_filtered = bool(conditions) or bool(self._policies[table_id].of_rows)
        return not (is_filtered or cutting.columns or self._known(table).is_view)

    # --- how it is cut ----------------------------------------------------------------------------------------------

    def _cutting(
        self,
        place: Place,
        table: TableConfig,
        described: Sequence[SourceColumn],
        tied: Tied,
    ) -> _Cutting:
        """By ranges of the key where the config names one and the table can be frozen; else by the one scan."""
        sort = self._columns_named(place, table, "sort_columns", described)
        key = self._columns_named(place, table, "chunking_columns", described)
        if table.chunking == "one_scan" or not key or tied.refers_to_itself:
            return _Cutting(order_by=tuple(c.name for c in sort))
        at, refusal = self._frozen_at(table)
        if refusal and table.chunking == "auto":
            text = f"it cannot be frozen at a moment ({refusal}), so one scan reads it"
            one_scan = place.line("chunking", "one_scan")
            warning = place.warning("time_travel", text, setting=place.key("chunking_columns"), fix=(one_scan,))
            return _Cutting(order_by=tuple(c.name for c in sort), warnings=(warning,))
        if refusal and not table.allow_moving_source:
            error = place.error(
                "time_travel",
                f"it cannot be frozen at a moment ({refusal}), and key ranges of a table that moves can miss rows",
                "set chunking to auto or one_scan, or allow_moving_source if nothing writes to it",
                setting=place.key("chunking"),
                fix=(place.line("chunking", "auto"),),
            )
            self._findings.append(error)
        columns = tuple(key_column(column) for column in key)
        return _Cutting(
            columns=columns,
            at=at,
            is_frozen=not refusal,
            order_by=tuple(c.name for c in sort or key),
            warnings=_declared_otherwise(place, table, columns),
        )

    def _columns_named(
        self, place: Place, table: TableConfig, setting: str, described: Sequence[SourceColumn]
    ) -> tuple[SourceColumn, ...]:
        """The source columns that a setting names; a problem for each name that is none."""
        found = []
        for name in getattr(table, setting):
            column = _column_named(name, described)
            if column is None:
                text = f"{setting} names {name}, which the source does not have"
                self._findings.append(place.error("setting_unknown", text, setting=place.key(setting)))
            elif setting == "chunking_columns" and column.type not in KINDS:
                error = place.error(
                    "chunking_type",
                    f"chunking column {name} is {column.type}, which no range can cut",
                    "name a number, text, date or timestamp column, or set chunking to one_scan",
                    setting=place.key(setting),
                    fix=(place.line(setting, []), place.line("chunking", "one_scan")),
                )
                self._findings.append(error)
            else:
                found.append(column)
        return tuple(found) if len(found) == len(getattr(table, setting)) else ()

    def _frozen_at(self, table: TableConfig) -> tuple[str, str | None]:
        """The clause that freezes the table at the run's moment, or nothing and the reason why it cannot be."""
        at = statement.at(self._moment)
        if self._known(table).retention_days == 0:  # a probe passes until somebody changes the table
            return "", (
                "its DATA_RETENTION_TIME_IN_DAYS is 0, so Snowflake does not keep what it held; ALTER TABLE "
                f"{self._source_table(table)} SET DATA_RETENTION_TIME_IN_DAYS = 1 makes it"
            )
        try:
            self._snowflake.aggregate(statement.probe(f"{self._source_table(table)} {at}"))
        except (AccessError, DataError) as error:
            return "", error.message
        return at, None

    @cached_property
    def _descriptions(self) -> Mapping[str, Sequence[Sequence[object]]]:
        """The rows of DESCRIBE TABLE of each table that can be described."""
        found = {}
        for table in self._selected:
            with suppress(AccessError, DataError):
                query = statement.described(self._source_table(table))
                found[table.snowflake_name] = self._snowflake.aggregate(query)
        return found

    @cached_property
    def _policies(self) -> Mapping[int, TablePolicies]:
        """The policies on each table, as far as the role may know; one statement asks for all of them."""
        found = {table_id: TablePolicies() for table_id in range(len(self._selected))}
        asked = []
        for table_id, table in enumerate(self._selected):
            name = self._source_table(table)
            if rows := self._descriptions.get(table.snowflake_name):
                found[table_id].by_column.update(policies.of_description(rows))
                asked.append((table_id, name, "view" if self._known(table).is_view else "table"))
        for part in (asked[start : start + _TABLES_AT_ONCE] for start in range(0, len(asked), _TABLES_AT_ONCE)):
            query = statement.policy_references(
                self._source.snowflake_database, [(name, domain) for _, name, domain in part]
            )
            with suppress(AccessError, DataError):  # it takes a privilege to see them
                for number, kind, policy, column in self._snowflake.aggregate(query):
                    of_table = found[part[int(number)][0]]
                    if column is not None:
                        of_table.by_column[str(column)] = str(policy)
                    elif str(kind) == "ROW_ACCESS_POLICY":
                        of_table.of_rows.append(str(policy))
        return found

    @cached_property
    def _source_facts(self) -> Mapping[str, SourceFacts]:
        """What Snowflake knows of each table of the schema; nothing where the account does not say."""
        query = source_facts.query(self._source.snowflake_database, self._source.snowflake_schema)
        try:
            return source_facts.read(self._snowflake.aggregate(query))
        except (AccessError, DataError):
            return {}

    def _known(self, table: TableConfig) -> SourceFacts:
        return self._source_facts.get(table.snowflake_name, SourceFacts(None, None, None))

    def _described(self, table: TableConfig, place: Place) -> tuple[SourceColumn, ...] | None:
        source = self._source
        try:
            described = self._snowflake.describe_table(
                source.snowflake_database, source.snowflake_schema, table.snowflake_name
            )
        except (AccessError, ConfigError, DataError) as error:
            fix = error.fix if isinstance(error, AccessError) else ()
            self._findings.append(place.error("source_table", error.message, fix=fix))
            return None
        declared = self._declared_types(table)
        return tuple(type_pairs.as_declared(column, declared.get(column.name)) for column in described)

    def _declared_types(self, table: TableConfig) -> Mapping[str, str]:
        """The type of each column as DESCRIBE TABLE writes it."""
        return {str(row[0]): str(row[1]) for row in self._descriptions.get(table.snowflake_name, ())}

    def _source_table(self, table: TableConfig) -> str:
        return statement.source_table(
            self._source.snowflake_database, self._source.snowflake_schema, table.snowflake_name
        )

    def _compiles_filter(self, place: Place, table: TableConfig) -> bool:
        """Say whether Snowflake understands the table's condition; a finding when it does not."""
        if table.source_filter is None:
            return True
        probe = statement.compiles(self._source_table(table), (table.source_filter,))
        try:
            self._snowflake.aggregate(probe)
        except (AccessError, DataError) as error:
            setting = place.key("source_filter")
            self._findings.append(
                place.error("source_filter", f"source_filter does not work: {error.message}", setting=setting)
            )
            return False
        return True

    def _duplicates(
        self, seen: Surveyed, loading: Loading, *, at: str, watermark: WatermarkPlan | None
    ) -> tuple[Finding, ...]:
        """What rows of one key, as the target will compare it, come to; asked before anything is truncated or loaded.

        A frozen result holds them for ever, so nothing that is done later in the run could help.
        """
        kept = seen.target.kept_apart if seen.target else ()
        equal_nulls = seen.target.equal_nulls if seen.target else ()
        keys = duplicates.unique_keys(seen.columns, _key_to_compare(seen, loading), kept, equal_nulls)
        is_unreadable = any(f.check == "values" and f.table == seen.place.table for f in self._findings)
        if not self._looks_for_duplicates or not keys or is_unreadable:
            return ()
        source, conditions = f"{self._source_table(seen.config)} {at}".rstrip(), _conditions(seen.config, watermark)
        try:
            (row,) = self._snowflake.aggregate(duplicates.question(keys, source=source, conditions=conditions))
        except (AccessError, DataError) as error:
            return (_unreadable(seen.place, seen.config, error),)
        compared = KeyComparison(self._snowflake, self._session, seen.place, source=source, conditions=conditions)
        repeated, unknown = compared.compare(keys, row)
        is_incremental = watermark is not None and watermark.low is not None
        found = (duplicates.finding(seen.place, seen.config, each, is_incremental=is_incremental) for each in repeated)
        return (*found, *unknown)

    def _keys_of_both(self, surveyed: Sequence[Surveyed]) -> tuple[Finding, ...]:
        """What is found of tables that are merged into one target: keys that more than one of them has."""
        found = []
        planned = [table for table in surveyed if table.plan and table.plan.shares_target]
        for one, other in combinations(planned, 2):
            if one.plan is None or other.plan is None or one.plan.target != other.plan.target:
                continue
            query = duplicates.keys_of_both(one.plan, other.plan)
            try:
                ((rows,),) = self._snowflake.aggregate(query) if query else ((0,),)
            except (AccessError, DataError) as error:
                text = f"its keys cannot be compared with those of {other.place.table}: {error.message}"
                found.append(other.place.error("key_shared", text, setting=other.place.key("uniqueness_columns")))
                continue
            found += duplicates.shared(other.place, one.plan, other.plan, int(rows), has_same_key=query is not None)
        return tuple(found)

    # --- watermarks -------------------------------------------------------------------------------------------------

    def _watermark(
        self,
        place: Place,
        table: TableConfig,
        described: Sequence[SourceColumn],
        columns: Sequence[ColumnPlan],
        *,
        at: str,
        stored: str | None,
        filled: bool,
    ) -> tuple[WatermarkPlan | None, tuple[Finding, ...]]:
        """The bounds of an incremental run, and what the reader should know of them.

        They are asked of the very rows that will be read: what is newer than a frozen table is for the next run.
        """
        if table.source_watermark is None:
            return None, ()
        column = _column_named(table.source_watermark, described)
        source = table.source_watermark if column is None else column.name
        target = watermarks.target_column(columns, source, table.target_watermark)
        kind = None if column is None else watermarks.kind_of(column)
        if column is None or target is None or kind is None:
            self._findings.append(_no_watermark(place, table, column))
            return None, ()
        clock = watermarks.clock_limit(kind, self._moment)
        limit = clock if table.watermark_limit == "now" else None
        if clock is None and table.watermark_limit == "now":
            self._findings.append(watermark_findings.no_clock(place, table, kind))
        carried = next(c.target for c in columns if c.target.name == target)
        low, said = self._low(place, table, kind, carried, stored=stored, filled=filled, clock=clock)
        query = watermarks.bounds_query(
            column,
            limit=clock,
            source_table=f"{self._source_table(table)} {at}".rstrip(),
            source_filter=table.source_filter,
        )
        try:
            (row,) = self._snowflake.aggregate(query)
        except (AccessError, DataError) as error:
            self._findings.append(_unreadable(place, table, error))
            return None, ()
        found = watermarks.read_bounds(column, row)
        bounds = watermarks.plan(
            column,
            target,
            stored=low,
            high=found.highest if limit is None else found.within,
            null_rows=found.null_rows,
            overlap=table.watermark_overlap,
            limit=limit,
        )
        return bounds, (*said, *watermark_findings.of_source(place, table, bounds, found))

    def _low(
        self,
        place: Place,
        table: TableConfig,
        kind: watermarks.Kind,
        target: TargetColumn,
        *,
        stored: str | None,
        filled: bool,
        clock: str | None,
    ) -> tuple[str | None, tuple[Finding, ...]]:
        """The watermark to go on from, or None to read all rows."""
        if table.truncate_onstart:
            return None, ()
        if not filled:
            text = f"the target {place.target} is empty, so all rows are loaded, and not only newer ones"
            return None, (place.warning("watermark", text),) if stored else ()
        is_limited, is_stored = table.watermark_limit == "now", stored is not None
        if stored is None and table.watermark_from_target:
            stored = marks.highest(self._session, place.target, target, limit=clock if is_limited else None)
        if stored is None:
            return None, ()
        if not watermarks.is_value(kind, stored):
            self._findings.append(
                watermark_findings.no_value(place, kind, stored, is_stored=is_stored, target=target.name)
            )
            return None, ()
        if clock is not None and is_stored and watermarks.is_after(kind, stored, clock):
            said = watermark_findings.stored_beyond_the_clock(place, stored, is_limited=is_limited)
            return None if is_limited else stored, (said,)
        return stored, ()


def _unreadable(place: Place, table: TableConfig, error: AccessError | DataError) -> Finding:
    setting = place.key("source_filter") if table.source_filter else None
    return place.error("values", f"its rows cannot be read: {error.message}", setting=setting)


def _meant(seen: Surveyed) -> Loading:
    """How a table that cannot be loaded yet is going to be, once what stands against it is fixed."""
    table = seen.config
    is_merged = seen.filled and bool(table.uniqueness_columns) and not (table.truncate_onstart or table.append)
    return Loading(("insert_only" if table.insert_only_mode else "upsert") if is_merged else "copy")


def _with_warnings(seen: Surveyed, found: Sequence[Finding]) -> Surveyed:
    """The table with warnings that were found after it was planned."""
    own = [f for f in of_severity(found, "warning") if f.table == seen.place.table]
    if not own or seen.plan is None:
        return seen
    return replace(seen, plan=seen.plan.model_copy(update={"warnings": (*seen.plan.warnings, *map(str, own))}))


def _key_to_compare(seen: Surveyed, loading: Loading) -> tuple[str, ...]:
    """The key by which rows are compared: the target keeps it unique, or the config asks for it in so many words."""
    if loading.key or seen.config.on_duplicate_keys is None:
        return loading.key
    return _wanted_key(seen.config, seen.columns)


def _wanted_key(table: TableConfig, columns: Sequence[ColumnPlan]) -> tuple[str, ...]:
    """Return the key that the config names, also where this load copies and later ones merge."""
    key, unknown = load_mode.target_key(table, columns)
    return () if unknown else key


def _repeat_number(
    table: TableConfig,
    columns: Sequence[ColumnPlan],
    loading: Loading,
    watermark: WatermarkPlan | None,
    cutting: _Cutting,
) -> str:
    if not loading.key or duplicates.wanted(table) != "reject":
        return ""
    (key, *_) = duplicates.unique_keys(columns, loading.key, ())
    cut_by = [column.name for column in cutting.columns]
    return duplicates.repeat_number(key, watermark=watermark, cut_by=cut_by, columns=columns)


def _column_named(name: str, columns: Sequence[SourceColumn]) -> SourceColumn | None:
    """The column of that name, or the only one that differs from it in case alone."""
    found = schema_compare.called(columns, name)
    return found[0] if len(found) == 1 else None


def _conditions(table: TableConfig, watermark: WatermarkPlan | None) -> tuple[str, ...]:
    return (
        *((table.source_filter,) if table.source_filter else ()),
        *((watermarks.predicate(watermark),) if watermark else ()),
    )


def _batch_size(table: TableConfig, tied: Tied) -> int:
    """Rows per chunk; all of them where they refer to each other, as PostgreSQL checks that when a transaction ends."""
    return _ALL_ROWS if tied.refers_to_itself else table.batch_size or _ALL_ROWS


_FAMILIES = {"int": "number", "bigint": "number", "uuid": "text", "varchar": "text", "date": "date"}


def _declared_otherwise(place: Place, table: TableConfig, columns: Sequence[KeyColumn]) -> tuple[Finding, ...]:
    return tuple(
        place.warning(
            "chunking_type",
            f"chunking column {column.name} is declared {declared}, but Snowflake has {column.kind}, "
            "which is what counts",
            setting=place.key("chunking_column_types"),
        )
        for column, declared in zip(columns, table.chunking_column_types, strict=False)
        if not column.kind.startswith(_FAMILIES.get(declared, "timestamp"))
    )


def _no_watermark(place: Place, table: TableConfig, column: SourceColumn | None) -> Finding:
    where, setting = f"source_watermark {table.source_watermark}", "source_watermark"
    if column is None:
        what, advice = f"{where} is no column of the source", "fix the name"
    elif watermarks.kind_of(column) is None:
        what, advice = f"{where} has the type {column.type}", "name a column of numbers, dates or times"
    elif table.target_watermark:
        what = f"{where}: target_watermark {table.target_watermark} is not among the columns that are loaded"
        advice, setting = "", "target_watermark"
    else:
        what = f"{where} is not among the columns that are loaded"
        advice = "add it to the target, or name target_watermark"
    return place.error("watermark", what, advice, setting=place.key(setting))
