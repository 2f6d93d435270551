"""What PostgreSQL converts on the way through a staging table, and how rows are named that it cannot convert."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2 import sql

from snowmelt.columns.type_pairs import Match, match
from snowmelt.config import PostgresConfig
from snowmelt.disclosure import fingerprint
from snowmelt.errors import DataError, RejectedRowsError
from snowmelt.loading import merge, staging
from snowmelt.loading.copy import copy_batches
from snowmelt.models import SourceColumn, TableName, TablePlan
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import Database

HOSTS = TableName(schema_name="public", name="hosts")


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    database.execute('CREATE TABLE hosts (id bigint PRIMARY KEY, "its address" inet, ports smallint[], note text)')
    server = database.server
    config = PostgresConfig(host=server.host, port=server.port, user=server.user, sslmode="disable")
    with closing(Session.connect(config, database=database.name, application_name="test")) as opened:
        yield opened


def plan(session: Session, kinds: Sequence[str] = ("FIXED", "TEXT", "ARRAY", "TEXT"), **more: Any) -> TablePlan:
    plans = []
    for kind, target in zip(kinds, tables.read(session, [HOSTS])[HOSTS].columns, strict=True):
        found = match(SourceColumn(name=target.name.upper(), type=kind), target)
        assert isinstance(found, Match), found
        plans.append(found.plan)
    given_plan = {"truncate_onstart": False, "append": False, "batch_size": 1, "max_retry_attempts": 1}
    return TablePlan(
        table_id=3, source="HOSTS", target=HOSTS, columns=tuple(plans), reads_from="H", **given_plan, **more
    )


Host = tuple[int, str | None, str | None, str]


def batch(rows: Sequence[Host]) -> pa.RecordBatch:
    kinds = (pa.int64(), pa.string(), pa.string(), pa.string())
    columns = [pa.array([row[place] for row in rows], kind) for place, kind in enumerate(kinds)]
    return pa.record_batch(columns, names=["a", "b", "c", "d"])


def inserted(session: Session, table: TablePlan, rows: Sequence[Host]) -> int:
    staging.create(session, table)
    with session.transaction() as cursor:
        copy_batches(cursor, staging.name(table), table.columns, [batch(rows)])
        with staging.naming_rows(cursor, table):
            return staging.insert(cursor, table)


FINE: list[Host] = [
    (1, "10.0.0.1/32", "[80, 443]", "x"),
    (2, None, None, "y"),
    (3, "::1", "[]", "z"),
    (4, "192.168.0.0/16", "null", ""),
]


def test_staged_texts_become_what_the_target_holds(session: Session, database: Database) -> None:
    assert inserted(session, plan(session), FINE) == 4
    assert database.rows('SELECT id, "its address"::text, ports, note FROM hosts ORDER BY id') == [
        (1, "10.0.0.1/32", [80, 443], "x"),
        (2, None, None, "y"),
        (3, "::1/128", [], "z"),
        (4, "192.168.0.0/16", None, ""),
    ]


def test_a_merge_compares_what_was_converted(session: Session, database: Database) -> None:
    table = plan(session, load_mode="upsert", key=("id",))
    inserted(session, table, FINE)

    with session.transaction() as cursor:
        again = [(1, "10.0.0.1", "[80,443]", "x"), (2, "10.0.0.9", None, "y"), (5, "10.0.0.5", "[1]", "new")]
        copy_batches(cursor, staging.name(table), table.columns, [batch(again)])
        assert merge.merge(cursor, table, rows=3) == merge.Merged(inserted=1, updated=1, unchanged=1, deduplicated=0)

    assert database.rows('SELECT id, host("its address") FROM hosts WHERE id IN (2, 5) ORDER BY id') == [
        (2, "10.0.0.9"),
        (5, "10.0.0.5"),
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 4000), bad=st.sets(st.integers(0, 3999), min_size=1, max_size=7), width=st.integers(0, 900))
def test_rows_that_cannot_be_converted_are_named_by_column_and_number(
    session: Session, rows: int, bad: set[int], width: int
) -> None:
    """Wherever they are, and however rows lie on disk: short ones fill what long ones leave free."""
    bad = {place % rows for place in bad}
    hosts: list[Host] = [
        (i, "no address" if i in bad else "10.0.0.1", "[1]", "w" * (width if i % 3 else 0)) for i in range(rows)
    ]

    with pytest.raises(RejectedRowsError) as raised:
        inserted(session, plan(session), hosts)

    said = raised.value.message
    named = {
        int(number)
        for number in said.split("row")[1].lstrip("s ").split(" of the chunk")[0].split(" and")[0].split(", ")
    }
    assert 'column "its address"' in said
    assert named <= {place + 1 for place in bad}
    assert len(named) == min(len(bad), 5)
    assert f"invalid input syntax for type inet: {fingerprint('no address')}" in said
    assert session.rows(sql.SQL("SELECT 1 FROM public.hosts")) == []


def test_an_element_that_does_not_fit_names_its_row(session: Session) -> None:
    rows = [*FINE, (7, None, "[1, 70000]", ""), (8, None, '["x"]', "")]

    with pytest.raises(
        RejectedRowsError, match=r'column "ports", rows 5, 6 of the chunk: .* int2\[\]: value \[value \w+\] is out of'
    ):
        inserted(session, plan(session), rows)


def test_values_that_the_targets_length_refuses_end_the_load_with_postgres_own_words(
    session: Session, database: Database
) -> None:
    """No value of the column is at fault in itself: it is the assignment that fails."""
    database.execute("ALTER TABLE hosts ALTER note TYPE varchar(3)[] USING NULL")
    table = plan(session, kinds=("FIXED", "TEXT", "ARRAY", "ARRAY"))

    with pytest.raises(DataError, match=r"value too long for type character varying\(3\)"):
        inserted(session, table, [(1, None, None, '["abcd"]')])
