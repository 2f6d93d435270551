"""The SQL of key ranges, in Snowflake's dialect: the condition of a range, and the two queries that plan them.

Values come as text that is checked against the pattern of their kind and bound where it is sent; names are quoted.
The one text taken as it is, is the user's own ``source_filter``, in brackets on lines of its own. The key's
columns are renamed k1, k2 ... in a subquery, so that no name in the table can be mistaken for one in a query.

Both queries count cells of a grid and pack neighbouring cells before anything leaves Snowflake. Running totals cut
the packs: a cell that is too full is a pack of its own, others share one until the total passes the next multiple of
half a ``batch_size``, in the second query of a whole one. Too full is half as much again as ``batch_size`` in the
first query, so that many cells a little over it need no second one. In both, a pack of several cells has less than
twice ``batch_size`` rows.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snowmelt import disclosure
from snowmelt.columns.type_pairs import quoted
from snowmelt.errors import SourceValueError
from snowmelt.planning import date_range, key_range, value_groups
from snowmelt.planning.keys import Bucket, Histogram, Key, KeyColumn, KeyKind, KeyRange, KeySpec, Piece, full_rows
from snowmelt.sql_text import literals
from snowmelt.sql_text.lexer import bracketed
from snowmelt.wording import WITH_NO_RESUME

MOST_LISTED_BUCKETS = 500
MOST_LISTED_CHARACTERS = 200_000
"""Beyond these the second query finds the full buckets again by itself: a statement may have a megabyte."""


@dataclass(frozen=True)
class _Grid:
    """How a kind of column is divided into cells: SQL from SQL."""

    extent: Callable[[str, str], str]
    """Of the lowest key and the highest."""
    width: Callable[[str, str], str]
    """Of the extent, and how many cells are wanted."""
    place: Callable[[str, str], str]
    """Of a key, and the width as the type that it is computed with."""
    step: str = "FLOAT"
    """That type."""
    known: str | None = None
    """The width of the first grid, where it does not depend on the keys."""


_TIMES = _Grid(
    date_range.timestamp_extent, date_range.timestamp_width, date_range.timestamp_place, known=date_range.HOURS
)
_GRIDS: dict[KeyKind, _Grid] = {
    "number": _Grid(key_range.extent, key_range.width, key_range.place),
    "text": _Grid(value_groups.extent, value_groups.width, value_groups.place, "INTEGER"),
    "date": _Grid(date_range.date_extent, date_range.date_width, date_range.date_place, known=date_range.DAYS),
    "timestamp_ntz": _TIMES,
    "timestamp_ltz": _TIMES,
    "timestamp_tz": _TIMES,
}

# --- values -----------------------------------------------------------------------------------------------------------

_DATE = r"\d{4}-\d\d-\d\d"
_TIME = rf"{_DATE} \d\d:\d\d:\d\d\.\d{{9}}"
_PATTERNS: dict[KeyKind, str] = {
    "number": r"-?(\d{1,38}(\.\d{1,37})?|\.\d{1,37})",
    "text": r"(?s).*",
    "date": _DATE,
    "timestamp_ntz": _TIME,
    "timestamp_ltz": _TIME,
    "timestamp_tz": _TIME,
}
_SHORT_FRACTION = re.compile(rf"({_DATE} \d\d:\d\d:\d\d)\.?(\d{{0,8}})")


def exact(kind: KeyKind, text: str) -> str:
    """The value as ranges keep it; SourceValueError if it is none of that kind.

    A fraction of a second gets its nine digits.
    """
    if kind.startswith("timestamp") and (short := _SHORT_FRACTION.fullmatch(text)):
        text = f"{short[1]}.{short[2]:0<9}"
    if re.fullmatch(_PATTERNS[kind], text, re.ASCII) is None:
        raise SourceValueError(
            f"{disclosure.fingerprint(text)} cannot bound a range of a {kind} key: years go from 0001 to 9999, "
            "numbers to 38 digits; fix the row in the source and start again: a new run begins; or exclude it by "
            f"source_filter, or set chunking to one_scan, and start {WITH_NO_RESUME}"
        )
    return text


def literal(kind: KeyKind, text: str) -> str:
    """Write the value as SQL, of the column's own type, to be bound where it is sent."""
    value = exact(kind, text)
    match kind:
        case "number":
            return literals.number(value)
        case "text":
            return literals.text(value)
        case "date":
            return literals.date(value)
        case "timestamp_ntz":
            return literals.timestamp_ntz(value)
        case "timestamp_ltz":
            return literals.timestamp_ltz(value)
        case "timestamp_tz":
            return literals.timestamp_tz(value)


