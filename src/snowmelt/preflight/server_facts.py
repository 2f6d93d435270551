"""What a pre-flight wants to know of the server and of all targets; a fixed number of queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snowmelt.models import TableName
from snowmelt.postgres.session import Session
from snowmelt.preflight.servers import ServerFacts, Slot
from snowmelt.sql_text import queries


def read(session: Session) -> ServerFacts:
    """The server's limits and habits, and what the session's user may do beside loading tables."""
    (row,) = session.rows(queries.query("server_facts"))
    slots = tuple(Slot.model_validate(slot) for slot in session.rows(queries.query("unread_slots")))
    lacking = tuple((r["name"], r["lacking"]) for r in session.rows(queries.query("status_without_privilege")))
    return ServerFacts.model_validate(
        {**row, "unread_slots": slots, "without_privilege": lacking, "status_schema": session.status_schema}
    )


@dataclass(frozen=True)
class TargetDetails:
    """What judges and numbers the rows of the targets."""

    labels: Mapping[str, tuple[str, ...]]
    """Of each enum, by the type's name."""
    constraints: Mapping[TableName, tuple[str, ...]]
    """Name and definition of what holds rows to more than their types."""
    fixed_sequences: Mapping[TableName, tuple[TableName, ...]]
    """Sequences of loaded tables that the user may not move."""


def target_details(session: Session, names: Sequence[TableName]) -> TargetDetails:
    """The details of all of the tables that are there."""
    once = list(dict.fromkeys(names))
    wanted = {"schemas": [n.schema_name for n in once], "tables": [n.name for n in once]}
    constraints: dict[TableName, tuple[str, ...]] = {}
    for row in session.rows(queries.query("row_constraints"), **wanted):
        name = TableName(schema_name=row["schema_name"], name=row["table_name"])
        constraints[name] = (*constraints.get(name, ()), f"{row['name']} {row['definition']}")
    return TargetDetails(
        labels={row["declared"]: tuple(row["labels"]) for row in session.rows(queries.query("enum_labels"), **wanted)},
        constraints=constraints,
        fixed_sequences=_fixed_sequences(session, wanted),
    )


def _fixed_sequences(session: Session, wanted: Mapping[str, list[str]]) -> dict[TableName, tuple[TableName, ...]]:
    numbering = [
        (
            TableName(schema_name=row["schema_name"], name=row["table_name"]),
            TableName(schema_name=row["sequence_schema"], name=row["sequence_name"]),
        )
        for row in session.rows(queries.query("sequences_of_tables"), **wanted)
    ]
    asked = {"schemas": [s.schema_name for _, s in numbering], "tables": [s.name for _, s in numbering]}
    found = session.rows(queries.query("sequences_without_privilege"), **asked) if numbering else []
    fixed = {TableName(schema_name=row["schema_name"], name=row["name"]) for row in found}
    return {
        table: tuple(dict.fromkeys(s for t, s in numbering if t == table and s in fixed))
        for table, sequence in numbering
        if sequence in fixed
    }
