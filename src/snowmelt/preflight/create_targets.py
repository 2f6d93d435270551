"""Write the DDL of targets that are missing, and make them where that is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snowmelt.columns.type_pairs import quoted
from snowmelt.config import Config, SourceConfig
from snowmelt.errors import AccessError, ConfigError, DataError
from snowmelt.findings import place_of
from snowmelt.planning import statement
from snowmelt.postgres import tables
from snowmelt.preflight.schema_compare import not_excluded
from snowmelt.preflight.schema_ddl import Ddl, Wanted, ddl, unknown_keys
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.wiring import Wiring


@dataclass(frozen=True)
class Written:
    """The DDL of all tables in the config's order, as a script that psql takes."""

    schema: tuple[str, ...]
    """What makes the schema, if it is not there."""
    tables: tuple[Ddl, ...]
    applied: bool

    @property
    def statements(self) -> tuple[str, ...]:
        """What is, or would be, executed."""
        return (*self.schema, *(line for table in self.tables for line in table.statements))

    @property
    def creates(self) -> tuple[str, ...]:
        """The tables that these statements make."""
        return tuple(str(table.place.target) for table in self.tables if table.statements)

    @property
    def text(self) -> str:
        """The whole script."""
        return "\n".join(("".join(f"{line}\n" for line in self.schema), *(t.text for t in self.tables))).lstrip("\n")


def schema_ddl(
    wiring: Wiring, config: Config, source: SourceConfig, names: Sequence[str] | None = None, *, apply: bool
) -> Written:
    """The DDL of the source's targets, or of some; with ``apply`` it is executed, all or nothing.

    No table that is there is ever touched. ConfigError where a key names columns that the source has not.
    """
    selected = [config.with_defaults(table) for table in source.select(names)]
    places = {place_of(config, source, table).target: (place_of(config, source, table), table) for table in selected}
    with wiring.target(config, source.postgres_database, "snowmelt schema") as session:
        there = tables.read(session, list(places))
        has_schema = tables.has_schema(session, source.postgres_schema)
        with wiring.source(config, source, run_id=None) as snowflake:
            keys = _primary_keys(snowflake, source)
            wanted = [
                Wanted(
                    place=place,
                    config=table,
                    columns=not_excluded(
                        snowflake.describe_table(
                            source.snowflake_database, source.snowflake_schema, table.snowflake_name
                        ),
                        table.exclude_columns,
                    ),
                    primary_key=keys.get(table.snowflake_name, ()),
                    target=there[target].columns if target in there else None,
                )
                for target, (place, table) in places.items()
            ]
        if problems := [problem for each in wanted for problem in unknown_keys(each)]:
            raise ConfigError("no table was made: its primary key is not known", problems)
        written = Written(
            schema=() if has_schema else (f"CREATE SCHEMA {quoted(source.postgres_schema)};",),
            tables=tuple(map(ddl, wanted)),
            applied=apply,
        )
        if apply:
            tables.create(session, written.statements)
    return written


def _primary_keys(snowflake: SnowflakeSource, source: SourceConfig) -> Mapping[str, tuple[str, ...]]:
    """The columns of each table's primary key, in its order; nothing where the role may not see them."""
    try:
        found = snowflake.aggregate(statement.primary_keys(source.snowflake_database, source.snowflake_schema))
    except (AccessError, DataError):
        return {}
    keys: dict[str, list[tuple[int, str]]] = {}
    for row in found:
        keys.setdefault(str(row[3]), []).append((int(row[5]), str(row[4])))
    return {table: tuple(column for _, column in sorted(columns)) for table, columns in keys.items()}