def _text_of(kind: KeyKind, value: str) -> str:
    match kind:
        case "text":
            return value
        case "number":
            return f"TO_VARCHAR({value})"
        case "date":
            return f"TO_VARCHAR({value}, 'YYYY-MM-DD')"
        case "timestamp_ntz":
            return f"TO_VARCHAR({value}, 'YYYY-MM-DD HH24:MI:SS.FF9')"
        case "timestamp_ltz" | "timestamp_tz":
            return f"TO_VARCHAR(CONVERT_TIMEZONE('UTC', {value}), 'YYYY-MM-DD HH24:MI:SS.FF9')"


# --- the condition of a range -----------------------------------------------------------------------------------------


def where(columns: Sequence[KeyColumn], key_range: KeyRange) -> str:
    """The condition that holds for the range's rows and is false or unknown for all others.

    Columns in which the range does not move are compared for equality, and every bound also stands as a plain
    comparison of the first column that moves: that is what Snowflake prunes by.
    """
    start, stop = key_range.start or (), key_range.stop or ()
    names = [quoted(column.name) for column in columns]
    kinds = [column.kind for column in columns]
    fixed = _common_length(start, stop)
    conditions = [_equals(names[i], kinds[i], start[i]) for i in range(fixed)]
    start, stop, names, kinds = start[fixed:], stop[fixed:], names[fixed:], kinds[fixed:]
    if start:
        reaches_nulls = not stop or (stop[0] is None and len(stop) > 1)
        conditions.append(_from(names, kinds, start, reaches_nulls=reaches_nulls))
    if stop and not (start and stop == (None,)):  # a comparison from below leaves NULL out by itself
        conditions.append(_before(names, kinds, stop))
    return " AND ".join(conditions) or "TRUE"


def _common_length(start: Key, stop: Key) -> int:
    return next((i for i, (a, b) in enumerate(zip(start, stop, strict=False)) if a != b), min(len(start), len(stop)))


def _equals(name: str, kind: KeyKind, value: str | None) -> str:
    return f"{name} IS NULL" if value is None else f"{name} = {literal(kind, value)}"


def _from(names: Sequence[str], kinds: Sequence[KeyKind], start: Key, *, reaches_nulls: bool) -> str:
    name, value, rest = names[0], start[0], start[1:]
    later = _from(names[1:], kinds[1:], rest, reaches_nulls=True) if rest else ""
    if value is None:
        return f"{name} IS NULL AND {later}" if later else f"{name} IS NULL"
    bound = literal(kinds[0], value)
    condition = f"{name} >= {bound}"
    if later:
        condition += f" AND ({name} > {bound} OR {later})"
    return f"({condition} OR {name} IS NULL)" if reaches_nulls else condition


def _before(names: Sequence[str], kinds: Sequence[KeyKind], stop: Key) -> str:
    name, value, rest = names[0], stop[0], stop[1:]
    earlier = _before(names[1:], kinds[1:], rest) if rest else ""
    if value is None:
        return f"({name} IS NOT NULL OR {earlier})" if earlier else f"{name} IS NOT NULL"
    bound = literal(kinds[0], value)
    return f"{name} <= {bound} AND ({name} < {bound} OR {earlier})" if earlier else f"{name} < {bound}"


