"""What both grant scripts grant is enough: a role with nothing else does what Snowmelt does."""

from snowmelt.columns.type_pairs import quoted
from snowmelt.errors import AccessError, SnowmeltError
from snowmelt.selftest import scratch
from snowmelt.selftest.assumption import DOCS, Assumption, BrokenError, NotCheckedError, expect
from snowmelt.selftest.bench import EVERY_TYPE, MANY_ROWS, Bench

GRANTS = (
    "GRANT USAGE ON WAREHOUSE {warehouse} TO ROLE {role}",
    "GRANT USAGE ON DATABASE {database} TO ROLE {role}",
    "GRANT USAGE ON SCHEMA {schema} TO ROLE {role}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO ROLE {role}",
    "GRANT SELECT ON ALL VIEWS IN SCHEMA {schema} TO ROLE {role}",
)
"""Those of ``sql/grants_snowflake.sql``."""


def _reading(bench: Bench) -> None:
    me = bench.source.identity()
    role = f"SNOWMELT_SELFTEST_{bench.token.upper()}"
    names = {
        "warehouse": quoted(me.warehouse),
        "database": quoted(bench.database),
        "schema": f"{quoted(bench.database)}.{quoted(bench.schema)}",
        "role": quoted(role),
    }
    table = bench.table(MANY_ROWS)
    try:
        bench.run(f"CREATE ROLE {quoted(role)}")
    except SnowmeltError as error:
        raise NotCheckedError(f"role {me.role} may not create roles: {error.message}") from error
    try:
        try:
            for grant in (f"GRANT ROLE {{role}} TO USER {quoted(me.user)}", *GRANTS):
                bench.run(grant.format(**names))
        except SnowmeltError as error:
            raise NotCheckedError(f"role {me.role} may not grant what a reader needs: {error.message}") from error
        try:
            reader = bench.another(role=quoted(role))
            reader.describe_table(bench.database, bench.schema, bench.named(MANY_ROWS))
            result = reader.run(f"SELECT ID FROM {table} WHERE ID < 10")  # noqa: S608 - quoted
        except SnowmeltError as error:
            raise BrokenError(f"a role with just the grants of sql/grants_snowflake.sql: {error.message}") from error
        expect(sum(result.row_counts), 10, "rows that a role with just those grants reads")
    finally:
        bench.run(f"DROP ROLE {quoted(role)}")


def loading(bench: Bench) -> None:
    """Check that a role of PostgreSQL with just the grants of ``sql/grants_postgres.sql`` can load."""
    if not bench.owns_target_schema:
        raise NotCheckedError("the schema in PostgreSQL was given, and may hold tables of others")
    try:
        refused = scratch.try_grants(bench.session, bench.target(EVERY_TYPE), f"snowmelt_selftest_{bench.token}")
    except AccessError as error:
        raise NotCheckedError(f"the role may not create roles: {error.message}") from error
    if refused:
        raise BrokenError(f"a role with just the grants of sql/grants_postgres.sql: {refused}")


ASSUMPTIONS = (
    Assumption(
        "reading-grants-suffice",
        "USAGE on warehouse, database and schema and SELECT on tables are enough to describe, read and open results",
        DOCS + "user-guide/security-access-control-privileges",
        "tests/integration/test_selftest.py::test_every_check_passes_or_says_why_it_is_skipped",
        _reading,
        needs=("types-are-described",),
    ),
)
