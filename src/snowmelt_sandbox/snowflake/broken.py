"""Assumptions that the stand-in breaks when it is told to, each as a server could, to see who notices.

The names are those of the contract (``snowmelt.selftest.contract``). What a break changes in the translation of a
statement is here; what it changes elsewhere asks ``is_broken`` where it happens.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlglot import exp

from snowmelt_sandbox.snowflake.declared_types import Column
from snowmelt_sandbox.snowflake.wire import as_json_rows, decode

IsBroken = Callable[[str], bool]

BREAKS: Mapping[str, str] = {
    "session-time-zone": "every session has New York's time, whatever it sets",
    "all-rows-arrive": "a result ends after 2,000 rows",
    "quoted-names-stay": "names of results are in upper case",
    "statement-timeout": "no statement is ended for the time it takes",
    "submitted-statements-go-on": "what is submitted is waited for, up to 5 s",
    "cancel-by-id": "SYSTEM$CANCEL_QUERY cancels nothing",
    "history-has-tags": "the history has no QUERY_TAG",
    "missing-as-hidden": "what is missing is a syntax error",
    "results-open-by-id": "a result is opened only by the session that ran its statement",
    "arrow-results": "results come as JSON",
    "batches-as-announced": "batches are announced with a row more than they have",
    "results-never-change": "opening a result runs its statement again",
    "result-scan": "RESULT_SCAN finds no statement",
    "rows-are-counted": "the catalog counts a row more than a table has",
    "unknown-results-are-gone": "an unknown query id is an internal error",
    "at-timestamp": "AT(TIMESTAMP) reads what is there now",
    "views-at-timestamp": "a view is read as it is now, whatever moment is asked for",
    "before-is-the-completion": "BEFORE(STATEMENT) is the statement's start",
    "starts-are-told": "the monitoring tells the moment at which it is asked as a statement's start",
    "no-rows-beyond-the-past": "a moment without data gives the rows of now",
    "types-are-described": "every number is described with 38 digits",
    "sums-are-exact": "SUM adds doubles",
    "hashes-agree": "MD5_NUMBER_LOWER64 gives the upper half",
    "count-if-of-none": "COUNT_IF of no rows is NULL",
    "casts-cut-seconds": "casts round digits of a second",
    "texts-by-bytes": "texts are sorted as in a dictionary",
    "texts-of-numbers": "numbers are written without zeros at their end",
    "bits-of-floats": "POWER is wrong in its tenth digit",
    "texts-of-texts": "the empty text is NULL",
    "texts-of-dates": "dates are written with slashes",
    "texts-of-times": "six digits of a second are written as three",
    "texts-of-moments": "CONVERT_TIMEZONE converts into New York's time",
    "texts-of-bytes": "HEX_ENCODE begins with 0x",
    "texts-of-json": "TO_JSON escapes slashes",
    "policies-are-described": "DESCRIBE TABLE names no policy",
    "reading-grants-suffice": "roles that were made read nothing",
}
"""By assumption, what the stand-in does instead."""
MOST_ROWS = 2_000
WAITS_SECONDS = 5.0
MADE_BY_SNOWFLAKE = frozenset({"ACCOUNTADMIN", "SECURITYADMIN", "SYSADMIN", "USERADMIN", "PUBLIC"})
"""Roles that nobody made."""


def rewrite(statement: Any, is_broken: IsBroken) -> None:
    """Change what a statement says so that the broken assumptions do not hold for it."""
    for name, (kind, change) in _CHANGES.items():
        if is_broken(name):
            for node in list(statement.find_all(*kind)):
                change(node)


def forget_moments(statement: Any, is_broken: IsBroken, is_view: Callable[[exp.Table], bool]) -> None:
    """Leave out the moments at which tables are to be read, where that is broken."""
    for table in statement.find_all(exp.Table):
        when = table.args.get("when")
        if not isinstance(when, exp.HistoricalData) or str(when.this).upper() != "AT":
            continue
        if is_broken("at-timestamp") or (is_broken("views-at-timestamp") and is_view(table)):
            table.set("when", None)


def json_rows(batches: Iterator[pa.Table], columns: Sequence[Column]) -> list[list[str | None]]:
    """Return the rows of a stored result as JSON: seconds with nine digits, and no offset where the session has one."""
    rows = [row for batch in batches for row in as_json_rows(decode(batch, columns))]
    for place, column in enumerate(columns):
        if column.type.kind.startswith("timestamp"):
            for row in rows:
                seconds, blank, offset = (row[place] or "").partition(" ")
                if seconds:
                    row[place] = f"{seconds}000" + ("" if column.type.kind == "timestamp_ltz" else blank + offset)
    return rows


def _text(value: str) -> Any:
    return exp.Literal.string(value)


def _call(name: str, *arguments: Any) -> Any:
    return exp.Anonymous(this=name, expressions=list(arguments))


def _sum(node: Any) -> None:
    node.set("this", exp.cast(node.this.copy(), "DOUBLE"))


def _upper_half(node: Any) -> None:
    half = _call("substr", _call("md5", node.this.copy()), exp.Literal.number(1), exp.Literal.number(16))
    number = exp.cast(_call("concat", _text("0x"), half), exp.DataType.Type.UBIGINT)
    node.replace(exp.cast(number, "DECIMAL(38, 0)"))


def _count_if(node: Any) -> None:
    counted = exp.Case(ifs=[exp.If(this=node.this.copy(), true=exp.Literal.number(1))])
    node.replace(exp.Sum(this=counted))


def _round_seconds(node: Any) -> None:
    digits = [int(part.name) for part in node.to.expressions if isinstance(part, exp.DataTypeParam)]
    if digits != [3] or node.to.this.name == "TIME":
        return
    half = _call("to_microseconds", exp.Literal.number(500))
    node.set("this", exp.Paren(this=exp.Add(this=exp.cast(node.this.copy(), "TIMESTAMP"), expression=half)))


def _sort_by_dictionary(node: Any) -> None:
    ordered = [each.this for each in node.expressions]
    folded = [exp.Ordered(this=_call("lower", exp.cast(each.copy(), "VARCHAR"))) for each in ordered]
    node.set("expressions", [*folded, *(exp.Ordered(this=each.copy(), desc=True) for each in ordered)])


def _without_zeros(node: Any) -> None:
    if node.args.get("format") is None:
        written = exp.cast(node.this.copy(), "VARCHAR")
        node.replace(_call("regexp_replace", written, _text(r"(\.\d*?)0+$"), _text(r"\1")))


def _power(node: Any) -> None:
    node.replace(exp.Paren(this=exp.Mul(this=node.copy(), expression=exp.Literal.number("1.000000001"))))


def _empty_is_null(node: Any) -> None:
    if isinstance(node.expression, exp.Literal) and node.expression.is_string and not node.expression.name:
        node.set("expression", exp.cast(exp.null(), "VARCHAR"))


def _format(wanted: Callable[[str], str]) -> Callable[[Any], None]:
    def change(node: Any) -> None:
        pattern = node.args.get("format")
        if isinstance(pattern, exp.Literal):
            node.set("format", _text(wanted(pattern.name)))

    return change


def _slashes(pattern: str) -> str:
    return {"YYYY-MM-DD": "YYYY/MM/DD", "%Y-%m-%d": "%Y/%m/%d"}.get(pattern, pattern)


def _milliseconds(pattern: str) -> str:
    return re.sub(r"%f(?:_six)?(?!_)", "%g", pattern.replace("FF6", "FF3"))


def _new_york(node: Any) -> None:
    node.set("target_tz", _text("America/New_York"))


def _prefixed(node: Any) -> None:
    node.replace(_call("concat", _text("0x"), node.copy()))


def _escaped(node: Any) -> None:
    node.replace(_call("replace", exp.cast(node.copy(), "VARCHAR"), _text("/"), _text("\\/")))


_WRITES = (exp.ToChar, exp.TimeToStr)
_CHANGES: Mapping[str, tuple[tuple[Any, ...], Callable[[Any], None]]] = {
    "sums-are-exact": ((exp.Sum,), _sum),
    "hashes-agree": ((exp.MD5NumberLower64,), _upper_half),
    "count-if-of-none": ((exp.CountIf,), _count_if),
    "casts-cut-seconds": ((exp.Cast,), _round_seconds),
    "texts-by-bytes": ((exp.Order,), _sort_by_dictionary),
    "texts-of-numbers": ((exp.ToChar,), _without_zeros),
    "bits-of-floats": ((exp.Pow,), _power),
    "texts-of-texts": ((exp.NEQ,), _empty_is_null),
    "texts-of-dates": (_WRITES, _format(_slashes)),
    "texts-of-times": (_WRITES, _format(_milliseconds)),
    "texts-of-moments": ((exp.ConvertTimezone,), _new_york),
    "texts-of-bytes": ((exp.Hex,), _prefixed),
    "texts-of-json": ((exp.JSONFormat,), _escaped),
}