# --- the first query --------------------------------------------------------------------------------------------------


def histogram(spec: KeySpec) -> str:
    """The query whose rows are the buckets: text of low and high, rows, full, the grid's width, COUNT(*) of all."""
    kind, batch_size = spec.columns[0].kind, spec.batch_size
    keys = _keys(spec, 1)
    alone = f"IFF(row_count > {full_rows(spec):d} OR low IS NULL, 1, 0)"
    return f"""WITH grid AS (
  {_first_grid(kind, keys, batch_size)}
), cells AS (
  SELECT {_GRIDS[kind].place("k1", "grid.step")} AS place,
         COUNT(*) AS row_count, MIN(k1) AS low, MAX(k1) AS high
  FROM {keys} AS cell_keys CROSS JOIN grid
  GROUP BY 1
), running AS (
  SELECT low, high, row_count, {alone} AS alone,
         SUM({alone}) OVER (ORDER BY low ASC NULLS LAST {_SO_FAR}) AS alone_so_far,
         SUM(row_count) OVER (ORDER BY low ASC NULLS LAST {_SO_FAR}) - row_count AS row_count_before
  FROM cells
), packs AS (
  SELECT MIN(low) AS low, MAX(high) AS high, SUM(row_count) AS row_count, MAX(row_count) AS largest
  FROM running
  GROUP BY alone, alone_so_far, row_count_before - MOD(row_count_before, {max(1, batch_size // 2):d})
)
SELECT {_text_of(kind, "packs.low")}, {_text_of(kind, "packs.high")}, packs.row_count,
       IFF(packs.largest > {full_rows(spec):d}, 1, 0), grid.width, grid.row_count
FROM packs CROSS JOIN grid
ORDER BY packs.low ASC NULLS LAST"""  # noqa: S608 - names are quoted, values checked


def _first_grid(kind: KeyKind, keys: str, batch_size: int) -> str:
    """The grid on all rows, and their number; where its width is known beforehand, keys are read for cells only."""
    if width := _GRIDS[kind].known:
        return f"SELECT COUNT(*) AS row_count, {width} AS width, {width}::{_GRIDS[kind].step} AS step FROM {keys} AS counted_keys"  # noqa: S608,E501
    extent = f"(SELECT MIN(k1) AS low, MAX(k1) AS high, COUNT(*) AS row_count FROM {keys} AS extent_keys)"  # noqa: S608
    return _grid(kind, extent, "low", "high", batch_size, carry="row_count")


def _grid(kind: KeyKind, extents: str, low: str, high: str, batch_size: int, *, carry: str) -> str:
    """Width and step of a grid for each of the extents, which tell the rows that lie between low and high.

    ``carry`` names a column of the extents that tells them apart.
    """
    grid = _GRIDS[kind]
    cells = f"GREATEST({key_range.FEWEST_CELLS}, {key_range.CELLS_PER_CHUNK} * row_count / {batch_size:d})"
    source, grouped = extents, ""
    if kind == "text":
        lengths = f"(SELECT ROW_NUMBER() OVER (ORDER BY SEQ4()) AS n FROM {value_groups.LENGTHS})"  # noqa: S608
        source, grouped = f"{extents} AS extents CROSS JOIN {lengths}", f" GROUP BY {carry}, row_count"
    measured = f"""(
    SELECT {carry} AS carried, {cells} AS cells, {grid.extent(low, high)} AS extent FROM {source} AS measured{grouped}
  )"""  # noqa: S608
    return f"""SELECT carried AS {carry}, width, width::{grid.step} AS step
  FROM (SELECT carried, {grid.width("extent", "cells")} AS width FROM {measured} AS wanted) AS sized"""  # noqa: S608


_SO_FAR = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


