"""``INFORMATION_SCHEMA.TABLES`` as a relation of DuckDB's: how many rows tables have, and when they were changed."""

import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from sqlglot import exp

from snowmelt_sandbox.snowflake.catalog import Catalog, TableRef, quote
from snowmelt_sandbox.snowflake.declared_types import Column, of_arrow
from snowmelt_sandbox.snowflake.errors import no_such_object
from snowmelt_sandbox.snowflake.lineage import identifier_name

_MOMENT = pa.timestamp("us", tz="UTC")


def register(
    statement: Any,
    *,
    duck: Any,
    database: str,
    catalog: Catalog,
    may_read: Callable[[TableRef], bool],
    too_many: int = 0,
) -> dict[str, list[Column]]:
    """Put a relation in place of each ``INFORMATION_SCHEMA.TABLES``; the columns of each by its name.

    ``database`` is the session's own. Told is what is committed: a transaction does not see its own rows counted.
    ``too_many`` rows are added to each table's.
    """
    found: dict[str, list[Column]] = {}
    for table in list(statement.find_all(exp.Table)):
        schema = table.args.get("db")
        if schema is None or identifier_name(schema).upper() != "INFORMATION_SCHEMA":
            continue
        if not isinstance(table.this, exp.Identifier) or identifier_name(table.this).upper() != "TABLES":
            continue
        named = table.args.get("catalog")
        asked = TableRef(identifier_name(named) if named else database, "INFORMATION_SCHEMA", "TABLES")
        if not may_read(asked):
            raise no_such_object(str(asked))
        rows = _rows(duck, asked.database, catalog, too_many)
        name = f"tables_{uuid.uuid4().hex}"
        duck.register(name, rows)
        relation = exp.Table(this=exp.to_identifier(name, quoted=True))
        if alias := table.args.get("alias"):
            relation.set("alias", alias.copy())
        table.replace(relation)
        found[name] = [Column(field.name, of_arrow(field.type)) for field in rows.schema]
    return found


def _rows(duck: Any, database: str, catalog: Catalog, too_many: int) -> pa.Table:
    listed: pa.Table = duck.execute(f"from {quote(database)}._fs_information_schema._fs_tables").to_arrow_table()
    names = (listed[part].to_pylist() for part in ("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME"))
    facts = catalog.facts([TableRef(*parts) for parts in zip(*names, strict=True)])
    columns = {
        "ROW_COUNT": pa.array([None if each.rows is None else each.rows + too_many for each in facts], pa.int64()),
        "LAST_ALTERED": pa.array([each.altered_at for each in facts], _MOMENT),
        "RETENTION_TIME": pa.array([each.kept_days for each in facts], pa.int64()),
    }
    for name, values in columns.items():
        listed = listed.set_column(listed.schema.get_field_index(name), name, values)
    return listed
