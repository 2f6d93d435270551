"""A small table of values at the edges of every type: '' and NULL, 38 digits, NaN, the years 0001 and 9999."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pyarrow as pa

from benchmarks import mixed_table
from snowmelt_sandbox.sandbox import Sandbox

SNOWFLAKE_TYPES: Mapping[str, tuple[str, pa.DataType]] = {
    "ID": ("NUMBER(18,0)", pa.int64()),
    "WORDS": ("VARCHAR", pa.string()),
    "CODE": ("VARCHAR(8)", pa.string()),
    "SERIAL": ("NUMBER(38,0)", pa.decimal128(38, 0)),
    "AMOUNT": ("NUMBER(38,18)", pa.decimal128(38, 18)),
    "WEIGHT": ("FLOAT", pa.float64()),
    "IS_OPEN": ("BOOLEAN", pa.bool_()),
    "ORDERED": ("DATE", pa.date32()),
    "CREATED": ("TIMESTAMP_NTZ(9)", pa.timestamp("us")),
    "OPENED": ("TIME(9)", pa.time64("us")),
    "PAYLOAD": ("VARIANT", pa.string()),
    "DIGEST": ("BINARY", pa.binary()),
}
COLUMNS = tuple(name.lower() for name in SNOWFLAKE_TYPES if name != "ID")


def make(sandbox: Sandbox) -> None:
    """The rows in Snowflake, what they are to be in PostgreSQL, and an empty table to load them into."""
    postgres = sandbox.postgres
    postgres.execute(files(__package__).joinpath("edges.sql").read_text(encoding="utf-8"), mixed_table.DATABASE)
    selected = "id, words, code, serial, amount, weight, is_open, ordered, created, opened, payload::text, digest"
    rows = postgres.rows(f"SELECT {selected} FROM edges_truth", database=mixed_table.DATABASE)
    values = zip(*([_plain(value) for value in row] for row in rows), strict=True)
    types = SNOWFLAKE_TYPES.items()
    columns = {name: pa.array(column, kind) for (name, (_, kind)), column in zip(types, values, strict=True)}
    sandbox.snowflake.load_table(
        "BENCH", "PUBLIC", "EDGES", pa.table(columns), types={name: declared for name, (declared, _) in types}
    )


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value
