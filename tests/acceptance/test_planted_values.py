"""Test that values of rows stay in the database: failures of many kinds, and a search for the values they are about."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pytest
from psycopg2 import sql

from support.psql import run_psql
from support.world import World

GRANTS = Path(__file__).parents[2] / "sql" / "grants_postgres.sql"
SSN = "078-05-1120"
NAME = "Geraldine Q. Montague"
PLANTED = (SSN, "078051120", NAME, "Montague", "198.51.100.1.9", "2741-13-57")
RAISES = """
CREATE FUNCTION raise_{state}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.v LIKE '078%' OR NEW.v LIKE 'Ger%' THEN
        RAISE EXCEPTION 'nobody is called %', NEW.v USING ERRCODE = '{state}', DETAIL = NEW.v, HINT = NEW.v;
    END IF; RETURN NEW; END $$;
CREATE TRIGGER raises BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION raise_{state}();
"""


@dataclass(frozen=True)
class Failure:
    """A table whose load fails over a planted value."""

    ddl: str
    values: tuple[str | None, ...] = (SSN, SSN)
    settings: dict[str, Any] = field(default_factory=dict)


def raising(table: str, state: str) -> Failure:
    """Return a failure over what a trigger says, whatever SQLSTATE it says it with."""
    return Failure(f"CREATE TABLE {table} (id bigint, v text);" + RAISES.format(state=state, table=table))


COPY_OF_V = "w text GENERATED ALWAYS AS (v) STORED UNIQUE"
"""A key that the source does not have, so that nobody looks for duplicates of it before the load."""
UNBUILT: dict[str, Any] = {"disable_index": True}
KEYED: dict[str, Any] = {"uniqueness_columns": ["V"]}
FAILURES: dict[str, Failure] = {
    "unique_key": Failure(f"CREATE TABLE unique_key (id bigint, v text, {COPY_OF_V})"),
    "two_columns": Failure("CREATE TABLE two_columns (id bigint, v text, w text DEFAULT 'w', UNIQUE (v, w))"),
    "lower_key": Failure("CREATE TABLE lower_key (id bigint, v text); CREATE UNIQUE INDEX ON lower_key (lower(v))"),
    "hostile": Failure(
        f"CREATE TABLE hostile (id bigint, v text, {COPY_OF_V})", (f"a) is b) already exists. {NAME}",) * 2
    ),
    "refers": Failure("CREATE TABLE o (v text PRIMARY KEY); CREATE TABLE refers (id bigint, v text REFERENCES o)"),
    "excludes": Failure("CREATE TABLE excludes (id bigint, v text, EXCLUDE (v WITH =))"),
    "checked": Failure("CREATE TABLE checked (id bigint, v text CHECK (v NOT LIKE '078%'))"),
    "needed": Failure(f"CREATE TABLE needed (id bigint, v text NOT NULL, w text DEFAULT '{NAME}')", (None, SSN)),
    "enumerated": Failure("CREATE TYPE hue AS ENUM ('red'); CREATE TABLE enumerated (id bigint, v hue)"),
    "addressed": Failure("CREATE TABLE addressed (id bigint, v inet)", ("198.51.100.1.9",)),
    "numbered": Failure("CREATE TABLE numbered (id bigint, v integer[])", (f'["{SSN}"]',)),
    "too_big": Failure("CREATE TABLE too_big (id bigint, v smallint[])", ("[78051120, 078051120]",)),
    "ranged": Failure("CREATE TABLE ranged (id bigint, v int4range)", (f"[{SSN},)",)),
    "dated": Failure("CREATE TABLE dated (id bigint, v daterange)", ("[2741-13-57,)",)),
    "documented": Failure("CREATE TABLE documented (id bigint, v xml)", (f"<a>{NAME}",)),
    "queried": Failure("CREATE TABLE queried (id bigint, v tsquery)", (f"'{NAME}' & &",)),
    "networked": Failure("CREATE TABLE networked (id bigint, v macaddr)"),
    "bits": Failure("CREATE TABLE bits (id bigint, v bit(4))"),
    "short": Failure("CREATE TABLE short (id bigint, v varchar(5))"),
    "unique_id": Failure("CREATE TABLE unique_id (id bigint, v uuid)"),
    "in_domain": Failure("CREATE DOMAIN d text CHECK (VALUE !~ '^078'); CREATE TABLE in_domain (id bigint, v d)"),
    "parted": Failure(
        "CREATE TABLE parted (id bigint, v text) PARTITION BY LIST (v);"
        "CREATE TABLE part PARTITION OF parted FOR VALUES IN ('x')"
    ),
    "raises_p0001": raising("raises_p0001", "P0001"),
    "raises_23514": raising("raises_23514", "23514"),
    "raises_42501": raising("raises_42501", "42501"),
    "raises_53100": raising("raises_53100", "53100"),
    "casts": Failure(
        "CREATE TABLE casts (id bigint, v text); CREATE FUNCTION casting() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM NEW.v::regclass; RETURN NEW; END $$;"
        "CREATE TRIGGER t BEFORE INSERT ON casts FOR EACH ROW EXECUTE FUNCTION casting()"
    ),
    "computed": Failure(
        "CREATE FUNCTION digits(v text) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT v::integer';"
        "CREATE TABLE computed (id bigint, v text); CREATE INDEX ON computed (public.digits(v))"
    ),
    "merged": Failure("CREATE TABLE merged (id int, v text UNIQUE);INSERT INTO merged VALUES (1, 'x')", settings=KEYED),
    "indexed": Failure(
        "CREATE TABLE indexed (id bigint, v text);CREATE UNIQUE INDEX ON indexed (upper(v))", settings=UNBUILT
    ),
    "built": Failure(
        "CREATE FUNCTION figure(v text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN v::int; END $$;"
        "CREATE TABLE built (id bigint, v text); CREATE INDEX ON built (public.figure(v))",
        settings=UNBUILT,
    ),
    "filtered": Failure("CREATE TABLE filtered (id bigint, v text)", settings={"source_filter": "V::INTEGER > 5"}),
    "leads": Failure(
        "CREATE TABLE led_to (id bigint, v text PRIMARY KEY);CREATE TABLE leads (id bigint, v text REFERENCES led_to)",
        (f"{SSN}-a", f"{SSN}-b"),
    ),
    "led_to": Failure("SELECT 1", ("x", "y")),
    "repeated": Failure("CREATE TABLE repeated (id bigint, v text UNIQUE)"),
    "key_range": Failure(
        f"CREATE TABLE key_range (id bigint, v text, {COPY_OF_V})", settings={"chunking_columns": ["V"]}
    ),
}
KEEP_A_RUN_FROM_BEGINNING = {"merged", "repeated"}
PARENTS = {"led_to"}
ONE_OF_EACH = (
    *("unique_key", "refers", "needed", "enumerated", "in_domain", "parted", "raises_p0001", "casts", "computed"),
    *("merged", "indexed", "leads", "led_to", "repeated", "key_range"),
)
"""Failures in each place where values are met: columns, keys, constraints, triggers, indexes, ranges."""


def plant(world: World, name: str, failure: Failure) -> None:
    """Make the table on both sides and name it in the config."""
    rows = pa.table(
        {"ID": pa.array(range(len(failure.values)), pa.int64()), "V": pa.array(failure.values, pa.string())}
    )
    types = {"V": "VARIANT"} if any((v or "").startswith('["') for v in failure.values) else None
    world.snowflake.load_table(world.source_database, "PUBLIC", name.upper(), rows, types=types)
    world.target.execute(failure.ddl)
    world.tables.append({"source": name.upper(), **failure.settings})


def found_in(text: str) -> list[str]:
    """List the planted values that a text holds."""
    return [value for value in PLANTED if value in text]


def of_watcher(world: World, role: str) -> Iterator[tuple[str, str]]:
    """Yield every relation of the status schema that the watcher may read, with all that he may read of it."""
    connection = world.target.connect()
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        cursor.execute(
            "SELECT c.relname, array_agg(a.attname::text) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE relnamespace = 'migration_status'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0"
            " AND has_column_privilege(c.oid, a.attnum, 'SELECT') GROUP BY relname"
        )
        for relation, columns in cursor.fetchall():
            listed = sql.SQL(", ").join(map(sql.Identifier, columns))
            cursor.execute(sql.SQL("SELECT {} FROM {}").format(listed, sql.Identifier("migration_status", relation)))
            yield relation, str(cursor.fetchall())
    connection.close()


def stored(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the files of the store that people are sent: reports, not the plans that workers read."""
    for path in folder.rglob("*"):
        if path.is_file() and re.search(r"report", path.name):
            yield str(path), path.read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize("names", [ONE_OF_EACH, pytest.param(tuple(FAILURES), marks=pytest.mark.full)], ids=len)
