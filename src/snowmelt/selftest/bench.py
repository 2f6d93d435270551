"""What a check has to work with: sessions on both sides, and the self-test's own tables."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from snowmelt.models import TableName
from snowmelt.planning.statement import source_table
from snowmelt.postgres.session import Session
from snowmelt.snowflake_source import SnowflakeSource

EVERY_TYPE = "SNOWMELT_SELFTEST_TYPES"
"""Table of every type with edge values; in PostgreSQL in lower case."""
MANY_ROWS = "SNOWMELT_SELFTEST_ROWS"
"""Table of enough rows for several result batches."""

Connect = Callable[..., SnowflakeSource]
"""Opens a session of its own; what is given is in place of what the config's section ``snowflake`` says."""


@dataclass
class Bench:
    """Sessions and tables; what checks open or make besides is closed and dropped with the schemas."""

    connect: Connect
    session: Session
    database: str
    """In Snowflake, exact."""
    schema: str
    """In Snowflake, exact."""
    target_schema: str
    """In PostgreSQL, exact."""
    owns_target_schema: bool
    token: str
    """Part of the names of what is made, so that two self-tests never meet."""
    opened: ExitStack = field(default_factory=ExitStack)
    made: list[str] = field(default_factory=list)
    """Names of tables and views in the schema of Snowflake."""
    made_in_target: list[TableName] = field(default_factory=list)
    _source: SnowflakeSource | None = None

    @property
    def source(self) -> SnowflakeSource:
        """The first session in Snowflake."""
        if self._source is None:
            self._source = self.another()
        return self._source

    def another(self, **changes: object) -> SnowflakeSource:
        """Return a session of its own, closed with the bench, with changes to the config's section ``snowflake``."""
        return self.opened.enter_context(self.connect(**changes))

    def forget_session(self) -> None:
        """Have the next check sign in afresh: the session may have been spoilt by what went wrong."""
        self._source = None

    def named(self, name: str) -> str:
        """Return the exact name in Snowflake of a table or view of the self-test's, and remember to drop it."""
        full = f"{name}_{self.token.upper()}"
        if full not in self.made:
            self.made.append(full)
        return full

    def table(self, name: str) -> str:
        """Return its full, quoted name."""
        return source_table(self.database, self.schema, self.named(name))

    def target(self, name: str) -> TableName:
        """Return the name of a table of the self-test's in PostgreSQL, and remember to drop it."""
        full = TableName(schema_name=self.target_schema, name=f"{name}_{self.token}".lower())
        if full not in self.made_in_target:
            self.made_in_target.append(full)
        return full

    def run(self, statement: str) -> str:
        """Run a statement to its end and return its query id."""
        query_id = self.source.submit(statement)
        self.source.wait(query_id)
        return query_id

    def value(self, statement: str) -> object:
        """Return the one value that a statement gives."""
        ((value,),) = self.source.aggregate(statement)
        return value
