"""The statement that reads a table."""

from collections.abc import Sequence
from datetime import UTC, datetime

from snowmelt.columns.batch_conversion import cut_masks
from snowmelt.columns.type_pairs import quoted
from snowmelt.errors import ConfigError
from snowmelt.models import KeyRange, TablePlan
from snowmelt.planning import key_sql
from snowmelt.sql_text.lexer import bracketed, without_literals
from snowmelt.sql_text.literals import constant, moment_constant


def source_table(database: str, schema: str, table: str) -> str:
    """The table's full name, every part quoted."""
    return ".".join(quoted(part) for part in (database, schema, table))


def describe(database: str, schema: str, table: str) -> str:
    """Every column of a table or view; for the server to describe, not to run."""
    return f"SELECT * FROM {source_table(database, schema, table)}"  # noqa: S608 - quoted above


def of_chunk(plan: TablePlan, key_range: KeyRange | None = None) -> str:
    """Read the plan's columns in their order, converted for the wire, of all its rows or of one range of them; then the
    masks that tell which values lose digits, then the number of the row among those of its key, where that decides.

    A condition may be the user's own SQL: each stands in brackets on lines of its own, so that neither an OR nor a
    comment in it reaches beyond them, and Snowflake refuses a second statement in one request.
    """
    selected = [f"{c.select} AS {quoted(c.target.name)}" for c in plan.columns] + list(cut_masks(plan.columns))
    reads_from, conditions = plan.reads_from, list(plan.conditions)
    if plan.repeat_number:  # among all rows that the run reads, and not only those of the range
        where = f"\nWHERE {all_of(conditions)}" if conditions else ""
        numbered = f"SELECT *, {plan.repeat_number} AS {_NUMBER} FROM {reads_from}{where}"  # noqa: S608 - quoted names
        reads_from, conditions = f"(\n{numbered}\n) AS numbered_rows", []
        selected.append(_NUMBER)
    wanted = ",\n       ".join(selected)
    if key_range is not None and plan.keys is not None:
        conditions.append(key_sql.where(plan.keys.columns, key_range))
    where = f"\nWHERE {all_of(conditions)}" if conditions else ""
    order = f"\nORDER BY {', '.join(map(quoted, plan.order_by))}" if plan.order_by else ""
    return f"SELECT {wanted}\nFROM {reads_from}{where}{order}"


_NUMBER = '"snowmelt number"'
"""Column of a row's place among those that have its key."""


def shown_of_chunk(plan: TablePlan, key_range: KeyRange | None = None) -> str:
    """Return what ``of_chunk`` builds as it may be told: ``?`` for bounds and watermarks, which are values of rows."""
    own = plan.conditions[: len(plan.conditions) - (plan.watermark is not None)]
    bounds = [without_literals(condition) for condition in plan.conditions[len(own) :]]
    if key_range is not None and plan.keys is not None:
        bounds.append(without_literals(key_sql.where(plan.keys.columns, key_range)))
    return of_chunk(plan.model_copy(update={"conditions": (*own, *bounds)}))


def count(plan: TablePlan) -> str:
    """How many rows the plan reads."""
    where = f"\nWHERE {all_of(plan.conditions)}" if plan.conditions else ""
    return f"SELECT COUNT(*) FROM {plan.reads_from}{where}"  # noqa: S608 - every name is quoted


def described(table: str) -> str:
    """Build the statement that lists a table's columns with their types and the policies set on them."""
    return f"DESCRIBE TABLE {table}"


def policy_references(database: str, tables: Sequence[tuple[str, str]]) -> str:
    """Build one statement that tells of each table, a quoted full name, which policies are set on it and its columns.

    Each comes with its domain, ``table`` or ``view``. The answer has the table's place in the list, the kind, name and
    column of each policy.
    """
    parts = (
        f"SELECT {number:d}, POLICY_KIND, POLICY_NAME, REF_COLUMN_NAME "  # noqa: S608
        f"FROM TABLE({quoted(database)}.INFORMATION_SCHEMA.POLICY_REFERENCES("
        f"REF_ENTITY_NAME => {constant(name)}, REF_ENTITY_DOMAIN => {constant(domain)}))"
        for number, (name, domain) in enumerate(tables)
    )
    return "\nUNION ALL\n".join(parts)


def primary_keys(database: str, schema: str) -> str:
    """The primary keys of a schema: table, column and place in the key are the fourth to the sixth column."""
    return f"SHOW PRIMARY KEYS IN SCHEMA {quoted(database)}.{quoted(schema)}"


def at(moment: datetime) -> str:
    """The clause that shows a table as it was; the moment has a zone, which the session's own must not replace."""
    text = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}000"
    return f"AT(TIMESTAMP => {moment_constant(text)})"


def probe(reads_from: str) -> str:
    """A statement that fails where the table cannot be read so, and gives next to nothing where it can."""
    return f"SELECT 1 FROM {reads_from} LIMIT 1"  # noqa: S608 - every name is quoted


def compiles(source: str, conditions: Sequence[str]) -> str:
    """Build a statement that fails where the conditions cannot be compiled, and reads no row where they can."""
    return f"SELECT 1 FROM {source}\nWHERE {all_of(conditions)}\nLIMIT 0"  # noqa: S608 - every name is quoted


def all_of(conditions: Sequence[str]) -> str:
    """Return the conditions together, each one operand on lines of its own; ConfigError for one that is more."""
    try:
        return "\n  AND ".join(map(bracketed, conditions))
    except ValueError as error:
        raise ConfigError(f"source_filter {error}") from None
