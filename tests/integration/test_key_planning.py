"""Ranges of keys on a server: what the two queries count, and which rows the ranges' conditions find."""

import datetime as dt
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snowmelt.errors import DataError
from snowmelt.planning import key_sql
from snowmelt.planning.composite import first_query, plan, read_histogram, read_pieces, second_query
from snowmelt.planning.key_sql import where
from snowmelt.planning.keys import KeyColumn, KeyKind, KeyRange, KeySpec
from snowmelt_sandbox.snowflake import LocalSnowflake

DATABASE, SCHEMA = "KEY_PLANS", "PUBLIC"
Row = tuple[Any, ...]


class Client:
    """Plans tables over one connection and remembers what that took."""

    def __init__(self, server: LocalSnowflake) -> None:
        self._server = server
        self._connection = server.connect(database=DATABASE, schema=SCHEMA)
        self.answers: list[list[Row]] = []
        self.columns: dict[str, str] = {}

    def close(self) -> None:
        self._connection.close()

    def run(self, statement: str) -> list[Row]:
        with self._connection.cursor() as cursor:
            rows: list[Row] = cursor.execute(statement).fetchall()
            return rows

    def load(self, table: str, types: dict[str, str], rows: Sequence[Row]) -> None:
        """A table with these columns, and a row number beside them."""
        columns = [[row[i] for row in rows] for i in range(len(types))]
        arrays = [
            pa.array(values, ARROW[kind.split("(")[0]]) for values, kind in zip(columns, types.values(), strict=True)
        ]
        data = pa.table([*arrays, pa.array(range(len(rows)), pa.int64())], names=[*types, "ROW NUMBER"])
        self._server.load_table(DATABASE, SCHEMA, table, data, types=types)

    def plan(self, spec: KeySpec) -> tuple[KeyRange, ...]:
        self.answers = [self.run(first_query(spec))]
        found = read_histogram(spec, self.answers[0])
        statement = second_query(spec, found)
        if statement is None:
            return plan(spec, found)
        self.answers.append(self.run(statement))
        return plan(spec, found, read_pieces(spec, self.answers[1]))

    def rows_of(self, spec: KeySpec, key_range: KeyRange) -> list[int]:
        condition = where(spec.columns, key_range)
        if spec.source_filter:
            condition = f"({spec.source_filter}) AND ({condition})"
        return [int(row[0]) for row in self.run(f'SELECT "ROW NUMBER" FROM {spec.table} {spec.at} WHERE {condition}')]


ARROW: dict[str, Any] = {
    "NUMBER": pa.int64(),
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMP_NTZ": pa.timestamp("us"),
    "TIMESTAMP_LTZ": pa.timestamp("us", tz="UTC"),
    "TIMESTAMP_TZ": pa.timestamp("us", tz="UTC"),
}
KINDS: dict[str, KeyKind] = {
    "NUMBER": "number",
    "VARCHAR": "text",
    "DATE": "date",
    "TIMESTAMP_NTZ": "timestamp_ntz",
    "TIMESTAMP_LTZ": "timestamp_ltz",
    "TIMESTAMP_TZ": "timestamp_tz",
}


@pytest.fixture(scope="module")
def client(snowflake: LocalSnowflake) -> Iterator[Client]:
    snowflake.create_schema(DATABASE, SCHEMA)
    opened = Client(snowflake)
    yield opened
    opened.close()


def spec_of(table: str, types: dict[str, str], batch_size: int, **more: Any) -> KeySpec:
    columns = tuple(KeyColumn(name=name, kind=KINDS[kind.split("(")[0]]) for name, kind in types.items())
    return KeySpec(table=f'"{DATABASE}"."{SCHEMA}"."{table}"', columns=columns, batch_size=batch_size, **more)


def assert_cut_well(client: Client, spec: KeySpec, rows: Sequence[Row]) -> tuple[KeyRange, ...]:
    """Every row is in one range, as many as were planned, and none is too big that could be smaller."""
    ranges = client.plan(spec)
    found = [client.rows_of(spec, each) for each in ranges]
    assert sorted(number for numbers in found for number in numbers) == list(range(len(rows)))
    assert [len(numbers) for numbers in found] == [each.rows for each in ranges]
    for numbers in found:
        assert len(numbers) < 2 * spec.batch_size or len({rows[number] for number in numbers}) == 1
        assert len({rows[number][0] is None for number in numbers}) == 1
    assert sum(len(answer) for answer in client.answers) <= 4 * len(ranges) + 4
    assert len(client.answers) <= 2
    return ranges


