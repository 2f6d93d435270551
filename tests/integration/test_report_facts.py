"""What the report reads: few statements, whose answers stay small and whose sums are those of all chunks."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snowmelt.config import PostgresConfig, SnowflakeConfig
from snowmelt.engine import status_store
from snowmelt.errors import MissingError, StatementError
from snowmelt.postgres.session import Session
from snowmelt.reports import run_facts, snowflake_history
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.sql_text import queries
from snowmelt_sandbox.postgres import Database, LocalPostgres
from snowmelt_sandbox.snowflake import LocalSnowflake

BEGAN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
RUN = "ledger-1"
CHUNK = """
    INSERT INTO migration_status.chunks
        (run_id, table_id, chunk_id, source_table, status, reads, estimated_rows, actual_rows, rejected_rows,
         size_bytes, load_mode, inserted_rows, updated_rows, unchanged_rows, deduplicated_rows, attempts,
         started_at, completed_at, changed_values)
    SELECT %(run)s, %(table)s, %(first)s + n, 'T', %(status)s, '{}', 1, %(rows)s, %(rejected)s,
           8 * %(rows)s, 'copy', %(rows)s - %(rejected)s, 0, 0, 0, %(attempts)s,
           %(began)s::timestamptz + make_interval(secs => %(start)s + n * %(step)s),
           %(began)s::timestamptz + make_interval(secs => %(start)s + n * %(step)s + %(seconds)s + n * %(longer)s),
           %(changed)s::jsonb
    FROM generate_series(0, %(count)s - 1) AS n
"""
CHUNKS_OF_A_SECOND: dict[str, Any] = {
    "run": RUN,
    "began": BEGAN,
    "table": 0,
    "status": "completed",
    "rows": 100,
    "rejected": 0,
    "attempts": 1,
    "start": 0,
    "step": 0,
    "seconds": 1,
    "longer": 0,
    "count": 1,
    "changed": None,
}


class Filled:
    """A status schema with one run, whose chunks a test puts in."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.chunks = 0
        database.execute(queries.text("engine/status_schema.sql"))
        database.execute(
            "INSERT INTO migration_status.runs"
            " (run_id, source_name, config_hash, snapshot_at, started_at, snowmelt_version, plan_format, store)"
            f" VALUES ('{RUN}', 'ledger', 'c0ffee', '{BEGAN}', '{BEGAN}', '0.1.0', 1, '/store')"
        )
        for table in (0, 1):
            database.execute(
                "INSERT INTO migration_status.run_tables (run_id, table_id, source_table, target_schema,"
                " target_table, status, strategy, query_id, source_rows, started_at)"
                f" VALUES ('{RUN}', {table}, 'T{table}', 'public', 't{table}', 'loading', 'one_scan', 'q{table}', 9,"
                f" '{BEGAN}')"
            )

    def add(self, *given: dict[str, Any]) -> None:
        """Chunks: ``count`` of each kind, begun ``step`` seconds apart, each ``longer`` by so much than the last."""
        with closing(self.database.connect()) as connection, connection.cursor() as cursor:
            for each in given:
                values = {**CHUNKS_OF_A_SECOND, **each, "first": self.chunks}
                cursor.execute(CHUNK, values)
                self.chunks += values["count"]

    @contextmanager
    def session(self) -> Iterator[Session]:
        server = self.database.server
        config = PostgresConfig(host=server.host, port=server.port, user=server.user)
        with Session.connect(config, database=self.database.name, application_name="test") as session:
            yield session


@pytest.fixture
def filled(database: Database) -> Filled:
    """A run without chunks."""
    return Filled(database)


# --- tables ---------------------------------------------------------------------------------------------------------


def test_a_table_sums_what_its_chunks_did_and_says_how_long_they_took(filled: Filled) -> None:
    filled.add(
        {"start": 1, "step": 1, "seconds": 1, "longer": 1, "count": 98, "rows": 10, "rejected": 1},
        {"start": 99, "step": 1, "seconds": 99, "longer": 1, "count": 2, "rows": 10, "rejected": 1, "attempts": 2},
        {"start": 9, "status": "failed", "attempts": 3, "rows": 0},
        {"start": 9, "status": "superseded", "rows": 5000, "attempts": 9},
        {"table": 1, "rows": 7, "changed": '{"note": {"too_long": 3}, "rate": {"nan": 1}}'},
        {"table": 1, "rows": 7, "changed": '{"note": {"too_long": 4}}'},
    )

    with filled.session() as session:
        first, second = run_facts.tables(session, run_facts.run(session, RUN).run, {})

    assert (first.chunks, first.chunks_completed, first.chunks_failed) == (101, 100, 1)
    assert (first.rows, first.rejected, first.size_bytes, first.inserted) == (900, 100, 8000, 900)
    assert (first.chunks_retried, first.retries) == (3, 4)
    assert (first.median_seconds, first.p95_seconds, first.slowest_seconds, first.total_seconds) == (50, 95, 100, 5050)
    assert first.load_seconds == 199
    assert first.query_ids == ("q0",)
    assert second.changed_values == {"note": {"too_long": 7}, "rate": {"nan": 1}}


