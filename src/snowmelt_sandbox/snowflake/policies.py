"""Masking and row access policies: what DESCRIBE TABLE and ``POLICY_REFERENCES`` tell of them, and what they do."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from sqlglot import exp

from snowmelt_sandbox.snowflake.catalog import TableRef
from snowmelt_sandbox.snowflake.declared_types import Column, of_arrow
from snowmelt_sandbox.snowflake.errors import SqlError

_NAMES = (
    *("POLICY_DB", "POLICY_SCHEMA", "POLICY_NAME", "POLICY_KIND", "REF_DATABASE_NAME", "REF_SCHEMA_NAME"),
    *("REF_ENTITY_NAME", "REF_ENTITY_DOMAIN", "REF_COLUMN_NAME", "POLICY_STATUS"),
)
_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in _NAMES])


@dataclass(frozen=True)
class Policies:
    """What is set on one table."""

    masking: Mapping[str, str] = field(default_factory=dict)
    """The policy of each masked column."""
    row_access: str | None = None
    permitted: bool = True
    """Whether the role may see references to policies; DESCRIBE TABLE tells the masking ones in any case."""


def register(
    statement: Any, *, duck: Any, resolve: Callable[[str], TableRef], policies: Callable[[TableRef], Policies]
) -> dict[str, list[Column]]:
    """Put a relation in place of each ``TABLE(…POLICY_REFERENCES(…))``; the columns of each by its name."""
    found: dict[str, list[Column]] = {}
    for call in list(statement.find_all(exp.Anonymous)):
        relation = call.find_ancestor(exp.TableFromRows)
        if call.name.upper() != "POLICY_REFERENCES" or relation is None:
            continue
        asked = {each.this.name.upper(): each.expression.name for each in call.expressions}
        if asked.get("REF_ENTITY_DOMAIN", "").upper() not in ("TABLE", "VIEW"):
            raise SqlError(1044, "22023", "Invalid argument [REF_ENTITY_DOMAIN] for table function.")
        table = resolve(asked["REF_ENTITY_NAME"])
        name = f"policy_references_{uuid.uuid4().hex}"
        duck.register(name, pa.Table.from_pylist(_rows(table, policies(table), asked), schema=_SCHEMA))
        relation.replace(exp.Table(this=exp.to_identifier(name, quoted=True)))
        found[name] = [Column(field.name, of_arrow(field.type)) for field in _SCHEMA]
    return found


def _rows(table: TableRef, policies: Policies, asked: Mapping[str, str]) -> list[dict[str, Any]]:
    if not policies.permitted:
        return []
    own = [(policy, "MASKING_POLICY", column) for column, policy in policies.masking.items()]
    if policies.row_access:
        own.append((policies.row_access, "ROW_ACCESS_POLICY", None))  # type: ignore[arg-type]
    return [
        dict(
            zip(
                _NAMES,
                (
                    *(table.database, table.schema, policy, kind, *table.parts()),
                    *(asked["REF_ENTITY_DOMAIN"].upper(), column, "ACTIVE"),
                ),
                strict=True,
            )
        )
        for policy, kind, column in own
    ]
