"""Compare keys that only PostgreSQL can compare, before anything is loaded: no table is made for it.

Values come as texts and are converted as the load would convert them, then grouped by the types' own equality, under
the collation by which the target compares them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql as compose

from snowmelt.models import ColumnPlan
from snowmelt.planning.key_images import only_postgres_compares
from snowmelt.postgres.session import Session

_SHOWN = 3


@dataclass(frozen=True)
class Repeated:
    """How many of the keys are the same as another, and a few of these: of each column two spellings."""

    keys: int
    shown: tuple[tuple[str, ...], ...] = ()


def repeated(session: Session, columns: Sequence[ColumnPlan], keys: Sequence[Sequence[object]]) -> Repeated:
    """Return which of the keys, of which none is NULL, are the same to the target; DataError where it cannot say."""
    texts = {f"c{i}": [str(key[i]) for key in keys] for i in range(len(columns))}
    names = [compose.Identifier(column.target.name) for column in columns]
    values = compose.SQL(", ").join(
        compose.SQL("{} AS {}").format(_value(column), compose.Identifier(f"k{i}")) for i, column in enumerate(columns)
    )
    groups = compose.SQL(", ").join(compose.Identifier(f"k{i}") for i in range(len(columns)))
    spelt = compose.SQL(", ").join(
        compose.SQL('min({0} COLLATE "C") AS {1}, max({0} COLLATE "C") AS {2}').format(
            name, compose.Identifier(f"low{i}"), compose.Identifier(f"high{i}")
        )
        for i, name in enumerate(names)
    )
    query = compose.SQL(
        "SELECT sum(n - 1) OVER ()::bigint AS again, same.* FROM (SELECT count(*) AS n, {spelt} FROM"
        " (SELECT {names}, {values} FROM unnest({texts}) AS given ({names})) AS found"
        " GROUP BY {groups} HAVING count(*) > 1) AS same LIMIT {most}"
    ).format(
        spelt=spelt,
        names=compose.SQL(", ").join(names),
        values=values,
        texts=compose.SQL(", ").join(compose.SQL("{}::text[]").format(compose.Placeholder(name)) for name in texts),
        groups=groups,
        most=compose.Literal(_SHOWN),
    )
    rows = session.rows(query, **texts)
    shown = tuple(
        tuple(str(row[f"{side}{i}"]) for i in range(len(columns)) for side in ("low", "high")) for row in rows
    )
    return Repeated(int(rows[0]["again"]), shown) if rows else Repeated(0)


def _value(column: ColumnPlan) -> compose.Composable:
    """What is compared of a text: the stored value, or the text itself where Snowflake has said what is the same."""
    if not only_postgres_compares(column):
        return compose.SQL('{} COLLATE "C"').format(compose.Identifier(column.target.name))
    if column.cast:
        return compose.SQL(column.cast)
    kind = column.target.declared or column.target.type
    collated = f" COLLATE {column.target.folds_by}" if column.target.folds_by else ""
    return compose.SQL("{}::{}{}").format(
        compose.Identifier(column.target.name), compose.SQL(kind), compose.SQL(collated)
    )