def test_a_table_that_has_no_chunk_yet_is_there(filled: Filled) -> None:
    with filled.session() as session:
        (first, _) = run_facts.tables(session, run_facts.run(session, RUN).run, {})
        assert (run_facts.pace(session, RUN), run_facts.durations(session, RUN)) == ((), ())

    assert (first.chunks, first.rows, first.median_seconds, first.changed_values) == (0, 0, None, {})


def test_a_run_that_is_not_there_is_an_error_that_says_where_to_look(filled: Filled) -> None:
    with filled.session() as session, pytest.raises(MissingError, match="there is no run other; `snowmelt runs`"):
        run_facts.run(session, "other")


# --- charts ---------------------------------------------------------------------------------------------------------

CHUNKS = st.lists(st.tuples(st.floats(0, 1e5), st.floats(0.001, 1e4), st.integers(0, 10**6)), min_size=1, max_size=12)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=CHUNKS)
def test_the_pace_has_every_row_once_and_durations_every_chunk(
    postgres: LocalPostgres, filled: Filled, chunks: list[tuple[float, float, int]]
) -> None:
    filled.database.execute("DELETE FROM migration_status.chunks")
    filled.add(*({"start": start, "seconds": seconds, "rows": rows} for start, seconds, rows in chunks))

    with filled.session() as session:
        pace, durations = run_facts.pace(session, RUN), run_facts.durations(session, RUN)

    assert sum(part.rows for part in pace) == pytest.approx(sum(rows for _, _, rows in chunks), rel=1e-6, abs=0.01)
    busy = sum(part.chunks_at_once * part.seconds for part in pace)
    assert busy == pytest.approx(sum(seconds for _, seconds, _ in chunks), rel=1e-4, abs=0.01)
    assert sum(part.chunks for part in durations) == len(chunks)
    assert durations[0].low_seconds == pytest.approx(min(seconds for _, seconds, _ in chunks), rel=1e-3, abs=1e-5)
    assert durations[-1].high_seconds == pytest.approx(max(seconds for _, seconds, _ in chunks), rel=2e-3, abs=1e-5)


@pytest.mark.full
def test_fifty_thousand_chunks_cost_answers_of_a_few_rows(filled: Filled) -> None:
    filled.add({"count": 50_000, "step": 0.5, "seconds": 20, "rows": 1000, "attempts": 2})

    with filled.session() as session:
        pace, durations = run_facts.pace(session, RUN), run_facts.durations(session, RUN)
        first, _ = run_facts.tables(session, run_facts.run(session, RUN).run, {})

    assert len(pace) <= run_facts.PACE_PARTS
    assert len(durations) == 1
    assert median(part.chunks_at_once for part in pace) == pytest.approx(40, rel=0.01)
    assert median(part.rows_per_second for part in pace) == pytest.approx(2000, rel=0.01)
    assert (first.rows, first.retries) == (50_000_000, 50_000)


# --- lists ----------------------------------------------------------------------------------------------------------


def test_reasons_come_once_with_their_counts_and_without_the_values(filled: Filled) -> None:
    filled.add({"rejected": 61})
    filled.database.execute(
        f"INSERT INTO migration_status.rejected_rows SELECT '{RUN}', 0, 0, n, 'c', '22P02', CASE n WHEN 0 THEN"
        " 'it is too long' ELSE format('invalid input syntax for type inet: %s', migration_status.fingerprint(n::text))"
        " END, 'content',"
        " now(), format('invalid input syntax for type inet: \"secret-%s\"', n)"
        " FROM generate_series(0, 60) AS n"
    )

    with filled.session() as session:
        listed = run_facts.listed(session, RUN)

    masked = [(each.rows, re.sub("[0-9a-f]{10}", "…", each.reason), each.sqlstate) for each in listed.rejects]
    assert masked == [
        (60, "invalid input syntax for type inet: [value …]", "22P02"),
        (1, "it is too long", "22P02"),
    ]
    assert "secret" not in str(listed)
    assert listed.left_out == ()


