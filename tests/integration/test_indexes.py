"""Indexes are dropped for a load and come back as they were, whatever dies in between."""

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest

from snowmelt.config import PostgresConfig
from snowmelt.deadline import Deadline
from snowmelt.engine import status_store
from snowmelt.errors import DataError, TransientError
from snowmelt.loading import indexes
from snowmelt.loading.indexes import MissingIndex, RestoreResult, TargetIndex
from snowmelt.models import TableName
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import Database

TABLE = TableName(schema_name='odd "s" schema', name="odd 'table'")
PLAIN = TableName(schema_name="public", name="plain")
PATIENCE_SECONDS = 120.0
GATE = 4711
"""The advisory lock that a gated build waits for."""

EVERY_KIND = """
    CREATE SCHEMA "odd ""s"" schema";
    CREATE FUNCTION public.folded(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)';
    CREATE COLLATION public.by_bytes (locale = 'C');
    CREATE TABLE "odd ""s"" schema"."odd 'table'" (
        id integer PRIMARY KEY, "a ""b"" c" integer, t text, v varchar(20), at timestamptz, j jsonb, tags text[],
        p point, during int4range, code text, UNIQUE (code));
    INSERT INTO "odd ""s"" schema"."odd 'table'"
    SELECT i, i % 10, 't' || i, 'v' || i, now() + i * interval '1 min', '{"k": 1}', ARRAY['x', i::text], point(i, i),
           int4range(i, i + 5), 'c' || i
    FROM generate_series(1, 500) i;
    SET search_path = "odd ""s"" schema";
    CREATE INDEX plain ON "odd 'table'" (t);
    CREATE INDEX several ON "odd 'table'" (t, "a ""b"" c", at);
    CREATE INDEX "quoted ""name"" 'of' %s" ON "odd 'table'" ("a ""b"" c");
    CREATE INDEX expression ON "odd 'table'" ((upper(t)), ("a ""b"" c" + 1));
    CREATE INDEX own_function ON "odd 'table'" (public.folded(t));
    CREATE INDEX partial ON "odd 'table'" (at) WHERE "a ""b"" c" > 3 AND t <> '%I ''quoted''';
    CREATE INDEX covering ON "odd 'table'" (t) INCLUDE (at, v);
    CREATE INDEX downwards ON "odd 'table'" (at DESC NULLS LAST, t ASC NULLS FIRST);
    CREATE UNIQUE INDEX one_of_a_kind ON "odd 'table'" (v);
    CREATE UNIQUE INDEX one_of_some ON "odd 'table'" (t) WHERE id > 7;
    CREATE UNIQUE INDEX null_is_one ON "odd 'table'" (at) NULLS NOT DISTINCT;
    CREATE INDEX hashed ON "odd 'table'" USING hash (t);
    CREATE INDEX gin_json ON "odd 'table'" USING gin (j jsonb_path_ops) WITH (fastupdate = off);
    CREATE INDEX gin_array ON "odd 'table'" USING gin (tags);
    CREATE INDEX gist_range ON "odd 'table'" USING gist (during);
    CREATE INDEX spgist_point ON "odd 'table'" USING spgist (p);
    CREATE INDEX brin_time ON "odd 'table'" USING brin (at) WITH (pages_per_range = 16, autosummarize = on);
    CREATE INDEX collated ON "odd 'table'" (t COLLATE "C", v COLLATE public.by_bytes);
    CREATE INDEX opclass ON "odd 'table'" (t text_pattern_ops) WITH (fillfactor = 70);
    CREATE INDEX spaced ON "odd 'table'" (v) TABLESPACE elsewhere;
    COMMENT ON INDEX plain IS 'it''s %s "commented"';
    ALTER INDEX expression ALTER COLUMN 1 SET STATISTICS 500;
    ALTER TABLE "odd 'table'" CLUSTER ON downwards;
"""

THREE = """
    CREATE TABLE plain (id integer PRIMARY KEY, a integer, b text);
    INSERT INTO plain SELECT i, i, 'b' || i FROM generate_series(1, 200) i;
    CREATE INDEX plain_a ON plain (a);
    CREATE UNIQUE INDEX plain_b ON plain (b);
    CREATE INDEX plain_both ON plain (b, a DESC) WHERE a > 5;
    COMMENT ON INDEX plain_a IS 'kept';
"""