# --- one column -------------------------------------------------------------------------------------------------------

RANDOM = random.Random(7)
DAY = dt.datetime(2026, 3, 1)  # noqa: DTZ001 - time stamps without a zone are keys too
ODD_TEXTS = ("", " ", "'", "\\", "ß", "雪", "\n", "a", "A", "Z%")


def uuid_like() -> str:
    digits = f"{RANDOM.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def day(i: int) -> dt.date:
    return (DAY + dt.timedelta(days=i)).date()


def skewed_moment(i: int) -> dt.datetime:
    seconds = RANDOM.random() * 60 if i % 3 == 0 else RANDOM.random() * 86_400 * 200
    return DAY + dt.timedelta(microseconds=int(seconds * 1_000_000))


def in_a_night_of_changing_clocks(i: int, *, spring: bool) -> dt.datetime:
    """Four hours around the hour that Berlin's clocks have twice, or not at all."""
    night = dt.datetime(2026, 3, 28, 23, tzinfo=dt.UTC) if spring else dt.datetime(2026, 10, 24, 23, tzinfo=dt.UTC)
    return night + dt.timedelta(seconds=7 * i)


def on_the_wall(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(ZoneInfo("Europe/Berlin")).replace(tzinfo=None)


SHAPES: dict[str, tuple[str, Callable[[int], Any]]] = {
    "a night when clocks go back": ("TIMESTAMP_LTZ(9)", lambda i: in_a_night_of_changing_clocks(i, spring=False)),
    "a night when clocks go forward": ("TIMESTAMP_LTZ(9)", lambda i: in_a_night_of_changing_clocks(i, spring=True)),
    "wall clocks that go back": (
        "TIMESTAMP_NTZ(9)",
        lambda i: on_the_wall(in_a_night_of_changing_clocks(i, spring=False)),
    ),
    "wall clocks that go forward": (
        "TIMESTAMP_NTZ(9)",
        lambda i: on_the_wall(in_a_night_of_changing_clocks(i, spring=True)),
    ),
    "dense numbers": ("NUMBER(18,0)", lambda i: i),
    "sparse numbers": ("NUMBER(18,0)", lambda i: RANDOM.randrange(-(10**17), 10**17)),
    "negative numbers": ("NUMBER(18,0)", lambda i: -i * 3),
    "numbers with one far away": ("NUMBER(18,0)", lambda i: 10**18 - 1 if i == 7 else i % 800),
    "numbers close together and far from zero": ("NUMBER(18,0)", lambda i: 10**18 - 1 - i % 700),
    "the widest span": ("NUMBER(38,0)", lambda i: (-(2**63), 2**63 - 1, i)[min(i, 2)]),
    "crowds of numbers": ("NUMBER(18,0)", lambda i: (i % 5) * 10**9 + RANDOM.randrange(300)),
    "few numbers": ("NUMBER(18,0)", lambda i: i % 3),
    "one number": ("NUMBER(18,0)", lambda i: 42),
    "numbers, many of them NULL": ("NUMBER(18,0)", lambda i: None if i % 3 else i),
    "only NULL": ("NUMBER(18,0)", lambda i: None),
    "UUIDs": ("VARCHAR(36)", lambda i: uuid_like()),
    "numbered texts": ("VARCHAR(40)", lambda i: f"customer's \\ number {i:09d}"),
    "texts that begin alike for long": ("VARCHAR(200)", lambda i: "é" * 100 + str(i % 900)),
    "texts of all kinds": ("VARCHAR(40)", lambda i: RANDOM.choice(ODD_TEXTS) * (i % 4)),
    "texts, some of them NULL": ("VARCHAR(36)", lambda i: None if i % 5 == 0 else uuid_like()),
    "dates": ("DATE", lambda i: day(i % 199)),
    "dates, one of them crowded": ("DATE", lambda i: day(max(0, i - 500) % 199)),
    "dates from the first to the last": ("DATE", lambda i: (dt.date.min, dt.date.max, DAY.date())[i % 3]),
    "time stamps, one minute crowded": ("TIMESTAMP_NTZ(9)", skewed_moment),
    "time stamps in one second": ("TIMESTAMP_NTZ(9)", lambda i: DAY + dt.timedelta(microseconds=i % 950)),
    "time stamps from the first to the last": (
        "TIMESTAMP_NTZ(9)", lambda i: DAY.replace(year=(1, 9999)[i % 2]) if i < 9 else skewed_moment(i)
    ),
    "moments": ("TIMESTAMP_LTZ(9)", lambda i: skewed_moment(i).replace(tzinfo=dt.UTC)),
    "moments with their zone": ("TIMESTAMP_TZ(9)", lambda i: skewed_moment(i).replace(tzinfo=dt.UTC)),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_ranges_of_one_column_hold_every_row_once(client: Client, shape: str) -> None:
    declared, value = SHAPES[shape]
    rows = [(value(i),) for i in range(2_000)]
    types = {"the Key": declared}
    client.load(shape, types, rows)
    assert_cut_well(client, spec_of(shape, types, batch_size=90), rows)


def test_an_empty_table_has_no_ranges(client: Client) -> None:
    types = {"K": "NUMBER(18,0)"}
    client.load("EMPTY", types, [])
    assert client.plan(spec_of("EMPTY", types, batch_size=10)) == ()


def test_a_small_table_is_one_range_without_bounds(client: Client) -> None:
    types = {"K": "NUMBER(18,0)"}
    client.load("SMALL", types, [(i,) for i in range(10)])
    assert client.plan(spec_of("SMALL", types, batch_size=10)) == (KeyRange(rows=10),)


def test_evenly_spread_rows_take_one_query(client: Client) -> None:
    types = {"K": "NUMBER(18,0)"}
    rows = [(i * 13,) for i in range(5_000)]
    client.load("EVEN", types, rows)
    ranges = assert_cut_well(client, spec_of("EVEN", types, batch_size=500), rows)
    assert len(client.answers) == 1
    assert [each.rows for each in ranges] == pytest.approx([500] * 10, abs=20)


def test_time_stamps_keep_nine_digits_in_their_bounds(client: Client) -> None:
    types = {"T": "TIMESTAMP_NTZ(9)"}
    client.load("MOMENTS", types, [(DAY + dt.timedelta(microseconds=i),) for i in range(10)])
    ranges = client.plan(spec_of("MOMENTS", types, batch_size=4))
    assert [each.start for each in ranges] == [
        None,
        ("2026-03-01 00:00:00.000004000",),
        ("2026-03-01 00:00:00.000008000",),
    ]


# --- several columns --------------------------------------------------------------------------------------------------

NUMBERS = {"SHOP": "NUMBER(18,0)", "ORDER": "NUMBER(18,0)"}
COMPOSITES: dict[str, tuple[dict[str, str], Callable[[int], Row]]] = {
    "one shop with most orders": (NUMBERS, lambda i: (1 if i % 4 else i % 50, i)),
    "one shop": (NUMBERS, lambda i: (1, i)),
    "orders without shop or number": (NUMBERS, lambda i: (None if i % 3 else i % 4, None if i % 5 == 0 else i)),
    "neither shop nor number": (NUMBERS, lambda i: (None, None)),
    "many orders of one number": (NUMBERS, lambda i: (i % 2, 5 if i % 3 else i)),
    "a shop far away with most orders": (NUMBERS, lambda i: (10**15 if i == 0 else 3 + i % 2, i)),
    "a crowded day and UUIDs": (
        {"DAY": "DATE", "ID": "VARCHAR(36)"}, lambda i: (day(max(0, i - 999)), uuid_like()),
    ),
    "UUIDs and moments": (
        {"ID": "VARCHAR(36)", "AT": "TIMESTAMP_LTZ(9)"},
        lambda i: ("same" if i % 2 else uuid_like(), skewed_moment(i).replace(tzinfo=dt.UTC)),
    ),
    "three columns, two of them the same for all": (
        {"A": "VARCHAR(10)", "B": "NUMBER(9,0)", "C": "TIMESTAMP_NTZ(9)"}, lambda i: ("a", 1, skewed_moment(i)),
    ),
    "three columns with NULL in each": (
        {"A": "VARCHAR(10)", "B": "NUMBER(9,0)", "C": "DATE"},
        lambda i: tuple(
            None if RANDOM.random() < 0.4 else value for value in (f"a{i % 2}", i % 3, day(i))
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", COMPOSITES)
def test_ranges_of_several_columns_hold_every_row_once(client: Client, shape: str) -> None:
    types, value = COMPOSITES[shape]
    rows = [value(i) for i in range(2_000)]
    client.load(shape, types, rows)
    assert_cut_well(client, spec_of(shape, types, batch_size=90), rows)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "NUMBER(18,0)": st.integers(-(10**18) + 1, 10**18 - 1) | st.integers(0, 30),
    "VARCHAR": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8) | st.sampled_from(ODD_TEXTS),
    "DATE": st.dates() | st.dates(day(0), day(9)),
    "TIMESTAMP_NTZ(9)": st.datetimes() | st.datetimes(DAY, DAY + dt.timedelta(seconds=2)),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, str], list[Row]]:
    """Columns of any kinds and rows of few or many values, NULLs among them, some of them over and over."""
    declared = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3))
    row = st.tuples(*(st.none() | VALUES[kind] for kind in declared))
    times = st.sampled_from([1, 1, 1, 2, 7, 40])
    rows = [row for row, count in draw(st.lists(st.tuples(row, times), max_size=60)) for _ in range(count)]
    return {f"K{i}": kind for i, kind in enumerate(declared)}, rows


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(tables(), st.integers(1, 40))
def test_ranges_of_any_key_hold_every_row_once(
    client: Client, table: tuple[dict[str, str], list[Row]], batch_size: int
) -> None:
    types, rows = table
    client.load("ANY", types, rows)
    assert_cut_well(client, spec_of("ANY", types, batch_size=batch_size), rows)