def _keys(spec: KeySpec, count: int) -> str:
    """The first key columns of all rows that are to be cut, as k1, k2 ...; written out wherever it is read.

    As a common table expression of its own, read more than once, it would be kept aside as a whole.
    """
    columns = ", ".join(f"{quoted(c.name)} AS k{i}" for i, c in enumerate(spec.columns[:count], 1))
    name = f"{spec.table} {spec.at}" if spec.at else spec.table
    conditions = [bracketed(spec.source_filter)] if spec.source_filter else []
    if spec.within is not None:
        conditions.append(f"({where(spec.columns, spec.within)})")
    filtered = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"(SELECT {columns} FROM {name}{filtered})"  # noqa: S608 - names are quoted, values checked


# --- the second query -------------------------------------------------------------------------------------------------


def refinement(spec: KeySpec, found: Histogram) -> str | None:
    """The query that cuts full buckets into pieces; None where nothing is full, or nothing in it can be cut.

    Its rows are: text of the bucket's low, number of columns that bound the piece, text of each column, rows. A
    bucket of several values gets a finer grid of its own, one of a single value a grid on the second column. What
    is too full even there is counted key by key.
    """
    spans, values = spannable(found), divisible(spec, found)
    if not spans and not values:
        return None
    listed = [*spans, *values]
    characters = sum(len(b.low or "") + len(b.high or "") for b in listed)
    recount = len(listed) > MOST_LISTED_BUCKETS or characters > MOST_LISTED_CHARACTERS
    tables = [("cells", _recounted(spec, found))] if recount else []
    items = []
    if spans:
        tables += _span_tables(spec, found, spans, recount=recount)
        items += [_items(spec, "fine_spans", depth=1), _items(spec, "exact_spans", depth=len(spec.columns))]
    if values:
        tables += _value_tables(spec, values, recount=recount)
        items += [_items(spec, "fine_values", depth=2), _items(spec, "exact_values", depth=len(spec.columns))]
    tables.append(("items", "\n  UNION ALL\n  ".join(items)))
    named = ", ".join(f"{name} AS (\n  {body}\n)" for name, body in tables)
    return f"WITH {named}, {_packed_items(spec)}"


def spannable(found: Histogram) -> list[Bucket]:
    """Full buckets that hold several values of the first column."""
    return [b for b in found.buckets if b.full and b.low != b.high]


def divisible(spec: KeySpec, found: Histogram) -> list[Bucket]:
    """Full buckets of one value, or of NULL, that a second column can cut."""
    if len(spec.columns) == 1:
        return []
    return [b for b in found.buckets if b.full and b.low == b.high]


def _recounted(spec: KeySpec, found: Histogram) -> str:
    """The cells of the first query once more, for buckets that are too many to be listed."""
    return f"""SELECT {_outer_place(spec, found, "k1")} AS place, COUNT(*) AS row_count, MIN(k1) AS low, MAX(k1) AS high
  FROM {_keys(spec, 1)} AS cell_keys
  GROUP BY 1
  HAVING COUNT(*) > {full_rows(spec):d}"""  # noqa: S608 - names are quoted, values checked


def _outer_place(spec: KeySpec, found: Histogram, key: str) -> str:
    grid = _GRIDS[spec.columns[0].kind]
    return grid.place(key, f"{found.width or 1:d}::{grid.step}")  # no width where all keys are NULL


