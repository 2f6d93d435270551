"""What foreign keys among the target tables ask for: which begin together, and which are loaded first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from snowmelt.columns.type_pairs import quoted
from snowmelt.findings import Finding, Place, sql_name
from snowmelt.models import TableName


@dataclass(frozen=True)
class ForeignKey:
    """A constraint: rows of ``child`` refer to rows of ``parent``."""

    name: str
    child: TableName
    parent: TableName
    child_columns: tuple[str, ...] = ()
    parent_columns: tuple[str, ...] = ()
    """In the order of the child's."""


@dataclass(frozen=True)
class Tied:
    """What the keys ask of one table of the run; numbers are ``table_id``s.

    ``starts_with`` are the tables, itself among them, that are made ready in the same transaction; ``loads_after`` are
    its parents; ``dropped_keys`` are its constraints that are dropped for the load.
    """

    starts_with: tuple[int, ...]
    loads_after: tuple[int, ...]
    refers_to_itself: bool
    dropped_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ties:
    """Every table of the run by number, and what makes the run impossible."""

    tables: Mapping[int, Tied]
    problems: tuple[Finding, ...]


def plan(
    places: Mapping[int, Place],
    truncated: Sequence[int],
    keys: Sequence[ForeignKey],
    drops_keys: Collection[int] = (),
) -> Ties:
    """Tie the tables of a run by the foreign keys that touch them.

    A table that is truncated needs every table that refers to it in the same TRUNCATE: one outside the run, or one
    that keeps its rows, is a problem, and so is a circle, in which no table can be loaded first. Those of
    ``drops_keys`` wait for no other table of the run, as their keys to these are dropped for the load.
    """
    targets = {table_id: place.target for table_id, place in places.items()}
    ids = {name: table_id for table_id, name in reversed(list(targets.items()))}  # of two on one target, the first
    inside = [k for k in keys if k.child in ids and k.parent in ids]
    dropped = [k for k in inside if ids[k.child] in drops_keys]
    kept = [k for k in inside if k not in dropped]
    parents: dict[int, set[int]] = {table_id: set() for table_id in targets}
    for key in kept:
        if key.child != key.parent:
            parents[ids[key.child]].add(ids[key.parent])
    problems = [_blocked(k, ids, places) for k in keys if _blocks(k, ids, truncated)]
    problems += _circles(parents, places)
    # A key can be dropped only while neither of its tables is being loaded.
    together = [k for k in inside if {ids[k.child], ids[k.parent]} <= set(truncated) or k in dropped]
    groups = _groups(targets, [(ids[k.child], ids[k.parent]) for k in together])
    tables = {
        table_id: Tied(
            starts_with=groups[table_id],
            loads_after=tuple(sorted(parents[table_id])),
            refers_to_itself=any(k.child == k.parent == name for k in kept),
            dropped_keys=tuple(k.name for k in dropped if k.child == name),
        )
        for table_id, name in targets.items()
    }
    return Ties(tables, tuple(problems))


def _blocks(key: ForeignKey, ids: Mapping[TableName, int], truncated: Sequence[int]) -> bool:
    return ids.get(key.parent) in truncated and ids.get(key.child) not in truncated


def _blocked(key: ForeignKey, ids: Mapping[TableName, int], places: Mapping[int, Place]) -> Finding:
    remedy = (
        f"set truncate_onstart for {key.child} too"
        if key.child in ids
        else f"add {key.child} to the run with truncate_onstart"
    )
    config = (places[ids[key.child]].line("truncate_onstart", True),) if key.child in ids else ()
    return places[ids[key.parent]].error(
        "foreign_key_blocks",
        f"{key.parent} cannot be truncated, because {key.child} refers to it by {key.name}",
        f"{remedy}, or drop the constraint for the load",
        fix=(*config, f"ALTER TABLE {sql_name(key.child)} DROP CONSTRAINT {quoted(key.name)};"),
    )


def _circles(parents: Mapping[int, set[int]], places: Mapping[int, Place]) -> list[Finding]:
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        circle = " -> ".join(str(places[table_id].target) for table_id in reversed(error.args[1]))
        text = f"foreign keys go round in a circle, {circle}: no table can be loaded first"
        fix = (
            "set drop_foreign_keys for one of them, which drops its keys for the load and puts them back after it, "
            "checked"
        )
        return [places[error.args[1][0]].error("foreign_key_circle", text, fix)]
    return []


def _groups(tables: Collection[int], edges: Sequence[tuple[int, int]]) -> dict[int, tuple[int, ...]]:
    """The tables, each with all that keys connect it to."""
    group = {table_id: {table_id} for table_id in tables}
    for child, parent in edges:
        if group[child] is not group[parent]:
            merged = group[child] | group[parent]
            for member in merged:
                group[member] = merged
    return {table_id: tuple(sorted(members)) for table_id, members in group.items()}
