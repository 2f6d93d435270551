"""What target tables are and do beside holding rows; a query for all of them."""

from collections.abc import Sequence

from snowmelt.models import TableName, Value
from snowmelt.postgres.session import Session
from snowmelt.sql_text import queries


class TableFacts(Value):
    """Whatever a load of the table may set off, or stumble over.

    Columns, unique keys and foreign keys are told by ``tables``, indexes by ``indexes``.
    """

    is_partitioned: bool
    is_partition: bool
    children: tuple[str, ...]
    """Partitions, or tables that inherit from it: TRUNCATE empties them too."""
    is_unlogged: bool
    """A crash of the server would empty it, and what the marks call done would be gone."""
    is_owned: bool
    """Whether the session's user has the owner's rights: to drop indexes and to build them."""
    may_create_beside_it: bool
    """Whether the user may create in the table's schema, without which not even an owner builds an index."""
    has_row_security: bool
    """Row-level security applies to the session's user: COPY FROM is refused."""
    insert_triggers: tuple[str, ...]
    update_triggers: tuple[str, ...]
    truncate_triggers: tuple[str, ...]
    rules: tuple[str, ...]
    """Rewrite rules; COPY ignores them, INSERT does not, and ON CONFLICT is refused."""
    estimated_rows: int
    size_bytes: int
    is_on_rds: bool = False
    """Whether the server is RDS or Aurora, where nobody is a superuser."""


def read(session: Session, names: Sequence[TableName]) -> dict[TableName, TableFacts]:
    """The facts of those of the tables that are there."""
    found = {}
    wanted = {"schemas": [n.schema_name for n in names], "tables": [n.name for n in names]}
    for row in session.rows(queries.query("target_facts"), **wanted):
        name = TableName(schema_name=row.pop("schema_name"), name=row.pop("name"))
        found[name] = TableFacts.model_validate(row)
    return found
