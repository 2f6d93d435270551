"""What statements with a run's query tag have used, by Snowflake's own history of its user's statements."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from snowmelt.reports.facts import SnowflakeUse, Warehouse
from snowmelt.snowflake_source.session import query_tag
from snowmelt.sql_text.literals import constant, moment_constant

MOST_STATEMENTS = 10_000
"""The most that QUERY_HISTORY_BY_USER gives."""
KEPT_FOR = timedelta(days=7)
"""How long INFORMATION_SCHEMA keeps its history; an older moment is an error there."""
_CLOCKS_DIFFER = timedelta(minutes=10)


def is_kept(started_at: datetime, now: datetime) -> bool:
    """Whether Snowflake still has the history of a run since its start."""
    return now - started_at + _CLOCKS_DIFFER < KEPT_FOR


def statement(*, user: str, run_id: str, started_at: datetime, ended_at: datetime) -> str:
    """One statement that gives a row for each warehouse, for what carries the run's tag and for what does not.

    A user sees the own statements without any privilege. Counting the others tells whether the history was cut off.
    """
    low, high = (moment_constant(_text(at)) for at in (started_at - _CLOCKS_DIFFER, ended_at + _CLOCKS_DIFFER))
    return (
        f"select coalesce(query_tag, '') = {constant(query_tag(run_id))} as of_run, "  # noqa: S608 - quoted literals
        "coalesce(warehouse_name, '') as warehouse, coalesce(warehouse_size, '') as size, count(*) as statements, "
        "coalesce(sum(bytes_scanned), 0) as bytes_scanned, coalesce(sum(execution_time), 0) as execution_ms, "
        "coalesce(datediff('millisecond', min(start_time), max(end_time)), 0) as span_ms "
        f"from table(information_schema.query_history_by_user(user_name => {constant(user)}, "
        f"end_time_range_start => {low}, end_time_range_end => {high}, "
        f"result_limit => {MOST_STATEMENTS})) group by 1, 2, 3 order by 1, 2, 3"
    )


def use(rows: Sequence[tuple[Any, ...]]) -> SnowflakeUse:
    """What the rows of that statement say."""
    mine = [
        Warehouse(
            name=name,
            size=size,
            queries=int(statements),
            bytes_scanned=int(scanned),
            execution_seconds=float(execution_ms) / 1000,
            span_seconds=float(span_ms) / 1000,
        )
        for of_run, name, size, statements, scanned, execution_ms, span_ms in rows
        if of_run
    ]
    return SnowflakeUse(warehouses=tuple(mine), is_partial=sum(int(row[3]) for row in rows) >= MOST_STATEMENTS)


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}.000000000"
