"""The functions that fakesnow does not translate, or translates into something else, and verification needs."""

import re
from typing import Any

from sqlglot import exp

from snowmelt_sandbox.snowflake.catalog import HISTORY


def add_functions(statement: Any) -> None:
    """Put what DuckDB knows in their place."""
    for node in list(statement.find_all(exp.MD5NumberLower64)):
        half = exp.func("substr", exp.func("md5", exp.cast(node.this.copy(), "VARCHAR")), exp.Literal.number(17))
        node.replace(_from_hex(half))
    for node in list(statement.find_all(exp.ToNumber)):
        pattern = node.args.get("format")
        if isinstance(pattern, exp.Literal) and pattern.is_string and set(pattern.name.upper()) == {"X"}:
            node.replace(_from_hex(node.this.copy()))
    for node in list(statement.find_all(exp.CountIf)):
        # DuckDB's is NULL where there is no row, Snowflake's is 0.
        counted = exp.Case(ifs=[exp.If(this=node.this.copy(), true=exp.Literal.number(1))])
        node.replace(exp.Count(this=counted))
    for node in list(statement.find_all(exp.ToChar, exp.TimeToStr)):
        _write_moment(node)
    for node in list(statement.find_all(exp.JSONFormat)):
        written = exp.Anonymous(this="sixteen_digits", expressions=[node.copy()])
        node.replace(exp.Dot.build([exp.to_identifier(HISTORY), exp.to_identifier("main"), written]))
    for node in list(statement.find_all(exp.SortArray, exp.ArraySort)):
        _sort_parts(node)


_PARTS = {
    "YYYY": "%Y", "MM": "%m", "DD": "%d", "HH24": "%H", "MI": "%M", "SS": "%S", "FF9": "%n", "FF6": "%f", "FF3": "%g",
}  # fmt: skip
_PART = re.compile("|".join(_PARTS))


def _write_moment(node: Any) -> None:
    """``TO_VARCHAR(moment, 'pattern')``, which fakesnow takes for a cast unless it sees the moment's type."""
    pattern = node.args.get("format")
    if not isinstance(pattern, exp.Literal):
        return
    text, value = pattern.name, node.this.copy()
    if isinstance(node, exp.ToChar):
        if not _PART.search(text):
            return
        text = _PART.sub(lambda part: _PARTS[part[0]], text)
    if "%H" in text and not any(part in text for part in ("%Y", "%m", "%d")):
        # DuckDB writes what has a date: a time gets one, which the pattern does not ask for.
        value = exp.Add(this=exp.cast(exp.Literal.string("2000-01-01"), "DATE"), expression=exp.cast(value, "TIME"))
    elif isinstance(node, exp.TimeToStr):
        return
    node.replace(exp.Anonymous(this="strftime", expressions=[value, exp.Literal.string(text)]))


def _sort_parts(node: Any) -> None:
    """``ARRAY_SORT(ARRAY_DISTINCT(SPLIT(…)))``: fakesnow makes JSON of what SPLIT gives, which has no order."""
    inner = node.this
    is_distinct = isinstance(inner, exp.ArrayDistinct)
    split = inner.this if is_distinct else inner
    if isinstance(split, exp.Split):
        parts = exp.Anonymous(this="string_split", expressions=[split.this.copy(), split.expression.copy()])
        if is_distinct:
            parts = exp.Anonymous(this="list_distinct", expressions=[parts])
        node.replace(exp.Anonymous(this="list_sort", expressions=[parts]))


def _from_hex(digits: Any) -> Any:
    text = exp.Concat(expressions=[exp.Literal.string("0x"), digits])
    return exp.cast(exp.cast(text, exp.DataType.Type.UBIGINT), "DECIMAL(38, 0)")
