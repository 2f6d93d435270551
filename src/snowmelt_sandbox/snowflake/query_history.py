"""``INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER`` as a relation of DuckDB's: what the user's statements have used."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from sqlglot import exp

from snowmelt_sandbox.snowflake.declared_types import Column, of_arrow
from snowmelt_sandbox.snowflake.errors import SqlError

WAREHOUSE_SIZE = "X-Small"
_KEPT_FOR = timedelta(days=7)
_DEFAULT_LIMIT = 100
_MOMENT = pa.timestamp("us", tz="UTC")
_FIELDS: list[Any] = [
    *(pa.field(name, pa.string()) for name in ("QUERY_ID", "QUERY_TEXT", "QUERY_TAG", "USER_NAME")),
    *(pa.field(name, pa.string()) for name in ("WAREHOUSE_NAME", "WAREHOUSE_SIZE", "EXECUTION_STATUS")),
    *(pa.field(name, _MOMENT) for name in ("START_TIME", "END_TIME")),
    *(pa.field(name, pa.int64()) for name in ("TOTAL_ELAPSED_TIME", "EXECUTION_TIME")),
    *(pa.field(name, pa.int64()) for name in ("BYTES_SCANNED", "ROWS_PRODUCED")),
]
_SCHEMA = pa.schema(_FIELDS)


@dataclass(frozen=True)
class Entry:
    """A statement that has ended."""

    query_id: str
    text: str
    tag: str
    user: str
    warehouse: str
    state: str
    started: datetime
    ended: datetime
    rows: int
    size_bytes: int
    """Of its result: of a table that is read whole, what Snowflake would have scanned."""

    def row(self) -> dict[str, Any]:
        """The row of the history."""
        milliseconds = int((self.ended - self.started) / timedelta(milliseconds=1))
        values = (
            *(self.query_id, self.text, self.tag, self.user.upper(), self.warehouse, WAREHOUSE_SIZE, self.state),
            *(self.started, self.ended, milliseconds, milliseconds, self.size_bytes, self.rows),
        )
        return dict(zip(_SCHEMA.names, values, strict=True))


def register(
    statement: Any, *, duck: Any, user: str, entries: Callable[[], Sequence[Entry]]
) -> dict[str, list[Column]]:
    """Put a relation in place of each ``TABLE(…QUERY_HISTORY_BY_USER(…))``; the columns of each by its name."""
    found: dict[str, list[Column]] = {}
    for call in list(statement.find_all(exp.Anonymous)):
        table = call.find_ancestor(exp.TableFromRows)
        if call.name.upper() != "QUERY_HISTORY_BY_USER" or table is None:
            continue
        asked = {each.this.name.upper(): each.expression for each in call.expressions}
        name = f"query_history_{uuid.uuid4().hex}"
        duck.register(name, pa.Table.from_pylist(_rows(asked, user, entries()), schema=_SCHEMA))
        table.replace(exp.Table(this=exp.to_identifier(name, quoted=True)))
        found[name] = [Column(field.name, of_arrow(field.type)) for field in _SCHEMA]
    return found


def _rows(asked: dict[str, Any], user: str, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The latest of the user's statements that ended in the range; no one here may see those of others."""
    of_user = str(asked["USER_NAME"].name if "USER_NAME" in asked else user).upper()
    low, high = _moment(asked.get("END_TIME_RANGE_START")), _moment(asked.get("END_TIME_RANGE_END"))
    limit = int(asked["RESULT_LIMIT"].name) if "RESULT_LIMIT" in asked else _DEFAULT_LIMIT
    if not 1 <= limit <= 10_000:
        raise SqlError(1044, "22023", f"Invalid argument [{limit}] for table function. Range is 1 to 10000.")
    if low is not None and datetime.now(UTC) - low > _KEPT_FOR:
        raise SqlError(1044, "22023", "Cannot retrieve data from more than 7 days ago.")
    mine = [
        entry
        for entry in entries
        if entry.user.upper() == of_user == user.upper()
        and (low is None or entry.ended >= low)
        and (high is None or entry.ended <= high)
    ]
    return [entry.row() for entry in sorted(mine, key=lambda entry: entry.ended, reverse=True)[:limit]]


def _moment(expression: Any) -> datetime | None:
    if expression is None:
        return None
    literal = expression.find(exp.Literal)
    return datetime.fromisoformat(literal.name)
