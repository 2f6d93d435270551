"""Attacks on the status schema by roles without rights: nothing of theirs runs, and whoever tried is named."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psycopg2
import pytest
from psycopg2 import sql as compose

from snowmelt.config import PostgresConfig
from snowmelt.deadline import Deadline
from snowmelt.engine import status_store
from snowmelt.errors import AccessError, HeldError
from snowmelt.loading import indexes
from snowmelt.models import TableName
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt.rejected_rows import expired_rows, store
from snowmelt_sandbox.postgres import Database, LocalPostgres
from snowmelt_sandbox.postgres_programs import find_programs

VERSIONS = (15, 16, 18)
TABLE = TableName(schema_name="public", name="ledger")
TAKEN = "SELECT count(*) FROM mallory.taken"
TABLES_OF_RUNS = ("runs", "run_tables", "chunks")
VIEWS = (
    "migration_runs",
    "migration_table_status",
    "migration_chunk_status",
    "v_table_progress",
    "v_active_migrations",
)


@dataclass(frozen=True)
class Scene:
    """A database with a table of a loading role, another role that may create in ``public``, and its loot."""

    database: Database
    loader: str
    mallory: str
    other: str

    @contextmanager
    def session(self, user: str | None = None, **settings: str) -> Iterator[Session]:
        server = self.database.server
        config = PostgresConfig(
            host=server.host, port=server.port, user=user or self.loader, sslmode="disable", **settings
        )
        with Session.connect(config, database=self.database.name, application_name="test") as session:
            yield session

    @contextmanager
    def as_(self, role: str) -> Iterator[psycopg2.extensions.cursor]:
        """Plain SQL by a role, in autocommit, under the usual path."""
        connection = psycopg2.connect(self.database.server.dsn(self.database.name), user=role)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def install(self, owner: str | None = None) -> None:
        """Install the status schema as an administrator, or another role, and grant two roles what loads need."""
        with self.session(owner or self.database.server.user) as session:
            status_store.install(session)
        for role in (self.loader, self.other, self.mallory):
            self.database.execute(
                f"GRANT USAGE ON SCHEMA migration_status TO {role};"
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA migration_status TO {role}"
            )

    @property
    def version(self) -> int:
        ((number,),) = self.database.rows("SELECT current_setting('server_version_num')::integer")
        return int(number)

    @property
    def loot(self) -> int:
        ((rows,),) = self.database.rows(TAKEN)
        return int(rows)

    def insert_run(self, role: str, run_id: str, target: str, status: str = "running") -> None:
        with self.as_(role) as cursor:
            cursor.execute(
                "INSERT INTO migration_status.runs (run_id, source_name, config_hash, status, snapshot_at,"
                " snowmelt_version, plan_format, store) VALUES (%s, 'ledger', 'h', %s, now(), '1', 1, 's')",
                (run_id, status),
            )
            cursor.execute(
                "INSERT INTO migration_status.run_tables (run_id, table_id, source_table, target_schema,"
                " target_table, status, strategy) VALUES (%s, 0, 'LEDGER', 'public', %s, 'loading', 'one_scan')",
                (run_id, target),
            )
            cursor.execute(
                "INSERT INTO migration_status.chunks (run_id, table_id, chunk_id, source_table, reads, estimated_rows)"
                " VALUES (%s, 0, 1, 'LEDGER', '{}', 1)",
                (run_id,),
            )

    def save(self, role: str, name: str, definition: str, *, kind: str = "index", afterwards: str = "[]") -> None:
        with self.as_(role) as cursor:
            cursor.execute(
                "INSERT INTO migration_status.saved_indexes (run_id, table_id, target_schema, target_table, kind,"
                " index_name, definition, afterwards, is_unique, size_bytes)"
                " VALUES ('evil', 0, 'public', 'ledger', %s, %s, %s, %s, false, 0)",
                (kind, name, definition, afterwards),
            )

    def restore(self, user: str | None = None) -> indexes.RestoreResult:
        @contextmanager
        def connect() -> Iterator[Session]:
            with self.session(user or self.database.server.user) as session:
                yield session

        return indexes.restore(connect, workers=1, deadline=Deadline.after(60))  # type: ignore[arg-type]


def _available() -> list[int]:
    return [version for version in VERSIONS if _has(version)]


def _has(version: int) -> bool:
    try:
        return bool(find_programs(version))
    except Exception:
        return False


@pytest.fixture(scope="module", params=_available())
def server(request: pytest.FixtureRequest) -> Iterator[LocalPostgres]:
    with LocalPostgres(version=request.param, durable=False) as started:
        yield started


@pytest.fixture
def scene(server: LocalPostgres) -> Iterator[Scene]:
    with server.database() as database:
        roles = [f"{name}_{database.name}" for name in ("loader", "mallory", "other")]
        for role in roles:
            database.execute(f"CREATE ROLE {role} LOGIN")
        loader, mallory, other = roles
        database.execute(
            f"CREATE TABLE ledger (id bigint PRIMARY KEY, note text); ALTER TABLE ledger OWNER TO {loader};"
            f"INSERT INTO ledger VALUES (1, 'one'); CREATE TABLE secret (ssn text);"
            f"GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE SCHEMA mallory AUTHORIZATION {mallory};"
            f"CREATE TABLE mallory.taken (what text); ALTER TABLE mallory.taken OWNER TO {mallory};"
            f"GRANT ALL ON mallory.taken TO PUBLIC; GRANT USAGE ON SCHEMA mallory TO PUBLIC;"
            f"GRANT CREATE ON DATABASE {database.name} TO {mallory}, {loader}"
        )
        try:
            yield Scene(database, loader, mallory, other)
        finally:
            for role in roles:
                database.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


# --- names without a schema -------------------------------------------------------------------------------------------

OVERLOADS = """
    CREATE FUNCTION public.format(text, oid, integer) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO mallory.taken VALUES (current_user); RETURN pg_catalog.format($1, $2, $3); END $$;
    CREATE FUNCTION public.format(text, text, text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO mallory.taken VALUES (current_user); RETURN pg_catalog.format($1, $2, $3); END $$;
    CREATE FUNCTION public.left(text, integer) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO mallory.taken VALUES (current_user); RETURN pg_catalog.left($1, $2); END $$;
    CREATE FUNCTION public.taken_equal(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO mallory.taken VALUES (current_user); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
    CREATE OPERATOR public.= (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = mallory.narrow_equal);
    CREATE VIEW public.pg_roles AS SELECT * FROM pg_catalog.pg_roles;
"""
NARROW_EQUAL = """
    CREATE FUNCTION mallory.narrow_equal(bigint, integer) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO mallory.taken VALUES (current_user); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$
"""


def test_an_overload_in_public_is_never_called(scene: Scene) -> None:
    """``format(text, oid, integer)`` fits the catalog queries better than PostgreSQL's own ``format``."""
    with scene.as_(scene.mallory) as cursor:
        cursor.execute(NARROW_EQUAL)
        cursor.execute(OVERLOADS)
    for path in ("public, pg_catalog", '"$user", public'):
        scene.database.execute(f"ALTER ROLE {scene.loader} SET search_path = {path}")
        with scene.session() as session:
            status_store.install(session)
            tables.read(session, [TABLE])
            scene.insert_run(scene.loader, f"run-{len(path)}", "ledger")
            with session.transaction() as cursor:
                indexes.save_and_drop(cursor, f"run-{len(path)}", 0, TABLE)
            session.rows(compose.SQL("SELECT * FROM migration_status.v_table_progress"))
            scene.restore(scene.loader)
        scene.database.execute("DELETE FROM migration_status.runs")

    assert scene.loot == 0


def test_every_session_and_every_function_of_the_schema_has_a_path_of_its_own(scene: Scene) -> None:
    scene.database.execute(f"ALTER ROLE {scene.loader} SET search_path = public, pg_catalog")
    with scene.session() as session:
        status_store.install(session)
        (row,) = session.rows(compose.SQL("SELECT current_setting('search_path') AS path"))
    functions = scene.database.rows(
        "SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'migration_status'::regnamespace"
    )

    assert row["path"].split(", ") == ["pg_catalog", "pg_temp"]
    assert {name for name, _ in functions} >= {"restore_index", "may_see", "held_by_others", "is_definition"}
    assert [name for name, config in functions if "search_path=pg_catalog, pg_temp" not in (config or ())] == []


# --- definitions that are run later -----------------------------------------------------------------------------------

FORGED = {
    "another statement": ("x", "ALTER ROLE {mallory} SUPERUSER", "index", "[]"),
    "a second statement": (
        "x",
        "CREATE INDEX x ON public.ledger USING btree (note); ALTER ROLE {mallory} SUPERUSER",
        "index",
        "[]",
    ),
    "a second statement behind a quote": (
        "x",
        "CREATE INDEX x ON public.ledger USING btree (note) WHERE note = 'a\\'; ALTER ROLE {mallory} SUPERUSER; --'",
        "index",
        "[]",
    ),
    "a second statement behind an E string": (
        "x",
        "CREATE INDEX x ON public.ledger USING btree (note) WHERE note = E'\\''; ALTER ROLE {mallory} SUPERUSER; --'",
        "index",
        "[]",
    ),
    "a name before a quote that ends in E": (
        "x",
        "CREATE INDEX x ON public.ledger USING btree (note) WHERE note = éE'\\'; ALTER ROLE {mallory} SUPERUSER; --'",
        "index",
        "[]",
    ),
    "a second statement between dollars": (
        "x",
        "CREATE INDEX x ON public.ledger USING btree (note) WHERE note = $$'$$; ALTER ROLE {mallory} SUPERUSER; --'",
        "index",
        "[]",
    ),
    "another table": ("x", "CREATE INDEX x ON public.secret USING btree (ssn)", "index", "[]"),
    "another name": ("x", "CREATE INDEX y ON public.ledger USING btree (note)", "index", "[]"),
    "a second command of ALTER TABLE": (
        "k",
        "ALTER TABLE public.ledger ADD CONSTRAINT k FOREIGN KEY (id) REFERENCES public.ledger(id), OWNER TO {mallory}",
        "foreign key",
        "[]",
    ),
    "a constraint of another kind": (
        "k",
        "ALTER TABLE public.ledger ADD CONSTRAINT k CHECK (mallory.f(note))",
        "foreign key",
        "[]",
    ),
    "a statement afterwards": (
        "x",
        "CREATE INDEX x ON public.ledger USING btree (note)",
        "index",
        '["ALTER ROLE {mallory} SUPERUSER"]',
    ),
    "a second statement afterwards": (
        "x",
        "CREATE INDEX x ON public.ledger USING btree (note)",
        "index",
        "[\"COMMENT ON INDEX public.x IS ''; ALTER ROLE {mallory} SUPERUSER\"]",
    ),
}


def test_what_is_no_definition_of_the_index_is_not_executed_even_for_an_administrator(scene: Scene) -> None:
    """The worst case: the row is written by the table's own owner."""
    scene.install()
    for forged, (name, definition, kind, afterwards) in FORGED.items():
        values = [text.replace("{mallory}", scene.mallory) for text in (definition, afterwards)]
        scene.save(scene.loader, name, values[0], kind=kind, afterwards=values[1])

        (failed,) = scene.restore().failed

        assert failed.error_code == "SM002", forged
        assert f"what role {scene.loader} saved is no definition of it" in str(failed.problem), forged
        scene.database.execute("DELETE FROM migration_status.saved_indexes")
    assert scene.database.rows("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (scene.mallory,)) == [(False,)]
    assert scene.database.rows("SELECT relname FROM pg_class WHERE relname IN ('x', 'y', 'k')") == []
    owner = scene.database.rows("SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'ledger'")
    assert owner == [(scene.loader,)]


def test_a_definition_is_not_executed_for_a_role_that_does_not_own_the_table(scene: Scene) -> None:
    """An index may call a function of someone else, which runs with the rights of the table's owner."""
    scene.install()
    with scene.as_(scene.mallory) as cursor:
        cursor.execute(
            "CREATE FUNCTION mallory.f(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO mallory.taken VALUES (current_user); RETURN $1; END $$;"
        )
    scene.save(scene.mallory, "x", "CREATE INDEX x ON public.ledger USING btree (mallory.f(note))")

    (failed,) = scene.restore().failed

    assert f"role {scene.mallory}, which saved it, has not the rights of the table's owner {scene.loader}" in str(
        failed.problem
    )
    assert scene.loot == 0


def test_an_administrator_builds_with_the_rights_of_the_owner(scene: Scene) -> None:
    """The foreign key is the owner's wish; only an administrator could refer to that table."""
    scene.install()
    scene.database.execute("CREATE TABLE private (id bigint PRIMARY KEY); INSERT INTO private VALUES (1)")
    definition = "ALTER TABLE public.ledger ADD CONSTRAINT k FOREIGN KEY (id) REFERENCES public.private(id)"
    scene.save(scene.loader, "k", definition, kind="foreign key")

    (failed,) = scene.restore().failed

    assert "permission denied for table private" in str(failed.problem)


def test_a_role_cannot_sign_a_definition_with_the_name_of_another(scene: Scene) -> None:
    scene.install()
    scene.save(scene.mallory, "x", "CREATE INDEX x ON public.ledger USING btree (note)")

    with scene.as_(scene.mallory) as cursor, pytest.raises(psycopg2.Error, match="row-level security"):
        cursor.execute("UPDATE migration_status.saved_indexes SET loaded_by = %s", (scene.loader,))


# --- whose the schema is ----------------------------------------------------------------------------------------------


def test_a_schema_that_somebody_else_made_is_refused_before_anything_in_it_is_read(scene: Scene) -> None:
    with scene.as_(scene.mallory) as cursor:
        cursor.execute(
            "CREATE SCHEMA migration_status; GRANT ALL ON SCHEMA migration_status TO PUBLIC;"
            "CREATE FUNCTION migration_status.take() RETURNS integer LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO mallory.taken VALUES (current_user); RETURN 5; END $$;"
            "CREATE VIEW migration_status.schema_version AS SELECT migration_status.take() AS version;"
            "GRANT ALL ON ALL TABLES IN SCHEMA migration_status TO PUBLIC"
        )
    for user in (scene.loader, scene.database.server.user):
        for ask in (status_store.install, status_store.require_installed, status_store.is_installed):
            with scene.session(user) as session, pytest.raises(AccessError) as caught:
                ask(session)
            assert f"schema migration_status belongs to role {scene.mallory}" in caught.value.message
            assert "postgres.status_schema_owner" in caught.value.message
    assert scene.loot == 0


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        ("CREATE TABLE migration_status.watermarks (x text)", "table migration_status.watermarks"),
        (
            "CREATE FUNCTION migration_status.may_see(name) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
            "function migration_status.may_see",
        ),
        ("CREATE VIEW migration_status.v_table_progress AS SELECT 1 AS a", "view migration_status.v_table_progress"),
    ],
)
def test_what_somebody_else_put_into_the_schema_is_refused(scene: Scene, planted: str, named: str) -> None:
    scene.database.execute(
        f"CREATE SCHEMA migration_status AUTHORIZATION {scene.loader};"
        f"GRANT CREATE, USAGE ON SCHEMA migration_status TO {scene.mallory}"
    )
    with scene.as_(scene.mallory) as cursor:
        cursor.execute(planted)

    with scene.session() as session, pytest.raises(AccessError, match=f"{named} belongs to role {scene.mallory}"):
        status_store.install(session)


def test_a_trigger_that_somebody_else_put_on_a_table_is_refused(scene: Scene) -> None:
    with scene.session() as session:
        status_store.install(session)
    scene.database.execute(
        f"GRANT USAGE ON SCHEMA migration_status TO {scene.mallory};"
        f"GRANT TRIGGER ON ALL TABLES IN SCHEMA migration_status TO {scene.mallory}"
    )
    with scene.as_(scene.mallory) as cursor:
        cursor.execute(
            "CREATE FUNCTION mallory.take() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO mallory.taken VALUES (current_user); RETURN new; END $$;"
            "CREATE TRIGGER early BEFORE INSERT ON migration_status.runs"
            " FOR EACH ROW EXECUTE FUNCTION mallory.take()"
        )

    with scene.session() as session, pytest.raises(AccessError) as caught:
        status_store.install(session)

    assert "function take of trigger early on migration_status.runs" in caught.value.message
    assert f"belongs to role {scene.mallory}" in caught.value.message


def test_an_owner_is_trusted_when_a_member_asks_or_the_config_names_it(scene: Scene) -> None:
    with scene.session(scene.mallory) as session:
        status_store.install(session)
    with scene.session(scene.loader) as session, pytest.raises(AccessError):
        status_store.require_installed(session)

    scene.database.execute(
        f"GRANT USAGE ON SCHEMA migration_status TO {scene.loader};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA migration_status TO {scene.loader}"
    )
    with scene.session(scene.loader, status_schema_owner=scene.mallory) as session:
        status_store.require_installed(session)

    scene.database.execute(f"GRANT {scene.mallory} TO {scene.loader}")
    with scene.session(scene.loader) as session:
        status_store.require_installed(session)


# --- roles beside each other ------------------------------------------------------------------------------------------


def test_each_role_sees_and_changes_only_its_own_runs(scene: Scene) -> None:
    scene.install()
    scene.insert_run(scene.loader, "run-of-loader", "ledger")
    scene.insert_run(scene.other, "run-of-other", "elsewhere")
    for role, run in ((scene.loader, "run-of-loader"), (scene.other, "run-of-other")):
        with scene.as_(role) as cursor:
            for relation in (*TABLES_OF_RUNS, *VIEWS):
                cursor.execute(f"SELECT run_id FROM migration_status.{relation}")
                assert cursor.fetchall() == [(run,)], relation
            cursor.execute("UPDATE migration_status.runs SET status = 'abandoned'")
            assert cursor.rowcount == 1
            cursor.execute("UPDATE migration_status.run_tables SET load_epoch = load_epoch + 1")
            assert cursor.rowcount == 1
    with scene.as_(scene.other) as cursor, pytest.raises(psycopg2.Error, match="row-level security"):
        cursor.execute(
            "INSERT INTO migration_status.run_tables (run_id, table_id, source_table, target_schema,"
            " target_table, strategy) VALUES ('run-of-loader', 7, 'X', 'public', 'x', 'one_scan')"
        )


def test_a_watcher_sees_the_runs_of_all_and_changes_none(scene: Scene) -> None:
    scene.install()
    scene.insert_run(scene.loader, "run-of-loader", "ledger")
    scene.insert_run(scene.other, "run-of-other", "elsewhere")
    watcher = scene.mallory
    scene.database.execute(
        f"REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA migration_status FROM {watcher};"
        f"REVOKE ALL ON migration_status.rejected_rows FROM {watcher}"
    )
    with scene.as_(watcher) as cursor:
        for relation in (*TABLES_OF_RUNS, *VIEWS):
            cursor.execute(f"SELECT run_id FROM migration_status.{relation} ORDER BY 1")
            assert cursor.fetchall() == [("run-of-loader",), ("run-of-other",)], relation
        for forbidden in (
            "DELETE FROM migration_status.runs",
            "SELECT * FROM migration_status.rejected_rows",
            "UPDATE migration_status.watermarks SET watermark = ''",
        ):
            with pytest.raises(psycopg2.Error, match="permission denied"):
                cursor.execute(forbidden)


def test_views_that_look_with_the_rights_of_their_owner_show_each_role_its_own_runs(scene: Scene) -> None:
    """As on PostgreSQL 13 and 14; the owner of the views loads too, and neither sees the other's runs in them."""
    scene.install(owner=scene.loader)
    how = "" if scene.version < 150_000 else "ALTER VIEW migration_status.{0} RESET (security_invoker);"
    for view in VIEWS:
        scene.database.execute(f"{how}ALTER VIEW migration_status.{{0}} SET (security_barrier = true)".format(view))
    scene.insert_run(scene.loader, "run-of-loader", "ledger")
    scene.insert_run(scene.other, "run-of-other", "elsewhere")
    scene.database.execute(
        f"REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA migration_status FROM {scene.mallory};"
        f"REVOKE SELECT ON migration_status.chunks FROM {scene.mallory}"
    )
    for role, runs in (
        (scene.loader, ["run-of-loader"]),
        (scene.other, ["run-of-other"]),
        (scene.mallory, ["run-of-loader", "run-of-other"]),
    ):
        with scene.as_(role) as cursor:
            for view in VIEWS:
                cursor.execute(f"SELECT run_id FROM migration_status.{view} ORDER BY 1")
                assert [run for (run,) in cursor.fetchall()] == runs, (role, view)
            cursor.execute("SELECT DISTINCT chunk_range FROM migration_status.migration_chunk_status")
            assert cursor.fetchall() == [(None if role == scene.mallory else "{}",)]
    for view in VIEWS:
        with (
            scene.as_(scene.other) as cursor,
            pytest.raises(psycopg2.Error, match=r"only read|cannot delete from view"),
        ):
            cursor.execute(f"DELETE FROM migration_status.{view}")


def test_no_role_changes_the_key_of_the_fingerprints_and_a_watcher_does_not_read_it(scene: Scene) -> None:
    scene.install()
    key = scene.database.rows("SELECT key FROM migration_status.fingerprint_key")
    watcher = f"watcher_{scene.database.name}"
    scene.database.execute(
        f"CREATE ROLE {watcher} LOGIN; GRANT USAGE ON SCHEMA migration_status TO {watcher};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA migration_status TO {watcher}"
    )
    try:
        with scene.as_(scene.loader) as cursor:
            cursor.execute("SELECT migration_status.fingerprint('x') IS NOT NULL")
            assert cursor.fetchone() == (True,)
            cursor.execute("UPDATE migration_status.fingerprint_key SET key = decode(repeat('00', 32), 'hex')")
            cursor.execute("DELETE FROM migration_status.fingerprint_key")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(
                    "INSERT INTO migration_status.fingerprint_key (only_one, key)"
                    " VALUES (true, decode(repeat('00', 32), 'hex'))"
                )
        with scene.as_(watcher) as cursor:
            cursor.execute(
                "SELECT (SELECT count(*) FROM migration_status.fingerprint_key), migration_status.fingerprint('x')"
            )
            assert cursor.fetchone() == (0, None)
    finally:
        scene.database.execute(f"DROP OWNED BY {watcher} CASCADE; DROP ROLE {watcher}")
    assert scene.database.rows("SELECT key FROM migration_status.fingerprint_key") == key


def test_a_member_of_a_role_goes_on_with_its_runs(scene: Scene) -> None:
    """As where a secret store rotates between two roles."""
    scene.install()
    scene.insert_run(scene.loader, "run-of-loader", "ledger")
    scene.database.execute(f"GRANT {scene.loader} TO {scene.other}")

    with scene.as_(scene.other) as cursor:
        cursor.execute("UPDATE migration_status.runs SET waits = 1")
        assert cursor.rowcount == 1


def test_a_target_that_another_role_holds_is_refused_by_its_name(scene: Scene) -> None:
    scene.install()
    scene.insert_run(scene.loader, "run-of-loader", "ledger", status="failed")

    with scene.session(scene.other) as session, session.transaction() as cursor, pytest.raises(HeldError) as caught:
        status_store.refuse_held_by_others(cursor, [TABLE])

    assert f"role {scene.loader} has an open run on it, from run run-of-loader" in caught.value.message


def test_only_old_rows_of_the_roles_own_ended_runs_of_the_source_expire(scene: Scene) -> None:
    scene.install()
    runs = {
        "ended": (scene.loader, "failed", "ledger", 31),
        "young": (scene.loader, "completed_with_rejects", "ledger", 29),
        "on": (scene.loader, "running", "ledger", 31),
        "elsewhere": (scene.loader, "failed", "other source", 31),
        "theirs": (scene.other, "failed", "ledger", 31),
    }
    for run_id, (role, status, source, days) in runs.items():
        scene.insert_run(role, run_id, run_id, status)
        scene.database.execute(
            f"UPDATE migration_status.runs SET source_name = '{source}' WHERE run_id = '{run_id}';"
            "INSERT INTO migration_status.chunks (run_id, table_id, chunk_id, source_table, status,"
            f" reads, estimated_rows, rejected_rows) SELECT '{run_id}', 0, c, 'LEDGER', 'completed', '{{}}', 9, 2"
            " FROM generate_series(11, 12) c;"
            "INSERT INTO migration_status.rejected_rows (run_id, table_id, chunk_id, row_number, reason, row_content,"
            f" rejected_at) SELECT '{run_id}', 0, c, n, 'x', '', now() - interval '{days} days'"
            " FROM generate_series(11, 12) c, generate_series(1, 2) n"
        )
    with scene.session(scene.loader) as session:
        removed = expired_rows.remove(session, "ledger", timedelta(days=30))
        assert [(each.run_id, each.table, each.rows) for each in removed] == [("ended", "LEDGER", 4)]
        assert expired_rows.remove(session, "ledger", timedelta(days=30)) == ()
        assert expired_rows.read(session, "ended") == removed
        assert expired_rows.read(session, "ended", table="ledger", table_id=0) == removed
        assert expired_rows.read(session, "young") == expired_rows.read(session, "ended", table="X") == ()
        (line,) = store.rejection_reasons(session, "ended")
    assert line.startswith("LEDGER: 4 rejected rows of run ended had waited longer than rejects_retention")
    kept = "SELECT run_id, count(*)::int FROM migration_status.rejected_rows GROUP BY run_id ORDER BY run_id"
    assert scene.database.rows(kept) == [("elsewhere", 4), ("on", 4), ("theirs", 4), ("young", 4)]
    counts = "SELECT rejected_rows, expired_rows FROM migration_status.chunks WHERE run_id = 'ended' AND chunk_id > 10"
    assert scene.database.rows(counts) == [(2, 2), (2, 2)]
    scene.database.execute("DELETE FROM migration_status.runs")
