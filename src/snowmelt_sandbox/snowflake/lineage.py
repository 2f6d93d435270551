"""Where a query's columns come from, so that a result carries the types its tables were declared with."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from snowmelt_sandbox.snowflake.declared_types import Column, DeclaredType, of_snowflake

Lookup = Callable[[exp.Table], "list[Column] | None"]
Known = list[Column | None]
"""One entry per column of a query; None where only DuckDB can tell."""

_KEEPS_TYPE = (exp.Min, exp.Max, exp.AnyValue, exp.Paren, exp.First, exp.Last)
_OF_FUNCTION: dict[type[Any], DeclaredType] = {
    exp.CurrentTimestamp: DeclaredType("timestamp_ltz", precision=0, scale=9),
    exp.ParseJSON: DeclaredType("variant"),
    exp.ToVariant: DeclaredType("variant"),
    exp.JSONExtract: DeclaredType("variant"),
    exp.Array: DeclaredType("array"),
    exp.ToArray: DeclaredType("array"),
    exp.ArrayAgg: DeclaredType("array"),
    exp.JSONObject: DeclaredType("object"),
    exp.ObjectAgg: DeclaredType("object"),
}
_OF_NAME = {
    "OBJECT_CONSTRUCT": DeclaredType("object"),
    "OBJECT_CONSTRUCT_KEEP_NULL": DeclaredType("object"),
    "ARRAY_CONSTRUCT": DeclaredType("array"),
    "TO_OBJECT": DeclaredType("object"),
}


def identifier_name(identifier: Any) -> str:
    """The name an identifier stands for: as written when quoted, upper case otherwise."""
    if not isinstance(identifier, exp.Identifier):
        return str(getattr(identifier, "name", identifier)).upper()
    return str(identifier.this) if identifier.quoted else str(identifier.this).upper()


def columns_of(query: Any, lookup: Lookup, ctes: Mapping[str, Known] | None = None) -> Known | None:
    """What is known of each column of a query, or None when not even their number is."""
    known = dict(ctes or {})
    for cte in query.args["with_"].expressions if query.args.get("with_") else ():
        columns = columns_of(cte.this, lookup, known)
        if columns is not None:
            known[identifier_name(cte.args["alias"].this)] = columns
    if isinstance(query, exp.Subquery | exp.Paren):
        return columns_of(query.this, lookup, known)
    if isinstance(query, exp.SetOperation):
        return _of_union(columns_of(query.left, lookup, known), columns_of(query.right, lookup, known))
    if not isinstance(query, exp.Select):
        return None
    sources = _sources(query, lookup, known)
    found: Known = []
    for projection in query.expressions:
        expanded = _projection(projection, sources)
        if expanded is None:
            return None
        found.extend(expanded)
    return found


def _of_union(left: Known | None, right: Known | None) -> Known | None:
    if left is None or right is None or len(left) != len(right):
        return None
    pairs = zip(left, right, strict=True)
    return [a if a and b and a.type == b.type else None for a, b in pairs]


def _sources(query: exp.Select, lookup: Lookup, ctes: Mapping[str, Known]) -> dict[str, Known | None]:
    """The columns of each table in FROM and JOIN by the name they are called by."""
    sources: dict[str, Known | None] = {}
    joins = query.args.get("joins") or []
    outer = any(j.side for j in joins)
    parts = [query.args["from_"].this] if query.args.get("from_") else []
    for part in [*parts, *(j.this for j in joins)]:
        alias = part.args.get("alias")
        name = identifier_name(alias.this) if alias and alias.this else ""
        columns: Known | None = None
        if isinstance(part, exp.Table) and isinstance(part.this, exp.Identifier):
            name = name or identifier_name(part.this)
            own = identifier_name(part.this)
            columns = ctes[own] if own in ctes and not part.args.get("db") else _as_known(lookup(part))
        elif isinstance(part, exp.Subquery):
            columns = columns_of(part, lookup, ctes)
        if outer and columns is not None:
            columns = [c and Column(c.name, c.type, nullable=True) for c in columns]
        sources[name or str(len(sources))] = columns
    return sources


def _as_known(columns: list[Column] | None) -> Known | None:
    return None if columns is None else [*columns]


def _projection(projection: Any, sources: Mapping[str, Known | None]) -> Known | None:
    is_star = isinstance(projection, exp.Star)
    qualified_star = isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star)
    if is_star or qualified_star:
        star = projection if is_star else projection.this
        if any(star.args.get(k) for k in ("except_", "except", "replace", "rename")):
            return None
        wanted = [identifier_name(projection.args["table"])] if qualified_star else list(sources)
        expanded: Known = []
        for name in wanted:
            columns = sources.get(name)
            if columns is None:
                return None
            expanded.extend(columns)
        return expanded
    return [_expression(projection, sources)]


def _expression(node: Any, sources: Mapping[str, Known | None]) -> Column | None:
    if isinstance(node, exp.Alias):
        inner = _expression(node.this, sources)
        return inner and Column(identifier_name(node.args["alias"]), inner.type, inner.nullable)
    if isinstance(node, exp.Column):
        return _column(node, sources)
    if isinstance(node, exp.Cast):
        return _unnamed(of_snowflake(node.to))
    if isinstance(node, _KEEPS_TYPE):
        inner = _expression(node.this, sources)
        return inner and Column(inner.name, inner.type)
    return _unnamed(
        _OF_NAME.get(node.name.upper()) if isinstance(node, exp.Anonymous) else _OF_FUNCTION.get(type(node))
    )


def _unnamed(declared: DeclaredType | None) -> Column | None:
    return Column("", declared) if declared else None


def _column(node: exp.Column, sources: Mapping[str, Known | None]) -> Column | None:
    name = identifier_name(node.this)
    table = node.args.get("table")
    searched = [sources.get(identifier_name(table))] if table else list(sources.values())
    matches = [c for columns in searched for c in columns or () if c and c.name == name]
    return matches[0] if len(matches) == 1 else None
