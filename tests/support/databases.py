"""Empty databases for tests: making and dropping one costs more than many a test does, so emptied ones serve again."""

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
from psycopg2 import sql

from snowmelt_sandbox.postgres import Database, LocalPostgres

_FIRST_USER_OID = 16_384
_IS_AS_MADE = f"""
    SELECT datacl IS NULL AND datconnlimit = -1 AND datallowconn
       AND NOT EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = d.oid)
       AND NOT EXISTS (SELECT FROM pg_default_acl)
       AND NOT EXISTS (SELECT FROM pg_largeobject_metadata)
       AND NOT EXISTS (SELECT FROM pg_extension WHERE oid >= {_FIRST_USER_OID})
       AND NOT EXISTS (SELECT FROM pg_event_trigger)
       AND NOT EXISTS (SELECT FROM pg_publication)
       AND NOT EXISTS (SELECT FROM pg_foreign_data_wrapper)
       AND NOT EXISTS (SELECT FROM pg_cast WHERE oid >= {_FIRST_USER_OID})
    FROM pg_database AS d WHERE datname = current_database()
"""
"""Whether the database differs from a new one by schemas and what is in them, and by nothing else."""
_EMPTY_IT = """
    DO $$
    DECLARE name text;
    BEGIN
        FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
            EXECUTE format('DROP SCHEMA %I CASCADE', name);
        END LOOP;
        CREATE SCHEMA public AUTHORIZATION pg_database_owner;
        GRANT USAGE ON SCHEMA public TO PUBLIC;
    END
    $$
"""
_END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"


class Databases:
    """Databases of one server, each lent to one test."""

    def __init__(self, server: LocalPostgres) -> None:
        self._server = server
        self._idle: list[str] = []

    @contextmanager
    def lend(self) -> Iterator[Database]:
        """An empty database by a name that was never used; afterwards every connection to it is ended."""
        name = f"test_{secrets.token_hex(6)}"
        if self._idle:
            renamed = sql.SQL("ALTER DATABASE {} RENAME TO {}")
            self._server.execute(renamed.format(sql.Identifier(self._idle.pop()), sql.Identifier(name)))
        else:
            self._server.create_database(name)
        try:
            yield Database(self._server, name)
        finally:
            if self._is_emptied(name):
                self._idle.append(name)
            else:
                self._server.drop_database(name)

    def _is_emptied(self, name: str) -> bool:
        try:
            self._server.rows(_END_SESSIONS, (name,))
            with closing(self._server.connect(name)) as connection, connection.cursor() as cursor:
                cursor.execute(_EMPTY_IT)
                cursor.execute(_IS_AS_MADE)
                return bool(cursor.fetchall()[0][0])
        except psycopg2.Error:  # whatever a test did to it, it is dropped then
            return False
