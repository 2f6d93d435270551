"""No false alarm: random tables of every type that the stand-in has, loaded as a chunk is, verify as equal."""

import json
import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from snowmelt.columns import batch_conversion
from snowmelt.columns.batch_conversion import Changes
from snowmelt.config import PostgresConfig
from snowmelt.findings import Place
from snowmelt.loading import staging
from snowmelt.loading.copy import copy_batches
from snowmelt.models import Policies, TableName, TablePlan
from snowmelt.planning import statement
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt.preflight import schema_compare
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.verification import source_sql, target_hashes
from snowmelt.verification.sides import whole
from snowmelt.verification.source_rows import Asked, Load
from snowmelt.verification.table_check import KEYS_AT_ONCE, MOST_PASSES, verify_table
from snowmelt.verification.verdicts import Mode, Repair
from snowmelt_sandbox.postgres import Database
from snowmelt_sandbox.snowflake import LocalSnowflake
from support.value_strategies import (
    binaries,
    days,
    decimals,
    doubles,
    finite_doubles,
    flags,
    halves,
    json_texts,
    moments,
    texts,
    uuids,
    with_nulls,
)

ROWS = 40
FEW, MANY = 15, 1000
TARGET = TableName(schema_name="public", name="t")


@dataclass(frozen=True)
class Kind:
    """A column: its type on both sides, and what makes its values."""

    snowflake: str
    postgres: str
    make: Any
    is_exact: bool = True


def whole_numbers(digits: int) -> Any:
    def make(random: np.random.Generator, n: int) -> Any:
        made = decimals(digits, 0)(random, n)
        return type(made)(made.values.cast(pa.decimal128(38, 0)), made.texts)

    return make


KINDS = (
    Kind("NUMBER(4,0)", "smallint", whole_numbers(4)),
    Kind("NUMBER(9,0)", "integer", whole_numbers(9)),
    Kind("NUMBER(18,0)", "bigint", whole_numbers(18)),
    Kind("NUMBER(38,0)", "numeric(38,0)", whole_numbers(38)),
    Kind("NUMBER(38,0)", "numeric", whole_numbers(38)),
    Kind("NUMBER(18,4)", "numeric(18,4)", decimals(18, 4)),
    Kind("NUMBER(18,4)", "numeric(24,6)", decimals(18, 4)),
    Kind("NUMBER(18,4)", "numeric", decimals(18, 4)),
    Kind("NUMBER(38,37)", "numeric(60,40)", decimals(38, 37)),
    Kind("NUMBER(5,0)", "numeric(20,3)", whole_numbers(5)),
    Kind("NUMBER(15,2)", "double precision", decimals(15, 2)),
    Kind("NUMBER(6,3)", "real", decimals(6, 3)),
    Kind("FLOAT", "double precision", doubles),
    Kind("FLOAT", "real", halves),
    Kind("FLOAT", "numeric", finite_doubles),
    Kind("BOOLEAN", "boolean", flags),
    Kind("VARCHAR", "text", texts()),
    Kind("VARCHAR(40)", "varchar(40)", texts(longest=40)),
    Kind("VARCHAR(7)", "char(7)", texts(longest=7)),
    Kind("VARCHAR", "json", json_texts),
    Kind("VARCHAR", "uuid", uuids),
    Kind("BINARY", "bytea", binaries),
    Kind("DATE", "date", days),
    Kind("DATE", "timestamp", days),
    Kind("DATE", "timestamptz", days),
    Kind("TIMESTAMP_NTZ(6)", "timestamp", moments()),
    Kind("TIMESTAMP_NTZ(3)", "timestamp(3)", moments(unit=1000)),
    Kind("TIMESTAMP_NTZ(9)", "timestamptz", moments()),
    Kind("TIMESTAMP_TZ(6)", "timestamptz", moments()),
    Kind("TIMESTAMP_LTZ(6)", "timestamp", moments()),
    Kind("VARCHAR", "jsonb", json_texts, is_exact=False),
    Kind("VARIANT", "jsonb", json_texts, is_exact=False),
)


