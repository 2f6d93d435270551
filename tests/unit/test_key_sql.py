"""The conditions of ranges: which rows they hold for, and that no value or name can break out of them."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.errors import DataError
from snowmelt.planning import statement
from snowmelt.planning.composite import first_query, second_query
from snowmelt.planning.key_sql import literal, read_histogram, read_pieces, where
from snowmelt.planning.keys import Bucket, Histogram, KeyColumn, KeyKind, KeyRange, KeySpec, Piece
from support.key_planning import Row, in_order, is_true, order_of, spec_of

_MOMENT = "YYYY-MM-DD HH24:MI:SS.FF9"
_NANOS = "2026-01-02 03:04:05.123456789"
VALUES: dict[KeyKind, "st.SearchStrategy[Any]"] = {
    "number": st.one_of(st.integers(-3, 3), st.integers(-(10**38) + 1, 10**38 - 1)),
    "text": st.one_of(st.sampled_from(["", "a", "b", "'", "\\", "\\'"]), st.text(max_size=5)),
    "date": st.dates().map(lambda day: day.isoformat()),
    "timestamp_ntz": st.datetimes().map(lambda moment: moment.isoformat(" ", "microseconds") + "000"),
    "timestamp_tz": st.sampled_from(["2026-01-01 00:00:00.000000000", "2026-01-01 00:00:00.000000001"]),
}  # fmt: skip


@st.composite
def keys_and_cuts(draw: st.DrawFn) -> tuple[tuple[KeyColumn, ...], list[Row], list[Row]]:
    """Columns, rows, and places to cut at: keys of the rows or parts of them, NULL among them, in order."""
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3))
    columns = tuple(KeyColumn(name=f'c"{i}', kind=kind) for i, kind in enumerate(kinds))
    pools = [st.one_of(st.none(), st.sampled_from(draw(st.lists(VALUES[k], min_size=1, max_size=4)))) for k in kinds]
    rows = draw(st.lists(st.tuples(*pools), max_size=30))
    cuts = draw(st.lists(st.tuples(*pools), max_size=6))
    cuts = sorted({cut[: draw(st.integers(1, len(kinds)))] for cut in cuts}, key=order_of)
    return columns, rows, cuts


def as_bound(cut: Row) -> tuple[str | None, ...]:
    return tuple(None if value is None else str(value) for value in cut)


@given(keys_and_cuts())
def test_conditions_of_ranges_that_follow_each_other_hold_for_every_row_once(
    drawn: tuple[tuple[KeyColumn, ...], list[Row], list[Row]],
) -> None:
    columns, rows, cuts = drawn
    bounds = [None, *(as_bound(cut) for cut in cuts), None]
    conditions = [where(columns, KeyRange(start=start, stop=stop, rows=0)) for start, stop in pairwise(bounds)]
    for row in rows:
        named = {column.name: value for column, value in zip(columns, row, strict=True)}
        held = [is_true(condition, named) for condition in conditions]
        position = order_of(row)
        passed = sum(position[: len(cut)] >= tuple(in_order(value) for value in cut) for cut in cuts)
        assert held == [i == passed for i in range(len(conditions))]


NUMBERS = (KeyColumn(name="a", kind="number"), KeyColumn(name="b", kind="number"))


@pytest.mark.parametrize(
    ("start", "stop", "condition"),
    [
        (None, None, "TRUE"),
        (("1",), ("5",), '"a" >= 1 AND "a" < 5'),
        (None, ("5",), '"a" < 5'),
        (("1",), None, '("a" >= 1 OR "a" IS NULL)'),
        (("1",), (None,), '"a" >= 1'),
        (None, (None,), '"a" IS NOT NULL'),
        ((None,), None, '"a" IS NULL'),
        (("1",), ("1", "7"), '"a" = 1 AND "b" < 7'),
        (("1", "2"), ("1", "7"), '"a" = 1 AND "b" >= 2 AND "b" < 7'),
        ((None, "2"), (None, "7"), '"a" IS NULL AND "b" >= 2 AND "b" < 7'),
        (("1", "2"), ("5",), '"a" >= 1 AND ("a" > 1 OR ("b" >= 2 OR "b" IS NULL)) AND "a" < 5'),
        (("1",), ("5", "2"), '"a" >= 1 AND "a" <= 5 AND ("a" < 5 OR "b" < 2)'),
    ],
)
def test_a_condition_compares_plainly_what_can_be_pruned_by(
    start: tuple[str | None, ...] | None, stop: tuple[str | None, ...] | None, condition: str
) -> None:
    assert plain(where(NUMBERS, KeyRange(start=start, stop=stop, rows=0))) == condition


def plain(sql: str) -> str:
    """The SQL with its numbers as one would write them."""
    return re.sub(r"CAST\(/\*\?\*/'(\d+)' AS NUMBER\(\d+,0\)\)", r"\1", sql)


@pytest.mark.parametrize(
    ("kind", "text", "sql"),
    [
        ("number", "-" + "9" * 38, f"CAST(/*?*/'-{'9' * 38}' AS NUMBER(38,0))"),
        ("number", "12.50", "CAST(/*?*/'12.50' AS NUMBER(4,2))"),
        ("date", "0001-01-01", "TO_DATE(/*?*/'0001-01-01', 'YYYY-MM-DD')"),
        (
            "timestamp_ntz",
            "2026-01-02 03:04:05",
            f"TO_TIMESTAMP_NTZ(/*?*/'2026-01-02 03:04:05.000000000', '{_MOMENT}')",
        ),
        (
            "timestamp_ntz",
            "2026-01-02 03:04:05.123456",
            f"TO_TIMESTAMP_NTZ(/*?*/'2026-01-02 03:04:05.123456000', '{_MOMENT}')",
        ),
        ("timestamp_ltz", _NANOS, f"TO_TIMESTAMP_LTZ(/*?*/'{_NANOS} +0000', '{_MOMENT} TZHTZM')"),
        ("timestamp_tz", _NANOS, f"TO_TIMESTAMP_TZ(/*?*/'{_NANOS} +0000', '{_MOMENT} TZHTZM')"),
        ("text", "O'Neil \\ Sons", "/*?*/'O''Neil \\\\ Sons'"),
        ("text", "", "/*?*/''"),
    ],
)
def test_a_literal_has_the_type_of_its_column(kind: KeyKind, text: str, sql: str) -> None:
    assert literal(kind, text) == sql


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("number", "1 OR TRUE"),
        ("number", "1e5"),
        ("number", "\u0661"),
        ("number", ""),
        ("number", "1\n"),
        ("date", "2026-01-01' OR '1"),
        ("date", "12026-01-01"),
        ("timestamp_ntz", "2026-01-01"),
        ("timestamp_tz", "2026-01-01 00:00:00.000000000 +01:00"),
    ],
)
def test_a_value_that_is_none_of_its_kind_never_becomes_sql(kind: KeyKind, text: str) -> None:
    with pytest.raises(DataError, match=f"cannot bound a range of a {kind} key.*set chunking to one_scan"):
        literal(kind, text)


@given(st.text(max_size=20))
def test_any_text_is_one_literal_and_keeps_its_value(text: str) -> None:
    (parsed,) = sqlglot.parse(f"SELECT {literal('text', text)}", dialect="snowflake")
    assert parsed is not None
    assert [each.this for each in parsed.expressions] == [text]


SPEC = KeySpec(
    table='"D"."S"."T"',
    at=statement.at(datetime(2026, 1, 1, tzinfo=UTC)),
    source_filter="deleted = 0 OR deleted IS NULL -- not those",
    columns=NUMBERS,
    batch_size=100,
)
CROWDED = Histogram(
    (Bucket("1", "9", 400, True), Bucket("10", "10", 400, True), Bucket(None, None, 400, True)), 9, 1_200
)


def test_every_read_of_the_table_is_frozen_and_filtered() -> None:
    for query in (first_query(SPEC), second_query(SPEC, CROWDED)):
        assert query is not None
        reads = query.count('"D"."S"."T"')
        frozen = f'FROM "D"."S"."T" {SPEC.at} WHERE (\n{SPEC.source_filter}\n)'
        assert reads >= 2
        assert query.count(frozen) == reads


def test_what_is_listed_is_typed_and_nulls_are_found_too() -> None:
    query = plain(second_query(SPEC, CROWDED) or "")
    assert "(SELECT 1 AS first_key, 9 AS last_key, 400 AS row_count)" in query
    assert "keys.k1 BETWEEN 1 AND 9" in query
    assert "(SELECT 10 AS bucket UNION ALL SELECT NULL AS bucket)" in query
    assert "keys.k1 IS NOT DISTINCT FROM" in query


def test_buckets_too_many_to_list_are_counted_again_instead() -> None:
    buckets = tuple(Bucket(str(2 * i), str(2 * i + 1), 200, True) for i in range(501))
    query = second_query(SPEC, Histogram(buckets, 2, 501 * 200)) or ""
    assert "UNION ALL SELECT" not in query
    assert len(query) < 10_000


def test_answers_are_read_as_values() -> None:
    spec = spec_of("timestamp_ntz", "number", batch_size=5)
    rows = [("2026-01-01 00:00:00.5", "2026-01-01 00:00:01", 9, 1, 60, 12), (None, None, 3, 0, 60, 12)]
    assert read_histogram(spec, rows) == Histogram(
        (
            Bucket("2026-01-01 00:00:00.500000000", "2026-01-01 00:00:01.000000000", 9, True),
            Bucket(None, None, 3, False),
        ),
        width=60,
        rows=12,
    )
    pieces = [(None, 2, None, "7", 4), ("2026-01-01 00:00:00.5", 1, "2026-01-01 00:00:00.5", None, 5)]
    assert read_pieces(spec, pieces) == (
        Piece(None, (None, "7"), 4),
        Piece("2026-01-01 00:00:00.500000000", ("2026-01-01 00:00:00.500000000",), 5),
    )
    assert read_histogram(spec, []) == Histogram((), None, 0)