GATED = f"""
    CREATE FUNCTION gated(i integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared({GATE}); RETURN i; END $$;
    CREATE TABLE plain (id integer PRIMARY KEY, a integer, b text);
    INSERT INTO plain SELECT i, i, 'b' || i FROM generate_series(1, 200) i;
    CREATE INDEX plain_slow ON plain (public.gated(a));
"""


@dataclass(frozen=True)
class Target:
    """A target database with a status schema."""

    database: Database

    def connect(self) -> Session:
        server = self.database.server
        config = PostgresConfig(host=server.host, port=server.port, user=server.user, sslmode="disable")
        return Session.connect(config, database=self.database.name, application_name="test")

    def definitions(self, table: TableName = PLAIN) -> dict[str, tuple[Any, ...]]:
        """All that is to be known of each index."""
        rows = self.database.rows(
            "SELECT c.relname, pg_get_indexdef(c.oid), obj_description(c.oid), i.indisclustered, i.indisvalid,"
            " coalesce((SELECT spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace), ''),"
            " ARRAY(SELECT a.attstattarget::integer FROM pg_attribute a WHERE a.attrelid = c.oid ORDER BY a.attnum)"
            " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid"
            " JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = %s AND t.relname = %s",
            (table.schema_name, table.name),
        )
        return {row[0]: row[1:] for row in rows}

    def drop(
        self, run_id: str = "run", table: TableName = PLAIN, keep: Sequence[Sequence[str]] = ()
    ) -> tuple[TargetIndex, ...]:
        with self.connect() as session, session.transaction() as cursor:
            return indexes.save_and_drop(cursor, run_id, 0, table, keep)

    def restore(self, run_id: str | None = "run", **options: Any) -> RestoreResult:
        given = {"workers": 3, "deadline": Deadline.after(PATIENCE_SECONDS), **options}
        return indexes.restore(self.connect, run_id, **given)

    def missing(self) -> tuple[MissingIndex, ...]:
        with self.connect() as session:
            return indexes.missing(session)

    def builders(self) -> list[tuple[Any, ...]]:
        return self.database.rows(
            "SELECT pid, application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'snowmelt index%%' AND state = 'active'",
            (),
        )

    def wait_for(self, happened: Callable[[], object]) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            assert time.monotonic() < until, "it never happened"
            time.sleep(0.05)


@pytest.fixture
def target(database: Database) -> Target:
    found = Target(database)
    with found.connect() as session:
        status_store.install(session)
    return found


@pytest.fixture
def three(target: Target) -> Target:
    target.database.execute(THREE)
    return target


