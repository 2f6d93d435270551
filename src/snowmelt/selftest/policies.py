"""What Snowmelt relies on to see that its role is shown other values than there are."""

from snowmelt.columns.type_pairs import quoted
from snowmelt.errors import SnowmeltError
from snowmelt.planning.statement import policy_references
from snowmelt.selftest.assumption import DOCS, Assumption, BrokenError, NotCheckedError
from snowmelt.selftest.bench import Bench


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
        _require_reference(bench, table)
    finally:
        bench.run(f"DROP TABLE {table}")
        bench.run(f"DROP MASKING POLICY {policy}")


def _require_reference(bench: Bench, table: str) -> None:
    try:
        referred = bench.source.aggregate(policy_references(bench.database, [(table, "table")]))
    except SnowmeltError:
        return  # who may not see references does without them
    if referred and [(row[1], row[3]) for row in referred] != [("MASKING_POLICY", "T")]:
        raise BrokenError("POLICY_REFERENCES names other policies than those that are set")


_POLICY_NAME = 10
"""Place of "policy name" among the columns of DESCRIBE TABLE."""

ASSUMPTIONS = (
    Assumption(
        "policies-are-described",
        "DESCRIBE TABLE names the masking policy of a column, in its column “policy name”, and POLICY_REFERENCES tells "
        "who may see them the policies of a table and their columns",
        DOCS + "sql-reference/sql/desc-table",
        "tests/acceptance/test_preflight.py::test_policies_are_told_by_column_and_one_that_masks_a_key_stands_against_a_run",
        _masked,
    ),
)
