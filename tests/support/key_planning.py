"""Key planning without a server: the two queries answered from rows in memory, and conditions judged row by row.

The grid is any function that never falls as the key rises; tests draw bad ones too. Conditions are parsed as
Snowflake's SQL and evaluated with SQL's three truth values.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import Any

import sqlglot
from sqlglot import exp

from snowmelt.planning.composite import plan
from snowmelt.planning.key_sql import divisible, refinement, spannable
from snowmelt.planning.keys import Bucket, Histogram, Key, KeyColumn, KeyKind, KeyRange, KeySpec, Piece, full_rows

Row = tuple[Any, ...]
"""The key of a row: numbers for numbers, their exact text for all other kinds."""
Place = Callable[[Any], Any]
"""Where a value that is not NULL lies on the grid."""


def spec_of(*kinds: KeyKind, batch_size: int) -> KeySpec:
    columns = tuple(KeyColumn(name=f"c{i}", kind=kind) for i, kind in enumerate(kinds))
    return KeySpec(table='"T"', columns=columns, batch_size=batch_size)


def in_order(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else value)


def order_of(row: Row) -> tuple[tuple[bool, Any], ...]:
    return tuple(in_order(value) for value in row)


# --- the queries ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    low: Row
    high: Row
    rows: tuple[Row, ...]


def cells_of(rows: Iterable[Row], column: int, place: Place) -> list[Cell]:
    def where(row: Row) -> Any:
        return in_order(None if row[column] is None else place(row[column]))

    cells = []
    for _, group in groupby(sorted(rows, key=order_of), key=where):
        of_cell = tuple(group)
        cells.append(Cell(of_cell[0], of_cell[-1], of_cell))
    return cells


def packs_of(cells: Sequence[Cell], *, full: int, unit: int, apart: Callable[[Cell], bool]) -> list[list[Cell]]:
    packs: defaultdict[Any, list[Cell]] = defaultdict(list)
    before = alone_so_far = 0
    for cell in cells:
        alone = len(cell.rows) > full or apart(cell)
        alone_so_far += alone
        packs[alone, alone_so_far, before - before % unit].append(cell)
        before += len(cell.rows)
    return sorted(packs.values(), key=lambda pack: order_of(pack[0].low))


def text(value: Any) -> str | None:
    return None if value is None else str(value)


def answer_first(spec: KeySpec, rows: Sequence[Row], place: Place) -> Histogram:
    full = full_rows(spec)
    unit = max(1, spec.batch_size // 2)
    packs = packs_of(cells_of(rows, 0, place), full=full, unit=unit, apart=lambda cell: cell.low[0] is None)
    buckets = [
        Bucket(
            low=text(pack[0].low[0]),
            high=text(pack[-1].high[0]),
            rows=sum(len(cell.rows) for cell in pack),
            full=any(len(cell.rows) > full for cell in pack),
        )
        for pack in packs
    ]
    return Histogram(tuple(buckets), 1, len(rows))


def answer_second(spec: KeySpec, found: Histogram, rows: Sequence[Row], place: Place) -> list[Piece]:
    pieces = []
    values = {text(row[0]): row[0] for row in rows}
    for bucket in spannable(found):
        low, high = values[bucket.low], values[bucket.high]
        inside = [r for r in rows if r[0] is not None and low <= r[0] <= high]
        pieces += _pieces_of(spec, bucket, inside, 0, place)
    for bucket in divisible(spec, found):
        inside = [r for r in rows if text(r[0]) == bucket.low]
        pieces += _pieces_of(spec, bucket, inside, 1, place)
    return pieces


def _pieces_of(spec: KeySpec, bucket: Bucket, rows: Sequence[Row], column: int, place: Place) -> list[Piece]:
    depths: dict[int, int] = {}
    cells: list[Cell] = []
    last = column + 1 == len(spec.columns)
    for cell in cells_of(rows, column, place):
        several = cell.low[column] != cell.high[column]
        if len(cell.rows) > spec.batch_size and (several or not last):
            keys = [Cell(row, row, tuple(group)) for row, group in groupby(sorted(cell.rows, key=order_of))]
            depths |= {id(each): len(spec.columns) for each in keys}
            cells += keys
        else:
            depths[id(cell)] = column + 1
            cells.append(cell)
    packs = packs_of(cells, full=spec.batch_size, unit=spec.batch_size, apart=lambda _: False)
    return [
        Piece(
            low=bucket.low,
            start=tuple(text(value) for value in pack[0].low[: depths[id(pack[0])]]),
            rows=sum(len(cell.rows) for cell in pack),
        )
        for pack in packs
    ]


@dataclass(frozen=True)
class Planned:
    """Ranges, and how many rows the queries gave."""

    ranges: tuple[KeyRange, ...]
    answered: int


def planned(spec: KeySpec, rows: Sequence[Row], *places: Place) -> Planned:
    """Ranges planned on one grid, and on another inside full cells if one is given."""
    found = answer_first(spec, rows, places[0])
    if refinement(spec, found) is None:
        return Planned(plan(spec, found), len(found.buckets))
    pieces = answer_second(spec, found, rows, places[-1])
    return Planned(plan(spec, found, pieces), len(found.buckets) + len(pieces))


def assert_cut_well(spec: KeySpec, rows: Sequence[Row], result: Planned) -> None:
    """Every row is in one range, as many as were planned, and none is too big that could be smaller."""
    values = [{text(row[i]): row[i] for row in rows} for i in range(len(spec.columns))]
    keyed = [(order_of(row), row) for row in rows]
    found = [_inside(keyed, each, values) for each in result.ranges]
    assert sum(len(inside) for inside in found) == len(rows)
    assert [len(inside) for inside in found] == [each.rows for each in result.ranges]
    for inside in found:
        assert len(inside) < 2 * spec.batch_size or len(set(inside)) == 1
        assert len({row[0] is None for row in inside}) == 1
    assert result.answered <= 4 * len(result.ranges) + 4


def _inside(
    keyed: Iterable[tuple[tuple[Any, ...], Row]], key_range: KeyRange, values: Sequence[Mapping[str | None, Any]]
) -> list[Row]:
    """The rows whose key lies between the bounds in lexicographic order, told without any SQL."""
    start, stop = (_position(bound, values) for bound in (key_range.start, key_range.stop))
    return [
        row
        for position, row in keyed
        if (start is None or position[: len(start)] >= start) and (stop is None or position[: len(stop)] < stop)
    ]


def _position(bound: Key | None, values: Sequence[Mapping[str | None, Any]]) -> tuple[Any, ...] | None:
    if bound is None:
        return None
    return tuple(in_order(known[part]) for part, known in zip(bound, values, strict=False))


# --- conditions -------------------------------------------------------------------------------------------------------


def is_true(condition: str, row: Mapping[str, Any]) -> bool:
    """Whether Snowflake would let the row through."""
    return _truth(sqlglot.parse_one(condition, dialect="snowflake"), row) is True


def _truth(node: exp.Expr, row: Mapping[str, Any]) -> bool | None:
    match node:
        case exp.Paren():
            return _truth(node.this, row)
        case exp.Boolean():
            return bool(node.this)
        case exp.And():
            sides = (_truth(node.left, row), _truth(node.right, row))
            return False if False in sides else None if None in sides else True
        case exp.Or():
            sides = (_truth(node.left, row), _truth(node.right, row))
            return True if True in sides else None if None in sides else False
        case exp.Not():
            inner = _truth(node.this, row)
            return None if inner is None else not inner
        case exp.Is():
            assert isinstance(node.expression, exp.Null)
            return _value(node.this, row) is None
        case exp.GTE() | exp.GT() | exp.LTE() | exp.LT() | exp.EQ():
            left, right = _value(node.left, row), _value(node.right, row)
            return None if left is None or right is None else _COMPARISONS[type(node)](left, right)
    raise AssertionError(f"not a condition of a range: {node.sql()}")


_COMPARISONS: dict[type[exp.Expression], Callable[[Any, Any], bool]] = {
    exp.GTE: lambda a, b: bool(a >= b),
    exp.GT: lambda a, b: bool(a > b),
    exp.LTE: lambda a, b: bool(a <= b),
    exp.LT: lambda a, b: bool(a < b),
    exp.EQ: lambda a, b: bool(a == b),
}


def _value(node: exp.Expr, row: Mapping[str, Any]) -> Any:
    match node:
        case exp.Column():
            assert node.this.quoted
            return row[node.name]
        case exp.Cast():
            text = str(node.this.this)
            return Decimal(text) if node.to.is_type("DECIMAL") else text
        case exp.TsOrDsToDate() | exp.StrToTime():
            return str(node.this.this).removesuffix(" +0000")
        case exp.Neg():
            return -_value(node.this, row)
        case exp.Literal():
            return str(node.this) if node.is_string else Decimal(node.this)
    raise AssertionError(f"not a value of a range: {node.sql()}")