@dataclass
class Gate:
    """What a gated build must pass for each row."""

    connection: psycopg2.extensions.connection

    def close(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (GATE,))

    def open(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", (GATE,))


@pytest.fixture
def gated(target: Target) -> Target:
    target.database.execute(GATED)
    return target


@pytest.fixture
def gate(gated: Target) -> Iterator[Gate]:
    connection = gated.database.connect()
    yield Gate(connection)
    connection.close()


def names(found: Sequence[TargetIndex] | Sequence[MissingIndex]) -> set[str]:
    return {index.name for index in found}


# --- save, drop, restore --------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(database: Database) -> Iterator[None]:
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("SET allow_in_place_tablespaces = on")
        cursor.execute("CREATE TABLESPACE elsewhere LOCATION ''")
    connection.close()
    yield
    database.execute('DROP SCHEMA "odd ""s"" schema" CASCADE')
    database.execute("DROP TABLESPACE elsewhere")


def test_every_kind_of_index_comes_back_as_it_was(target: Target, elsewhere: None) -> None:
    target.database.execute(EVERY_KIND)
    before = target.definitions(TABLE)

    dropped = target.drop(table=TABLE)
    assert len(dropped) == 20
    assert len(target.definitions(TABLE)) == 2  # the primary key, and what is behind a constraint
    result = target.restore()

    assert target.definitions(TABLE) == before
    assert len(result.built) == 20
    assert (result.more, result.error, target.missing()) == (False, None, ())


def test_doing_each_step_twice_changes_nothing(three: Target) -> None:
    before = three.definitions()

    assert names(three.drop()) == {"plain_a", "plain_b", "plain_both"}
    assert three.drop() == ()
    assert names(three.missing()) == {"plain_a", "plain_b", "plain_both"}
    assert len(three.restore().built) == 3
    assert three.restore() == RestoreResult()
    assert three.definitions() == before


def test_a_load_that_is_rolled_back_leaves_the_indexes_in_place(three: Target) -> None:
    before = three.definitions()

    def load() -> None:
        with three.connect() as session, session.transaction() as cursor:
            assert len(indexes.save_and_drop(cursor, "run", 0, PLAIN)) == 3
            cursor.execute("INSERT INTO plain VALUES (1, 1, 'there already')")

    with pytest.raises(DataError):
        load()
    assert three.definitions() == before
    assert three.missing() == ()


def test_what_must_stay_stays_and_says_why(target: Target) -> None:
    target.database.execute(
        """
        CREATE TABLE plain (id integer PRIMARY KEY, a integer NOT NULL UNIQUE, b integer NOT NULL, c integer, d integer,
                            e int4range, EXCLUDE USING gist (e WITH &&));
        CREATE UNIQUE INDEX referred ON plain (b);
        CREATE TABLE child (b integer REFERENCES plain (b));
        CREATE UNIQUE INDEX arbiter ON plain (d, c) INCLUDE (a);
        CREATE UNIQUE INDEX only_some ON plain (c, d) WHERE a > 1;
        CREATE UNIQUE INDEX not_it ON plain (c, d, a);
        CREATE UNIQUE INDEX identity ON plain (b, a);
        ALTER TABLE plain REPLICA IDENTITY USING INDEX identity;
        """
    )
    with target.connect() as session:
        found = indexes.read(session, {PLAIN: [("c", "d")]})[PLAIN]

    assert {index.name: index.stays_because for index in found} == {
        "plain_pkey": "it is the primary key",
        "plain_a_key": "it is behind the constraint plain_a_key",
        "plain_e_excl": "it is behind the constraint plain_e_excl",
        "referred": "it is what the foreign key child_b_fkey of public.child refers to",
        "arbiter": "the upsert needs it to find existing rows",
        "identity": "it identifies rows for logical replication",
        "only_some": None,
        "not_it": None,
    }
    assert names(target.drop(keep=[("c", "d")])) == {"only_some", "not_it"}


def test_indexes_of_partitioned_tables_and_of_partitions_stay(target: Target) -> None:
    target.database.execute(
        """
        CREATE TABLE plain (id integer, a integer) PARTITION BY RANGE (id);
        CREATE TABLE part PARTITION OF plain FOR VALUES FROM (0) TO (100);
        CREATE INDEX whole ON plain (a);
        CREATE INDEX own ON part (id);
        """
    )
    assert target.drop() == ()
    assert names(target.drop(table=TableName(schema_name="public", name="part"))) == {"own"}
    assert target.restore().built == ("public.own",)


def test_an_index_that_is_not_valid_is_left_alone(target: Target) -> None:
    target.database.execute("CREATE TABLE plain (a integer); INSERT INTO plain VALUES (1), (1)")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        target.database.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON plain (a)")

    assert target.drop() == ()
    assert target.definitions().keys() == {"broken"}


# --- failures -------------------------------------------------------------------------------------------------------


def test_duplicates_are_named_and_the_other_indexes_are_built(three: Target) -> None:
    before = three.definitions()
    three.drop()
    three.database.execute("INSERT INTO plain VALUES (0, 0, 'b7')")

    result = three.restore()
    assert set(result.built) == {"public.plain_a", "public.plain_both"}
    assert not result.more
    assert result.error is not None
    assert "index public.plain_b of table public.plain" in result.error.message
    [(fingerprint,)] = three.database.rows("SELECT migration_status.fingerprint('b7')")
    assert f"Key (b)=({fingerprint}) is duplicated; remove" in result.error.message
    assert result.error.message.endswith("not unique, then run `snowmelt indexes restore`")

    assert three.restore().built == ()  # nobody has looked at it yet
    three.database.execute("DELETE FROM plain WHERE id = 0")
    with three.connect() as session:
        assert indexes.retry_failed(session, "run") == 1
    assert three.restore().built == ("public.plain_b",)
    assert three.definitions() == before


def test_half_made_indexes_are_rebuilt(three: Target) -> None:
    before = three.definitions()
    three.drop()
    three.database.execute("INSERT INTO plain VALUES (0, 0, 'b7')")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        three.database.execute("CREATE UNIQUE INDEX CONCURRENTLY plain_b ON plain (b)")
    three.database.execute("DELETE FROM plain WHERE id = 0")

    assert len(three.restore().built) == 3
    assert three.definitions() == before


def test_an_index_put_back_by_hand_is_taken_as_it_is_and_another_of_its_name_is_not(three: Target) -> None:
    three.drop()
    three.database.execute("CREATE INDEX plain_a ON plain (a); CREATE INDEX plain_b ON plain (b)")
    by_hand = three.database.rows("SELECT 'plain_a'::regclass::oid")

    result = three.restore()
    assert set(result.built) == {"public.plain_a", "public.plain_both"}
    assert three.database.rows("SELECT 'plain_a'::regclass::oid") == by_hand
    assert names(result.failed) == {"plain_b"}
    assert result.error is not None
    assert "something else has taken its name: CREATE INDEX plain_b ON public.plain" in result.error.message


def test_an_index_whose_table_is_gone_fails_alone(three: Target) -> None:
    three.drop()
    three.database.execute("ALTER TABLE plain RENAME TO other")

    result = three.restore()
    assert names(result.failed) == {"plain_a", "plain_b", "plain_both"}
    assert result.error is not None
    assert "put the table back" in result.error.message


def test_a_build_is_given_the_memory_it_is_promised(target: Target) -> None:
    target.database.execute(
        """
        CREATE SEQUENCE memory_kb; CREATE SEQUENCE workers; CREATE SEQUENCE time_outs MINVALUE 0;
        CREATE FUNCTION told(i integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_catalog.setval('public.memory_kb', (SELECT setting::bigint FROM pg_catalog.pg_settings
                                                           WHERE name = 'maintenance_work_mem'));
            PERFORM pg_catalog.setval('public.workers', (SELECT setting::bigint FROM pg_catalog.pg_settings
                                                         WHERE name = 'max_parallel_maintenance_workers'));
            PERFORM pg_catalog.setval('public.time_outs', (SELECT sum(setting::int) FROM pg_catalog.pg_settings
                WHERE name IN ('statement_timeout', 'client_connection_check_interval')));
            RETURN i;
        END $$;
        CREATE TABLE plain (a integer);
        CREATE INDEX telling ON plain (public.told(a));
        """
    )
    target.drop()
    target.database.execute("INSERT INTO plain VALUES (1)")

    assert target.restore(maintenance_work_mem="96MB", parallel_workers=1).built == ("public.telling",)
    assert target.database.rows("SELECT last_value FROM memory_kb") == [(96 * 1024,)]
    assert target.database.rows("SELECT last_value FROM workers") == [(1,)]
    assert target.database.rows("SELECT last_value FROM time_outs") == [(0,)]


def test_big_tables_are_built_in_parallel(target: Target) -> None:
    """The build runs inside a function; parallel workers must be had there too."""
    target.database.execute(
        """
        CREATE FUNCTION where_am_i(i integer) RETURNS integer IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS
        $$ BEGIN IF (SELECT backend_type FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid())
              = 'parallel worker' THEN RAISE EXCEPTION 'in a worker'; END IF; RETURN i; END $$;
        CREATE TABLE plain (a integer) WITH (parallel_workers = 2);
        CREATE INDEX wide ON plain (public.where_am_i(a));
        """
    )
    target.drop()
    target.database.execute("INSERT INTO plain SELECT generate_series(1, 3000)")

    [failed] = target.restore(maintenance_work_mem="128MB", parallel_workers=2).failed
    [(fingerprint,)] = target.database.rows("SELECT migration_status.fingerprint('in a worker')")
    assert failed.error_text == f"PostgreSQL says {fingerprint}"


def test_a_table_that_someone_holds_is_waited_for(three: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "LOCK_TIMEOUT_SECONDS", 1)
    before = three.definitions()
    three.drop()
    writer = three.database.connect()
    writer.autocommit = False
    with writer.cursor() as cursor:
        cursor.execute("INSERT INTO plain VALUES (-1, -1, 'writing')")
        result = three.restore(workers=1, deadline=Deadline.after(5))
        assert result.built == ()
        assert names([*result.remaining, *result.building]) == {"plain_a", "plain_b", "plain_both"}
        three.wait_for(lambda: any("lock timeout" in (i.error_text or "") for i in three.missing()))
        writer.commit()
    writer.close()

    assert not three.restore().more
    assert three.missing() == ()
    assert three.definitions() == before


def test_builds_that_end_without_a_word_are_given_up_in_the_end(
    gated: Target, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "MOST_ATTEMPTS", 2)
    gated.drop()
    gate.close()
    for _ in range(indexes.MOST_ATTEMPTS):
        gated.restore(workers=1, deadline=Deadline.after(3))
        gated.wait_for(gated.builders)
        end_builders(gated)

    result = gated.restore()
    assert names(result.failed) == {"plain_slow"}
    assert result.error is not None
    assert "2 builds ended without a result" in result.error.message


# --- builds that outlive their callers ------------------------------------------------------------------------------


def end_builders(target: Target) -> None:
    target.database.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'snowmelt index%%'",
        (),
    )
    target.wait_for(lambda: not target.builders())