# --- around the key ---------------------------------------------------------------------------------------------------


def test_only_rows_that_the_filter_lets_through_are_planned(client: Client) -> None:
    client.load("FILTERED", NUMBERS, [(i % 7, i) for i in range(1_000)])
    spec = spec_of("FILTERED", NUMBERS, 50, source_filter='"ORDER" < 300 OR "ORDER" >= 900 -- the rest is history')
    ranges = client.plan(spec)
    plain = spec.model_copy(update={"source_filter": '"ORDER" < 300 OR "ORDER" >= 900'})
    found = [client.rows_of(plain, each) for each in ranges]
    assert sorted(n for numbers in found for n in numbers) == [*range(300), *range(900, 1_000)]
    assert [len(numbers) for numbers in found] == [each.rows for each in ranges]


def test_columns_may_have_the_names_that_the_queries_use(client: Client) -> None:
    types = {"LOW": "NUMBER(18,0)", "K1": "NUMBER(18,0)"}
    rows = [(i % 3, i) for i in range(600)]
    client.load("CELLS", types, rows)
    assert_cut_well(client, spec_of("CELLS", types, batch_size=50), rows)


def test_every_statement_reads_the_same_moment(client: Client) -> None:
    types = {"SHOP": "NUMBER(18,0)", "ORDER": "NUMBER(18,0)"}
    rows = [(i % 3, i) for i in range(600)]
    client.load("MOVING", types, rows)
    moment = client.run("SELECT TO_CHAR(CURRENT_TIMESTAMP()::TIMESTAMP_NTZ)")[0][0]
    client.run('DELETE FROM "MOVING" WHERE "ORDER" < 500')
    at = f"AT(TIMESTAMP => '{moment} +00:00'::TIMESTAMP_LTZ)"
    assert_cut_well(client, spec_of("MOVING", types, batch_size=50, at=at), rows)


