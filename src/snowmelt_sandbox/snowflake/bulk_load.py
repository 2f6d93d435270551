"""Files into tables, past the SQL of any client."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from sqlglot import exp

from snowmelt_sandbox.snowflake.catalog import TableRef, quote
from snowmelt_sandbox.snowflake.declared_types import Column, DeclaredType, of_duckdb, of_snowflake
from snowmelt_sandbox.snowflake.engine import Engine
from snowmelt_sandbox.snowflake.errors import SqlError


@dataclass(frozen=True)
class BulkLoad:
    """A file that becomes a table; the table's name is taken as it stands."""

    path: Path
    database: str
    schema: str
    table: str
    null_text: str = ""
    """What stands for NULL in a CSV file."""
    types: dict[str, str] = field(default_factory=dict)
    """Snowflake types of columns that the file does not tell."""


def load(engine: Engine, order: BulkLoad) -> int:
    """Replace the table by the file's rows; returns how many."""
    engine.create_schema(order.database, order.schema)
    connection = engine.connect(order.database, order.schema)
    duck = connection._duck_conn
    # The account's own connections may not open files.
    reading = duckdb.connect(":memory:")
    try:
        reading.execute("set TimeZone = 'UTC'")
        source = _source(reading, order)
        columns = [
            Column(name, _declared(order.types.get(name), str(stored)))
            for name, stored in zip(source.columns, source.types, strict=True)
        ]
        table = TableRef(order.database.upper(), order.schema.upper(), order.table)
        duck.register("incoming_rows", source.to_arrow_reader())
        selected = ", ".join(
            f"{_expression(c, str(stored))} as {quote(c.name)}" for c, stored in zip(columns, source.types, strict=True)
        )
        started = datetime.now(UTC).replace(tzinfo=None)
        engine.catalog.altering([table])
        duck.execute(f"create or replace table {table.quoted()} as select {selected} from incoming_rows")  # noqa: S608
        engine.catalog.declare(table, columns)
        engine.catalog.born(table, started)
        engine.catalog.altered([table])
        return int(duck.execute(f"select count(*) from {table.quoted()}").fetchone()[0])  # noqa: S608
    finally:
        reading.close()
        connection.close()


def _source(duck: Any, order: BulkLoad) -> Any:
    name = order.path.name.lower()
    if name.endswith(".parquet"):
        return duck.read_parquet(str(order.path))
    if name.endswith((".csv", ".csv.gz")):
        return duck.read_csv(str(order.path), header=True, na_values=order.null_text, sample_size=-1)
    raise SqlError(2, "0A000", f"{order.path.name} is neither CSV nor Parquet")


def _declared(wanted: str | None, stored: str) -> DeclaredType:
    if wanted is None:
        return of_duckdb(stored)
    parsed = exp.DataType.build(wanted, dialect="snowflake")
    declared = of_snowflake(parsed)
    if declared is None:
        raise SqlError(2, "0A000", f"Unsupported data type '{wanted}'.")
    return declared


def _expression(column: Column, stored: str) -> str:
    source = quote(column.name)
    if column.type.kind in ("variant", "object", "array"):
        return f"cast({source} as JSON)" if stored == "VARCHAR" else f"to_json({source})"
    small = column.type.kind == "fixed" and column.type.precision == 38 and column.type.scale == 0
    if small and stored not in ("UBIGINT", "HUGEINT") and not stored.startswith("DECIMAL"):
        return f"cast({source} as BIGINT)"
    return f"cast({source} as {column.type.duckdb()})"