def test_a_build_that_outlives_the_call_goes_on_and_is_found(gated: Target, gate: Gate) -> None:
    before = gated.definitions()
    gated.drop()
    gate.close()
    result = gated.restore(deadline=Deadline.after(3))
    gated.wait_for(gated.builders)
    assert (result.built, result.more) == ((), True)

    # Another process, while it is at work: it waits, and starts nothing.
    again = gated.restore(deadline=Deadline.after(3))
    assert names(again.building) == {"plain_slow"}
    assert again.building[0].phase is not None
    assert gated.builders() == [(gated.builders()[0][0], "snowmelt index public.plain_slow")]

    gate.open()
    gated.restore()
    assert gated.missing() == ()
    assert gated.definitions() == before


def test_a_build_whose_process_was_killed_is_finished_by_the_server(gated: Target, gate: Gate) -> None:
    before = gated.definitions()
    gated.drop()
    gate.close()
    child = forked(lambda: gated.restore(workers=1))
    gated.wait_for(gated.builders)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    builder = gated.builders()

    result = gated.restore(deadline=Deadline.after(3))
    assert names(result.building) == {"plain_slow"}
    assert gated.builders() == builder
    gate.open()
    gated.wait_for(lambda: not gated.missing())  # nobody has called again
    assert gated.definitions() == before


