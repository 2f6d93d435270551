"""Watermarks in the target: years that Python does not have, infinite ones, and those beyond a run's limit."""

from collections.abc import Iterator, Sequence

import pytest
from psycopg2 import sql

from snowmelt.loading import marks
from snowmelt.loading.merge import Merged
from snowmelt.models import LoadMode, TableName, TablePlan, TargetColumn, WatermarkPlan
from snowmelt.postgres.session import Session
from snowmelt.verification import target_hashes
from snowmelt_sandbox.postgres import Database, LocalPostgres
from snowmelt_sandbox.postgres_programs import versions
from support.merges import keyed_by_id, session_of, written


@pytest.mark.parametrize(
    ("kind", "values", "limit", "highest"),
    [
        ("date", "'infinity', '-infinity', '2024-01-01', '0044-03-15 BC'", None, "2024-01-01"),
        ("date", "'9999-12-31', '10000-01-01', '2024-01-01'", None, "10000-01-01"),
        ("date", "'9999-12-31', '10000-01-01', '2024-01-01'", "2026-11-30", "2024-01-01"),
        ("timestamp", "'infinity', '-infinity'", None, None),
        ("timestamp", "'0044-03-15 01:00 BC', '-infinity'", None, "0044-03-15 01:00:00 BC"),
        ("timestamptz", "'infinity', '2024-01-01 01:00+01'", "2026-11-30 00:00:00", "2024-01-01 00:00:00+00"),
        ("numeric", "'NaN', 'Infinity', 9, 10", None, "10"),
        ("float8", "'NaN', 'Infinity', 9, 10.5", None, "10.5"),
        ("int8", "9, 10", None, "10"),
        ("text", "'B', 'a', 'Z'", None, "a"),
        ("varchar(3)", "'B', 'a', 'Z'", None, "a"),
    ],
)
def test_the_highest_watermark_is_finite_and_within_the_limit(
    database: Database, kind: str, values: str, limit: str | None, highest: str | None
) -> None:
    database.execute(f"CREATE TABLE t (mark {kind}); INSERT INTO t SELECT unnest(ARRAY[{values}]::{kind}[])")
    column = TargetColumn(name="mark", type=kind.partition("(")[0])
    with session_of(database) as session:
        assert marks.highest(session, TableName(schema_name="public", name="t"), column, limit=limit) == highest


@pytest.fixture(scope="module")
def icu() -> Iterator[Database]:
    """A database of the first server there is whose texts can be ordered as in a dictionary."""
    for version in versions():
        with LocalPostgres(version=version, durable=False) as server, server.database() as made:
            if made.rows("SELECT FROM pg_collation WHERE collname = 'und-x-icu'"):
                yield made
                return
    pytest.skip("no PostgreSQL on this machine has ICU")


@pytest.mark.parametrize("kind", ["text", "varchar(3)", "char(3)"])
def test_texts_are_ordered_by_their_bytes_whatever_their_collation(icu: Database, kind: str) -> None:
    icu.execute(f'DROP TABLE IF EXISTS t; CREATE TABLE t (mark {kind} COLLATE "und-x-icu")')
    icu.execute("INSERT INTO t VALUES ('B'), ('a'), ('Z')")
    assert icu.rows("SELECT max(mark) FROM t WHERE mark IN ('B', 'a')")[0][0].strip() == "B"
    column = TargetColumn(name="mark", type="bpchar" if kind == "char(3)" else kind.partition("(")[0])
    with session_of(icu) as session:
        highest = marks.highest(session, TableName(schema_name="public", name="t"), column, limit=None)
    assert (highest or "").strip() == "a"


