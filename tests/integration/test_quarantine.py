"""Rows that PostgreSQL refuses are rejected, each with its reason; all others go in, whatever way they are loaded."""

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2 import sql

from snowmelt.columns.type_pairs import Match, match
from snowmelt.config import PostgresConfig
from snowmelt.disclosure import fingerprint
from snowmelt.engine import leases, status_store
from snowmelt.engine.leases import Lease, Loaded
from snowmelt.errors import DataError, RejectedRowsError
from snowmelt.loading import load
from snowmelt.models import ScanSlice, SourceColumn, TableName, TablePlan
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt.rejected_rows import isolation
from snowmelt.rejected_rows.row_json import parsed
from snowmelt_sandbox.postgres import Database

VISITS = TableName(schema_name="public", name="visits")
SOURCES = {"id": "FIXED", "age": "FIXED", "code": "TEXT", "host": "TEXT"}
TYPES = {"fast": "text", "staged": "inet"}
"""Of the last column: with the second, PostgreSQL converts its values."""
Visit = tuple[int, int | None, str | None, str | None]


@pytest.fixture(params=["fast", "staged"])
def visits(request: pytest.FixtureRequest, database: Database) -> Database:
    database.execute(
        "CREATE TABLE visits (id bigint PRIMARY KEY, age smallint NOT NULL CHECK (age < 150), code varchar(3),"
        f" host {TYPES[request.param]})"
    )
    return database


@pytest.fixture
def session(visits: Database) -> Iterator[Session]:
    with opened(visits) as found:
        yield found


@contextmanager
def opened(database: Database) -> Iterator[Session]:
    """A session in a database with the status schema and a run in it."""
    server = database.server
    config = PostgresConfig(host=server.host, port=server.port, user=server.user, sslmode="disable")
    with closing(Session.connect(config, database=database.name, application_name="test")) as session:
        status_store.install(session)
        database.execute(
            "INSERT INTO migration_status.runs (run_id, source_name, config_hash, snapshot_at,"
            " snowmelt_version, plan_format, store) VALUES ('r', 's', 'h', now(), '1', 1, 'x')"
        )
        yield session


def plan(session: Session, **more: Any) -> TablePlan:
    columns = []
    for (name, kind), target in zip(SOURCES.items(), tables.read(session, [VISITS])[VISITS].columns, strict=True):
        found = match(SourceColumn(name=name.upper(), type=kind, precision=9, scale=0), target)
        assert isinstance(found, Match), found
        columns.append(found.plan)
    given_plan = {"truncate_onstart": False, "append": True, "batch_size": 1, "max_retry_attempts": 3}
    return TablePlan(
        table_id=0, source="VISITS", target=VISITS, columns=tuple(columns), reads_from="V", **given_plan, **more
    )


def claimed(database: Database, session: Session, rows: int) -> Lease:
    """A lease on a chunk of so many rows, of a table that is being loaded."""
    reads = json.dumps(ScanSlice(query_id="q", first_batch=0, offset=0, rows=rows).model_dump())
    database.execute(
        "DELETE FROM migration_status.run_tables;"
        "INSERT INTO migration_status.run_tables (run_id, table_id, source_table, target_schema,"
        " target_table, status, load_epoch, strategy) VALUES ('r', 0, 'VISITS', 'public', 'visits', 'loading', 1,"
        " 'one_scan');"
        "INSERT INTO migration_status.chunks (run_id, table_id, chunk_id, source_table, reads,"
        f" estimated_rows) VALUES ('r', 0, 1, 'VISITS', '{reads}', {rows})"
    )
    lease = leases.claim(session, run_id="r", table_id=0, chunk_id=1, seconds=60)
    assert lease is not None
    return lease


def batches(rows: Sequence[Visit], size: int = 1000) -> Iterator[pa.RecordBatch]:
    kinds = (pa.int64(), pa.int32(), pa.string(), pa.string())
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        arrays = [pa.array([row[place] for row in part], kind) for place, kind in enumerate(kinds)]
        yield pa.record_batch(arrays, names=list(SOURCES))


