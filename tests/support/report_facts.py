"""Facts of a run as reports are made of, for tests to change."""

from datetime import UTC, datetime, timedelta
from typing import Any

from snowmelt.reports.facts import (
    Durations,
    Execution,
    Facts,
    Index,
    Pace,
    Problem,
    Rejected,
    Run,
    SnowflakeUse,
    Table,
    Verified,
    Versions,
    Warehouse,
    Workers,
)

BEGAN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """So long after the run began."""
    return BEGAN + timedelta(seconds=seconds)


def a_run(**changes: Any) -> Run:
    """A run of 400 seconds that is complete."""
    given = {
        "run_id": "ledger-1",
        "source_name": "ledger",
        "status": "completed",
        "started_at": BEGAN,
        "completed_at": after(400),
        "as_of": after(400),
        "seconds": 400.0,
        "snapshot_at": BEGAN,
        "rounds": 3,
        "config_hash": "c0ffee",
        "store": "s3://bucket/store",
        "allow_shrink": False,
        "accept_rejected": False,
    }
    return Run(**{**given, **changes})


def a_table(table_id: int = 0, table: str = "ENTRIES", **changes: Any) -> Table:
    """A table of 1,200,000 rows in twelve chunks."""
    given: dict[str, Any] = {
        "table_id": table_id,
        "table": table,
        "target": f"public.{table.lower()}",
        "status": "completed",
        "strategy": "one_scan",
        "load_mode": "copy",
        "source_rows": 1_200_000,
        "rows": 1_200_000,
        **dict.fromkeys(("updated", "unchanged", "deduplicated", "rejected", "chunks_running", "chunks_failed"), 0),
        "inserted": 1_200_000,
        "size_bytes": 345_600_000,
        "seconds": 390.0,
        "load_seconds": 240.0,
        "rows_per_second": 5000.0,
        "chunks": 12,
        "chunks_completed": 12,
        "chunks_retried": 1,
        "retries": 2,
        "median_seconds": 19.5,
        "p95_seconds": 31.0,
        "slowest_seconds": 42.0,
        "total_seconds": 240.0,
        "truncated_at": None,
        "started_at": after(5),
        "first_claimed_at": after(60),
        "last_loaded_at": after(300),
        "completed_at": after(395),
        "query_ids": ("01b-77",),
        "changed_values": {},
        "warnings": (),
        "may_lose": (),
        "error_code": None,
        "error": None,
    }
    return Table(**{**given, **changes})


def a_warehouse(**changes: Any) -> Warehouse:
    """A warehouse that was busy for half an hour."""
    given = {
        "name": "LOADING",
        "size": "Medium",
        "queries": 17,
        "bytes_scanned": 2_500_000_000,
        "execution_seconds": 2000.0,
        "span_seconds": 1800.0,
    }
    return Warehouse(**{**given, **changes})


def verified(table: str = "ENTRIES", verdict: str = "equal", **changes: Any) -> Verified:
    """What was found of a table."""
    given = {
        "table_id": 0,
        "table": table,
        "mode": "checksums",
        "verdict": verdict,
        "source_rows": 1_200_000,
        "target_rows": 1_200_000,
        **dict.fromkeys(("missing", "extra", "changed"), 0),
        "seconds": 7.5,
        "checked_at": after(398),
    }
    return Verified(**{**given, **changes})


def facts(**changes: Any) -> Facts:
    """A run with something to say in every part of its report."""
    given = {
        "run": a_run(),
        "executions": (
            Execution(
                execution_id="arn:aws:states:eu-central-1:1:execution:m:x", started_at=BEGAN, ended_at=after(400)
            ),
        ),
        "tables": (a_table(), a_table(1, "NOTES", rows=34, source_rows=34, inserted=34, chunks=1, chunks_completed=1)),
        "pace": tuple(
            Pace(starts_at=after(60 + 4 * n), seconds=4, rows=2e4 + n, size_bytes=1e6, chunks_at_once=2.5)
            for n in range(60)
        ),
        "durations": (
            Durations(low_seconds=10, high_seconds=20, chunks=9),
            Durations(low_seconds=20, high_seconds=40, chunks=4),
        ),
        "rejects": (),
        "problems": (
            Problem(
                code="WorkerLost",
                what="chunk",
                table="ENTRIES",
                count=2,
                first="chunk 3",
                example="the worker ended without a word",
                is_over=True,
                remedy=None,
            ),
        ),
        "verification": (),
        "indexes": (
            Index(
                index="by_day",
                table="public.entries",
                is_unique=False,
                size_bytes=9_700_000,
                seconds=83.0,
                attempts=1,
                state="built",
                error_code=None,
                error=None,
            ),
        ),
        "snowflake": SnowflakeUse(warehouses=(a_warehouse(),), is_partial=False),
        "workers": Workers(invocations=4, threads=1, memory_mb=2048),
        "config": {
            "source": {
                "source_sf_database": "SALES",
                "source_sf_schema": "RAW",
                "target_pg_database": "sales",
                "target_pg_schema": "public",
            },
            "parallel_threads": 4,
        },
        "versions": Versions(snowmelt="0.1.0", report_by="0.1.0", python="3.13.1", postgres="18.4", plan_format=1),
    }
    return Facts(**{**given, **changes})


def a_rejection(**changes: Any) -> Rejected:
    """Rows that a CHECK refused."""
    given = {"table": "ENTRIES", "column": "amount", "sqlstate": "23514", "reason": "it is negative", "rows": 1234}
    return Rejected(**{**given, **changes})