@dataclass
class Servers:
    """Both servers, with a session in each."""

    snowflake: LocalSnowflake
    database: Database
    source: SnowflakeSource
    session: Session

    def loaded(self, kinds: tuple[Kind, ...], seed: int) -> tuple[TablePlan, str]:
        """A random table, loaded; its plan and the id of the query that read it."""
        random = np.random.default_rng(seed)
        picked = [kinds[i] for i in random.permutation(len(kinds))[: random.integers(1, len(kinds) + 1)]]
        rows = int(random.integers(0, ROWS))
        made = {f"C{i}": with_nulls(random, kind.make(random, ROWS)).values for i, kind in enumerate(picked)}
        table = pa.table({"ID": pa.array(range(ROWS), pa.int64()), **made}).slice(0, rows)
        types = {"ID": "NUMBER(18,0)", **{f"C{i}": kind.snowflake for i, kind in enumerate(picked)}}
        name = self.database.name.upper()
        self.snowflake.load_table(name, "PUBLIC", "T", table, types=types)
        columns = ", ".join(f"c{i} {kind.postgres}" for i, kind in enumerate(picked))
        self.database.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint PRIMARY KEY, {columns})")
        plan = self.plan(key=("id",) if seed % 2 else ())
        return plan, self.load(plan, rows)[0]

    def plan(self, *, key: tuple[str, ...] = (), **policies: Any) -> TablePlan:
        """The plan of the table T of both sides as they are."""
        name = self.database.name.upper()
        compared = schema_compare.compare(
            Place("T", TARGET),
            self.source.describe_table(name, "PUBLIC", "T"),
            tables.read(self.session, [TARGET])[TARGET].columns,
        )
        assert not compared.problems
        columns = tuple(c.model_copy(update={"policies": Policies(**policies)}) for c in compared.columns)
        return TablePlan(
            table_id=0,
            source="T",
            target=TARGET,
            columns=columns,
            reads_from=statement.source_table(name, "PUBLIC", "T"),
            key=key,
            truncate_onstart=True,
            append=False,
            batch_size=1000,
            max_retry_attempts=1,
        )

    def load(self, plan: TablePlan, rows: int | None = None) -> tuple[str, Changes]:
        """Load all rows; the id of the query that read them, and how many values were changed on the way."""
        result = self.source.run(statement.of_chunk(plan))
        if plan.is_cast:
            target_hashes.forget_staging(self.session, plan)
            staging.create(self.session, plan)
        with self.session.transaction() as cursor:
            into = staging.name(plan) if plan.is_cast else TARGET
            copied = copy_batches(cursor, into, plan.columns, whole(result))
            if plan.is_cast:
                staging.insert(cursor, plan)
        assert rows is None or copied.rows == rows
        return result.query_id, copied.changes


@pytest.fixture
def servers(snowflake: LocalSnowflake, database: Database) -> Iterator[Servers]:
    name = database.name.upper()
    snowflake.create_schema(name, "PUBLIC")
    server = database.server
    config = PostgresConfig(host=server.host, port=server.port, user=server.user, sslmode="disable")
    with (
        closing(Session.connect(config, database=database.name, application_name="test")) as session,
        SnowflakeSource(snowflake.connect(database=name, schema="PUBLIC")) as source,
    ):
        yield Servers(snowflake, database, source, session)


def check(servers: Servers, kinds: tuple[Kind, ...], seed: int, *, fetches: bool) -> None:
    plan, query_id = servers.loaded(kinds, seed)
    before = len(servers.snowflake.queries())
    load = Load("run", query_id, datetime.now(UTC))
    verdict = verify_table(servers.session, servers.source, plan, load, Asked())
    assert verdict.verdict == "equal", (seed, verdict)
    # One statement: the sums alone were equal, and no value was looked at.
    asked = servers.snowflake.queries()[before:]
    assert fetches or len(asked) == 1, (seed, [query["text"] for query in asked])


