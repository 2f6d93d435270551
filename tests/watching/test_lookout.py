"""What is read of a run adds up with its chunks, takes few statements, and goes on after the server was away."""

from collections import Counter

import psycopg2
import pytest

from snowmelt.errors import ConfigError, MissingError, SnowmeltError
from snowmelt.monitoring.reconnecting import Lookout
from snowmelt.monitoring.snapshot import RunOverview
from snowmelt.postgres.session import Session
from support.scenes import SOURCE, Stage


def seen(lookout: Lookout, run_id: str | None = None) -> RunOverview:
    run = lookout.scene(run_id).run
    assert run is not None
    return run


def test_counts_speeds_and_cells_agree_with_the_chunks(stage: Stage) -> None:
    with stage.run("r1", tables=8, completed=3, loading=4, chunks=40, workers=3), stage.lookout() as lookout:
        run = seen(lookout)

    chunks = stage.database.rows(
        "SELECT table_id, status, coalesce(actual_rows - rejected_rows, 0), rejected_rows FROM migration_status.chunks"
    )
    assert (run.rows, run.rejected) == (sum(c[2] for c in chunks), sum(c[3] for c in chunks))
    for table in run.tables:
        kinds = Counter(status for table_id, status, *_ in chunks if table_id == table.table_id)
        letters = Counter("c" if letter in "012345j" else letter for letter in table.cells)
        assert letters["c"] == kinds["completed"] == table.completed
        assert letters["r"] == kinds["running"] == table.running
        assert letters["x"] == kinds["failed"] == table.failed
        assert letters["p"] + letters["e"] == kinds["pending"]
        assert len(table.cells) == table.chunks == sum(kinds.values())
    assert [t.status for t in run.tables] == ["completed"] * 3 + ["loading"] * 4 + ["scanning"]
    line = sum(run.speed.rows_per_second) * run.speed.step_seconds
    assert line == pytest.approx(run.rows, rel=0.01)
    assert run.tables_uncounted == 1
    assert run.pulse is not None
    assert run.pulse.state == "moves"


def test_a_worker_is_named_and_one_that_is_gone_is_told_from_one_that_lives(stage: Stage) -> None:
    with stage.lookout() as lookout:
        with stage.run("r1", tables=2, completed=0, loading=2, workers=2):
            alive = seen(lookout)
        gone = seen(lookout)

    assert [w.is_alive for w in alive.workers] == [True, True]
    assert {(w.table_id, w.chunk_id) for w in alive.workers} == {(0, 12), (1, 12)}
    assert all(w.lease_seconds_left is not None and 800 < w.lease_seconds_left <= 840 for w in alive.workers)
    assert [t.cells[12] for t in alive.tables] == ["r", "r"]
    assert [w.does for w in gone.workers] == ["its session is gone; the next round frees the chunk"] * 2
    assert [t.cells[12] for t in gone.tables] == ["l", "l"]


def test_a_run_of_fifty_tables_takes_as_many_statements_as_one_of_five(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    rows = Session.rows

    def counted(self: Session, statement: str, **values: object) -> list[dict[str, object]]:
        asked.append(statement)
        return rows(self, statement, **values)  # type: ignore[arg-type]

    counts = []
    with stage.lookout() as lookout:
        lookout.scene()
        monkeypatch.setattr(Session, "rows", counted)
        for run_id, tables in (("few", 5), ("many", 50)):
            asked.clear()
            with stage.run(run_id, tables=tables, completed=2, loading=2, workers=0):
                assert len(seen(lookout, run_id).tables) == tables
            counts.append(len(asked))

    assert counts[0] == counts[1] < 10


def test_runs_of_another_source_are_not_shown(stage: Stage) -> None:
    with stage.run("ours", workers=0), stage.run("theirs", workers=0), stage.lookout() as lookout:
        stage.database.execute("UPDATE migration_status.runs SET source_name = 'else' WHERE run_id = 'theirs'")
        assert [run.run_id for run in lookout.scene().runs] == ["ours"]
        assert seen(lookout).run_id == "ours"
        with pytest.raises(MissingError, match=f"source {SOURCE} has no run theirs"):
            lookout.scene("theirs")
        assert lookout.chunks("theirs", 0, position=0, limit=5) == ()


def test_chunks_are_found_by_their_place_among_those_that_count(stage: Stage) -> None:
    with stage.run("r1", workers=0), stage.lookout() as lookout:
        stage.database.execute(
            "UPDATE migration_status.chunks SET status = 'superseded' WHERE table_id = 0 AND chunk_id < 3"
        )
        found = lookout.chunks("r1", 0, position=1, limit=2)
        cells = seen(lookout).tables[0].cells

    assert [chunk.chunk_id for chunk in found] == [4, 5]
    assert found[0].seconds is not None
    assert found[0].seconds > 0
    assert len(cells) == 17


def test_the_session_of_whoever_looks_can_change_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[Session] = []
    connect = Session.connect
    monkeypatch.setattr(Session, "connect", lambda *a, **k: sessions.append(connect(*a, **k)) or sessions[-1])  # type: ignore[func-returns-value]

    with stage.lookout() as lookout:
        lookout.scene()
        with sessions[0]._connection.cursor() as cursor, pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            cursor.execute("DELETE FROM migration_status.runs")
        with sessions[0]._connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("10s",)


def test_a_database_without_a_status_schema_is_a_plain_error(stage: Stage) -> None:
    stage.database.execute("DROP SCHEMA migration_status CASCADE")

    with stage.lookout() as lookout, pytest.raises(ConfigError, match="nothing has run here yet"):
        lookout.scene()


def test_a_session_that_has_died_meanwhile_is_replaced_without_a_word(stage: Stage) -> None:
    with stage.run("r1", workers=0), stage.lookout() as lookout:
        before = seen(lookout)
        stage.dismiss()
        after = seen(lookout)

    assert before.rows == after.rows > 0


def test_a_server_that_is_away_is_said_and_found_again_when_it_is_back(stage: Stage) -> None:
    with stage.run("r1", workers=0), stage.lookout() as lookout:
        before = seen(lookout)
        with stage.unreachable(), pytest.raises(SnowmeltError, match="PostgreSQL "):
            lookout.scene()
        after = seen(lookout)

    assert before.rows == after.rows > 0
