"""Look at both sides for whatever could stand in the way of a run, and change nothing."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from snowmelt.columns.type_pairs import quoted
from snowmelt.config import Config, SourceConfig
from snowmelt.engine import status_store
from snowmelt.errors import AccessError, DataError
from snowmelt.findings import Finding, of_severity, sql_name
from snowmelt.models import TableName, Value
from snowmelt.planning import statement
from snowmelt.postgres.session import Session
from snowmelt.preflight import orphans, room, rows, server_facts, servers
from snowmelt.preflight.key_comparison import KeyComparison
from snowmelt.preflight.room import Expected
from snowmelt.preflight.rows import Looked
from snowmelt.preflight.server_facts import TargetDetails
from snowmelt.preflight.servers import Moment, ServerFacts
from snowmelt.preflight.table_plans import Survey, Surveyed, survey
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.wiring import Wiring


class TableForecast(Value):
    """A table as a run would load it, as far as it could be seen."""

    table: str
    target: str
    strategy: str | None
    """None where something keeps it from being planned."""
    load_mode: str | None
    rows: int | None
    """Rows of the source that a run would read."""
    expected_bytes: int | None
    """What they will take in PostgreSQL, without indexes: a guess."""


class Preflight(Value):
    """Everything that was found: the servers first, then table by table."""

    source_name: str
    tables: tuple[TableForecast, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How much stands against a run."""
        return len(of_severity(self.findings, "error"))

    @property
    def warnings(self) -> int:
        """How much is for someone to judge."""
        return len(of_severity(self.findings, "warning"))

    @property
    def go(self) -> bool:
        """Whether nothing stands against a run."""
        return not self.errors

    @property
    def verdict(self) -> str:
        """The one line that counts."""
        warnings = f"{self.warnings} warning{'s' * (self.warnings != 1)}"
        if self.go:
            return f"go: {warnings}" if self.warnings else "go"
        return f"no-go: {self.errors} error{'s' * (self.errors != 1)}, {warnings}"


def preflight(wiring: Wiring, config: Config, source: SourceConfig, names: Sequence[str] | None = None) -> Preflight:
    """What a run of the source, or of some of its tables, would meet.

    Of each table Snowflake is asked for its columns, one aggregate over its rows, and orphans of its foreign keys.
    ConfigError for a config that cannot be read, AccessError for a server that does not let anyone in.
    """
    selected = tuple(config.with_defaults(table) for table in source.select(names))
    with (
        wiring.target(config, source.postgres_database, "snowmelt preflight") as session,
        wiring.source(config, source, run_id=None) as snowflake,
    ):
        found: list[Finding] = list(_server(session))
        session.look_only()
        asked = datetime.now(UTC)
        moment = snowflake.identity().now
        clocks = [Moment("Snowflake", asked, moment, datetime.now(UTC))]
        asked = datetime.now(UTC)
        facts = server_facts.read(session)
        clocks.append(Moment("PostgreSQL", asked, facts.now, datetime.now(UTC)))
        surveyed = survey(
            config,
            source,
            selected,
            snowflake,
            session,
            moment=moment,
            looks_for_duplicates=False,
            reads_status=facts.may_read_status,
        )
        look = _Look(config, source, surveyed, facts, snowflake, session)
        found += [*servers.clocks(clocks), *look.findings()]
    return Preflight(
        source_name=source.source_name,
        tables=look.forecasts(),
        findings=_in_order(found, [t.source for t in selected]),
    )


def _server(session: Session) -> Iterator[Finding]:
    if session.pooled:
        yield servers.pooled()
    try:
        status_store.check_access(session)
    except AccessError as error:
        yield servers.refused(error.message)


def _in_order(found: Iterable[Finding], tables: Sequence[str]) -> tuple[Finding, ...]:
    """The servers first, then tables as the config has them; of each the worst first."""
    place = {table: number for number, table in enumerate(tables)}
    worst = ("error", "warning", "note")
    return tuple(sorted(found, key=lambda f: (place.get(f.table or "", -1), worst.index(f.severity))))


