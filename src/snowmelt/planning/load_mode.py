"""How the rows of a table are brought in: the fastest way that is safe."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from snowmelt.columns.type_pairs import quoted
from snowmelt.config import TableConfig
from snowmelt.findings import Finding, Place, sql_name
from snowmelt.models import ColumnPlan, LoadMode


@dataclass(frozen=True)
class Loading:
    """The way in, the key by which rows are found again, and what the reader should know of it."""

    load_mode: LoadMode
    key: tuple[str, ...] = ()
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class NoLoading:
    """Why the table cannot be loaded as the config asks; each text says what to do."""

    problems: tuple[Finding, ...]


def choose(
    place: Place,
    table: TableConfig,
    columns: Sequence[ColumnPlan],
    *,
    filled: bool,
    unique_keys: Sequence[Set[str]],
    refused: Set[str] = frozenset(),
    shares_target: bool = False,
) -> Loading | NoLoading:
    """COPY into a table that is empty or will be; else a merge by the table's key; else nothing.

    ``shares_target``: another table is merged into the same target, which may fill it at any time.
    ``unique_keys`` are the column sets that the target itself keeps unique: without one, two workers could each insert
    the same new row. With COPY a key that the target does not keep unique is only a warning. What is wrong with the
    columns that are ``refused``, by their names without case, is said already.
    """
    key, unknown = target_key(table, columns)
    if unknown:
        return NoLoading(tuple(_unknown(place, name) for name in unknown if name.casefold() not in refused))
    declared = bool(key) and set(key) in unique_keys
    if table.append:
        return Loading("copy")
    if key and not declared and table.on_duplicate_keys in ("newest", "reject"):
        return NoLoading((_undeclared_for_choice(place, table.on_duplicate_keys, key, unique_keys),))
    if table.truncate_onstart or not (filled or shares_target):
        return Loading("copy", key) if declared or not key else Loading("copy", (), (_undeclared(place, key),))
    if not key:
        return NoLoading((_filled(place),))
    if not declared:
        return NoLoading((_undeclared_for_merge(place, key, unique_keys),))
    return Loading("insert_only" if table.insert_only_mode else "upsert", key)


def _unknown(place: Place, name: str) -> Finding:
    return place.error(
        "key_unknown",
        f"uniqueness_columns names {name}, which is no column of both",
        "column names are written as they are, without quotes of their own" if '"' in name else "",
        setting=place.key("uniqueness_columns"),
    )


def _undeclared(place: Place, key: Sequence[str]) -> Finding:
    return place.warning(
        "key_undeclared",
        f"the target {place.target} does not keep {', '.join(key)} unique, so duplicates in the source would "
        "be loaded as they are",
        "declare a unique index to have them found",
        fix=(unique_index(place, key),),
    )


def _filled(place: Place) -> Finding:
    return place.error(
        "target_filled",
        f"the target {place.target} holds rows already, and loading it again would double them",
        "set truncate_onstart to replace them, uniqueness_columns to merge, or append to add to them",
        fix=(place.line("truncate_onstart", True), place.line("append", True)),
    )


def _undeclared_for_merge(place: Place, key: Sequence[str], unique_keys: Sequence[Set[str]]) -> Finding:
    return place.error(
        "key_undeclared",
        f"the target {place.target} has no unique index on {', '.join(key)}, without which rows cannot be "
        "merged safely",
        _named_instead(unique_keys),
        fix=(unique_index(place, key),),
    )


def _undeclared_for_choice(place: Place, chosen: str, key: Sequence[str], unique_keys: Sequence[Set[str]]) -> Finding:
    return place.error(
        "key_undeclared",
        f"the target {place.target} has no unique index on {', '.join(key)}, without which on_duplicate_keys {chosen} "
        "cannot be kept",
        _named_instead(unique_keys),
        fix=(unique_index(place, key),),
    )


def _named_instead(unique_keys: Sequence[Set[str]]) -> str:
    if not unique_keys:
        return "create one, or correct uniqueness_columns"
    there = " or ".join(f"[{', '.join(sorted(key))}]" for key in unique_keys)
    return f"it keeps {there} unique: name that in uniqueness_columns, or create an index on what they name"


def unique_index(place: Place, key: Sequence[str]) -> str:
    """DDL that has the target keep a key unique."""
    return f"CREATE UNIQUE INDEX ON {sql_name(place.target)} ({', '.join(map(quoted, key))});"


def target_key(table: TableConfig, columns: Sequence[ColumnPlan]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The key's columns as the target names them, and the names that are not among the columns."""
    by_name = {c.target.name: c.target.name for c in columns} | {c.source.name: c.target.name for c in columns}
    folded = {name.casefold(): target for name, target in by_name.items()}
    found = [by_name.get(name) or folded.get(name.casefold()) for name in table.uniqueness_columns]
    unknown = [name for name, target in zip(table.uniqueness_columns, found, strict=True) if target is None]
    return tuple(name for name in found if name is not None), tuple(unknown)


# --- keys that no two rows may share ----------------------------------------------------------------------------------


def source_key(key: Sequence[str], columns: Sequence[ColumnPlan]) -> tuple[str, ...]:
    """The source's columns of a key that the target's columns name, as far as they are loaded."""
    return tuple(column.source.name for name in key for column in columns if column.target.name == name)
