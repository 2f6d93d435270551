"""The DDL of target tables that are not there yet, from what Snowflake says of their sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snowmelt.columns.type_pairs import best_type, quoted, snowflake_type
from snowmelt.config import TableConfig
from snowmelt.config.names import POSTGRES_NAME_BYTES
from snowmelt.findings import Place, sql_name
from snowmelt.models import SourceColumn, TargetColumn


@dataclass(frozen=True)
class Wanted:
    """A source table, and what its target has of it; ``target`` is None where there is none."""

    place: Place
    config: TableConfig
    columns: tuple[SourceColumn, ...]
    primary_key: tuple[str, ...] = ()
    """The source's own, by its columns' exact names."""
    target: tuple[TargetColumn, ...] | None = None


@dataclass(frozen=True)
class Ddl:
    """What makes one target: statements in their order, each with a line on why, and what is only suggested."""

    place: Place
    statements: tuple[str, ...]
    remarks: tuple[str, ...]
    """Lines for the reader, without what makes them comments."""

    @property
    def text(self) -> str:
        """SQL that psql takes."""
        remarks = (f"-- {line}" for remark in self.remarks for line in remark.splitlines())
        head = f"-- {' '.join(str(self.place.table).split())}"
        return "\n".join((head, *remarks, *self.statements)) + "\n"


def ddl(wanted: Wanted) -> Ddl:
    """CREATE TABLE for a target that is missing; for one that is there, comments on what it lacks."""
    return _lacking(wanted) if wanted.target is not None else _creation(wanted)


def unknown_keys(wanted: Wanted) -> tuple[str, ...]:
    """Of a target that is missing, what ``uniqueness_columns`` name that the source has not: a problem each."""
    if wanted.target is not None:
        return ()
    known = {column.name.casefold() for column in wanted.columns}
    known |= {name.casefold() for name in wanted.config.renamed.values()}
    has = ", ".join(column.name for column in wanted.columns)
    return tuple(
        f"{wanted.place.key('uniqueness_columns')}: {wanted.place.table} has no column {name}; write one of {has}"
        for name in wanted.config.uniqueness_columns
        if name.casefold() not in known
    )


# --- a new table ------------------------------------------------------------------------------------------------------


def _creation(wanted: Wanted) -> Ddl:
    place, names = wanted.place, target_names(wanted.columns, wanted.config.renamed)
    mapped = {name.casefold() for name in wanted.config.renamed}
    remarks = [
        f"column {quoted(column.name)} is called {quoted(names[column.name])}: give it that name in column_map, "
        "or it will not travel"
        for column in wanted.columns
        if names[column.name].casefold() != column.name.casefold() and column.name.casefold() not in mapped
    ]
    remarks += [
        f"column {quoted(column.name)} is left out: {snowflake_type(column)} has no type in PostgreSQL"
        for column in wanted.columns
        if best_type(column) is None
    ]
    carried = [column for column in wanted.columns if best_type(column)]
    if not carried:
        return Ddl(place, (), (*remarks, "no column is left, so there is no table to create"))
    key, why = _key(wanted, {column.name for column in carried})
    lines = [
        f"    {quoted(names[column.name])} {best_type(column)}"
        + ("" if column.nullable and column.name not in key else " NOT NULL")
        for column in carried
    ]
    if key:
        remarks.append(why)
        lines.append(f"    PRIMARY KEY ({', '.join(quoted(names[name]) for name in key)})")
    name = sql_name(place.target)
    create = f"CREATE TABLE {name} (\n" + ",\n".join(lines) + "\n);"
    return Ddl(place, (create,), (*remarks, *_suggested_indexes(wanted, names, key, name)))


def target_names(columns: Sequence[SourceColumn], renamed: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Name each column in the target: as the config does, else in lower case where it is upper case throughout.

    No name has more than 63 bytes, and none is another's.
    """
    given = {name.casefold(): to for name, to in (renamed or {}).items()}
    names = {c.name: given[c.name.casefold()] for c in columns if c.name.casefold() in given}
    taken = set(names.values())
    alike = [column.name.casefold() for column in columns]
    for column in (c for c in columns if c.name not in names):
        is_folded = column.name == column.name.upper() and alike.count(column.name.casefold()) == 1
        wanted = column.name.lower() if is_folded else column.name
        name, number = _cut(wanted, POSTGRES_NAME_BYTES), 1
        while name in taken:
            number += 1
            name = f"{_cut(wanted, POSTGRES_NAME_BYTES - 5)}_{number}"
        taken.add(name)
        names[column.name] = name
    return names


def _key(wanted: Wanted, carried: set[str]) -> tuple[tuple[str, ...], str]:
    """The columns of the primary key, exact, and where they come from."""
    folded = {name.casefold(): name for name in carried}
    given = wanted.config.uniqueness_columns
    folded |= {to.casefold(): folded.get(of.casefold(), "") for of, to in wanted.config.renamed.items()}
    asked = tuple(name if name in carried else folded.get(name.casefold(), "") for name in given)
    if asked and all(asked):
        return asked, "the primary key is what uniqueness_columns say"
    if wanted.primary_key and set(wanted.primary_key) <= carried:
        return wanted.primary_key, "the primary key is Snowflake's, which does not enforce it: see snowmelt preflight"
    return (), ""


def _suggested_indexes(wanted: Wanted, names: Mapping[str, str], key: tuple[str, ...], table: str) -> tuple[str, ...]:
    """Indexes that no load needs, and readers may."""
    by_case = {name.casefold(): target for name, target in names.items()}
    watermark = wanted.config.source_watermark
    why = {watermark or "": "readers ask for what is new"}
    why |= dict.fromkeys(wanted.config.chunking_columns[:1], "readers ask for ranges of it")
    leading = names[key[0]] if key else None
    columns = {by_case[name.casefold()]: reason for name, reason in why.items() if name.casefold() in by_case}
    return tuple(
        f"if {reason}:\nCREATE INDEX ON {table} ({quoted(column)});"
        for column, reason in columns.items()
        if column != leading
    )


# --- a table that is there --------------------------------------------------------------------------------------------


def _lacking(wanted: Wanted) -> Ddl:
    there = {column.name.casefold() for column in wanted.target or ()}
    names = target_names(wanted.columns, wanted.config.renamed)
    remarks = [
        wanted.place.alter(f"ADD COLUMN {quoted(names[column.name])} {best_type(column)}")
        for column in wanted.columns
        if best_type(column) and names[column.name].casefold() not in there
    ]
    return Ddl(wanted.place, (), (f"{wanted.place.target} is there", *remarks))


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore")
