"""How many connections PostgreSQL gives, and who has them."""

from snowmelt.columns.type_pairs import quoted
from snowmelt.engine.connection_budget import Limit
from snowmelt.errors import SnowmeltError
from snowmelt.postgres.session import Row, Session
from snowmelt.sql_text import queries

ROOM = 5
"""Connections that sessions kept warm leave for others: driver, plan, two builds of indexes, someone who looks."""


def limits(session: Session, *, workers: str = "") -> tuple[Limit, ...]:
    """Read the limits that hold for this session's user; ``workers`` is the name of the sessions of a run's workers."""
    return tuple(_limit(row) for row in session.rows(queries.query("connection_limits"), workers=workers))


def _limit(row: Row) -> Limit:
    name = quoted(row["name"])
    whose, raised_by = {
        "server": ("the server", "ALTER SYSTEM SET max_connections ="),
        "rds": ("the server", "in the parameter group of the instance or cluster, max_connections ="),
        "role": (f"role {row['name']}", f"ALTER ROLE {name} CONNECTION LIMIT"),
        "database": (f"database {row['name']}", f"ALTER DATABASE {name} CONNECTION LIMIT"),
    }[row["kind"]]
    return Limit(
        whose=whose,
        raised_by=raised_by,
        most=row["most"],
        taken=row["taken"],
        reserved=row["reserved"],
        workers=row["workers"],
    )


def free(session: Session) -> int:
    """Return how many more connections this session's user would be given."""
    return min(limit.free for limit in limits(session))


def leave_room(session: Session) -> None:
    """Close an idle session where few connections are left, and no other way to get one back.

    What workers keep warm would otherwise leave none for the plan that gives them their next work.
    """
    if session.closed:
        return
    try:
        is_short = free(session) < ROOM
    except SnowmeltError:
        is_short = True
    if is_short:
        session.close()
