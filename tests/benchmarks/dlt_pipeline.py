"""Move tables with dlt: the connector's Arrow batches, by Parquet files and ADBC, as dlt's pages advise for speed.

A program of its own, for the interpreter that dlt is installed for. It is given a JSON object and prints another: why a
table could not be moved, by table.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import dlt  # type: ignore[import-not-found,unused-ignore]
import pyarrow as pa
import snowflake.connector

# Batches of one result differ in the width of their integers, which dlt does not take.
_WIDEST = {"SERIAL": pa.decimal128(38, 0)}


def _batches(order: dict[str, Any], statement: str) -> Iterator[pa.Table]:
    options = {"arrow_number_to_decimal": True}
    with snowflake.connector.connect(**order["snowflake"], **options) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        for table in cursor.fetch_arrow_batches(force_microsecond_precision=True):
            yield table.cast(pa.schema([pa.field(f.name, _wide(f)) for f in table.schema]))


def _wide(field: "pa.Field[Any]") -> Any:
    return _WIDEST.get(field.name, pa.int64() if pa.types.is_integer(field.type) else field.type)


def _move(order: dict[str, Any], statement: str, table: str) -> None:
    pipeline = dlt.pipeline(
        f"bench_{table}",
        destination=dlt.destinations.postgres(order["postgres"]),
        dataset_name="dlt",
        pipelines_dir=order["pipelines_dir"],
    )
    rows = dlt.resource(lambda: _batches(order, statement), name=table)
    pipeline.run(rows, write_disposition="replace", loader_file_format="parquet")


def main() -> None:
    """Move what is asked for, one table after the other."""
    order = json.loads(sys.argv[1])
    failures = {}
    for move in order["moves"]:
        try:
            _move(order, move["statement"], move["table"])
        except Exception as error:  # whatever it is, it is the finding
            failures[move["table"]] = " ".join(str(error.__cause__ or error).split())[:300]
    sys.stdout.write(f"\n{json.dumps(failures)}\n")


if __name__ == "__main__":
    main()
