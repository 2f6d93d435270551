"""The functions that fakesnow does not translate, or translates into something else, and verification needs."""

from typing import Any

from sqlglot import exp


def add_functions(statement: Any) -> None:
    """Put what DuckDB knows in their place."""
    for node in list(statement.find_all(exp.MD5NumberLower64)):
        half = exp.func("substr", exp.func("md5", exp.cast(node.this.copy(), "VARCHAR")), exp.Literal.number(17))
        node.replace(_from_hex(half))
    for node in list(statement.find_all(exp.ToNumber)):
        pattern = node.args.get("format")
        if isinstance(pattern, exp.Literal) and pattern.is_string and set(pattern.name.upper()) == {"X"}:
            node.replace(_from_hex(node.this.copy()))
    for node in list(statement.find_all(exp.ToChar, exp.TimeToStr)):
        _write_time(node)
    for node in list(statement.find_all(exp.SortArray, exp.ArraySort)):
        _sort_parts(node)


_PARTS_OF_DATES = ("YY", "MM", "MON", "DD", "DY", "%Y", "%y", "%m", "%b", "%d", "%a")


def _write_time(node: Any) -> None:
    """DuckDB writes by a pattern what has a date: a time gets one, which the pattern does not ask for."""
    pattern = node.args.get("format")
    if not isinstance(pattern, exp.Literal) or not any(hours in pattern.name for hours in ("HH24", "%H")):
        return
    if not any(part in pattern.name for part in _PARTS_OF_DATES):
        some_day = exp.cast(exp.Literal.string("2000-01-01"), "DATE")
        node.set("this", exp.Paren(this=exp.Add(this=some_day, expression=exp.cast(node.this.copy(), "TIME"))))


def _sort_parts(node: Any) -> None:
    """``ARRAY_SORT(SPLIT(…))``: fakesnow makes JSON of what SPLIT gives, which has no order."""
    if isinstance(node.this, exp.Split):
        text, by = node.this.this.copy(), node.this.expression.copy()
        parts = exp.Anonymous(this="string_split", expressions=[text, by])
        node.replace(exp.Anonymous(this="list_sort", expressions=[parts]))


def _from_hex(digits: Any) -> Any:
    text = exp.Concat(expressions=[exp.Literal.string("0x"), digits])
    return exp.cast(exp.cast(text, exp.DataType.Type.UBIGINT), "DECIMAL(38, 0)")