def dated(kind: str, *, limit: str | None, load_mode: LoadMode = "upsert") -> TablePlan:
    of_kind = {"date": "date", "timestamp": "timestamp", "timestamptz": "moment", "text": "timestamp"}[kind]
    table = keyed_by_id(mark=kind, v="text")
    return table.model_copy(
        update={
            "load_mode": load_mode,
            "watermark": WatermarkPlan.model_validate(
                {"source": "mark", "target": "mark", "kind": of_kind, "low": None, "high": None, "null_rows": 0}
                | {"limit": limit}
            ),
        }
    )


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz", "text"])
@pytest.mark.parametrize("is_limited", [True, False])
def test_a_watermark_beyond_the_limit_counts_as_none(database: Database, kind: str, is_limited: bool) -> None:
    limit = {"date": "2026-11-30"}.get(kind, "2026-11-30 02:00:00.000000000") if is_limited else None
    endless = "infinity" if kind != "text" else "9999-12-31 00:00:00"
    database.execute(
        f'CREATE TABLE "the orders" (id integer PRIMARY KEY, mark {kind}, v text);'
        "INSERT INTO \"the orders\" VALUES (1, '9999-12-31', 'old'), (2, '2026-01-01', 'old'),"
        f" (3, '9999-12-31', 'old'), (4, '{endless}', 'old'), (5, '2026-03-01', 'old')"
    )
    rows = (
        "(1, '2026-02-01', 'ended'), (2, '9999-12-31', 'reopened'), (3, '9999-12-31', 'changed'),"
        " (4, '2026-02-01', 'ended'), (5, '2026-02-01', 'late'),"
        " (6, '9999-12-31', 'endless'), (6, '2026-02-01', 'ended')"
    )
    with session_of(database) as session:
        result = written(session, dated(kind, limit=limit), rows)
    assert result == (Merged(1, 4, 0, 1, kept_newer=1) if is_limited else Merged(1, 2, 0, 1, kept_newer=3))
    assert database.rows('SELECT v FROM "the orders" ORDER BY id') == [
        ("ended" if is_limited else "old",),
        ("reopened",),
        ("changed",),
        ("ended" if is_limited else "old",),
        ("old",),
        ("ended" if is_limited else "endless",),
    ]


def within(session: Session, table: TablePlan) -> Sequence[int]:
    relation = target_hashes.target_rows(table, table.watermark)
    return [row["id"] for row in session.rows(sql.SQL("SELECT id FROM {} ORDER BY id").format(relation))]


@pytest.mark.parametrize(
    ("low", "high", "limit", "ids"),
    [
        ("-0043-03-15 00:00:00", "0001-01-01 00:00:00.000000001", None, [1, 2, 3, 8]),
        ("0000-12-31 23:00:00", "2026-01-01 00:00:00.123456789", None, [3, 4, 8]),
        ("2026-01-01 00:00:00.123456789", "10000-01-01 00:00:00", None, [4, 5, 6, 8]),
        ("2026-01-01 00:00:00", "2026-02-01 00:00:00", "2026-11-30 00:00:00", [4, 5, 6, 7, 8]),
        ("-9000-01-01 00:00:00", "-5000-01-01 00:00:00", None, [8]),
        ("2026-01-01 00:00:01", "300000-01-01 00:00:00", None, [5, 6, 7, 8]),
    ],
)
def test_bounds_of_any_year_are_those_of_the_target_too(
    database: Database, low: str, high: str, limit: str | None, ids: list[int]
) -> None:
    database.execute(
        'CREATE TABLE "the orders" (id integer PRIMARY KEY, mark timestamp, v text);'
        "INSERT INTO \"the orders\" VALUES (1, '0044-03-15 BC'), (2, '0001-12-31 BC'), (3, '0001-01-01'),"
        " (4, '2026-01-01 00:00:00.123456'), (5, '9999-12-31'), (6, '10000-01-01'), (7, 'infinity'), (8, NULL)"
    )
    table = dated("timestamp", limit=limit)
    assert table.watermark is not None
    bounds = table.watermark.model_copy(update={"low": low, "high": high})
    with session_of(database) as session:
        assert within(session, table.model_copy(update={"watermark": bounds})) == ids
