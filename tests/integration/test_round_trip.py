"""Random columns of every pair of types, by the hundred thousand, against PostgreSQL's own reading of their text.

Each column is loaded as a chunk is; its values are written as text by other means, read by the type's input function in
a second table, and compared in the server, row by row. `--values` says how many of each pair.
"""

import json
import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg2 import sql

from snowmelt.columns.type_pairs import Match, allowed_pairs, match
from snowmelt.config import PostgresConfig
from snowmelt.loading import staging
from snowmelt.loading.copy import copy_batches
from snowmelt.models import SourceColumn, TableName, TablePlan, TargetColumn
from snowmelt.postgres import tables
from snowmelt.postgres.session import Session
from snowmelt_sandbox.postgres import Database
from support.value_strategies import (
    DAY_MICROSECONDS,
    Made,
    Random,
    binaries,
    days,
    decimals,
    doubles,
    finite_doubles,
    flags,
    halves,
    json_texts,
    mixed,
    moments,
    number,
    pool,
    source,
    texts,
    uuids,
    with_nulls,
    written,
)

Column = "pa.Array[Any]"
EXAMPLES = 2
GOT = TableName(schema_name="public", name="got")


@dataclass(frozen=True)
class PairClass:
    """Columns of one source type that go into one target type."""

    source: SourceColumn
    into: str
    make: Callable[[Random, int], Made]
    share: float = 1.0
    compared_as: str = "text"

    def __str__(self) -> str:
        return f"{self.source.type} into {self.into}"


# --- making values ----------------------------------------------------------------------------------------------------


def integers(bits: int, kind: pa.DataType) -> Callable[[Random, int], Made]:
    top = 2 ** (bits - 1)

    def make(random: Random, n: int) -> Made:
        spread = random.integers(-(2**63), 2**63 - 1, size=n, dtype=np.int64, endpoint=True)
        numbers = spread >> random.integers(64 - bits, 64, size=n)
        values = pa.array(mixed(random, n, [-top, top - 1, 0, 1, -1], numbers), kind)
        return Made(values, values.cast(pa.string()))

    return make


def narrow_floats(random: Random, n: int) -> Made:
    return written(pa.array(random.normal(size=n).astype(np.float32).astype(np.float64)))


def midnights(random: Random, n: int) -> Made:
    made = days(random, n)
    return Made(made.values.cast(pa.timestamp("us")), made.texts)