def test_the_check_before_a_run_its_load_and_its_verification_agree_about_float4(servers: Servers) -> None:
    half_way, least = 2.0**128 - 2.0**103, 2.0**-149
    edges = [half_way, math.nextafter(half_way, 0), 3.4028235e38, 3.4028236e38, 3.5e38, math.inf, math.nan, 0.0]
    edges += [least, least / 2, math.nextafter(least / 2, 1), least * 1.5, 1e-46, 1e-300, 5e-324, 1.5, 2.0**-126]
    numbers = [*edges, *(-number for number in edges), None]
    name = servers.database.name.upper()
    table = pa.table({"ID": pa.array(range(len(numbers)), pa.int64()), "F": pa.array(numbers, pa.float64())})
    servers.snowflake.load_table(name, "PUBLIC", "T", table, types={"ID": "NUMBER(18,0)", "F": "FLOAT"})
    servers.database.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint PRIMARY KEY, f real)")
    plan = servers.plan(key=("id",), out_of_range="null")
    (doubt,) = (doubt for doubt in batch_conversion.doubts(plan.columns[1]) if doubt.check == "out_of_range")

    query_id, changes = servers.load(plan)
    ((foreseen,),) = servers.source.aggregate(f"SELECT COUNT(*) FROM {plan.reads_from} WHERE {doubt.where}")
    verdict = verify_table(servers.session, servers.source, plan, Load("run", query_id, datetime.now(UTC)), Asked())

    assert changes["f", "out_of_range"] == foreseen == 6  # half way, 3.4028236e38 and 3.5e38, of either sign
    assert verdict.verdict == "equal", verdict


@pytest.mark.parametrize(
    ("columns", "is_cast"),
    [
        pytest.param(560, True, marks=pytest.mark.full),
        pytest.param(1_600, False, marks=pytest.mark.full),
        pytest.param(1_600, True, marks=pytest.mark.full),
    ],
)
def test_a_row_of_many_columns_is_compared_and_shown(servers: Servers, columns: int, is_cast: bool) -> None:
    name = servers.database.name.upper()
    numbers = {f"C{i}": pa.array([None, i, -i] if i % 4 == 0 else [None] * 3, pa.int64()) for i in range(columns - 6)}
    table = pa.table(
        {
            "ID": pa.array([1, 2, 3], pa.int64()),
            **numbers,
            "F": pa.array([0.5, None, -0.1]),
            "T": pa.array(["", "a, b", None]),
            "M": pa.array([datetime(1, 1, 1), None, datetime(2026, 1, 1, 1, 2, 3)], pa.timestamp("us")),  # noqa: DTZ001
            "B": pa.array([True, False, None]),
            "A": pa.array(["10.0.0.1", None, "::1"]),
        }
    )
    types = {"F": "FLOAT", "T": "VARCHAR", "M": "TIMESTAMP_NTZ(6)", "B": "BOOLEAN", "A": "VARCHAR"}
    servers.snowflake.load_table(name, "PUBLIC", "T", table, types=dict.fromkeys(table.column_names, "INT") | types)
    listed = ", ".join(f"c{i} smallint" for i in range(columns - 6))
    kinds = f"f float8, t text, m timestamp, b boolean, a {'inet' if is_cast else 'text'}"
    servers.database.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint PRIMARY KEY, {listed}, {kinds})")
    plan = servers.plan(key=("id",))
    assert len(plan.columns) == columns
    query_id, _ = servers.load(plan)
    load = Load("run", query_id, datetime.now(UTC))

    if columns > 1_000:  # a statement of the stand-in takes a second for 500 columns
        assert verify_table(servers.session, servers.source, plan, load, Asked()).verdict == "equal"

    servers.database.execute("UPDATE t SET c8 = 7, f = 0.25 WHERE id = 2; DELETE FROM t WHERE id = 3")
    modes: tuple[Mode, ...] = ("checksums", "rows") if columns > 1_000 else ("checksums",)
    for mode in modes:
        found = verify_table(servers.session, servers.source, plan, load, Asked(mode))
        assert (found.verdict, found.changed, found.missing, found.extra) == ("different", 1, 1, 0), found
        changed = {
            row.kind: (row.key, {c.column: (c.source, c.target) for c in row.columns}) for row in found.differences
        }
        assert changed["changed"] == ({"id": "2"}, {"c8": ("8", "7"), "f": (None, "0.25")})
    if columns > 1_000:
        repaired = verify_table(servers.session, servers.source, plan, load, Asked(repair=True))
        assert (repaired.verdict, repaired.repaired) == ("equal", Repair(updated=1, inserted=1, deleted=0))


