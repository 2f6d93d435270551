"""Move sequences past the values that were loaded, or the first INSERT afterwards would collide with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor

from psycopg2 import sql as compose

from snowmelt.models import TableName
from snowmelt.postgres.session import Row, Session
from snowmelt.postgres.tables import identifier
from snowmelt.sql_text import queries


@dataclass(frozen=True)
class Advanced:
    """A sequence that was moved, and where to: the next value it gives is past it."""

    sequence: TableName
    column: str
    value: int


def advance(session: Session, target: TableName) -> tuple[Advanced, ...]:
    """Move every sequence that numbers a column of the table past the column's values; those that were behind.

    Serial, identity, and defaults that draw from a sequence of their own. Never backwards, so it may be done again
    at any time, and a sequence that several tables share ends past them all. One that descends is moved down.
    """
    rows = session.rows(queries.query("sequences_of_tables"), schemas=[target.schema_name], tables=[target.name])
    furthest = _furthest(session, target, rows)
    moved = []
    for row, value in zip(rows, furthest, strict=True):
        if value is not None and _move(session, row, value):
            sequence = TableName(schema_name=row["sequence_schema"], name=row["sequence_name"])
            moved.append(Advanced(sequence, row["column_name"], value))
    return tuple(moved)


def _furthest(session: Session, target: TableName, rows: Sequence[Row]) -> tuple[int | None, ...]:
    """The furthest value of each row's column in the direction of its sequence; one statement for all."""
    if not rows:
        return ()
    ends = [
        compose.SQL("{}({}) AS {}").format(
            compose.SQL("max" if row["ascends"] else "min"),
            compose.Identifier(row["column_name"]),
            compose.Identifier(f"v{i}"),
        )
        for i, row in enumerate(rows)
    ]
    found = session.row(compose.SQL("SELECT {} FROM {}").format(compose.SQL(", ").join(ends), identifier(target)))
    return tuple(_within(row, found[f"v{i}"]) for i, row in enumerate(rows)) if found else ()


def _within(row: Row, value: int | Decimal | None) -> int | None:
    """The value as the sequence could have given it; None when it never will come to it.

    A sequence that has no number left says so itself when it is asked for the next.
    """
    low, high = row["seqmin"], row["seqmax"]
    if value is None or (isinstance(value, Decimal) and not value.is_finite()):
        return None
    if row["ascends"]:
        return None if value < low else min(ceil(value), high)
    return None if value > high else max(floor(value), low)


def _move(session: Session, row: Row, value: int) -> bool:
    # Compared and set in one statement: what others draw meanwhile is not taken back.
    sequence = compose.Identifier(row["sequence_schema"], row["sequence_name"])
    moved = session.row(
        compose.SQL(
            "SELECT setval({name}::regclass, {value}, true) FROM {sequence} "
            "WHERE {value} {past} last_value OR ({value} = last_value AND NOT is_called)"
        ).format(
            name=compose.Literal(f"{_quoted(row['sequence_schema'])}.{_quoted(row['sequence_name'])}"),
            value=compose.Literal(value),
            sequence=sequence,
            past=compose.SQL(">" if row["ascends"] else "<"),
        )
    )
    return moved is not None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