def test_no_planted_value_leaves_the_database_but_where_it_is_said(world: World, names: tuple[str, ...]) -> None:
    for name in names:
        plant(world, name, FAILURES[name])
    world.configure(max_retry_attempts=1, verification="checksums")
    said = [world.cli("migrate"), world.cli("preflight")]
    assert "as in V=[value" in said[0].err
    assert re.search(r"no row of LED_TO, as\s+\[value", said[1].out)
    world.tables[:] = [each for each in world.tables if each["source"].lower() not in KEEP_A_RUN_FROM_BEGINNING]
    world.configure(max_retry_attempts=1, verification="checksums")

    said += [world.cli("migrate", "--dry-run", *more) for more in ((), ("--json",))]
    said += [world.cli("migrate", "--log-level", "DEBUG", *more) for more in (("--json",), ())]
    said += [world.cli(*words) for words in (("status",), ("status", "--json"), ("errors",), ("errors", "--json"))]
    said += [world.cli("rejects", "list"), world.cli("report", "--json")]

    watcher = f"watcher_of_{world.target.name}"
    world.target.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(watcher)))
    try:
        granted = run_psql(world.target.dsn, "-f", str(GRANTS), role="postgres", schema="public", watcher=watcher)
        assert granted.returncode == 0, granted.stderr
        told = dict(of_watcher(world, watcher))
        with world.target.connect() as connection, connection.cursor() as cursor:
            for hidden in ("rejected_rows", "chunks", "watermarks", "fingerprint_key"):
                cursor.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(watcher)))
                with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                    cursor.execute(sql.SQL("SELECT * FROM migration_status.{}").format(sql.Identifier(hidden)))
                connection.rollback()
    finally:
        world.target.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(watcher)))

    failed = world.target.rows(
        "SELECT lower(source_table) FROM migration_status.run_tables WHERE error_text IS NOT NULL"
    )
    assert {name for (name,) in failed} >= set(names) - KEEP_A_RUN_FROM_BEGINNING - PARENTS
    leaks = {each.out[:80]: found_in(each.out + each.err) for each in said}
    leaks |= {where: found_in(text) for where, text in told.items()}
    leaks |= {where: found_in(text) for where, text in stored(world.folder / "store")}
    sent = world.snowflake.queries(containing=world.source_database, include_describe=True)
    leaks |= {f"Snowflake's history: {query['text'][:200]}": found_in(query["text"]) for query in sent}
    assert len(sent) > len(names)
    assert {where: values for where, values in leaks.items() if values} == {}
    kept = world.target.rows(
        "SELECT convert_from(row_content, 'UTF8') || coalesce(reason_in_full, '') FROM migration_status.rejected_rows"
    )
    assert SSN in str(kept)
    assert f"nobody is called {SSN}" in str(kept)


