"""What a config must not say although every single value of it is well-formed.

The checks read the plain tree, not the models, so that they find their mistakes beside malformed values.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from snowmelt.config import names
from snowmelt.config.fallbacks import variable
from snowmelt.config.placeholders import Unfilled
from snowmelt.config.problems import Path, Problem, meant_by, written
from snowmelt.config.shape import PROVEN_BY, SIGN_IN_KEYS, Config
from snowmelt.config.values import default_sslmode

Tree = Mapping[str, Any]


_ADVICE = {
    "source_name": "give each source its own",
    "source": "list each table once",
    "target": (
        "give each table its own; or set append for both; or merge both: name uniqueness_columns for both, with "
        "neither truncate_onstart nor watermark_from_target"
    ),
}


def contradictions(tree: Tree) -> Iterator[Problem]:
    """Problems between values: of one table, of tables with each other, of sources with each other."""
    yield from _sign_in(tree)
    yield from _iam(tree)
    sources = list(_sources(tree))
    yield from _shared(sources, "source_name", lambda source: _text(source, "source_name"))
    for source in sources:
        tables = list(_tables(*source))
        enabled = [table for table in tables if _is_enabled(table)]
        yield from _shared(enabled, "source", _snowflake_name)
        yield from _shared(enabled, "target", _postgres_name, _may_share)
        for path, table in tables:
            yield from (Problem((*path, key), text) for key, text in _within(table))


def _sign_in(tree: Tree) -> Iterator[Problem]:
    given = tree.get("snowflake")
    misspelt = any(key not in Config.model_fields and meant_by((key,)) == ["snowflake"] for key in tree)
    if not isinstance(given, dict) or misspelt:
        return
    meant = {key for as_given in given for key in (as_given, *meant_by(("snowflake", as_given)))}
    if meant.isdisjoint(SIGN_IN_KEYS):
        keys = ", ".join(SIGN_IN_KEYS)
        variables = ", ".join(str(variable(("snowflake", key))) for key in SIGN_IN_KEYS)
        text = f"there is no way to sign in; set one of {keys}, or in the environment one of {variables}"
        yield Problem(("snowflake", SIGN_IN_KEYS[0]), text)
        return
    authenticator = (_text(given, "authenticator") or "").strip().upper()
    needed = next((keys for name, keys in PROVEN_BY.items() if name == authenticator), ())
    if needed and meant.isdisjoint(needed):
        variables = " or ".join(str(variable(("snowflake", key))) for key in needed)
        text = f"{authenticator} signs in with {' or '.join(needed)}; set it, or {variables} in the environment"
        yield Problem(("snowflake", "authenticator"), text)


def _iam(tree: Tree) -> Iterator[Problem]:
    given = tree.get("postgres")
    if not isinstance(given, dict) or not _is_set(given.get("iam_auth")):
        return
    host = _text(given, "host")
    if given.get("sslmode", default_sslmode(host)) in ("disable", "allow", "prefer"):
        text = "iam_auth sends a token that signs in, and RDS takes it over TLS alone; set sslmode to verify-full"
        yield Problem(("postgres", "sslmode"), text)
    if host and ("," in host or host.startswith("/")):
        yield Problem(
            ("postgres", "host"), "a token of iam_auth is for one server; name its endpoint, and no other host"
        )


def _shared(
    places: list[tuple[Path, Tree]],
    key: str,
    identity: Callable[[Tree], str | None],
    may_share: Callable[[Tree, Tree], bool] = lambda *_: False,
) -> Iterator[Problem]:
    first: dict[str, tuple[Path, Tree]] = {}
    for path, given in places:
        name = identity(given)
        if name is None:
            continue
        if name in first and not may_share(given, first[name][1]):
            yield Problem((*path, key), f"{name} is that of {written(first[name][0])} too; {_ADVICE[key]}")
        first.setdefault(name, (path, given))


def _may_share(one: Tree, other: Tree) -> bool:
    """Whether two tables may share a target: anything else would undo or double what the other one loads."""
    both = (one, other)
    return all(_is_set(table.get("append")) for table in both) or all(map(_only_merges, both))


def _only_merges(table: Tree) -> bool:
    """Whether the table's rows are found by a key; the target's watermark would be that of both tables."""
    alone = ("append", "truncate_onstart", "watermark_from_target")
    return bool(_list(table, "uniqueness_columns")) and not any(_is_set(table.get(key)) for key in alone)


def _within(table: Tree) -> Iterator[tuple[str, str]]:
    columns, types = _list(table, "chunking_columns"), _list(table, "chunking_column_types")
    watermark = _text(table, "source_watermark")
    if _is_set(table.get("truncate_onstart")) and _is_set(table.get("append")):
        yield "append", "contradicts truncate_onstart; keep one of them"
    for key in ("uniqueness_columns", "source_watermark"):
        if _is_set(table.get("append")) and _is_set(table.get(key)):
            yield "append", f"adds every row, and {key} is for rows that are merged; keep one of them"
    if table.get("chunking") == "key_range" and not columns:
        yield "chunking", "key_range needs chunking_columns; name them, or take auto"
    if table.get("chunking") == "one_scan" and columns:
        yield "chunking_columns", "have no effect with chunking one_scan; remove them, or take auto"
    if types and len(types) != len(columns):
        yield "chunking_column_types", f"needs one type per chunking column, {len(columns)}, not {len(types)}"
    if watermark and not (_list(table, "uniqueness_columns") or _is_set(table.get("truncate_onstart"))):
        yield "source_watermark", "needs uniqueness_columns, or truncate_onstart; add one of them"
    yield from _without_watermark(table)
    yield from _mapped(table)
    if table.get("on_duplicate_keys") and not _list(table, "uniqueness_columns"):
        yield "on_duplicate_keys", "needs uniqueness_columns, by which rows have the same key; add them"
    for key in ("chunking_columns", "uniqueness_columns", "sort_columns"):
        names_given = [name for name in _list(table, key) if isinstance(name, str)]
        repeated = sorted({name for name in names_given if names_given.count(name) > 1})
        if repeated:
            yield key, f"names {', '.join(repeated)} more than once; name each column once"
    if not table.get("target") and _snowflake_name(table) and not _postgres_name(table):
        yield "target", "is needed, because the source's name is too long for PostgreSQL; add it"


def _mapped(table: Tree) -> Iterator[tuple[str, str]]:
    given = table.get("column_map")
    pairs = given if isinstance(given, dict) else {}
    into = [name for name in pairs.values() if isinstance(name, str)]
    repeated = sorted({name for name in into if into.count(name) > 1})
    if repeated:
        yield "column_map", f"has more than one column go into {', '.join(repeated)}; keep one of them"
    excluded = sorted(name for name in pairs if name in _list(table, "exclude_columns"))
    if excluded:
        yield "column_map", f"maps {', '.join(excluded)}, which exclude_columns excludes; keep one of them"


def _without_watermark(table: Tree) -> Iterator[tuple[str, str]]:
    if _text(table, "source_watermark"):
        return
    if table.get("on_duplicate_keys") == "newest":
        yield "on_duplicate_keys", "newest needs source_watermark, which tells the newer of two rows; add it"
    for key in ("target_watermark", "watermark_from_target", "watermark_limit"):
        if _is_set(table.get(key)) and table.get(key) != "none":
            yield key, "needs source_watermark; add it"


def _sources(tree: Tree) -> Iterator[tuple[Path, Tree]]:
    for position, source in enumerate(_list(tree, "sources")):
        if isinstance(source, dict):
            yield ("sources", position), source


def _tables(path: Path, source: Tree) -> Iterator[tuple[Path, Tree]]:
    for position, table in enumerate(_list(source, "tables")):
        if isinstance(table, dict):
            yield (*path, "tables", position), table


def _is_enabled(place: tuple[Path, Tree]) -> bool:
    return _is_set(place[1].get("enabled", True))


def _list(given: Tree, key: str) -> list[Any]:
    value = given.get(key)
    return value if isinstance(value, list) else []


def _text(given: Tree, key: str) -> str | None:
    value = given.get(key)
    return value if isinstance(value, str) and not isinstance(value, Unfilled) else None


def _is_set(value: object) -> bool:  # a flag from the environment is still text here
    return bool(value) and not (isinstance(value, str) and value.lower() == "false")


def _snowflake_name(table: Tree) -> str | None:
    return _name(names.in_snowflake, _text(table, "source"))


def _postgres_name(table: Tree) -> str | None:
    if table.get("target"):
        return _name(names.in_postgres, _text(table, "target"))
    return _name(names.default_target, _text(table, "source"))


def _name(exact: Callable[[str], str], as_written: str | None) -> str | None:
    try:
        return None if as_written is None else exact(as_written)
    except ValueError:  # said where the value itself is judged
        return None