def test_a_build_that_fails_after_its_process_was_killed_has_said_why(gated: Target, gate: Gate) -> None:
    gated.database.execute("DROP INDEX plain_slow; CREATE UNIQUE INDEX plain_slow ON plain (public.gated(a))")
    gated.drop()
    gate.close()
    gated.database.execute("INSERT INTO plain VALUES (0, 7, '')")
    child = forked(lambda: gated.restore(workers=1))
    gated.wait_for(gated.builders)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    gate.open()
    gated.wait_for(lambda: gated.missing()[0].is_failed)

    error = gated.restore().error
    assert error is not None
    [(fingerprint,)] = gated.database.rows("SELECT migration_status.fingerprint('7')")
    assert f"gated(a))=({fingerprint}) is duplicated; remove" in error.message


def test_the_biggest_is_built_first_and_no_more_at_once_than_asked(gated: Target, gate: Gate) -> None:
    gated.database.execute(
        "CREATE INDEX small ON plain (public.gated(a)) WHERE a = -1;"
        "CREATE INDEX big ON plain (public.gated(a), b, (b || b), (b || b || b))"
    )
    gated.drop()
    gate.close()
    gated.restore(workers=1, deadline=Deadline.after(3))
    gated.wait_for(gated.builders)
    assert [name for _, name in gated.builders()] == ["snowmelt index public.big"]

    gated.restore(workers=2, deadline=Deadline.after(3))
    gated.wait_for(lambda: len(gated.builders()) == 2)
    assert {name for _, name in gated.builders()} == {"snowmelt index public.big", "snowmelt index public.plain_slow"}
    end_builders(gated)


def test_a_later_run_takes_over_what_is_unbuilt_and_ends_builds_that_stand_in_its_way(
    gated: Target, gate: Gate
) -> None:
    before = gated.definitions()
    gated.drop("first")
    gate.close()
    gated.restore("first", deadline=Deadline.after(3))
    gated.wait_for(gated.builders)

    assert gated.drop("second") == ()
    assert gated.builders() == []
    assert [(i.run_id, i.name) for i in gated.missing()] == [("second", "plain_slow")]
    assert gated.restore("first") == RestoreResult()
    gate.open()
    assert gated.restore("second").built == ("public.plain_slow",)
    assert gated.definitions() == before


def test_a_builder_that_wakes_up_after_a_take_over_builds_nothing(three: Target) -> None:
    three.drop("first")
    left_over = three.missing()[0]
    three.drop("second")

    with three.connect() as session:
        assert indexes.build(session, left_over, {}) == "gone"
    assert three.definitions().keys() == {"plain_pkey"}