def clock_times(unit: int = 1) -> Callable[[Random, int], Made]:
    def make(random: Random, n: int) -> Made:
        chosen = mixed(random, n, [0, DAY_MICROSECONDS - 1, 1], random.integers(0, DAY_MICROSECONDS, n))
        values = pa.array([time // unit * unit for time in chosen], pa.int64()).cast(pa.time64("us"))
        return Made(values, values.cast(pa.string()))

    return make


def labels(random: Random, n: int) -> Made:
    values = pa.array(["happy", "sad", "so so", ""]).take(random.integers(0, 4, n))
    return Made(values, values)


def spelt(*choices: Sequence[str]) -> Callable[[Random, int], Made]:
    """Texts put together from one of each list; ``#`` stands for a random digit from 1 to 9."""

    def make(random: Random, n: int) -> Made:
        wholes = ["".join(parts) for parts in product(*choices)]
        picks, digits = random.integers(0, len(wholes), n).tolist(), random.integers(1, 10, size=(n, 24)).tolist()
        found = []
        for pick, row in zip(picks, digits, strict=True):
            given_digits = iter(row)
            found.append("".join(str(next(given_digits)) if c == "#" else c for c in wholes[pick]))
        values = pa.array(found)
        return Made(values, values)

    return make


def literal(value: str | None) -> str:
    return "NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def lists(
    element: Callable[[Random, int], Made], spell: Callable[[str], Any], *, nests: bool = True
) -> Callable[[Random, int], Made]:
    """Arrays of up to four elements, NULLs among them, flat or of rows: as JSON, and as PostgreSQL's literals."""

    def make(random: Random, n: int) -> Made:
        elements = with_nulls(random, element(random, max(n, 50))).texts.to_pylist()
        sizes, starts = random.integers(0, 5, n).tolist(), random.integers(0, len(elements), n).tolist()
        values, wanted = [], []
        for size, start in zip(sizes, starts, strict=True):
            row = [elements[(start + i) % len(elements)] for i in range(size)]
            as_json = [None if text is None else spell(text) for text in row]
            as_literal = "{" + ",".join(map(literal, row)) + "}"
            if size and nests and start % 3 == 0:
                as_json, as_literal = [as_json, as_json], "{" + as_literal + "," + as_literal + "}"
            values.append(json.dumps(as_json))
            wanted.append(as_literal)
        return Made(pa.array(values), pa.array(wanted))

    return make


# --- every pair -------------------------------------------------------------------------------------------------------


def whole_decimals(random: Random, n: int) -> Made:
    made = integers(64, pa.int64())(random, n)
    return Made(made.values.cast(pa.decimal128(38, 0)), made.texts)


ELEMENTS: dict[str, tuple[Callable[[Random, int], Made], Callable[[str], Any]]] = {
    "bool": (flags, lambda text: text == "true"),
    "int2": (integers(16, pa.int16()), int),
    "int4": (integers(32, pa.int32()), int),
    "int8": (integers(64, pa.int64()), int),
    "float4": (halves, float),
    "float8": (finite_doubles, float),
    "numeric": (integers(64, pa.int64()), int),
    "text": (texts(), str),
    "varchar": (texts(), str),
    "uuid": (uuids, str),
    "date": (days, str),
    "time": (clock_times(), str),
    "timestamp": (moments(), str),
    "timestamptz": (moments(), str),
    "json": (spelt(["#", '"a"', "[#]"]), json.loads),
    "jsonb": (spelt(["#", '"a"', "[#]"]), json.loads),
}
OCTET = ["0", "#", "1##"]
SPELT = {
    "bit": spelt(["0", "1"]),
    "varbit": spelt(["", "0", "1"], ["0", "10", "1111"]),
    "inet": spelt(OCTET, [".0.", ".#."], OCTET, [".#", ".#/32"]),
    "cidr": spelt(["10.#.0.0/16", "2001:db#::/32", "#.0.0.0/8"]),
    "macaddr": spelt(["08:00:2b:0#:0#:0#", "08002b0#0#0#", "08-00-2b-0#-0#-0#"]),
    "macaddr8": spelt(["08:00:2b:0#:0#:0#:0#:0#"]),
    "interval": spelt(["# days", "-# mons", "P#Y#M#DT#H", "##:0#:0#.######", "# years -# secs"]),
    "timetz": spelt(["0#:0#:0#+0#", "0#:0#:0#.######-0#:30"]),
    "pg_lsn": spelt(["#/###", "0/#A#"]),
    "tsvector": spelt(["a fat cat", "'it''s':# b:#A,#"]),
    "tsquery": spelt(["a & b#", "!x | (y# <-> z)"]),
    "jsonpath": spelt(["$.a[#]", "$.b ? (@ > #)", "lax $"]),
    "point": spelt(["(#,#)", "(-#.5,#e10)"]),
    "line": spelt(["{#,-#,#}"]),
    "lseg": spelt(["[(#,#),(##,#)]"]),
    "box": spelt(["(#,#),(##,##)"]),
    "path": spelt(["[(#,#),(#,#)]", "((#,#),(#,#))"]),
    "polygon": spelt(["((#,#),(#,#),(#,#))"]),
    "circle": spelt(["<(#,#),#>"]),
    "int4range": spelt(["[#,1#)", "empty", "(,#]", "[#,)"]),
    "int8range": spelt(["[#,1#)", "empty", "(,#]"]),
    "numrange": spelt(["[#.5,1#]", "empty"]),
    "daterange": spelt(["[2024-01-0#,2024-02-0#)", "(,2024-01-0#]"]),
    "tsrange": spelt(["[2024-01-0# 0#:00,2024-02-0#)"]),
    "tstzrange": spelt(["[2024-01-0# 0#:00+00,2024-02-0# 00:00-0#)"]),
    "int4multirange": spelt(["{[#,1#),[2#,3#)}", "{}"]),
    "int8multirange": spelt(["{[#,1#)}", "{}"]),
    "nummultirange": spelt(["{[#.5,1#]}"]),
    "datemultirange": spelt(["{[2024-01-0#,2024-02-0#)}"]),
    "tsmultirange": spelt(["{[2024-01-0# 0#:00,2024-02-0#)}"]),
    "tstzmultirange": spelt(["{[2024-01-0# 0#:00+00,2024-02-0# 00:00-0#)}"]),
}


def as_literals(make: Callable[[Random, int], Made]) -> Callable[[Random, int], Made]:
    def make_texts(random: Random, n: int) -> Made:
        made = make(random, n)
        return Made(made.texts, made.texts)

    return make_texts


SHARE_OF_PARSED, SHARE_OF_ARRAYS = 0.05, 0.1
"""Types that travel in one and the same way are a class together."""

CLASSES = [
    PairClass(number(38), "int2", integers(16, pa.int64())),
    PairClass(number(38), "int4", integers(32, pa.int64())),
    PairClass(number(38), "int8", integers(64, pa.int64())),
    PairClass(number(38), "int8", whole_decimals),
    PairClass(number(38), "numeric", decimals(38, 0)),
    PairClass(number(38, 10), "numeric(38,10)", decimals(38, 10)),
    PairClass(number(38, 37), "numeric(60,40)", decimals(38, 37)),
    PairClass(number(18, 4), "numeric(18,4)", decimals(18, 4)),
    PairClass(number(6, 3), "float4", halves),
    PairClass(number(15, 2), "float8", halves),
    PairClass(source("REAL"), "float8", doubles),
    PairClass(source("REAL"), "float4", narrow_floats),
    # Of two decimals that are as short and name the same float, the server may take the other one.
    PairClass(source("REAL"), "numeric", finite_doubles, compared_as="float8"),
    PairClass(source("DECFLOAT"), "numeric", spelt(["", "-"], ["#", "#.##", "0.000#", "########"], ["", "e##", "E-#"])),
    PairClass(source("BOOLEAN"), "bool", flags),
    *(PairClass(source("TEXT"), into, texts()) for into in ("text", "varchar", "varchar(24)")),
    PairClass(source("TEXT"), "char(7)", texts(longest=7)),
    PairClass(source("TEXT"), "email", texts(longest=9)),
    PairClass(source("TEXT"), "json", json_texts),
    PairClass(source("TEXT"), "jsonb", json_texts),
    PairClass(source("TEXT"), "uuid", uuids),
    PairClass(source("TEXT"), "mood", labels),
    *(PairClass(source("TEXT"), into, make, SHARE_OF_PARSED) for into, make in SPELT.items()),
    *(PairClass(source("TEXT"), f"{of}[]", as_literals(lists(*how)), SHARE_OF_PARSED) for of, how in ELEMENTS.items()),
    *(
        PairClass(source("ARRAY"), f"{of}[]", lists(*how, nests="json" not in of), SHARE_OF_ARRAYS)
        for of, how in ELEMENTS.items()
    ),
    PairClass(source("BINARY"), "bytea", binaries),
    PairClass(source("DATE"), "date", days),
    PairClass(source("DATE"), "timestamp(0)", midnights),
    PairClass(source("TIME", scale=6), "time", clock_times()),
    PairClass(source("TIME", scale=0), "time(0)", clock_times(unit=1_000_000)),
    PairClass(source("TIME", scale=6), "timetz", clock_times()),
    PairClass(source("TIMESTAMP_NTZ", scale=6), "timestamp", moments()),
    PairClass(source("TIMESTAMP_TZ", scale=6), "timestamptz", moments()),
    PairClass(source("TIMESTAMP_NTZ", scale=3), "timestamp(3)", moments(unit=1_000)),
]
NOT_ON_THIS_SERVER = {
    *("citext.citext", "hstore.hstore", "ltree.ltree", "cube.cube", "vector.vector", "vector.halfvec"),
    *("vector.sparsevec", "postgis.geometry", "postgis.geography", "xml"),
}
"""Types of extensions, and one that the server was built without: they travel as other texts that are cast."""


# --- sending and comparing --------------------------------------------------------------------------------------------


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    database.execute("CREATE TYPE mood AS ENUM ('happy', 'sad', 'so so', '')")
    database.execute("CREATE DOMAIN email AS varchar(9) CHECK (value <> 'nobody')")
    server = database.server
    config = PostgresConfig(host=server.host, port=server.port, user=server.user, sslmode="disable")
    with closing(Session.connect(config, database=database.name, application_name="test")) as opened:
        yield opened


def target_of(session: Session, database: Database, of: PairClass) -> TargetColumn:
    """The column, in an empty table of its own, beside one to compare with."""
    database.execute(
        f"DROP TABLE IF EXISTS got, wanted; CREATE TABLE got (position serial, c {of.into});"
        f"CREATE TABLE wanted (position serial, c {of.into})"
    )
    return tables.read(session, [GOT])[GOT].columns[1]


def planned(session: Session, database: Database, of: PairClass) -> TablePlan:
    found = match(of.source, target_of(session, database, of))
    assert isinstance(found, Match), found
    return TablePlan(
        table_id=0,
        source="C",
        target=GOT,
        columns=(found.plan,),
        reads_from="C",
        truncate_onstart=False,
        append=False,
        batch_size=1,
        max_retry_attempts=1,
    )


def as_snowflake_sends(random: Random, values: "pa.Array[Any]") -> Iterator[pa.RecordBatch]:
    """The values in batches of any size, some empty, some without a value; integers as narrow as can be."""
    start = 0
    while start < len(values):
        part = values.slice(start, int(random.choice([1, 7, 500, 9_000, 40_000])))
        start += len(part)
        if pa.types.is_integer(part.type):
            part = _narrow(part)
        if part.null_count == len(part):
            part = pa.nulls(len(part))
        yield pa.record_batch([part], names=["C"])
        yield pa.record_batch([part.slice(0, 0)], names=["C"])


def _narrow(part: "pa.Array[Any]") -> "pa.Array[Any]":
    for width in (pa.int8(), pa.int16(), pa.int32()):
        try:
            return part.cast(width)
        except pa.ArrowInvalid:
            continue
    return part


def load(session: Session, plan: TablePlan, batches: Iterator[pa.RecordBatch]) -> None:
    if plan.is_cast:
        staging.create(session, plan)
    with session.transaction() as cursor:
        copied = copy_batches(cursor, staging.name(plan) if plan.is_cast else GOT, plan.columns, batches)
        if plan.is_cast:
            assert staging.insert(cursor, plan) == copied.rows
        assert not +copied.changes
    if plan.is_cast:  # the next table has other columns
        session.run(sql.SQL("DROP TABLE {}").format(sql.Identifier("pg_temp", staging.name(plan).name)))


def write_by_hand(database: Database, texts: "pa.Array[Any]") -> None:
    """The texts as CSV, which is read by the input function of the column's type."""
    file = BytesIO()
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="all_valid")
    pyarrow.csv.write_csv(pa.table({"c": texts}), file, options)
    file.seek(0)
    with closing(database.connect()) as connection, connection, connection.cursor() as cursor:
        cursor.copy_expert("COPY wanted (c) FROM STDIN (FORMAT csv)", file)