def test_errors_that_differ_in_what_they_quote_are_one_kind(filled: Filled) -> None:
    filled.add({"rejected": 60})
    filled.database.execute(
        f"INSERT INTO migration_status.rejected_rows SELECT '{RUN}', 0, 0, n, 'c', '22P02',"
        " format('invalid input syntax for type inet: %s', migration_status.fingerprint(n::text)), 'content'"
        " FROM generate_series(1, 60) AS n"
    )

    with filled.session() as session:
        (group,) = status_store.error_groups(session, RUN)

    assert (group["code"], group["count"]) == ("22P02", 60)


def test_what_is_left_out_is_said(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_facts, "MOST_INDEXES", 2)
    for number in range(5):
        filled.database.execute(
            "INSERT INTO migration_status.saved_indexes (run_id, table_id, target_schema, target_table, index_name,"
            " definition, is_unique, size_bytes, attempts, started_at, restored_at) VALUES"
            f" ('{RUN}', 0, 'public', 't0', 'i{number}', 'x', false, 8192, 1, '{BEGAN}',"
            f" '{BEGAN + timedelta(seconds=number)}')"
        )

    with filled.session() as session:
        listed = run_facts.listed(session, RUN)

    assert [(each.index, each.seconds, each.state) for each in listed.indexes] == [
        ("i4", 4, "built"), ("i3", 3, "built"),
    ]  # fmt: skip
    assert listed.left_out == ("3 more indexes",)


def test_verdicts_are_read_where_they_are_kept(filled: Filled) -> None:
    filled.database.execute("DROP TABLE IF EXISTS migration_status.verification_results")
    with filled.session() as session:
        assert run_facts.verification(session, RUN) == ()
        filled.database.execute(
            "CREATE TABLE migration_status.verification_results (run_id text, table_id integer, mode text,"
            " verdict text, source_rows bigint, target_rows bigint, missing bigint, extra bigint, changed bigint,"
            " reason text, seconds double precision, checked_at timestamptz);"
            "INSERT INTO migration_status.verification_results VALUES"
            f" ('{RUN}', 1, 'rows', 'different', 9, 8, 1, 0, 0, NULL, 0.5, '{BEGAN}'),"
            f" ('{RUN}', 0, 'checksums', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
        )
        (found,) = run_facts.verification(session, RUN)

    assert (found.table, found.verdict, found.missing, found.reason) == ("T1", "different", 1, "")


# --- Snowflake's history --------------------------------------------------------------------------------------------

DATABASE = "HISTORY"


def connect(snowflake: LocalSnowflake, run_id: str | None) -> SnowflakeSource:
    config = SnowflakeConfig.model_validate(snowflake.connection_parameters())
    return SnowflakeSource.connect(config, database=DATABASE, schema="PUBLIC", run_id=run_id)


def asked(snowflake: LocalSnowflake, **changes: Any) -> str:
    now = datetime.now(UTC)
    user = str(snowflake.connection_parameters()["user"])
    return snowflake_history.statement(
        **{"user": user, "run_id": "it's 1", "started_at": now, "ended_at": now, **changes}
    )


def test_statements_of_a_run_are_told_from_all_others(snowflake: LocalSnowflake) -> None:
    snowflake.create_schema(DATABASE, "PUBLIC")
    with connect(snowflake, "it's 1") as mine, connect(snowflake, "it's 2") as other, connect(snowflake, None) as aside:
        before = snowflake_history.use(aside.aggregate(asked(snowflake)))
        for source in (mine, other, other):
            source.aggregate("select seq4() as n from table(generator(rowcount => 5000))")
        first = snowflake_history.use(aside.aggregate(asked(snowflake)))
        second = snowflake_history.use(aside.aggregate(asked(snowflake)))

    assert first.queries == before.queries + 1
    assert first.bytes_scanned > before.bytes_scanned
    assert [each.name for each in first.warehouses] == ["COMPUTE_WH"]
    assert not first.is_partial
    assert second == first


def test_a_history_that_was_cut_off_says_that_there_is_more() -> None:
    rows = [
        (True, "W", "Small", 4, 10, 1500, 2500),
        (False, "W", "Small", snowflake_history.MOST_STATEMENTS - 4, 1, 1, 1),
    ]

    assert snowflake_history.use(rows).is_partial
    assert snowflake_history.use(rows).queries == 4
    assert not snowflake_history.use(rows[:1]).is_partial


def test_nobody_asks_for_what_snowflake_no_longer_keeps(snowflake: LocalSnowflake) -> None:
    now = datetime.now(UTC)
    old = now - timedelta(days=7, hours=1)

    assert snowflake_history.is_kept(now - timedelta(days=6, hours=23), now)
    assert not snowflake_history.is_kept(old, now)
    snowflake.create_schema(DATABASE, "PUBLIC")
    with connect(snowflake, None) as aside, pytest.raises(StatementError, match="7 days ago"):
        aside.aggregate(asked(snowflake, started_at=old))
