"""Rows that refer to rows which will not be there: asked of the source, before PostgreSQL refuses them one by one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from snowmelt import disclosure
from snowmelt.columns.type_pairs import quoted
from snowmelt.findings import Finding, sql_name
from snowmelt.models import TableName
from snowmelt.planning import statement
from snowmelt.planning.ties import ForeignKey
from snowmelt.preflight.rows import Looked


@dataclass(frozen=True)
class Link:
    """A foreign key of the target whose both tables are looked at; ``keeps_rows`` where the parent's target may hold
    rows that its source does not have."""

    key: ForeignKey
    child: Looked
    parent: Looked
    keeps_rows: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The source's names of the columns that refer."""
        return self.child.source_columns(self.key.child_columns)

    @property
    def parent_columns(self) -> tuple[str, ...]:
        """The source's names of the columns that are referred to."""
        return self.parent.source_columns(self.key.parent_columns)

    @property
    def is_askable(self) -> bool:
        """Whether all of its columns come from the source."""
        wanted = len(self.key.child_columns)
        return len(self.columns) == len(self.parent_columns) == wanted > 0


def links(
    keys: Sequence[ForeignKey], looked: Mapping[TableName, Looked], keep_rows: frozenset[TableName]
) -> tuple[Link, ...]:
    """The foreign keys that the source can be asked about."""
    both = (
        Link(k, looked[k.child], looked[k.parent], k.parent in keep_rows)
        for k in keys
        if {k.child, k.parent} <= set(looked)
    )
    return tuple(link for link in both if link.is_askable)


def unasked(keys: Sequence[ForeignKey], looked: Mapping[TableName, Looked], asked: Sequence[Link]) -> Iterator[Finding]:
    """A note for each foreign key of a table of the run that only PostgreSQL can try."""
    known = {link.key for link in asked}
    for key in keys:
        if key.child not in looked or key in known:
            continue
        why = (
            "some of its columns are not loaded"
            if key.parent in looked
            else f"{key.parent} is not among the tables looked at, so what it will hold is not known"
        )
        yield looked[key.child].place.note(
            "orphans", f"foreign key {key.name} was not checked: {why}", "load what it refers to first"
        )


def question(asked: Sequence[Link]) -> str:
    """A row per foreign key of one table: its number, orphans, one of the values that lead nowhere."""
    return "\nUNION ALL\n".join(_one(number, link) for number, link in enumerate(asked))


def _one(number: int, link: Link) -> str:
    names = [f"k{i}" for i in range(len(link.columns))]
    child = _rows(link.child, link.columns, names, link.child.conditions)
    own = (link.parent.config.source_filter,) if link.parent.config.source_filter else ()
    parent = _rows(link.parent, link.parent_columns, names, own)
    given = " AND ".join(f"child.{name} IS NOT NULL" for name in names)
    equal = " AND ".join(f"parent.{name} = child.{name}" for name in names)
    example = " || ', ' || ".join(f"TO_VARCHAR(child.{name})" for name in names)
    return (  # names are quoted
        f"SELECT {number:d} AS link, COUNT(*) AS orphans, MIN({example}) AS example FROM {child} AS child\n"  # noqa: S608
        f"WHERE {given} AND NOT EXISTS (SELECT 1 FROM {parent} AS parent WHERE {equal})"
    )


def _rows(looked: Looked, columns: Sequence[str], names: Sequence[str], conditions: Sequence[str]) -> str:
    selected = ", ".join(f"{quoted(column)} AS {name}" for column, name in zip(columns, names, strict=True))
    where = f" WHERE {statement.all_of(conditions)}" if conditions else ""
    return f"(SELECT {selected} FROM {looked.source}{where})"  # noqa: S608 - names are quoted


def findings(asked: Sequence[Link], rows: Sequence[Sequence[object]]) -> Iterator[Finding]:
    """What the answer to ``question`` says."""
    for number, orphans, example in rows:
        found, link = int(str(orphans)), asked[int(str(number))]
        if not found:
            continue
        key, place = link.key, link.child.place
        columns = ", ".join(key.child_columns)
        has = f"{found:,} rows refer" if found != 1 else "1 row refers"
        such = disclosure.fingerprint(example)
        what = f"{has} by {columns} to no row of {link.parent.place.table}, as {such} does; {key.name} forbids that"
        advice = "fix the rows, or exclude them by source_filter"
        drop = f"ALTER TABLE {sql_name(key.child)} DROP CONSTRAINT {quoted(key.name)};"
        column = key.child_columns[0] if len(key.child_columns) == 1 else None
        if link.keeps_rows:
            what = f"{what}, unless {key.parent} holds the other row from before"
        judge = place.warning if link.keeps_rows else place.error
        yield judge("orphans", what, advice, column=column, fix=(drop,))
