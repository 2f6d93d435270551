"""How the rows of a table are brought in: the fastest way that is safe."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from snowmelt.config import TableConfig
from snowmelt.models import ColumnPlan, LoadMode, TableName


@dataclass(frozen=True)
class Loading:
    """The way in, the key by which rows are found again, and what the reader should know of it."""

    load_mode: LoadMode
    key: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoLoading:
    """Why the table cannot be loaded as the config asks; each text says what to do."""

    problems: tuple[str, ...]


def choose(
    table: TableConfig,
    target: TableName,
    columns: Sequence[ColumnPlan],
    *,
    filled: bool,
    unique_keys: Sequence[Set[str]],
) -> Loading | NoLoading:
    """COPY into a table that is empty or will be; else a merge by the table's key; else nothing.

    ``unique_keys`` are the column sets that the target itself keeps unique: without one, two workers could each insert
    the same new row. With COPY a key that the target does not keep unique is only a warning.
    """
    where = f"table {table.source}"
    key, unknown = _target_key(table, columns)
    if unknown:
        return NoLoading(tuple(f"{where}: uniqueness_columns names {n}, which is no column of both" for n in unknown))
    declared = bool(key) and set(key) in unique_keys
    if table.append:
        return Loading("copy")
    if table.truncate_onstart or not filled:
        if declared or not key:
            return Loading("copy", key)
        text = (
            f"{where}: the target {target} does not keep {', '.join(key)} unique, so duplicates in the source would "
            "be loaded as they are; declare a unique index to have them found"
        )
        return Loading("copy", (), (text,))
    if not key:
        text = (
            f"{where}: the target {target} holds rows already, and loading it again would double them; set "
            "truncate_onstart to replace them, uniqueness_columns to merge, or append to add to them"
        )
        return NoLoading((text,))
    if not declared:
        text = (
            f"{where}: the target {target} has no unique index on {', '.join(key)}, without which rows cannot be "
            "merged safely; create one, or mend uniqueness_columns"
        )
        return NoLoading((text,))
    return Loading("insert_only" if table.insert_only_mode else "upsert", key)


def _target_key(table: TableConfig, columns: Sequence[ColumnPlan]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The key's columns as the target names them, and the names that are not among the columns."""
    by_name = {c.target.name: c.target.name for c in columns} | {c.source.name: c.target.name for c in columns}
    folded = {name.casefold(): target for name, target in by_name.items()}
    found = [by_name.get(name) or folded.get(name.casefold()) for name in table.uniqueness_columns]
    unknown = [name for name, target in zip(table.uniqueness_columns, found, strict=True) if target is None]
    return tuple(name for name in found if name is not None), tuple(unknown)
