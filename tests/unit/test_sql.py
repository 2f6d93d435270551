"""Named queries: each says what it is for, each is used, and PostgreSQL understands each."""

import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql as compose

from snowmelt.sql_text import queries
from snowmelt_sandbox.postgres import Database, LocalPostgres

SOURCES = Path(queries.__file__).parents[1]
NOW = datetime(2026, 11, 1, tzinfo=UTC)
UUID = "2f1d3a52-6c1f-4f6e-9a53-2d3f6f0f7a11"
VALUES: dict[str, object] = {
    "allow_shrink": False,
    "accept_rejected": False,
    "rejected": 0,
    "inserted": 1,
    "updated": 0,
    "unchanged": 0,
    "deduplicated": 0,
    "schema": "public",
    "constraint": "checked",
    "row_numbers": [1],
    "columns": ["c"],
    "sqlstates": ["22001"],
    "reasons": ["why"],
    "reasons_in_full": ["why"],
    "contents": [b"{}"],
    "backend_pid": 1,
    "backend_start": NOW,
    "began_at": NOW,
    "begin": NOW,
    "since": NOW,
    "changes": '{"c": {"too_long": 1}}',
    "chunk_id": 1,
    "chunk_ids": [1],
    "code_path": "pg_catalog, pg_temp",
    "config_hash": "h",
    "error_code": "DataError",
    "error_text": "text",
    "estimated_rows": [1],
    "error_codes": ["TableSkippedError"],
    "error_texts": ["why"],
    "execution_id": "arn:e",
    "indexes": "[]",
    "lease_token": UUID,
    "limit": 1,
    "load_epoch": 1,
    "load_mode": "copy",
    "loads_after": ["{}"],
    "key_columns": ['["id"]'],
    "adds_only": [True],
    "max_attempts": 3,
    "new_read_codes": ["RowCountError"],
    "most": 5,
    "older_than": timedelta(days=30),
    "omitted": [""],
    "names": ["statement_timeout"],
    "parts": 10,
    "pids": [1],
    "plan_format": 1,
    "progress_mark": 1,
    "query_id": "q",
    "reads": ['{"rows": 1}'],
    "reason": "closed",
    "round": 1,
    "rows": 1,
    "run_id": "r",
    "saved_id": 1,
    "schema_name": "migration_status",
    "schemas": ["public"],
    "search_path": "",
    "seconds": 1.5,
    "size_bytes": 1,
    "snapshot_at": NOW,
    "snowmelt_version": "1",
    "source_name": "s",
    "source_rows": 1,
    "source_table": "T",
    "source_tables": ["T"],
    "spent_seconds": 1.5,
    "stalled_rounds": 0,
    "starts": [NOW],
    "store": "s3://b",
    "strategies": ["one_scan"],
    "table_id": 1,
    "table_ids": [1],
    "table_name": "watermarks",
    "tables": ["t"],
    "target_columns": '{"t": "23 -1"}',
    "target_schema": "public",
    "target_table": "t",
    "values": ["0"],
    "waits": 0,
}
"""A value of the right kind for each parameter that is no number, and for some that are."""
MAY_BE_NULL = (
    "backend_pid",
    "backend_start",
    "began_at",
    "changes",
    "error_code",
    "error_text",
    "run_id",
    "spent_seconds",
    "table_id",
)


@pytest.fixture(scope="module")
def installed(postgres: LocalPostgres) -> Iterator[Database]:
    """A database with the status schema."""
    with postgres.database() as database:
        database.execute(queries.text("engine/status_schema.sql"))
        yield database


def explained(database: Database, name: str, values: dict[str, object]) -> list[tuple[Any, ...]]:
    """The plan that PostgreSQL makes of a query; it is parsed and typed, and not run."""
    parameters = set(re.findall(r"%\((\w+)\)s", queries.query(name)))
    connection = database.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN " + queries.query(name), {**dict.fromkeys(parameters, 1), **values})
            return cursor.fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("name", queries.names())
