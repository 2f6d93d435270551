"""A status schema of another name: every loader has one of its own, and another tool keeps its ``migration_status``."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from snowmelt import runner
from snowmelt.config import PostgresConfig
from snowmelt.engine import status_store
from snowmelt.errors import ConfigError, MissingError
from snowmelt.postgres.session import Session
from snowmelt.settings import Settings
from snowmelt.sql_text import queries
from snowmelt.wiring import Wiring
from snowmelt_sandbox.postgres import Database
from snowmelt_sandbox.snowflake import LocalSnowflake


def connect(database: Database, schema: str) -> Session:
    server = database.server
    config = PostgresConfig(
        host=server.host, port=server.port, user=server.user, sslmode="disable", status_schema=schema
    )
    return Session.connect(config, database=database.name, application_name="test")


@pytest.fixture
def source(snowflake: LocalSnowflake) -> LocalSnowflake:
    snowflake.create_schema("NAMED", "PUBLIC")
    table = "create or replace table t as select seq4() as id from table(generator(rowcount => 500))"
    snowflake.execute(table, database="NAMED", schema="PUBLIC")
    return snowflake


def wiring(database: Database, source: LocalSnowflake, folder: Path, schema: str, target: str) -> Wiring:
    config: dict[str, Any] = {
        "postgres": {"status_schema": schema},
        "sources": [
            {
                "source_name": "named",
                "source_sf_database": "NAMED",
                "source_sf_schema": "PUBLIC",
                "target_pg_database": database.name,
                "target_pg_schema": "public",
                "tables": [{"source": "T", "target": target, "uniqueness_columns": ["ID"], "disable_index": True}],
            }
        ],
    }
    path = folder / f"{schema}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    environment = {**source.environment(), **database.server.environment()}
    return Wiring(Settings(config=str(path), store=str(folder / "store")), environment)


def test_two_loaders_keep_their_status_in_schemas_of_their_own_beside_another_tools(
    database: Database, source: LocalSnowflake, tmp_path: Path
) -> None:
    database.execute(
        "CREATE SCHEMA migration_status; CREATE TABLE migration_status.migration_runs (run_id uuid PRIMARY KEY);"
        "INSERT INTO migration_status.migration_runs VALUES (gen_random_uuid());"
        "CREATE TABLE one (id bigint PRIMARY KEY); CREATE INDEX one_id ON one (id);"
        "CREATE TABLE two (LIKE one INCLUDING ALL)"
    )
    before = database.rows("SELECT * FROM migration_status.migration_runs")
    with pytest.raises(ConfigError, match=r"migration_status is another tool's.*postgres\.status_schema"):
        runner.migrate({}, wiring(database, source, tmp_path, "migration_status", "one"), execution_id="test:0")

    runs = {}
    for schema, target in (("snowmelt_one", "one"), ("snowmelt_two", "two")):
        each = wiring(database, source, tmp_path, schema, target)
        outcome = runner.migrate({}, each, execution_id=f"test:{schema}")
        assert outcome.status == "completed"
        runs[schema] = outcome.run_id

    for schema, run_id in runs.items():
        assert database.rows(f"SELECT run_id, total_rows_copied FROM {schema}.migration_runs") == [(run_id, 500)]
        assert database.rows(f"SELECT count(restored_at) FROM {schema}.saved_indexes")[0][0] > 0
        with connect(database, schema) as session:
            assert status_store.read_run(session, run_id).status == "completed"
    assert database.rows("SELECT count(*) FROM one UNION ALL SELECT count(*) FROM two") == [(500,), (500,)]
    assert database.rows("SELECT * FROM migration_status.migration_runs") == before
    functions = "SELECT prosrc FROM pg_proc WHERE pronamespace = 'snowmelt_one'::regnamespace"
    assert [text for (text,) in database.rows(functions) if "migration_status" in text] == []


def test_messages_name_the_schema_of_the_config(database: Database) -> None:
    with connect(database, "other_name") as session:
        status_store.install(session)
        database.execute(
            "DROP SCHEMA other_name CASCADE; CREATE SCHEMA other_name; CREATE VIEW other_name.chunks AS SELECT 1"
        )
        with pytest.raises(ConfigError, match="the schema other_name is another tool's"):
            status_store.check_access(session)
        database.execute("DROP SCHEMA other_name CASCADE")
        with pytest.raises(MissingError, match="the status schema, or part of it, is gone"):
            status_store.list_runs(session)


def test_an_owner_that_is_not_trusted_is_named_in_a_schema_of_another_name(database: Database) -> None:
    role = f"stranger_{database.name}"
    database.execute(f"CREATE ROLE {role}; CREATE SCHEMA elsewhere AUTHORIZATION {role}")
    server = database.server
    loader = f"loader_{database.name}"
    database.execute(f"CREATE ROLE {loader} LOGIN; GRANT USAGE ON SCHEMA elsewhere TO {loader}")
    config = PostgresConfig(
        host=server.host, port=server.port, user=loader, sslmode="disable", status_schema="elsewhere"
    )
    try:
        with (
            Session.connect(config, database=database.name, application_name="test") as session,
            pytest.raises(Exception, match=rf"schema elsewhere belongs to role {role}"),
        ):
            status_store.install(session)
    finally:
        database.execute(f"DROP OWNED BY {role}, {loader} CASCADE; DROP ROLE {role}, {loader}")


@pytest.mark.parametrize(
    "name", ["Status", "pg_status", "select", "a-b", 'x"; DROP SCHEMA y', "1st", "public", "a" * 64]
)
def test_a_name_that_would_need_quotes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"must (have lower-case|be a name)"):
        PostgresConfig(host="h", user="u", status_schema=name)


def test_every_file_is_the_same_for_another_name_but_for_the_name() -> None:
    for text in (queries.text("engine/status_schema.sql"), *map(queries.query, queries.names())):
        renamed = queries.in_schema(text, "elsewhere")
        assert not re.search(r"(?<!\w)migration_status(?!\w)", renamed)
        assert renamed.replace("elsewhere", "migration_status") == text
