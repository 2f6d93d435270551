"""Say of each table of a source whether its target holds what was read for it."""

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import groupby

from snowmelt import sql
from snowmelt.actions.verify_source import Asked, Load
from snowmelt.actions.verify_table import not_comparable, verify_table
from snowmelt.config import Config, SourceConfig, TableConfig
from snowmelt.errors import DataError, NotEqualError
from snowmelt.models import TableName
from snowmelt.postgres import status_store, verification_store
from snowmelt.postgres.session import Row
from snowmelt.verification.verdicts import TableVerdict, Verification
from snowmelt.wiring import Wiring


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
        loads = session.rows(sql.query("loads_of_source"), source_name=source.source_name, run_id=run_id)
        if run_id is not None and not loads:
            raise DataError(
                f"there is no run {run_id} of source {source.source_name}; `snowmelt runs` lists the runs there are"
            )
        chosen = [(table, _load_of(loads, source, table)) for table in selected]
        verdicts: list[TableVerdict] = []
        for of_run, of_it in groupby(chosen, key=lambda each: None if each[1] is None else each[1]["run_id"]):
            with ExitStack() as stack:
                snowflake = None
                for table, load in of_it:
                    if load is None or of_run is None:
                        verdicts.append(_never_loaded(source, table, asked, run_id))
                        continue
                    if (reason := _standing_in_the_way(load)) is not None:
                        verdicts.append(not_comparable(table.source, _name(load), of_run, asked.mode, reason))
                        continue
                    run = wiring.open_run(of_run)
                    if snowflake is None:
                        snowflake = stack.enter_context(run.source())
                    plan = run.table(load["table_id"])
                    verdict = verify_table(session, snowflake, plan, _as_load(load), asked)
                    if verdict.sampled is None:
                        verification_store.save_verdict(session, of_run, plan.table_id, verdict)
                    verdicts.append(verdict)
    return Verification(tables=tuple(verdicts))


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


def _standing_in_the_way(load: Row) -> str | None:
    if not _is_in(load):
        return f"run {load['run_id']} has not loaded it: it is {load['status']} there"
    if load["loaded_since_by"] is not None:
        return f"run {load['loaded_since_by']} has loaded it since, or is about to; verify that one when it is complete"
    return None


def _never_loaded(source: SourceConfig, table: TableConfig, asked: Asked, run_id: str | None) -> TableVerdict:
    target = TableName(schema_name=source.postgres_schema, name=table.postgres_name)
    reason = f"run {run_id} does not have it" if run_id else "no run has loaded it"
    return not_comparable(table.source, str(target), run_id, asked.mode, reason)


def _as_load(row: Row) -> Load:
    return Load(
        row["run_id"],
        row["query_id"],
        row["snapshot_at"],
        row["deduplicated_rows"],
        row["rejected_rows"],
        row["kept_newer_rows"],
    )


def _name(row: Row) -> str:
    return str(TableName(schema_name=row["target_schema"], name=row["target_table"]))
