"""``RESULT_SCAN`` wherever a table may stand: the rows of a finished result as a relation of DuckDB's."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from sqlglot import exp

from snowmelt_sandbox.snowflake.declared_types import Column
from snowmelt_sandbox.snowflake.errors import SqlError
from snowmelt_sandbox.snowflake.wire import decode, decoded_schema

Opened = tuple[tuple[Column, ...], Iterator[pa.Table]]
"""The columns of a result, and its batches as they were stored."""


def register(statement: Any, *, duck: Any, open_result: Callable[[str], Opened]) -> dict[str, list[Column]]:
    """Put a relation in place of each ``TABLE(RESULT_SCAN('…'))``; the columns of each by its name.

    A relation can be read once, so a result that is scanned twice is registered twice.
    """
    found: dict[str, list[Column]] = {}
    for call in list(statement.find_all(exp.Anonymous)):
        if call.name.upper() != "RESULT_SCAN":
            continue
        table = call.find_ancestor(exp.TableFromRows)
        if table is None or not call.expressions or not isinstance(call.expressions[0], exp.Literal):
            raise SqlError(2, "0A000", "Unsupported feature 'RESULT_SCAN of anything but a query id'.")
        columns, batches = open_result(str(call.expressions[0].this))
        name = f"result_scan_{uuid.uuid4().hex}"
        schema = decoded_schema(columns)
        rows = (batch for stored in batches for batch in decode(stored, columns).to_batches())
        duck.register(name, pa.RecordBatchReader.from_batches(schema, rows))
        replacement = exp.Table(this=exp.to_identifier(name, quoted=True))
        if alias := table.args.get("alias"):
            replacement.set("alias", alias.copy())
        table.replace(replacement)
        found[name] = list(columns)
    return found