def test_a_range_is_cut_again(client: Client) -> None:
    rows = [(i % 5 or None, i) for i in range(2_000)]
    client.load("AGAIN", NUMBERS, rows)
    spec = spec_of("AGAIN", NUMBERS, batch_size=300)
    whole = client.plan(spec)
    for wide in whole:
        narrow = client.plan(spec.model_copy(update={"batch_size": 50, "within": wide}))
        assert len(narrow) >= wide.rows / 100
        assert max(each.rows for each in narrow) < 100
        assert (narrow[0].start, narrow[-1].stop) == (wide.start, wide.stop)
        assert sorted(n for each in narrow for n in client.rows_of(spec, each)) == sorted(client.rows_of(spec, wide))


def test_buckets_too_many_to_list_are_found_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sql, "MOST_LISTED_BUCKETS", 1)
    rows = [((i % 4) * 10**9 + i if i % 2 else None if i % 3 else 10**12, i) for i in range(2_000)]
    client.load("CROWDS", NUMBERS, rows)
    assert_cut_well(client, spec_of("CROWDS", NUMBERS, batch_size=90), rows)


def test_a_table_that_changes_between_the_queries_is_noticed(client: Client) -> None:
    client.load("RESTLESS", NUMBERS, [(1, i) for i in range(600)])
    spec = spec_of("RESTLESS", NUMBERS, batch_size=50)
    found = read_histogram(spec, client.run(first_query(spec)))
    statement = second_query(spec, found)
    assert statement is not None
    client.run('DELETE FROM "RESTLESS" WHERE "ORDER" < 10')
    pieces = read_pieces(spec, client.run(statement))
    with pytest.raises(DataError, match="had 600 rows in the first query, 590 in the second; plan it again"):
        plan(spec, found, pieces)
