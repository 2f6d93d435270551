"""Say of each table of a source whether its target holds what was read for it."""

from collections.abc import Sequence
from contextlib import ExitStack

from snowmelt.config import Config, SourceConfig, TableConfig
from snowmelt.engine import status_store
from snowmelt.errors import AccessError, ConfigError, DataError, NotEqualError, TransientError
from snowmelt.models import TableName
from snowmelt.postgres.session import Row
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.sql_text import queries
from snowmelt.verification import results
from snowmelt.verification.source_rows import Asked, Load
from snowmelt.verification.table_check import AFTER_AN_ERROR, not_comparable, verify_table
from snowmelt.verification.verdicts import TableVerdict, Verification
from snowmelt.wiring import RunResources, Wiring


def verify(
    wiring: Wiring,
    config: Config,
    source: SourceConfig,
    asked: Asked,
    *,
    tables: Sequence[str] | None = None,
    run_id: str | None = None,
) -> Verification:
    """The verdicts on the latest loads of a source's tables, or on those of one run, in the config's order."""
    selected = source.select(tables)
    with wiring.target(config, source.postgres_database, "snowmelt verify") as session:
        status_store.require_installed(session)
        loads = session.rows(queries.query("loads_of_source"), source_name=source.source_name, run_id=run_id)
        if run_id is not None and not loads:
            raise DataError(
                f"there is no run {run_id} of source {source.source_name}; `snowmelt runs` lists the runs there are"
            )
        chosen = [(table, _load_of(loads, source, table)) for table in selected]
    with ExitStack() as stack:
        verifier = _Verifier(wiring, config, source, asked, stack)
        found = Verification(tables=tuple(verifier.verdict(table, load, run_id) for table, load in chosen))
        verifier.refuse_if_never_signed_in()
        return found


class _Verifier:
    """Verifies table after table, with one session in Snowflake for those of the same run that follow each other."""

    def __init__(self, wiring: Wiring, config: Config, source: SourceConfig, asked: Asked, stack: ExitStack) -> None:
        self._wiring = wiring
        self._config = config
        self._source = source
        self._asked = asked
        self._stack = stack
        self._open: tuple[RunResources, SnowflakeSource] | None = None
        self._has_signed_in = False
        self._refused: dict[tuple[str, str], AccessError | TransientError] = {}
        """Why nobody can sign in as that user in that role. It is tried once: an account locks out who fails often."""

    def refuse_if_never_signed_in(self) -> None:
        """Raise what keeps everybody out of Snowflake: that is no matter of a table."""
        if self._refused and not self._has_signed_in:
            raise next(iter(self._refused.values()))

    def verdict(self, table: TableConfig, load: Row | None, run_id: str | None) -> TableVerdict:
        """Give the verdict on a table; whatever goes wrong with it is no reason to leave others out."""
        if load is None:
            return _never_loaded(self._source, table, self._asked, run_id)
        if (hindrance := _standing_in_the_way(load)) is not None:
            return not_comparable(table.source, _name(load), load["run_id"], self._asked.mode, *hindrance)
        try:
            return self._compared(load)
        except (AccessError, ConfigError, DataError, TransientError) as error:
            self._close()
            return not_comparable(
                table.source, _name(load), load["run_id"], self._asked.mode, error.message, AFTER_AN_ERROR
            )

    def _compared(self, load: Row) -> TableVerdict:
        run, snowflake = self._opened(load["run_id"])
        plan = run.table(load["table_id"])
        with self._wiring.target(self._config, self._source.postgres_database, "snowmelt verify") as session:
            verdict = verify_table(session, snowflake, plan, _as_load(load), self._asked)
            if verdict.sampled is None:
                results.save_verdict(session, run.run_id, plan.table_id, verdict)
        return verdict

    def _opened(self, run_id: str) -> tuple[RunResources, SnowflakeSource]:
        if self._open is None or self._open[0].run_id != run_id:
            self._close()
            run = self._wiring.open_run(run_id)
            self._open = run, self._signed_in(run)
        return self._open

    def _signed_in(self, run: RunResources) -> SnowflakeSource:
        by = run.plan.snowflake_user, run.plan.snowflake_role
        if by in self._refused:
            raise self._refused[by]
        try:
            snowflake = self._stack.enter_context(run.source())
        except (AccessError, TransientError) as error:
            if isinstance(error, AccessError) or not self._has_signed_in:
                self._refused[by] = error
            raise
        self._has_signed_in = True
        return snowflake

    def _close(self) -> None:
        self._open = None
        self._stack.close()


def _load_of(loads: Sequence[Row], source: SourceConfig, table: TableConfig) -> Row | None:
    """The newest load of the table that is all in; one that is not where there is no other."""
    mine = [
        load
        for load in loads
        if load["source_table"] == table.source
        and (load["target_schema"], load["target_table"]) == (source.postgres_schema, table.postgres_name)
    ]
    return next((load for load in mine if _is_in(load)), mine[0] if mine else None)


def _is_in(load: Row) -> bool:
    """Whether all of its rows are in; verification may have found since that the target no longer holds them."""
    return bool(load["status"] == "completed" or load["error_code"] == NotEqualError.__name__)


def _standing_in_the_way(load: Row) -> tuple[str, str] | None:
    """Tell why the load cannot be compared, and what to do; None where it can."""
    if not _is_in(load):
        reason = f"run {load['run_id']} has not loaded it: it is {load['status']} there"
        return reason, "run `snowmelt migrate`, which resumes the run, and verify when it is complete"
    if load["loaded_since_by"] is not None:
        reason = f"run {load['loaded_since_by']} has loaded it since, or is about to"
        return reason, f"run `snowmelt verify --run {load['loaded_since_by']}` when that run is complete"
    return None


def _never_loaded(source: SourceConfig, table: TableConfig, asked: Asked, run_id: str | None) -> TableVerdict:
    target = TableName(schema_name=source.postgres_schema, name=table.postgres_name)
    reason = f"run {run_id} does not have it" if run_id else "no run has loaded it"
    advice = "run `snowmelt runs` for those that do" if run_id else "run `snowmelt migrate` for it first"
    return not_comparable(table.source, str(target), run_id, asked.mode, reason, advice)


def _as_load(row: Row) -> Load:
    return Load(
        row["run_id"],
        row["query_id"],
        row["snapshot_at"],
        row["scan_began_at"],
        row["source_rows"],
        row["deduplicated_rows"],
        row["rejected_rows"],
        row["kept_newer_rows"],
    )


def _name(row: Row) -> str:
    return str(TableName(schema_name=row["target_schema"], name=row["target_table"]))