Way = tuple[str, str, str | None, str | None]
"""All that tells one class of pairs from another once a value has left Snowflake."""


def way_of(source: SourceColumn, target: TargetColumn) -> Way:
    found = match(source, target)
    assert isinstance(found, Match), found
    plan = found.plan
    return plan.wire.partition("(")[0], "enum" if target.kind == "enum" else target.type, plan.staged_as, plan.cast


def test_every_pair_has_a_class(session: Session, database: Database) -> None:
    """But those whose target an extension brings, or that this server was built without."""
    tried = {way_of(of.source, target_of(session, database, of)) for of in CLASSES}

    for source_type, target_type in sorted(allowed_pairs()):
        if target_type in NOT_ON_THIS_SERVER:
            continue
        into = "mood" if target_type == "enum" else target_type
        of = PairClass(source(source_type, precision=6, scale=0), into, flags)
        assert way_of(of.source, target_of(session, database, of)) in tried, (source_type, target_type)


OTHER_ROWS = (
    "SELECT position, got.c::text, wanted.c::text FROM got FULL JOIN wanted USING (position)"
    " WHERE got.c::text IS DISTINCT FROM wanted.c::text ORDER BY position LIMIT 3"
)
OTHER_VALUES = (
    "SELECT * FROM ((SELECT c::text FROM got EXCEPT ALL SELECT c::text FROM wanted) UNION ALL"
    " (SELECT c::text FROM wanted EXCEPT ALL SELECT c::text FROM got)) AS other LIMIT 3"
)
"""What is staged is inserted in any order."""


@pytest.mark.parametrize("of", CLASSES, ids=str)
def test_values_arrive_as_they_were(
    of: PairClass, session: Session, database: Database, request: pytest.FixtureRequest
) -> None:
    values = int(request.config.getoption("--values") * of.share) // EXAMPLES

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.integers(0, 2**32 - 1))
    def arrive(seed: int) -> None:
        random = np.random.default_rng(seed)
        made = with_nulls(random, of.make(random, values))
        plan = planned(session, database, of)
        load(session, plan, as_snowflake_sends(random, made.values))
        write_by_hand(database, made.texts)
        query = OTHER_VALUES if plan.is_cast else OTHER_ROWS
        different = database.rows(query.replace("c::text", f"c::{of.compared_as}::text"))
        ((rows,),) = database.rows("SELECT count(*) FROM got")
        assert different == []
        assert rows == values

    arrive()


def test_letters_are_what_the_texts_are_made_of() -> None:
    """The pool of texts holds what usually breaks: controls, quotes, every ASCII letter, both ends of the planes."""
    texts_found = "".join(pool(np.random.default_rng(1)))

    assert set(string.printable) <= set(texts_found)
    assert {"\U0010ffff", "\ud7ff", "\ue000", "😀"} <= set(texts_found)
