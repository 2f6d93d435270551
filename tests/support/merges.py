"""Merges into tables of a test."""

from snowmelt.config import PostgresConfig
from snowmelt.loading import merge, staging
from snowmelt.loading.merge import Merged
from snowmelt.models import ColumnPlan, LoadMode, SourceColumn, TableName, TablePlan, TargetColumn, WatermarkPlan
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import Database

COLUMNS = {"id": "int4", "part of": "text", "changed": "int8", "payload": "json"}


def plan(load_mode: LoadMode, *, watermark: bool) -> TablePlan:
    return TablePlan(
        table_id=7,
        source="Orders",
        target=TableName(schema_name="public", name="the orders"),
        columns=tuple(
            ColumnPlan(
                source=SourceColumn(name=name, type="TEXT"),
                target=TargetColumn(name=name, type=kind),
                select="x",
                wire="string",
            )
            for name, kind in COLUMNS.items()
        ),
        reads_from="",
        load_mode=load_mode,
        key=("id", "part of"),
        watermark=WatermarkPlan(source="c", target="changed", kind="number", low=None, high="9", null_rows=0)
        if watermark
        else None,
        truncate_onstart=False,
        append=False,
        batch_size=1,
        max_retry_attempts=1,
    )


def session_of(database: Database) -> Session:
    server = database.server
    config = PostgresConfig(host=server.host, port=server.port, user=server.user)
    return Session.connect(config, database=database.name, application_name="test")


def keyed_by_id(**columns: str) -> TablePlan:
    """Return a plan that merges by ``id`` into the orders, with these other columns."""
    return plan("upsert", watermark=False).model_copy(
        update={
            "key": ("id",),
            "columns": tuple(
                ColumnPlan(
                    source=SourceColumn(name=name, type="TEXT"),
                    target=TargetColumn(name=name, type=kind),
                    select="x",
                    wire="string",
                )
                for name, kind in {"id": "int4", **columns}.items()
            ),
        }
    )


def written(session: Session, table: TablePlan, rows: str) -> Merged:
    """Merge literal rows, and return what became of them."""
    staging.create(session, table)
    with session.transaction() as cursor:
        cursor.execute(f"INSERT INTO pg_temp.snowmelt_staging_7 VALUES {rows}")
        return merge.merge(cursor, table, rows=cursor.rowcount)