def test_a_person_at_a_terminal_may_see_the_values(world: World) -> None:
    plant(world, "enumerated", FAILURES["enumerated"])
    plant(world, "raises_p0001", FAILURES["raises_p0001"])
    plant(world, "unique_key", FAILURES["unique_key"])
    world.configure(max_retry_attempts=1)

    shown = world.cli("migrate", "--show-values")
    assert f"Key (w)=({SSN}) already exists" in shown.out + shown.err
    for command in (("rejects", "list"), ("errors",)):
        assert SSN not in world.cli(*command).out
        values = world.cli(*command, "--show-values").out
        assert f"nobody is called {SSN}" in " ".join(values.split())
    refused = world.cli("errors", "--show-values", "--json")
    assert (refused.exit_code, "rejects export" in refused.err) == (2, True)
    (line, *_) = world.cli("rejects", "export").out.splitlines()
    assert SSN in json.loads(line)["values"]["V"]


def test_an_operator_finds_a_row_by_the_fingerprint_of_its_value(world: World) -> None:
    plant(world, "unique_key", FAILURES["unique_key"])
    world.configure(max_retry_attempts=1)

    said = world.cli("migrate")

    (fingerprint,) = set(re.findall(r"Key \(w\)=\((\[value [0-9a-f]{10}\])\)", said.out + said.err))
    assert world.target.rows("SELECT migration_status.fingerprint(%s)", (SSN,)) == [(fingerprint,)]