def test_a_query_says_what_it_is_for(name: str) -> None:
    description = re.match(r"-- ([^\n]+(?:\n-- [^\n]+)*)\n", queries.query(name))

    assert description is not None
    assert description[1].endswith((".", "?"))
    assert len(description[1].split()) >= 2


@pytest.mark.parametrize("name", queries.names())
def test_a_query_is_used(name: str) -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in SOURCES.rglob("*.py"))

    assert f'"{name}"' in code


@pytest.mark.parametrize("name", queries.names())
def test_a_query_is_one_statement(name: str) -> None:
    assert ";" not in re.sub(r"--[^\n]*|'[^']*'", "", queries.query(name))


@pytest.mark.parametrize("name", queries.names())
def test_postgresql_understands_a_query(installed: Database, name: str) -> None:
    assert explained(installed, name, VALUES)


@pytest.mark.parametrize("name", queries.names())
def test_postgresql_understands_a_query_whose_values_are_missing(installed: Database, name: str) -> None:
    """NULL has no type of its own: a parameter that needs a cast shows here."""
    assert explained(installed, name, {**VALUES, **dict.fromkeys(MAY_BE_NULL)})


def test_every_value_tried_here_belongs_to_a_query() -> None:
    text = " ".join(queries.query(name) for name in queries.names())

    assert set(VALUES) - set(re.findall(r"%\((\w+)\)s", text)) == set()


def test_code_asks_for_no_query_that_is_not_there() -> None:
    asked = {
        name
        for file in SOURCES.rglob("*.py")
        for name in re.findall(r'queries\.query\(\s*"(\w+)"', file.read_text(encoding="utf-8"))
    }

    assert asked <= set(queries.names())
    assert len(asked) > 20


def test_a_query_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        queries.query("drop_everything")


MADE_ELSEWHERE = {
    "loading.staging.create": "a type of our own table of types",
    "loading.staging._value": "a cast of our own table of types",
    "postgres.tables.create": "DDL that schema_ddl writes, every name in it quoted",
    "preflight.key_values._value": "a cast, a type and a collation, quoted, of our own table of types",
    "selftest.scratch.texts": "a text form of our own table of forms",
    "selftest.scratch.try_grants": "the statements of the operators' file of grants",
    "snowflake_source.session.cancel": "the id of a query as a literal, where nothing can be bound",
    "verification.target_hashes._hash": "a text form of our own table of forms",
    "verification.target_hashes.side_by_side": "a text form of our own table of forms",
    "verification.target_hashes.target_rows": "the sign of a sum",
}
"""The functions that give a statement text which is not in the source right there, and what that text is."""


def test_statements_are_literals_but_in_the_functions_named() -> None:
    found = {
        f"{'.'.join(file.relative_to(SOURCES).with_suffix('').parts)}.{function.name}"
        for file in SOURCES.rglob("*.py")
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef) and any(map(_is_made_elsewhere, _statements(function)))
    }
    assert found == set(MADE_ELSEWHERE)


def _statements(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """Yield what a function composes as SQL or gives to a cursor as text."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            is_composed = node.func.attr == "SQL"
            is_text = node.func.attr in ("execute", "executemany") and not isinstance(node.args[0], ast.Call | ast.Name)
            if is_composed or is_text:
                yield node.args[0]


def _is_made_elsewhere(text: ast.expr) -> bool:
    if isinstance(text, ast.IfExp):
        return _is_made_elsewhere(text.body) or _is_made_elsewhere(text.orelse)
    return not isinstance(text, ast.Constant)


def test_names_of_every_kind_survive_quoting(database: Database) -> None:
    for name in ('a "b" c', "x'; DROP TABLE y; --", "Größe", "%s", "select"):
        database.execute(compose.SQL("CREATE TABLE {} ()").format(compose.Identifier(name)))
    names = database.rows("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")

    assert len(names) == 5
