"""A config of 53 tables as it has grown over years, through the state machine, twice."""

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from psycopg2 import sql

from snowmelt_sandbox.aws import LocalAws
from snowmelt_sandbox.demo import content
from snowmelt_sandbox.postgres_programs import find_programs
from snowmelt_sandbox.sandbox import Sandbox
from snowmelt_sandbox.snowflake import User
from support import fifty_three
from support.fifty_three import Table
from support.world import World

Note = Callable[[str, object], None]
Places = Mapping[str, set[tuple[str, str]]]
"""Where each row of each table lies and which transaction wrote it: what changes when a row is written again."""

EXPECTED = "EXPECTED"
"""The schema of what a target must hold, where that is not the source table as it is."""
MOST_WAL_BYTES_PER_ROW = 1_000
"""A changed row, its entry in the index of its key, and some room."""
PAGE_BYTES = 8192
"""An index whose page is split writes about a page."""
MOST_WAL_BYTES_UNCHANGED = 200
"""Rows that a changed row of another table refers to are locked for that moment, at 54 bytes each."""


@pytest.mark.full(minutes=10)
def test_fifty_three_tables_arrive_whole_and_a_second_run_rewrites_nothing_that_did_not_change(
    world: World, record_property: Note
) -> None:
    tables = fifty_three.tables()
    assert len(tables) == 53
    build(world, tables)
    plan = world.start_cli("migrate", "--dry-run", "--json").wait(within_seconds=600)
    with world.aws(concurrency=3, timeout_seconds=300) as aws:
        first = run(world, aws)
        check_what_is_declared(world, tables, json.loads(plan.out), str(first.pop("message")), aws)
        note_what_must_be_there(world, tables)
        assert different(world, tables) == []
        settle(world, tables)
        before, wal_before = places(world, tables), wal_position(world)
        for table in tables:
            change(world, table)
        second = run(world, aws)
    wal = WalBytes.since(wal_before, world)
    after = places(world, tables)
    figures = {
        "first": first,
        "second": second,
        "rows": sum(map(len, after.values())),
        "rewritten_rows": sum(len(after[t.source] - before[t.source]) for t in tables if not t.is_truncated),
        **wal.figures(tables),
    }
    record_property("figures", figures)
    print(json.dumps(figures))  # noqa: T201 - shown by pytest -rP

    note_what_must_be_there(world, tables)
    assert different(world, tables) == []
    for table in (t for t in tables if not t.is_truncated):
        gone, come = before[table.source] - after[table.source], after[table.source] - before[table.source]
        assert (table.source, len(gone), len(come)) == (table.source, table.updated, table.updated + table.inserted)
        changed = table.updated + table.inserted
        most = changed * MOST_WAL_BYTES_PER_ROW + (PAGE_BYTES if changed else MOST_WAL_BYTES_UNCHANGED)
        assert wal.rows[table.target] <= most, table.source
    big = [
        c for c in world.chunks() if c["source_table"] == fifty_three.BIG and c["run_id"] == world.runs()[0]["run_id"]
    ]
    assert len(big) >= fifty_three.BIG_ROWS // 2_500
    assert max(c["actual_rows"] for c in big) <= 5_000


# --- both sides -----------------------------------------------------------------------------------------------------


def build(world: World, tables: Sequence[Table]) -> None:
    """Sources with rows, empty targets, and the config; a 54th table is in it that no one moves."""
    for table in tables:
        world.snowflake.load_table(
            world.source_database, "PUBLIC", table.source, table.arrow(), types=table.source_types()
        )
        world.tables.append(table.config())
    world.tables.append({"source": "DIM_NOT_YET_BUILT", "enabled": False, "uniqueness_columns": ["ID"]})
    for statement in ddl(tables):
        world.target.execute(statement)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    user = User(f"READER_{world.source_database}", rsa_public_key=public)
    world.snowflake.put_user(user)
    world.variables["SNOWFLAKE_RSA_KEY"] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    snowflake = {"user": user.name, "rsa_key": "${SNOWFLAKE_RSA_KEY}"}
    world.configure(snowflake=snowflake, batch_size=1_000, parallel_threads=2, max_retry_attempts=3)


def ddl(tables: Sequence[Table]) -> list[sql.Composable]:
    """The targets. What cleans up after itself at some moment is told not to: it would write to the log too."""
    made: list[sql.Composable] = []
    for table in tables:
        columns = [
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
            for name, kind in table.target_columns().items()
        ]
        if table.key:
            key = sql.SQL(", ").join(sql.Identifier(table.column(name)) for name in table.key)
            columns.append(sql.SQL("PRIMARY KEY ({})").format(key))
        name = sql.Identifier(table.target)
        made.append(
            sql.SQL("CREATE TABLE {} ({}) WITH (autovacuum_enabled = off)").format(name, sql.SQL(", ").join(columns))
        )
        made += [sql.SQL("CREATE INDEX ON {} ({})").format(name, sql.Identifier(column)) for column in table.indexes]
    for table in tables:
        if table.references:
            column, parent = table.references
            made.append(
                sql.SQL("ALTER TABLE {} ADD FOREIGN KEY ({}) REFERENCES {}").format(
                    sql.Identifier(table.target), sql.Identifier(column), sql.Identifier(parent)
                )
            )
    return made


