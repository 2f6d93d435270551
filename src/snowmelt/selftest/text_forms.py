"""The texts by which rows are compared: each type's edge values written by both servers, which must agree."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from snowmelt.columns import type_pairs
from snowmelt.columns.type_pairs import quoted
from snowmelt.errors import SnowmeltError
from snowmelt.models import ColumnPlan
from snowmelt.postgres import tables
from snowmelt.selftest import scratch
from snowmelt.selftest.assumption import DOCS, Assumption, BrokenError
from snowmelt.selftest.bench import EVERY_TYPE, Bench
from snowmelt.verification.source_sql import SourceRows


@dataclass(frozen=True)
class Column:
    """A column of the table of every type: how it is declared on both sides, and its value in each row."""

    name: str
    snowflake: str
    postgres: str
    values: tuple[tuple[str, str], ...]
    """Edge values as SQL of Snowflake and of PostgreSQL, from the second row on; the first row is all NULL."""


def _texts(*values: str) -> tuple[tuple[str, str], ...]:
    def written(value: str) -> tuple[str, str]:
        in_snowflake = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n").replace("\t", "\\t")
        return f"'{in_snowflake}'", "'" + value.replace("'", "''") + "'"

    return tuple(map(written, values))


def _same(cast: str, postgres: str, *values: str) -> tuple[tuple[str, str], ...]:
    return tuple((_cast(value, cast), f"'{value}'::{postgres}") for value in values)


def _cast(value: str, cast: str) -> str:
    """The value in Snowflake's SQL, read by a format of its own where the account has one that could be another."""
    word = cast.partition("(")[0]
    if word not in ("DATE", "TIME") and not word.startswith("TIMESTAMP"):
        return f"'{value}'::{cast}"
    parts = {"-": "YYYY-MM-DD", ":": "HH24:MI:SS", ".": ".FF"}
    day, clock, fraction = (text if mark in value else "" for mark, text in parts.items())
    zone = " TZHTZM" if re.search(r" [+-]\d{4}$", value) else ""
    pattern = f"{day if word != 'TIME' else ''} {clock}{fraction}{zone}".strip()
    return f"TO_{word}('{value}', '{pattern}')::{cast}"


def _moments(function: str, pattern: str, snowflake: str, postgres: str, *values: str) -> tuple[tuple[str, str], ...]:
    """Return literals of an explicit format: what is read without one depends on parameters of the account."""
    return tuple((f"{function}('{value}', '{pattern}')::{snowflake}", f"'{value}'::{postgres}") for value in values)


COLUMNS = (
    Column(
        "N18_2",
        "NUMBER(18,2)",
        "numeric(18,2)",
        _same("NUMBER(18,2)", "numeric(18,2)", "0.00", "-0.01", "9999999999999999.99", "1.50"),
    ),
    Column(
        "N38",
        "NUMBER(38,0)",
        "numeric(38,0)",
        _same("NUMBER(38,0)", "numeric(38,0)", "0", "-1", "9" * 38, "-" + "9" * 38),
    ),
    Column("F", "FLOAT", "double precision", _same("FLOAT", "float8", "0.1", "1e308", "NaN", "-2.5e-7")),
    Column("B", "BOOLEAN", "boolean", (("TRUE", "true"), ("FALSE", "false"))),
    Column("T", "VARCHAR", "text", _texts("", "NULL", "\\N", 'a "quoted", (text)\n\tétude ⛄ ')),
    Column(
        "D", "DATE", "date", _moments("TO_DATE", "YYYY-MM-DD", "DATE", "date", "0001-01-01", "9999-12-31", "2024-02-29")
    ),
    Column(
        "TM",
        "TIME(6)",
        "time",
        _moments(
            "TO_TIME", "HH24:MI:SS.FF6", "TIME(6)", "time", "00:00:00.000000", "23:59:59.999999", "12:30:00.500000"
        ),
    ),
    Column(
        "NTZ",
        "TIMESTAMP_NTZ(6)",
        "timestamp",
        _moments(
            *("TO_TIMESTAMP_NTZ", "YYYY-MM-DD HH24:MI:SS.FF6", "TIMESTAMP_NTZ(6)", "timestamp"),
            *("0001-01-01 00:00:00.000000", "9999-12-31 23:59:59.999999", "2024-02-29 12:30:00.500000"),
        ),
    ),
    Column(
        "LTZ",
        "TIMESTAMP_LTZ(6)",
        "timestamptz",
        _moments(
            *("TO_TIMESTAMP_LTZ", "YYYY-MM-DD HH24:MI:SS.FF6 TZHTZM", "TIMESTAMP_LTZ(6)", "timestamptz"),
            *("2024-07-01 12:00:00.500000 +0000", "1970-01-01 00:00:00.000000 +0000"),
        ),
    ),
    Column(
        "TZ",
        "TIMESTAMP_TZ(6)",
        "timestamptz",
        _moments(
            *("TO_TIMESTAMP_TZ", "YYYY-MM-DD HH24:MI:SS.FF6 TZHTZM", "TIMESTAMP_TZ(6)", "timestamptz"),
            *("2024-07-01 12:00:00.000000 +0530", "2024-12-31 23:59:59.999999 -0800"),
        ),
    ),
    Column("BIN", "BINARY", "bytea", (("TO_BINARY('00FF10', 'HEX')", r"'\x00ff10'"), ("TO_BINARY('', 'HEX')", "''"))),
    Column(
        "V",
        "VARIANT",
        "jsonb",
        tuple(
            (f"PARSE_JSON('{text}')", f"'{text}'::jsonb")
            for text in ('{"b": [1, "x/y", null], "a": {"c": true}}', "null", '"text"', "12.5")
        ),
    ),
)
ROWS = 1 + max(len(column.values) for column in COLUMNS)


