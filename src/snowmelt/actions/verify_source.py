"""Which rows a load has read, as long as they can be had: the result of its scan, or the table as it was."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from snowmelt.errors import AccessError, DataError
from snowmelt.models import ColumnPlan, TablePlan
from snowmelt.planning import watermarks
from snowmelt.snowflake_source import ScanResult, SnowflakeSource
from snowmelt.verification import source_sql
from snowmelt.verification.source_sql import SourceRows
from snowmelt.verification.verdicts import Mode


@dataclass(frozen=True)
class Asked:
    """How to verify."""

    mode: Mode = "checksums"
    sample: int | None = None
    """About how many rows to look at; None for all."""
    repair: bool = False
    all_rows: bool = False
    """Also rows that an incremental run had no need to move."""
    ends_the_load: bool = False
    """At the end of the run itself: nobody else has written into the target yet."""
    shown: int = 20
    """Rows that are shown side by side."""


@dataclass(frozen=True)
class Load:
    """A finished load, as the status schema has it."""

    run_id: str
    query_id: str | None
    snapshot_at: datetime
    deduplicated_rows: int = 0
    rejected_rows: int = 0
    kept_newer_rows: int = 0


class NotComparableError(Exception):
    """The rows that were read cannot be had any more, or were never meant to be all that the target holds.

    ``advice`` says what to do for the table to be comparable.
    """

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


def find(
    snowflake: SnowflakeSource,
    plan: TablePlan,
    load: Load,
    *,
    all_rows: bool,
    compared: Sequence[ColumnPlan],
    key: Sequence[ColumnPlan],
) -> tuple[SourceRows, int, str]:
    """The rows that were read, how many they are, and what state of the source that is.

    NotComparableError where they cannot be had any more.
    """
    refusals = []
    for select, snapshot in _selects(plan, load, all_rows=all_rows):
        source = SourceRows(select, plan.columns, tuple(compared), tuple(key))
        try:
            ((rows,),) = snowflake.aggregate(source.count())
        except (AccessError, DataError) as error:
            refusals.append(error.message)
            continue
        return source, int(rows), snapshot
    raise NotComparableError(
        f"the rows that were read cannot be had any more: {'; '.join(refusals) or 'no query is recorded'}", _READ_AGAIN
    )


_READ_AGAIN = (
    "load the table again and verify within 24 hours, or let DATA_RETENTION_TIME_IN_DAYS of the source table reach "
    "back to the load"
)


def _selects(plan: TablePlan, load: Load, *, all_rows: bool) -> Iterator[tuple[str, str]]:
    """Statements that give the rows that were read, the surest first, each with what it shows."""
    is_widened = all_rows and plan.watermark is not None
    if is_widened and plan.watermark is not None:
        everything = watermarks.predicate(plan.watermark.model_copy(update={"low": None}))
        plan = plan.model_copy(update={"conditions": (*plan.conditions[:-1], everything)})
    if plan.keys is not None:
        yield source_sql.of_table(plan), f"the table as of {load.snapshot_at.isoformat()}"
        return
    if load.query_id is None:
        return
    if not is_widened:
        yield source_sql.of_result(load.query_id), f"the result of query {load.query_id}"
    yield source_sql.of_table(source_sql.as_of(plan, load.query_id)), f"the table before query {load.query_id}"


class Opener:
    """Opens the source's rows as often as they are asked for; a statement that has to be run is run once."""

    def __init__(self, snowflake: SnowflakeSource, source: SourceRows, query_id: str | None) -> None:
        self._snowflake = snowflake
        self._source = source
        is_result = (
            query_id is not None
            and source.select == source_sql.of_result(query_id)
            and source.every == 1
            and not source.without
        )
        self._query_id = query_id if is_result else None

    def __call__(self) -> ScanResult:
        if self._query_id is None:
            result = self._snowflake.run(self._source.rows())
            self._query_id = result.query_id
            return result
        return self._snowflake.open_result(self._query_id)
