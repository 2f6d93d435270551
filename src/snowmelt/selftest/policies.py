"""What Snowmelt relies on to see that its role is shown other values than there are."""

from snowmelt.errors import SnowmeltError
from snowmelt.selftest.assumption import DOCS, Assumption, BrokenError, NotCheckedError
from snowmelt.selftest.bench import Bench
from snowmelt.types import quoted


def _masked(bench: Bench) -> None:
    table = bench.table("SNOWMELT_SELFTEST_MASKED")
    policy = f"{quoted(bench.database)}.{quoted(bench.schema)}.{quoted(f'SNOWMELT_SELFTEST_{bench.token}')}"
    bench.run(f"CREATE OR REPLACE TABLE {table} (ID NUMBER(9,0), T VARCHAR)")
    try:
        bench.run(f"CREATE MASKING POLICY {policy} AS (VAL VARCHAR) RETURNS VARCHAR -> '***'")
    except SnowmeltError as error:
        raise NotCheckedError(
            f"it needs CREATE MASKING POLICY on the schema, and an edition that has it: {error.message}"
        ) from error
    try:
        bench.run(f"ALTER TABLE {table} MODIFY COLUMN T SET MASKING POLICY {policy}")
        described = bench.source.aggregate(f"DESCRIBE TABLE {table}")
        named = {str(row[0]): row[_POLICY_NAME] for row in described if len(row) > _POLICY_NAME}
        if not named.get("T") or named.get("ID"):
            raise BrokenError("DESCRIBE TABLE names no policy of a masked column, or one of another column")
    finally:
        bench.run(f"DROP TABLE {table}")
        bench.run(f"DROP MASKING POLICY {policy}")


_POLICY_NAME = 10
"""Place of "policy name" among the columns of DESCRIBE TABLE."""

ASSUMPTIONS = (
    Assumption(
        "policies-are-described",
        "DESCRIBE TABLE names the masking policy of a column, in its column “policy name”",
        DOCS + "sql-reference/sql/desc-table",
        "tests/integration/test_local_snowflake.py::test_columns_are_described_with_their_declared_types",
        _masked,
    ),
)