def run(world: World, aws: LocalAws) -> dict[str, object]:
    """One execution to its end; what it took."""
    began, invocations = time.monotonic(), aws.functions.statistics().invocations
    execution = aws.step_functions.run(timeout_seconds=900)
    assert execution.status == "SUCCEEDED", execution.cause
    last = world.runs()[-1]
    chunks = [c for c in world.chunks("completed") if c["run_id"] == last["run_id"]]
    assert {c["attempts"] for c in chunks} == {1}
    return {
        "seconds": round(time.monotonic() - began, 1),
        "rounds": last["rounds"],
        "chunks": len(chunks),
        "rows_read": sum(c["actual_rows"] for c in chunks),
        "invocations": aws.functions.statistics().invocations - invocations,
        "message": execution.output["message"],
    }


def check_what_is_declared(
    world: World, tables: Sequence[Table], plan: Mapping[str, Any], message: str, aws: LocalAws
) -> None:
    """Whatever does not arrive as it was is named in the plan, and with its count in the result and the report."""
    counts = {
        table.source: {
            table.column(name): {"narrow": count}
            for name, column in table.columns.items()
            if column.narrowed and (count := values_that_change(world, table, name))
        }
        for table in tables
    }
    declared = {source: columns for source, columns in counts.items() if columns}
    assert len(declared) > 8
    warnings = {t["table"]: " ".join(t["warnings"]) for t in plan["tables"]}
    (report,) = (
        json.loads(aws.s3().get_object(Bucket=aws.bucket, Key=o["Key"])["Body"].read())
        for o in aws.s3().list_objects_v2(Bucket=aws.bucket)["Contents"]
        if o["Key"].endswith("report.json")
    )
    assert {t["table"]: t["changed_values"] for t in report["tables"] if t["changed_values"]} == declared
    for source, columns in declared.items():
        for column, changes in columns.items():
            assert f'column "{column}"' in warnings[source]
            assert f"{source}.{column} {changes['narrow']:,}" in message


def values_that_change(world: World, table: Table, name: str) -> int:
    """How many values of a column lose digits among the rows that a run reads."""
    narrowed = str(table.columns[name].narrowed).format(c=f'"{name}"')
    condition = f'"{name}" <> {narrowed}' + "".join(
        f" AND ({given}\n)" for given in [table.settings.get("source_filter")] if given
    )
    ((count,),) = world.snowflake.execute(
        f"SELECT COUNT(*) FROM {in_snowflake(world, 'PUBLIC', table)} WHERE {condition}"
    )
    return int(count)


def change(world: World, table: Table) -> None:
    """What happens to the source between the runs."""
    for statement in table.changes:
        world.snowflake.execute(statement.format(t=in_snowflake(world, "PUBLIC", table)))


# --- what must be there ---------------------------------------------------------------------------------------------


def note_what_must_be_there(world: World, tables: Sequence[Table]) -> None:
    """Keep what each target must hold as things stand, in the words of Snowflake's own SQL."""
    is_first = len(world.runs()) == 1
    if is_first:
        world.snowflake.create_schema(world.source_database, EXPECTED)
    with world.snowflake.connect() as connection, connection.cursor() as cursor:
        for table in tables:
            here, there = in_snowflake(world, EXPECTED, table), in_snowflake(world, "PUBLIC", table)
            if table.settings.get("insert_only_mode") and not is_first:
                known = " AND ".join(f"k.{column} = n.{column}" for column in table.key)
                is_known = f"EXISTS (SELECT 1 FROM {here} k WHERE {known})"
                cursor.execute(f"INSERT INTO {here} SELECT * FROM {there} n WHERE NOT {is_known}")
            else:
                cursor.execute(f"CREATE OR REPLACE TABLE {here} AS {newest(table, there)}")


def newest(table: Table, there: str) -> str:
    """The rows that the filter lets through, and of those with one key the one with the highest watermark."""
    query = f"SELECT {', '.join(arriving(table))} FROM {there}"
    if condition := table.settings.get("source_filter"):
        query += f" WHERE ({condition}\n)"
    if watermark := table.settings.get("source_watermark"):
        key = ", ".join(table.key)
        query += f" QUALIFY ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY {watermark} DESC NULLS LAST) = 1"
    return query