class _Look:
    """The tables one by one, after what is known of all of them."""

    def __init__(
        self,
        config: Config,
        source: SourceConfig,
        surveyed: Survey,
        facts: ServerFacts,
        snowflake: SnowflakeSource,
        session: Session,
    ) -> None:
        self._config = config
        self._source = source
        self._surveyed = surveyed
        self._facts = facts
        self._snowflake = snowflake
        self._session = session
        usable = [t.target.name for t in surveyed.tables if t.target and t.target.is_table]
        self._details = server_facts.target_details(session, usable)
        self._looked = {t.place.table: self._as_looked(t, self._details) for t in surveyed.tables if t.columns}
        self._known = surveyed.source_facts
        self._expected: dict[str, Expected] = {}

    def findings(self) -> Iterator[Finding]:
        """Everything but what the clocks say."""
        counted = [finding for table in self._surveyed.tables for finding in self._of_rows(table)]
        known = (f for f in self._surveyed.findings if not self._is_superseded(f))
        tables = self._surveyed.tables
        yield from servers.findings(
            self._facts,
            parallel_threads=self._config.parallel_threads,
            is_staged=any(t.plan and t.plan.is_staged for t in tables),
            disables_indexes=any(t.config.disable_index for t in tables),
        )
        yield from known
        yield from counted
        yield from self._orphans()
        stagings = []
        for table in tables:
            yield from self._of_target(table)
            expects = self._expected.get(table.place.table)
            if table.plan and expects:
                threads = min(table.plan.parallel_threads, self._config.parallel_threads)
                known_of_it = self._known.get(table.config.snowflake_name)
                yield from room.table_findings(table.place, table.plan, expects, known_of_it, threads=threads)
                stagings.append(room.staging(table.plan, expects, threads=threads))
        staged = [each for each in stagings if each is not None]
        yield from room.server_findings(
            list(self._expected.values()), self._facts, staged, threads=self._config.parallel_threads
        )

    def forecasts(self) -> tuple[TableForecast, ...]:
        """The tables as a run would load them."""
        return tuple(
            TableForecast(
                table=table.place.table,
                target=str(table.place.target),
                strategy=table.plan and table.plan.strategy,
                load_mode=table.plan and table.plan.load_mode,
                rows=expects and expects.rows,
                expected_bytes=expects and expects.size_bytes,
            )
            for table in self._surveyed.tables
            for expects in [self._expected.get(table.place.table)]
        )

    # --- rows -------------------------------------------------------------------------------------------------------

    def _as_looked(self, table: Surveyed, details: TargetDetails) -> Looked:
        own = (table.config.source_filter,) if table.config.source_filter else ()
        keys = table.target.kept_apart if table.target else ()
        return Looked(
            place=table.place,
            config=table.config,
            source=self._full_name(table),
            conditions=table.plan.conditions if table.plan else own,
            columns=table.columns,
            loading=table.loading,
            is_incremental=bool(table.plan and table.plan.watermark and table.plan.watermark.low is not None),
            unique_keys=tuple(tuple(c.name for c in table.target.columns if c.name in k) for k in keys)
            if table.target
            else (),
            equal_nulls=table.target.equal_nulls if table.target else frozenset(),
            labels=details.labels,
        )

    def _full_name(self, table: Surveyed) -> str:
        source = self._source
        return statement.source_table(source.snowflake_database, source.snowflake_schema, table.config.snowflake_name)

    def _of_rows(self, table: Surveyed) -> Iterator[Finding]:
        """What the rows are counted for; nothing of a table without columns that could be loaded."""
        looked = self._looked.get(table.place.table)
        if looked is None or any(
            f.check == "source_filter" and f.table == table.place.table for f in self._surveyed.findings
        ):
            return
        try:
            (row,) = self._snowflake.aggregate(rows.question(looked))
        except (AccessError, DataError) as error:
            setting = table.place.key("source_filter") if table.config.source_filter else None
            yield table.place.error("values", f"its rows cannot be read: {error.message}", setting=setting)
            return
        counted = rows.answer(looked, row)
        comparison = KeyComparison(
            self._snowflake, self._session, looked.place, source=looked.source, conditions=looked.conditions
        )
        repeated, unknown = comparison.compare(looked.kept_apart, rows.counts_of_keys(looked, row))
        known = self._known.get(table.config.snowflake_name)
        self._expected[table.place.table] = room.expected(counted.rows, looked.columns, known)
        yield from rows.findings(looked, replace(counted, repeated=repeated))
        yield from unknown

    def _is_superseded(self, finding: Finding) -> bool:
        looked = self._looked.get(finding.table or "")
        return looked is not None and looked.place.table in self._expected and rows.supersedes(looked, finding)

    def _orphans(self) -> Iterator[Finding]:
        by_target = {looked.place.target: looked for looked in self._looked.values()}
        keep_rows = frozenset(
            t.place.target
            for t in self._surveyed.tables
            if t.place.target and t.filled and not t.config.truncate_onstart
        )
        keys = self._surveyed.foreign_keys
        asked = orphans.links(keys, by_target, keep_rows)
        yield from orphans.unasked(keys, by_target, asked)
        of_child: dict[TableName, list[orphans.Link]] = defaultdict(list)
        for link in asked:
            of_child[link.key.child].append(link)
        for links in of_child.values():
            try:
                answer = self._snowflake.aggregate(orphans.question(links))
            except (AccessError, DataError):  # said of the table whose rows cannot be read
                continue
            yield from orphans.findings(links, answer)

    # --- what is known without reading rows -------------------------------------------------------------------------

    def _of_target(self, table: Surveyed) -> Iterator[Finding]:
        if table.target is None:
            return
        place, name, role = table.place, table.target.name, quoted(self._facts.role)
        for sequence in self._details.fixed_sequences.get(name, ()):
            yield place.error(
                "sequences",
                f"this user may not move {sequence}, which numbers rows of {name} and would give again what was loaded",
                "GRANT SELECT, UPDATE",
                fix=(f"GRANT SELECT, UPDATE ON SEQUENCE {sql_name(sequence)} TO {role};",),
            )
        for constraint in self._details.constraints.get(name, ()):
            yield place.note("constraints", f"only PostgreSQL can say which rows fail {constraint}")
        if table.facts and table.facts.is_partition:
            yield place.warning(
                "partitions",
                f"{name} is a partition, and rows that belong to others are refused",
                "name the partitioned table as the target",
            )