def create_in_snowflake(table: str) -> tuple[str, ...]:
    """Return the statements that make the table, and fill it."""
    declared = ", ".join(f"{column.name} {column.snowflake}" for column in COLUMNS)
    rows = " UNION ALL ".join(f"SELECT {row}, {values}" for row, values in _rows("snowflake"))
    return f"CREATE OR REPLACE TABLE {table} (ID NUMBER(9,0), {declared})", f"INSERT INTO {table} {rows}"


def create_in_postgres(table: str, *, filled: bool) -> tuple[str, ...]:
    """Return the statements that make the table, and fill it if asked to."""
    declared = ", ".join(f"{column.name.lower()} {column.postgres}" for column in COLUMNS)
    create = f"CREATE TABLE {table} (id integer, {declared})"
    if not filled:
        return (create,)
    rows = ", ".join(f"({row}, {values})" for row, values in _rows("postgres"))
    return create, f"INSERT INTO {table} VALUES {rows}"  # noqa: S608 - constants


def _rows(side: str) -> list[tuple[int, str]]:
    return [(row, ", ".join(_value(column, row, side) for column in COLUMNS)) for row in range(ROWS)]


def _value(column: Column, row: int, side: str) -> str:
    is_there = 0 < row <= len(column.values)
    if side == "snowflake":
        return column.values[row - 1][0] if is_there else f"NULL::{column.snowflake}"
    return column.values[row - 1][1] if is_there else "NULL"


def agree_on(*names: str) -> Callable[[Bench], None]:
    """Return the check that both servers write the values of these columns alike."""

    def check(bench: Bench) -> None:
        plans = _plans(bench)
        for name in names:
            source = SourceRows(_select(bench, plans), tuple(plans.values()), (plans[name],), (plans["ID"],))
            try:
                written = dict(bench.source.aggregate(source.texts()))
            except SnowmeltError as error:
                raise BrokenError(f"column {name} cannot be written: {error.message}") from error
            there = scratch.texts(bench.session, bench.target(FILLED), plans[name], plans["ID"])
            for row, text in there.items():
                if written.get(row) != text:
                    raise BrokenError(
                        f"column {name}, row {row}: Snowflake writes {written.get(row)!r}, PostgreSQL {text!r}"
                    )

    return check


FILLED = EVERY_TYPE + "_FILLED"


def filled(bench: Bench) -> str:
    """Return the quoted name of the table in PostgreSQL that has the same values by PostgreSQL's own literals."""
    name = bench.target(FILLED)
    return f"{quoted(name.schema_name)}.{quoted(name.name)}"


def _plans(bench: Bench) -> dict[str, ColumnPlan]:
    described = bench.source.describe_table(bench.database, bench.schema, bench.named(EVERY_TYPE))
    name = bench.target(FILLED)
    targets = {column.name: column for column in tables.read(bench.session, [name])[name].columns}
    plans = {}
    for column in described:
        match type_pairs.match(column, targets[column.name.lower()]):
            case type_pairs.Match(plan=plan):
                plans[column.name] = plan
            case type_pairs.Refusal(reason=reason):
                raise BrokenError(f"column {column.name} is described as another type: {reason}")
    return plans


def _select(bench: Bench, plans: dict[str, ColumnPlan]) -> str:
    columns: Sequence[str] = [f"{plan.select} AS {quoted(plan.target.name)}" for plan in plans.values()]
    return f"SELECT {', '.join(columns)} FROM {bench.table(EVERY_TYPE)}"  # noqa: S608 - quoted names


def _form(id_: str, what: str, page: str, *columns: str, needs: tuple[str, ...] = ()) -> Assumption:
    return Assumption(id_, what, DOCS + page, _TEST, agree_on(*columns), needs)


_TEST = "tests/integration/test_verification_forms.py::test_random_tables_are_equal_by_their_sums_alone"

ASSUMPTIONS = (
    _form(
        "texts-of-numbers",
        "TO_VARCHAR writes a NUMBER with all digits of its scale and none more, and a BOOLEAN is true, false or NULL",
        "sql-reference/functions/to_char",
        *("N18_2", "N38", "B"),
    ),
    _form(
        "bits-of-floats",
        "a FLOAT is a double: powers of two scale it without loss, and whole parts of 26 bits become numbers exactly",
        "sql-reference/data-types-numeric#float-float4-float8",
        "F",
    ),
    _form(
        "texts-of-texts",
        "LENGTH counts characters, TRANSLATE and REPLACE change those that are named alone, and the empty text is not "
        "NULL",
        "sql-reference/functions/translate",
        "T",
    ),
    _form(
        "texts-of-dates",
        "TO_VARCHAR writes a date by YYYY-MM-DD, its year with four digits",
        "sql-reference/date-time-input-output",
        "D",
    ),
    _form(
        "texts-of-times",
        "TO_VARCHAR writes a time by HH24:MI:SS.FF6, cut to microseconds",
        "sql-reference/date-time-input-output",
        *("TM", "NTZ"),
    ),
    _form(
        "texts-of-moments",
        "a TIMESTAMP_LTZ is written in the session's time zone, and CONVERT_TIMEZONE turns a TIMESTAMP_TZ into UTC",
        "sql-reference/functions/convert_timezone",
        *("LTZ", "TZ"),
        needs=("session-time-zone", "texts-of-times"),
    ),
    _form(
        "texts-of-bytes",
        "HEX_ENCODE writes two hexadecimal digits for each byte, and nothing for none",
        "sql-reference/functions/hex_encode",
        "BIN",
    ),
    _form(
        "texts-of-json",
        "TO_JSON writes a VARIANT as JSON, with nothing escaped that needs no escape",
        "sql-reference/functions/to_json",
        "V",
    ),
)