def isolated(database: Database, session: Session, table: TablePlan, rows: Sequence[Visit]) -> Loaded:
    lease = claimed(database, session, len(rows))
    return isolation.load_without_rejected(session, lease, table, batches(rows), check=lambda: None)


def fine(number: int) -> Visit:
    return (number, number % 100, "abc", "10.0.0.1")


BAD: dict[str, tuple[Any, ...]] = {
    "too old": (0, 151, "abc", None),
    "no age": (0, None, "abc", None),
    "too big for smallint": (0, 40_000, "abc", None),
    "too long": (0, 1, "abcd", None),
    "with a NUL character": (0, 1, "\0", None),
}


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    rows=st.integers(1, 3000),
    bad=st.dictionaries(st.integers(0, 2999), st.sampled_from(sorted(BAD)), max_size=12),
    mode=st.sampled_from(["copy", "upsert", "insert_only"]),
)
def test_what_is_refused_is_rejected_and_kept_and_everything_else_goes_in(
    visits: Database, session: Session, rows: int, bad: dict[int, str], mode: str
) -> None:
    visits.execute("TRUNCATE visits")
    wrong = {place % rows: kind for place, kind in bad.items()}
    given_rows: list[Visit] = [
        (place, *BAD[wrong[place]][1:]) if place in wrong else fine(place) for place in range(rows)
    ]
    key = () if mode == "copy" else ("id",)

    loaded = isolated(visits, session, plan(session, load_mode=mode, key=key), given_rows)

    assert loaded.rejected == len(wrong)
    assert loaded.rows == rows == loaded.inserted + loaded.rejected
    assert {row[0] for row in visits.rows("SELECT id FROM visits")} == set(range(rows)) - set(wrong)
    kept = visits.rows(
        "SELECT row_number, convert_from(row_content, 'UTF8'), reason"
        " FROM migration_status.rejected_rows ORDER BY row_number"
    )
    assert [(number, json.loads(content)["ID"]) for number, content, _ in kept] == [
        (place + 1, str(place)) for place in sorted(wrong)
    ]
    assert all(reason for _, _, reason in kept)
    chunk = visits.rows("SELECT status, actual_rows, rejected_rows FROM migration_status.chunks")
    assert chunk == [("completed", rows, len(wrong))]


@pytest.mark.parametrize(
    ("kind", "column", "sqlstate", "words"),
    [
        ("too old", "age", "23514", "visits_age_check"),
        ("no age", "age", "23502", "null value in column"),
        ("too big for smallint", "age", None, "does not fit into int2"),
        ("too long", "code", None, "longer than varchar(3)"),
        ("with a NUL character", "code", None, "NUL character"),
    ],
)
def test_each_kept_row_says_why(
    visits: Database, session: Session, kind: str, column: str | None, sqlstate: str | None, words: str
) -> None:
    row: Any = (5, *BAD[kind][1:])

    isolated(visits, session, plan(session), [fine(1), row, fine(2)])

    ((number, named, state, reason, content),) = visits.rows(
        "SELECT row_number, column_name, sqlstate, reason, convert_from(row_content, 'UTF8')"
        " FROM migration_status.rejected_rows"
    )
    assert (number, named, state) == (2, column, sqlstate)
    assert words in reason
    age = None if row[1] is None else str(row[1])
    assert json.loads(content) == {"ID": "5", "AGE": age, "CODE": row[2], "HOST": None}


def test_a_value_that_postgres_cannot_convert_is_rejected(visits: Database, session: Session) -> None:
    rows = [fine(1), (2, 2, None, "not an address"), fine(3)]

    loaded = isolated(visits, session, plan(session), rows)

    is_staged = plan(session).is_cast
    assert loaded.rejected == is_staged
    assert visits.rows("SELECT reason, reason_in_full FROM migration_status.rejected_rows") == (
        [
            (
                f"invalid input syntax for type inet: {fingerprint('not an address')}",
                'invalid input syntax for type inet: "not an address"',
            )
        ]
        if is_staged
        else []
    )