def _span_tables(spec: KeySpec, found: Histogram, buckets: Sequence[Bucket], *, recount: bool) -> list[tuple[str, str]]:
    kind, batch_size, count = spec.columns[0].kind, spec.batch_size, len(spec.columns)
    grid = _GRIDS[kind]
    if recount:
        listed = "SELECT low AS first_key, high AS last_key, row_count FROM cells WHERE low < high"
        bounds = "TRUE"
    else:
        named = {"first_key": lambda b: _value(kind, b.low), "last_key": lambda b: _value(kind, b.high)}
        listed = _listed(buckets, named | {"row_count": lambda b: f"{b.rows:d}"})
        bounds = f"keys.k1 BETWEEN {_value(kind, buckets[0].low)} AND {_value(kind, buckets[-1].high)}"
    outer, inner = _outer_place(spec, found, "keys.k1"), grid.place("keys.k1", "spans.step")
    columns = _columns("keys", 1, count)
    grids = _grid(kind, f"({listed})", "first_key", "last_key", batch_size, carry="first_key")
    spans = f"SELECT first_key AS low, {_outer_place(spec, found, 'first_key')} AS cell, step FROM ({grids}) AS listed"  # noqa: S608
    counted = f"""SELECT spans.low AS bucket, {inner} AS place,
         COUNT(*) AS row_count, MIN(keys.k1) AS k1, MAX(keys.k1) AS high
  FROM {_keys(spec, 1)} AS keys JOIN spans ON {outer} = spans.cell
  WHERE {bounds}
  GROUP BY 1, 2"""  # noqa: S608
    fine = f"SELECT counted.*, {_dense('k1', batch_size, last=count == 1)} AS dense FROM ({counted}) AS counted"  # noqa: S608
    exact_keys = f"""SELECT spans.low AS bucket, {columns}, COUNT(*) AS row_count, 0 AS dense
  FROM {_keys(spec, count)} AS keys JOIN spans ON {outer} = spans.cell
  JOIN fine_spans ON fine_spans.dense = 1 AND fine_spans.bucket = spans.low AND fine_spans.place = {inner}
  WHERE {bounds}
  GROUP BY spans.low, {columns}"""  # noqa: S608
    return [("spans", spans), ("fine_spans", fine), ("exact_spans", exact_keys)]


def _value_tables(spec: KeySpec, buckets: Sequence[Bucket], *, recount: bool) -> list[tuple[str, str]]:
    first, second, count = spec.columns[0].kind, spec.columns[1].kind, len(spec.columns)
    grid = _GRIDS[second]
    nulls = any(b.low is None for b in buckets)
    equal = "IS NOT DISTINCT FROM" if nulls else "="
    if recount:
        listed = "SELECT low AS bucket FROM cells WHERE low = high OR low IS NULL"
    else:
        listed = _listed(buckets, {"bucket": lambda b: _value(first, b.low)})
    bounds = "TRUE"
    if not nulls and not recount:
        bounds = f"keys.k1 BETWEEN {_value(first, buckets[0].low)} AND {_value(first, buckets[-1].low)}"
    inner = grid.place("keys.k2", "divided.step")
    columns = _columns("keys", 2, count)
    extents = f"""(
    SELECT listed.bucket, COUNT(*) AS row_count, MIN(keys.k2) AS low, MAX(keys.k2) AS high
    FROM {_keys(spec, 2)} AS keys JOIN ({listed}) AS listed ON keys.k1 {equal} listed.bucket
    WHERE {bounds}
    GROUP BY 1
  )"""  # noqa: S608
    divided = _grid(second, extents, "low", "high", spec.batch_size, carry="bucket")
    counted = f"""SELECT divided.bucket, {inner} AS place,
         COUNT(*) AS row_count, MIN(keys.k2) AS k2, MAX(keys.k2) AS high
  FROM {_keys(spec, 2)} AS keys JOIN divided ON keys.k1 {equal} divided.bucket
  WHERE {bounds}
  GROUP BY 1, 2"""  # noqa: S608
    fine = f"""SELECT counted.*, bucket AS k1, {_dense("k2", spec.batch_size, last=count == 2)} AS dense
  FROM ({counted}) AS counted"""  # noqa: S608
    exact_keys = f"""SELECT divided.bucket, divided.bucket AS k1, {columns}, COUNT(*) AS row_count, 0 AS dense
  FROM {_keys(spec, count)} AS keys JOIN divided ON keys.k1 {equal} divided.bucket
  JOIN fine_values ON fine_values.dense = 1 AND fine_values.bucket {equal} divided.bucket
    AND fine_values.place IS NOT DISTINCT FROM {inner}
  WHERE {bounds}
  GROUP BY divided.bucket, {columns}"""  # noqa: S608
    return [("divided", divided), ("fine_values", fine), ("exact_values", exact_keys)]