def arriving(table: Table) -> list[str]:
    """The columns as they are to arrive, each under its own name, or that of the target where that is another one."""
    read = ((name, c, (c.narrowed or "{c}").format(c=f'"{name}"')) for name, c in table.columns.items())
    renamed = {name: c.target.upper() for name, c in table.columns.items() if c.target == "changed_at"}
    return [f'{value} AS "{renamed.get(name, name)}"' for name, _, value in read]


def different(world: World, tables: Sequence[Table]) -> list[content.Compared]:
    """The tables that do not hold just what they must: both sides read whole, by other means than the migration's."""
    compared = [
        content.compare(
            Sandbox(world.snowflake, world.target.server),
            table=table.source,
            source=(world.source_database, EXPECTED, table.source),
            database=world.target.name,
            target=("public", table.target),
        )
        for table in tables
    ]
    return [c for c in compared if not c.verified or not c.source_rows]


def in_snowflake(world: World, schema: str, table: Table) -> str:
    return f'"{world.source_database}"."{schema}"."{table.source}"'


# --- what was written -----------------------------------------------------------------------------------------------


def settle(world: World, tables: Sequence[Table]) -> None:
    """Let the server do now what it puts off after a load, so that it does not do it while the log is measured."""
    for table in tables:
        world.target.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table.target)))


def places(world: World, tables: Sequence[Table]) -> Places:
    """Where each row of each table lies, and which transaction wrote it there."""
    found = {}
    with closing(world.target.connect()) as connection, connection.cursor() as cursor:
        for table in tables:
            cursor.execute(sql.SQL("SELECT ctid::text, xmin::text FROM {}").format(sql.Identifier(table.target)))
            found[table.source] = set(cursor.fetchall())
    return found


def wal_position(world: World) -> str:
    ((position,),) = world.target.rows("SELECT pg_current_wal_insert_lsn()::text")
    return str(position)


_RECORD = re.compile(r"len \(rec/tot\): +\d+/ *(\d+),")
_FILE = re.compile(r"blkref #0: rel \d+/(\d+)/(\d+) ")


@dataclass(frozen=True)
class WalBytes:
    """What the write-ahead log holds of each table: of its rows with the index of its key, and of other indexes."""

    total: int
    rows: Mapping[str, int]
    indexes: Mapping[str, int]
    status: int

    @classmethod
    def since(cls, start: str, world: World) -> "WalBytes":
        """Read it as the server's own program tells it, record by record."""
        stop = wal_position(world)
        ((folder, size),) = world.target.rows(
            "SELECT current_setting('data_directory'), pg_wal_lsn_diff(%s, %s)", (stop, start)
        )
        told = subprocess.run(
            [find_programs() / "pg_waldump", f"--path={folder}/pg_wal", f"--start={start}", f"--end={stop}"],
            check=True,
            capture_output=True,
            text=True,
        )
        by_file: Counter[str] = Counter()
        for line in told.stdout.splitlines():
            length, file = _RECORD.search(line), _FILE.search(line)
            if length and file:
                by_file[file[2]] += int(length[1])
        return cls(int(size), *_by_owner(world, by_file))

    def figures(self, tables: Sequence[Table]) -> dict[str, object]:
        """The sums that count."""
        still = [t for t in tables if not t.is_truncated and not t.updated and not t.inserted]
        moved = [t for t in tables if not t.is_truncated and t not in still]
        return {
            "wal_bytes": self.total,
            "wal_bytes_status": self.status,
            "unchanged_tables": len(still),
            "wal_bytes_unchanged_tables": sum(self.rows[t.target] for t in still),
            "wal_bytes_changed_tables": sum(self.rows[t.target] for t in moved),
            "wal_bytes_truncated_tables": sum(self.rows[t.target] for t in tables if t.is_truncated),
            "wal_bytes_built_indexes": sum(self.indexes.values()),
        }


def _by_owner(world: World, by_file: Mapping[str, int]) -> tuple[Mapping[str, int], Mapping[str, int], int]:
    """The bytes of each table and of its indexes, and of the status schema; files of both runs have their owner."""
    owners = world.target.rows(
        "SELECT pg_relation_filenode(c.oid)::text, coalesce(i.indrelid::regclass::text, c.oid::regclass::text),"
        " coalesce(NOT i.indisprimary, false), n.nspname = 'migration_status'"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indexrelid = c.oid"
        " WHERE n.nspname IN ('public', 'migration_status') AND c.relkind IN ('r', 'i')"
    )
    rows: Counter[str] = Counter()
    indexes: Counter[str] = Counter()
    status = 0
    for file, table, is_other_index, is_status in owners:
        if is_status:
            status += by_file.get(file, 0)
        elif is_other_index:
            indexes[table] += by_file.get(file, 0)
        else:
            rows[table] += by_file.get(file, 0)
    return rows, indexes, status