def test_the_fast_way_says_that_rows_are_refused(visits: Database, session: Session) -> None:
    rows = [fine(1), (2, 151, None, None)]
    lease = claimed(visits, session, len(rows))

    with pytest.raises(RejectedRowsError, match="CHECK forbids"):
        load.load_chunk(session, lease, plan(session), batches(rows), check=lambda: None)


def test_a_chunk_that_is_refused_as_a_whole_is_not_loaded_in_part(
    visits: Database, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "MOST_REJECTED", 20)
    rows: list[Visit] = [fine(i) if i % 10 == 0 else (i, None, None, None) for i in range(300)]

    with pytest.raises(
        DataError, match=r"more than 20 rows are refused, .* the first is row 2, column age: null value"
    ):
        isolated(visits, session, plan(session), rows)

    assert visits.rows("SELECT count(*) FROM visits") == [(0,)]
    assert visits.rows("SELECT count(*) FROM migration_status.rejected_rows") == [(0,)]


def test_a_missing_parent_keeps_its_child_out(visits: Database, session: Session) -> None:
    visits.execute("CREATE TABLE codes (code varchar(3) PRIMARY KEY); INSERT INTO codes VALUES ('abc')")
    visits.execute("ALTER TABLE visits ADD FOREIGN KEY (code) REFERENCES codes")
    rows = [fine(1), (2, 2, "xyz", None), fine(3), (4, 4, "zzz", None)]

    assert isolated(visits, session, plan(session), rows).rejected == 2
    assert visits.rows("SELECT id FROM visits ORDER BY id") == [(1,), (3,)]
    assert visits.rows("SELECT row_number, sqlstate FROM migration_status.rejected_rows ORDER BY 1") == [
        (2, "23503"),
        (4, "23503"),
    ]


def test_a_duplicate_is_no_matter_for_the_quarantine(visits: Database, session: Session) -> None:
    with pytest.raises(DataError, match="duplicate key"):
        isolated(visits, session, plan(session), [fine(1), fine(1)])

    assert session.rows(sql.SQL("SELECT 1 FROM migration_status.rejected_rows")) == []


DEEP = 200_000


def test_values_that_postgresql_cannot_follow_or_hold_are_rejected_and_the_others_loaded(database: Database) -> None:
    """Deeper than ``max_stack_depth`` lets it read, and wider than a row of an index may be."""
    database.execute(
        "CREATE TABLE visits (id bigint, age smallint, code text, host jsonb); CREATE INDEX ON visits (code)"
    )
    wide = secrets.token_hex(9000)
    rows: list[Visit] = [
        (1, 1, "a", '{"a": [1]}'),
        (2, 1, "b", "[" * DEEP + "]" * DEEP),
        (3, 1, "c", '{"a":' * DEEP + "1" + "}" * DEEP),
        (4, 1, wide, "{}"),
        (5, 1, "e", "[" * 500 + "]" * 500),
        (6, 1, "f", "[" * DEEP),
    ]
    with opened(database) as session:
        loaded = isolated(database, session, plan(session, max_rejected_rows=9), rows)

    assert (loaded.inserted, loaded.rejected) == (2, 4)
    assert [row for (row,) in database.rows("SELECT id FROM visits ORDER BY id")] == [1, 5]
    kept = database.rows("SELECT row_number, sqlstate, reason FROM migration_status.rejected_rows ORDER BY row_number")
    assert [(number, sqlstate) for number, sqlstate, _ in kept] == [
        (2, "54001"),
        (3, "54001"),
        (4, "54000"),
        (6, "54001"),
    ]
    assert "stack depth limit exceeded" in kept[0][2]
    contents = database.rows("SELECT row_content FROM migration_status.rejected_rows ORDER BY row_number")
    assert [len(parsed(bytes(content))["HOST"] or "") for (content,) in contents[:2]] == [2 * DEEP, 6 * DEEP + 1]
