"""Merges by keys of which the target calls different texts one: citext, and collations that are not deterministic."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2 import sql

from snowmelt.errors import AmbiguousKeyError
from snowmelt.loading import staging
from snowmelt.loading.merge import Merged
from snowmelt.models import ColumnPlan, SourceColumn, TableName, TablePlan, WatermarkPlan
from snowmelt.postgres import tables
from snowmelt.postgres.session import fetch
from snowmelt.verification import target_hashes
from snowmelt.verification.comparing import HASHES
from snowmelt.verification.target_hashes import Hashing
from snowmelt_sandbox.postgres import Database, LocalPostgres
from support.merges import keyed_by_id, session_of, written

VERSION = 15
pytestmark = pytest.mark.skipif(
    not Path(f"/usr/share/postgresql/{VERSION}/extension/citext.control").exists(),
    reason=f"PostgreSQL {VERSION} with ICU and citext is not on this machine",
)
FOLDING = """
    CREATE SCHEMA extensions;
    CREATE EXTENSION citext SCHEMA extensions;
    CREATE COLLATION same_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)
"""
KEYS = {
    "citext": "extensions.citext",
    "a collation": "text COLLATE same_case",
    "a collation, with a length": "varchar(9) COLLATE same_case",
}


@pytest.fixture(scope="module")
def folding_server() -> Iterator[LocalPostgres]:
    with LocalPostgres(version=VERSION, durable=False) as server:
        yield server


@pytest.fixture
def folding(folding_server: LocalPostgres) -> Iterator[Database]:
    with folding_server.database() as database:
        database.execute(FOLDING)
        yield database


def by_text(database: Database, key: str, *, watermark: bool = True) -> TablePlan:
    """Make a table with such a key, and return a plan that merges by it, its columns as the catalog tells them."""
    database.execute(f'CREATE TABLE "the orders" (id {key} PRIMARY KEY, mark integer, v text)')
    with session_of(database) as session:
        name = TableName(schema_name="public", name="the orders")
        columns = tuple(
            ColumnPlan(source=SourceColumn(name=column.name, type="TEXT"), target=column, select="x", wire="string")
            for column in tables.read(session, [name])[name].columns
        )
    bounds = WatermarkPlan(source="M", target="mark", kind="number", low=None, high="9", null_rows=0)
    return keyed_by_id(mark="int4", v="text").model_copy(
        update={"columns": columns, "watermark": bounds if watermark else None}
    )


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_spellings_of_one_key_are_one_row_with_the_spelling_that_was_sent_last(folding: Database, key: str) -> None:
    table = by_text(folding, key)
    with session_of(folding) as session:
        first = written(session, table, "('Abc', 1, 'a'), ('ABC', 2, 'b'), ('x', 5, 'x'), ('y', 5, 'y')")
        second = written(session, table, "('aBC', 3, 'c'), ('X', 4, 'late'), ('Y', 5, 'y'), ('Ünd', 1, 'new')")
        again = written(session, table, "('aBC', 3, 'c'), ('X', 4, 'late'), ('Y', 5, 'y'), ('Ünd', 1, 'new')")
    assert first == Merged(inserted=3, updated=0, unchanged=0, deduplicated=1)
    assert second == Merged(inserted=1, updated=2, unchanged=0, deduplicated=0, kept_newer=1)
    assert again == Merged(inserted=0, updated=0, unchanged=3, deduplicated=0, kept_newer=1)
    rows = folding.rows('SELECT id::text, v FROM "the orders" ORDER BY id::text COLLATE "C"')
    assert rows == [("Y", "y"), ("aBC", "c"), ("x", "x"), ("Ünd", "new")]


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_repair_finds_the_row_by_any_spelling(folding: Database, key: str) -> None:
    table = by_text(folding, key)
    folding.execute("INSERT INTO \"the orders\" VALUES ('Abc', 1, 'changed by hand'), ('x', 5, 'newer')")
    with session_of(folding) as session:
        staging.create(session, table)
        with session.transaction() as cursor:
            cursor.execute("INSERT INTO pg_temp.snowmelt_staging_7 VALUES ('ABC', 1, 'b'), ('X', 4, 'late')")
            assert target_hashes.repair_from_staging(cursor, table, table.columns[:1]) == (1, 0)
    assert folding.rows('SELECT v FROM "the orders" ORDER BY mark') == [("b",), ("newer",)]


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize(("spelling", "gave_way"), [("ABC", ["Abc"]), ("aBC", [])])
def test_a_row_gives_way_to_one_of_the_source_and_to_no_spelling_that_the_source_lacks(
    folding: Database, key: str, spelling: str, gave_way: list[str]
) -> None:
    table = by_text(folding, key)
    folding.execute(f"INSERT INTO \"the orders\" VALUES ('{spelling}', 3, 'c')")
    by_key = Hashing(table.columns, table.columns[:1], is_exact=True)
    with session_of(folding) as session:
        staging.create(session, table)
        with session.transaction() as cursor:
            cursor.execute("INSERT INTO pg_temp.snowmelt_staging_7 VALUES ('Abc', 3, 'a'), ('ABC', 3, 'c')")
            of_source = target_hashes.known_pairs(cursor, staging.rows(table), by_key, by_key, None)
            of_target = target_hashes.known_pairs(cursor, tables.identifier(table.target), by_key, by_key, None)
            unmatched = {hash_ for hash_, _ in of_target} - {hash_ for hash_, _ in of_source}
            kept = target_hashes.kept(fetch(cursor, target_hashes.kept_query(table, by_key, unmatched)))
    spelt = zip(("Abc", "ABC"), of_source, strict=True)
    assert [word for word, (hash_, _) in spelt if hash_ % HASHES in kept] == gave_way


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_two_spellings_without_a_watermark_are_refused_and_named(folding: Database, key: str) -> None:
    table = by_text(folding, key, watermark=False)
    with session_of(folding) as session, pytest.raises(AmbiguousKeyError, match="fix the source"):
        written(session, table, "('Abc', 1, 'a'), ('ABC', 2, 'b'), ('x', 1, 'x')")
    assert folding.rows('SELECT id FROM "the orders"') == []


@pytest.mark.parametrize(
    ("column", "index"), [("text", "COLLATE same_case"), ("text COLLATE same_case", 'COLLATE "C"')]
)
def test_an_index_that_compares_otherwise_than_its_column_is_none_to_merge_by(
    folding: Database, column: str, index: str
) -> None:
    """A merge compares keys as their column does, and would meet other rows than the index keeps apart."""
    folding.execute(f"CREATE TABLE t (k {column}, same text PRIMARY KEY); CREATE UNIQUE INDEX ON t (k {index})")
    name = TableName(schema_name="public", name="t")
    with session_of(folding) as session:
        assert tables.read(session, [name])[name].unique_keys == (frozenset({"same"}),)
        assert set(tables.read(session, [name])[name].kept_apart) == {frozenset({"same"}), frozenset({"k"})}
    assert folding.rows(sql.SQL("SELECT count(*) FROM t")) == [(0,)]