def _listed(buckets: Sequence[Bucket], columns: Mapping[str, Callable[[Bucket], str]]) -> str:
    """A row for each bucket. VALUES would take neither every function nor, in every place, what is bound."""
    rows = (", ".join(f"{sql(bucket)} AS {name}" for name, sql in columns.items()) for bucket in buckets)
    return " UNION ALL ".join(f"SELECT {row}" for row in rows)


def _value(kind: KeyKind, text: str | None) -> str:
    return "NULL" if text is None else literal(kind, text)


def _columns(relation: str, first: int, last: int) -> str:
    return ", ".join(f"{relation}.k{i}" for i in range(first, last + 1))


def _dense(low: str, batch_size: int, *, last: bool) -> str:
    """SQL for 1 where a cell is too full and counting its keys one by one will cut it."""
    return f"IFF(row_count > {batch_size:d}{f' AND {low} < high' if last else ''}, 1, 0)"


def _items(spec: KeySpec, table: str, *, depth: int) -> str:
    columns = ", ".join(f"k{i}" if i <= depth else f"NULL AS k{i}" for i in range(1, len(spec.columns) + 1))
    return f"SELECT bucket, {depth:d} AS depth, {columns}, row_count FROM {table} WHERE dense = 0"  # noqa: S608


def _packed_items(spec: KeySpec) -> str:
    """The end of the second query: pieces packed bucket by bucket, each told by its first key."""
    columns = [f"k{i}" for i in range(1, len(spec.columns) + 1)]
    order = ", ".join(f"{column} ASC NULLS LAST" for column in columns)
    so_far = f"OVER (PARTITION BY bucket ORDER BY {order} {_SO_FAR})"
    alone = f"IFF(row_count > {spec.batch_size:d}, 1, 0)"
    pack = "PARTITION BY bucket, alone, alone_so_far, pack"
    texts = ", ".join(_text_of(c.kind, name) for c, name in zip(spec.columns, columns, strict=True))
    return f"""running AS (
  SELECT items.*, {alone} AS alone, SUM({alone}) {so_far} AS alone_so_far,
         SUM(row_count) {so_far} - row_count AS row_count_before
  FROM items
), packs AS (
  SELECT running.*, row_count_before - MOD(row_count_before, {spec.batch_size:d}) AS pack FROM running
)
SELECT {_text_of(spec.columns[0].kind, "bucket")}, depth, {texts}, SUM(row_count) OVER ({pack})
FROM packs
QUALIFY ROW_NUMBER() OVER ({pack} ORDER BY {order}) = 1
ORDER BY bucket ASC NULLS LAST, {order}"""  # noqa: S608 - names are quoted, values checked


# --- answers ----------------------------------------------------------------------------------------------------------


def read_histogram(spec: KeySpec, rows: Iterable[Sequence[Any]]) -> Histogram:
    """The rows of the first query as values."""
    kind = spec.columns[0].kind
    answers = list(rows)
    buckets = tuple(
        Bucket(_read(kind, low), _read(kind, high), int(count), bool(full)) for low, high, count, full, *_ in answers
    )
    if not answers:
        return Histogram(buckets, None, 0)
    width, total = answers[0][4:]
    return Histogram(buckets, None if width is None else int(width), int(total))


def read_pieces(spec: KeySpec, rows: Iterable[Sequence[Any]]) -> tuple[Piece, ...]:
    """The rows of the second query as values."""
    kinds = [column.kind for column in spec.columns]
    return tuple(
        Piece(
            low=_read(kinds[0], low),
            start=tuple(_read(kind, key) for kind, key in zip(kinds, keys[:depth], strict=False)),
            rows=int(count),
        )
        for low, depth, *keys, count in rows
    )


def _read(kind: KeyKind, text: str | None) -> str | None:
    return None if text is None else exact(kind, text)