def test_restoring_without_a_run_leaves_tables_alone_that_are_being_loaded(three: Target) -> None:
    three.database.execute(
        """
        INSERT INTO migration_status.runs (run_id, source_name, config_hash, snapshot_at, snowmelt_version,
            plan_format, store) VALUES ('run', 's', 'h', now(), '1', 1, 's');
        INSERT INTO migration_status.run_tables (run_id, table_id, source_table, target_schema,
            target_table, strategy, status) VALUES ('run', 0, 'PLAIN', 'public', 'plain', 'one_scan', 'loading');
        """
    )
    three.drop()
    result = three.restore(None)
    assert (len(result.loading), result.built, result.more) == (3, (), False)

    three.database.execute("UPDATE migration_status.run_tables SET status = 'failed'")
    assert len(three.restore(None).built) == 3


def test_a_server_that_is_not_there_is_an_error_and_nothing_is_lost(three: Target) -> None:
    three.drop()

    def refused() -> Session:
        raise TransientError("no connection left")

    with pytest.raises(TransientError, match="no connection left"):
        indexes.restore(refused, "run", workers=1, deadline=Deadline.after(5))
    assert len(three.restore().built) == 3


# --- killed at any point --------------------------------------------------------------------------------------------


def forked(work: Callable[[], object]) -> int:
    """The pid of a child that does the work and ends without tidying up."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return pid


class _DeadlyConnection(psycopg2.extensions.connection):
    """A connection of a process that is killed before or after its n-th statement or commit."""

    left = 0

    def step(self) -> None:
        type(self).left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        factory = options.pop("cursor_factory", psycopg2.extensions.cursor)
        step = self.step

        class Deadly(factory):  # type: ignore[misc,valid-type]
            def execute(self, *given: Any) -> None:
                step()
                super().execute(*given)
                step()

        return super().cursor(*arguments, cursor_factory=Deadly, **options)

    def __exit__(self, *failure: Any) -> None:
        self.step()
        super().__exit__(*failure)
        self.step()


def a_load(target: Target) -> None:
    """What a run does to a table, in short; safe to do again."""
    with target.connect() as session, session.transaction() as cursor:
        indexes.save_and_drop(cursor, "run", 0, PLAIN)
        tables.truncate(cursor, [PLAIN])
        cursor.execute("INSERT INTO public.plain SELECT i, i, 'b' || i FROM generate_series(1, 100) i")
    assert not target.restore(workers=1).more


def a_load_killed_at(point: int, target: Target) -> bool:
    """Whether it came to its end before the point was reached."""

    def work() -> None:
        _DeadlyConnection.left = point
        deadly = functools.partial(psycopg2.connect, connection_factory=_DeadlyConnection)
        pytest.MonkeyPatch().setattr(psycopg2, "connect", deadly)
        a_load(target)

    _, status = os.waitpid(forked(work), 0)
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "the load itself failed"
    return os.WIFEXITED(status)


def nothing_is_lost(target: Target, before: dict[str, tuple[Any, ...]]) -> bool:
    """Every index is there or saved, and was so at every moment that can be looked at."""
    [there, saved] = target.database.rows(
        "SELECT ARRAY(SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'plain'::regclass),"
        " ARRAY(SELECT index_name FROM migration_status.saved_indexes WHERE restored_at IS NULL)"
    )[0]
    return {*there, *saved} == set(before) and not {*there} & {*saved}


@pytest.mark.parametrize("point", [1, 6, 13, 17, 22, 23, 24, 25, 31, 36, 37])
def test_a_load_that_is_killed_ends_right_when_it_is_done_again(three: Target, point: int) -> None:
    before = three.definitions()
    a_load_killed_at(point, three)
    assert nothing_is_lost(three, before)
    a_load(three)

    assert three.definitions() == before
    assert three.missing() == ()


@pytest.mark.full
def test_a_load_ends_right_however_often_and_wherever_it_is_killed(three: Target) -> None:
    before = three.definitions()
    point, finished = 0, False
    while not finished:
        point += 1
        finished = a_load_killed_at(point, three)
        assert nothing_is_lost(three, before), f"at point {point}"
        if point % 3 == 0:  # otherwise the next is killed on top of what this one left
            a_load(three)
            assert three.definitions() == before, f"after point {point}"

    assert point > 50
    assert three.definitions() == before
