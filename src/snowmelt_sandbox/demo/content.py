"""Whether a target holds just what its source holds: every row, every value, by other means than the migration's."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as pc
from psycopg2 import sql

from snowmelt.config import SourceConfig
from snowmelt_sandbox.postgres import LocalPostgres
from snowmelt_sandbox.sandbox import Sandbox

_NULL = "<NULL>"


@dataclass(frozen=True)
class Compared:
    """A table on both sides."""

    table: str
    source_rows: int
    target_rows: int
    verified: bool


def compare(sandbox: Sandbox, *, source: Sequence[str], table: str, database: str, target: Sequence[str]) -> Compared:
    """The rows of both sides, sorted and compared with each other as a whole."""
    there = source_rows(sandbox, source)
    here = target_rows(sandbox.postgres, database, target, there.schema)
    same = here.num_rows == there.num_rows and bool(_sorted(here).equals(_sorted(there)))
    return Compared(table, there.num_rows, here.num_rows, same)


def compare_all(sandbox: Sandbox, source: SourceConfig) -> list[Compared]:
    """Every table of a source of the config with its target."""
    return [
        compare(
            sandbox,
            table=table.source,
            source=(source.snowflake_database, source.snowflake_schema, table.snowflake_name),
            database=source.postgres_database,
            target=(source.postgres_schema, table.postgres_name),
        )
        for table in source.tables
    ]


def source_rows(sandbox: Sandbox, name: Sequence[str]) -> pa.Table:
    """The table as the connector's own result batches give it, integers and times in one width."""
    quoted = ".".join(f'"{part}"' for part in name)
    with sandbox.snowflake.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {quoted}")  # noqa: S608 - names of the demo itself
        batches = [batch.to_arrow() for batch in cursor.get_result_batches() or ()]
    schema = pa.schema([(f.name, _common(f.type)) for f in batches[0].schema])
    return pa.concat_tables([batch.cast(schema) for batch in batches])


def target_rows(postgres: LocalPostgres, database: str, name: Sequence[str], schema: pa.Schema) -> pa.Table:
    """The target's rows in the source's columns and types, out of PostgreSQL's own text form."""
    columns = sql.SQL(", ").join(sql.Identifier(c) for c in _matching(postgres, database, name, schema.names))
    statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT csv, NULL {})").format(
        columns, sql.Identifier(*name), sql.Literal(_NULL)
    )
    text = io.BytesIO()
    with postgres.connect(database) as connection, connection.cursor() as cursor:
        cursor.copy_expert(statement, text)
    text.seek(0)
    if not text.getbuffer().nbytes:
        return schema.empty_table()
    options = pc.ConvertOptions(
        column_types=schema, null_values=[_NULL], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    return pc.read_csv(
        text,
        pc.ReadOptions(column_names=schema.names),
        pc.ParseOptions(newlines_in_values=True),
        convert_options=options,
    )


def _matching(postgres: LocalPostgres, database: str, name: Sequence[str], wanted: Sequence[str]) -> list[str]:
    with postgres.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
            tuple(name),
        )
        there = {column.casefold(): column for (column,) in cursor.fetchall()}
    return [there[column.casefold()] for column in wanted]


def _common(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(kind):
        return pa.int64()
    return pa.timestamp("us") if pa.types.is_timestamp(kind) else kind


def _sorted(rows: pa.Table) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in rows.schema.names]).combine_chunks()
