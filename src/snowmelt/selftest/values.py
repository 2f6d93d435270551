"""What Snowmelt relies on of functions, casts and comparisons."""

from decimal import Decimal

from snowmelt.selftest.assumption import DOCS, Assumption, expect
from snowmelt.selftest.bench import EVERY_TYPE, Bench
from snowmelt.sql_text import literals

_MANY = 9_223_372_036_854_775_807


def _sums(bench: Bench) -> None:
    numbers = f"(SELECT {_MANY}::NUMBER(38,0) AS N UNION ALL SELECT {_MANY}::NUMBER(38,0)) AS numbers"
    found = bench.value(f"SELECT SUM(N) FROM {numbers}")  # noqa: S608 - constants
    expect(Decimal(str(found)), Decimal(2 * _MANY), "the sum of two numbers of 63 bits")


def _hash(bench: Bench) -> None:
    expect(int(str(bench.value("SELECT MD5_NUMBER_LOWER64('snowmelt')"))), _LOWER_HALF, "MD5_NUMBER_LOWER64")


_LOWER_HALF = 2_351_528_463_130_380_216
"""Of the MD5 of 'snowmelt', as PostgreSQL's md5 has it too."""


def _count_if(bench: Bench) -> None:
    none = f"SELECT COUNT_IF(ID > 0) FROM {bench.table(EVERY_TYPE)} WHERE ID < 0"  # noqa: S608 - quoted
    expect(bench.value(none), 0, "COUNT_IF of no rows")


def _cuts(bench: Bench) -> None:
    cut = f"{literals.timestamp_ntz('2024-02-29 23:59:59.999600000')}::TIMESTAMP_NTZ(3)"
    written = bench.value(f"SELECT TO_VARCHAR({cut}, 'YYYY-MM-DD HH24:MI:SS.FF3')")
    expect(written, "2024-02-29 23:59:59.999", "a time that is cast to fewer digits is")


def _order(bench: Bench) -> None:
    ordered = bench.source.aggregate(
        "SELECT T FROM (SELECT 'b' AS T UNION ALL SELECT 'B' UNION ALL SELECT 'é') AS t ORDER BY T"
    )
    expect([row[0] for row in ordered], ["B", "b", "é"], "texts in their order")


def _described(bench: Bench) -> None:
    found = {
        column.name: (column.type, column.precision, column.scale)
        for column in bench.source.describe(f"SELECT N18_2, N38, TM, NTZ, T FROM {bench.table(EVERY_TYPE)}")  # noqa: S608
    }
    expect(found.get("N18_2"), ("FIXED", 18, 2), "NUMBER(18,2) is described as")
    expect(found.get("N38"), ("FIXED", 38, 0), "NUMBER(38,0) is described as")
    expect({name: found[name][0] for name in ("TM", "NTZ", "T")}, _WORDS, "types are described as")
    expect([found["TM"][2], found["NTZ"][2]], [6, 6], "digits of a second are described as")


_WORDS = {"TM": "TIME", "NTZ": "TIMESTAMP_NTZ", "T": "TEXT"}
_TESTS = "tests/integration/test_local_snowflake.py::"

ASSUMPTIONS = (
    Assumption(
        "types-are-described",
        "a statement can be described without being run, with the types, digits and scales that its tables declare",
        DOCS + "developer-guide/python-connector/python-connector-api#describe",
        _TESTS + "test_columns_are_described_with_their_declared_types",
        _described,
    ),
    Assumption(
        "sums-are-exact",
        "SUM of whole numbers is exact, up to 38 digits",
        DOCS + "sql-reference/functions/sum",
        _TESTS + "test_sums_are_exact",
        _sums,
    ),
    Assumption(
        "hashes-agree",
        "MD5_NUMBER_LOWER64 gives the lower 64 bits of the MD5 of a text's UTF-8, without a sign",
        DOCS + "sql-reference/functions/md5_number_lower64",
        _TESTS + "test_hashes_of_rows_can_be_summed",
        _hash,
    ),
    Assumption(
        "count-if-of-none",
        "COUNT_IF of no rows is 0",
        DOCS + "sql-reference/functions/count_if",
        _TESTS + "test_count_if_of_no_rows_is_zero",
        _count_if,
    ),
    Assumption(
        "casts-cut-seconds",
        "a time that is cast to fewer digits of a second is cut, not rounded",
        DOCS + "sql-reference/data-types-datetime",
        "tests/integration/test_selftest.py::test_every_check_passes_or_says_why_it_is_skipped",
        _cuts,
    ),
    Assumption(
        "texts-by-bytes",
        "texts without a collation are compared and sorted by the bytes of their UTF-8",
        DOCS + "sql-reference/collation",
        "tests/integration/test_key_planning.py::test_ranges_of_any_key_hold_every_row_once",
        _order,
    ),
    Assumption(
        "statements-of-a-megabyte",
        "a statement may have up to a megabyte of text, and 16,384 values in a list",
        DOCS + "user-guide/query-size-limits",
        "tests/integration/test_verification_forms.py"
        "::test_values_are_compared_where_the_statement_that_hashes_them_would_be_too_long",
        not_checked="Snowmelt keeps to half of it, and it costs time to compile",
    ),
)
