"""Which rows a load has read, as long as they can be had: the result of its scan, or the table as it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

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
    scan_began_at: datetime | None = None
    """On Snowflake's clock."""
    source_rows: int | None = None
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


@dataclass(frozen=True)
class FoundRows:
    """The rows that were read, what state of the source they are, and how many where that cost no pass over them."""

    source: SourceRows
    snapshot: str
    rows: int | None


def find(
    snowflake: SnowflakeSource,
    plan: TablePlan,
    load: Load,
    *,
    all_rows: bool,
    compared: Sequence[ColumnPlan],
    key: Sequence[ColumnPlan],
) -> FoundRows:
    """Return the rows that were read; NotComparableError where they cannot be had any more.

    Snowflake is not made to read them for that: a pass over a result, which has no metadata, costs as much as the
    comparison itself.
    """
    is_widened = all_rows and plan.watermark is not None
    if is_widened and plan.watermark is not None:
        everything = watermarks.predicate(plan.watermark.model_copy(update={"low": None}))
        plan = plan.model_copy(update={"conditions": (*plan.conditions[:-1], everything)})

    def rows_of(select: str) -> SourceRows:
        return SourceRows(select, plan.columns, tuple(compared), tuple(key))

    if plan.keys is not None:
        source = rows_of(source_sql.of_table(plan))
        try:
            snowflake.describe(source.count())
        except (AccessError, DataError) as error:
            raise _gone(error.message) from error
        return FoundRows(source, f"the table as of {load.snapshot_at.isoformat()}", None)
    if load.query_id is None:
        raise _gone("no query is recorded")
    refusals = []
    if not is_widened:
        try:
            rows = sum(snowflake.open_result(load.query_id).row_counts)
            return FoundRows(rows_of(source_sql.of_result(load.query_id)), f"the result of query {load.query_id}", rows)
        except (AccessError, DataError) as error:
            refusals.append(error.message)
    if load.scan_began_at is None:
        raise _gone(*refusals, "an earlier version of Snowmelt, which ran the scan, did not record when it began")
    moment = load.scan_began_at.astimezone(UTC).isoformat()
    source = rows_of(source_sql.of_table(source_sql.as_of(plan, load.scan_began_at)))
    try:
        ((rows,),) = snowflake.aggregate(source.count())
    except (AccessError, DataError) as error:
        raise _gone(*refusals, error.message) from error
    if not is_widened and load.source_rows not in (None, rows):
        raise _gone(
            *refusals,
            f"the table as of {moment}, when query {load.query_id} began, has {rows} rows, and the query read "
            f"{load.source_rows}: rows were committed at that very moment",
        )
    return FoundRows(source, f"the table as of {moment}, when query {load.query_id} began", int(rows))


def _gone(*refusals: str) -> NotComparableError:
    return NotComparableError(f"the rows that were read cannot be had any more: {'; '.join(refusals)}", _READ_AGAIN)


_READ_AGAIN = (
    "load the table again and verify within 24 hours, or let DATA_RETENTION_TIME_IN_DAYS of the source table reach "
    "back to the load"
)


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