def test_values_are_compared_where_the_statement_that_hashes_them_would_be_too_long(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, query_id = servers.loaded(EXACT, 1)
    load = Load("run", query_id, datetime.now(UTC))
    monkeypatch.setattr(source_sql, "LONGEST_STATEMENT", 300)

    assert verify_table(servers.session, servers.source, plan, load, Asked()).verdict == "equal"
    servers.database.execute("DELETE FROM t WHERE id = 0")
    found = verify_table(servers.session, servers.source, plan, load, Asked())
    assert (found.verdict, found.missing, [row.key for row in found.differences]) == ("different", 1, [{"id": "0"}])


EXACT = tuple(kind for kind in KINDS if kind.is_exact)


def examine(servers: Servers, kinds: tuple[Kind, ...], examples: int, *, fetches: bool) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.integers(0, 2**31 - 1))
    def is_equal(seed: int) -> None:
        check(servers, kinds, seed, fetches=fetches)

    is_equal()


def test_random_tables_are_equal_by_their_sums_alone(servers: Servers) -> None:
    examine(servers, EXACT, FEW - 3, fetches=False)


@pytest.mark.full
def test_values_decide_where_the_servers_spell_differently(servers: Servers) -> None:
    examine(servers, KINDS, 3, fetches=True)


@pytest.mark.full
def test_a_thousand_random_tables_raise_no_alarm(servers: Servers) -> None:
    examine(servers, EXACT, MANY * 3 // 4, fetches=False)
    examine(servers, KINDS, MANY // 4, fetches=True)


@pytest.mark.full
def test_floats_in_a_variant_lose_their_last_digit_and_cost_few_statements(servers: Servers) -> None:
    count = 20_000
    floats = [(i + 1) / 7 * 10.0 ** (i % 40 - 20) for i in range(count)]
    name = servers.database.name.upper()
    table = pa.table(
        {"ID": pa.array(range(count), pa.int64()), "V": pa.array([json.dumps({"f": each}) for each in floats])}
    )
    servers.snowflake.load_table(name, "PUBLIC", "T", table, types={"ID": "NUMBER(18,0)", "V": "VARIANT"})
    servers.database.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (id bigint PRIMARY KEY, v jsonb)")
    plan = servers.plan(key=("id",))
    query_id, _ = servers.load(plan)
    arrived = [value for (value,) in servers.database.rows("SELECT (v->>'f')::float8 FROM t ORDER BY id")]
    assert arrived == [float(f"{each:.16g}") for each in floats]
    assert sum(here != there for here, there in zip(arrived, floats, strict=True)) > count / 4

    before = len(servers.snowflake.queries())
    load = Load("run", query_id, datetime.now(UTC))
    verdict = verify_table(servers.session, servers.source, plan, load, Asked())
    asked = servers.snowflake.queries()[before:]
    assert verdict.verdict == "equal", verdict
    # The sums, which differ as each server has its own way with exponents; passes for suspects; their values.
    assert 1 < len(asked) <= 1 + MOST_PASSES + count / KEYS_AT_ONCE, [query["text"][:100] for query in asked]
