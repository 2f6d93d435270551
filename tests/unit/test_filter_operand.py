"""Every statement that reads a filtered table has the filter as one operand, whatever the filter holds."""

import ast
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot.errors import SqlglotError

import snowmelt
from snowmelt.columns.type_pairs import Match, match
from snowmelt.config import TableConfig
from snowmelt.errors import ConfigError
from snowmelt.findings import Place
from snowmelt.models import (
    ColumnPlan,
    KeyColumn,
    KeyRange,
    KeySpec,
    SourceColumn,
    TableName,
    TablePlan,
    TargetColumn,
    WatermarkPlan,
)
from snowmelt.planning import composite, key_sql, statement, watermarks
from snowmelt.planning.keys import Bucket, Histogram
from snowmelt.planning.load_mode import Loading
from snowmelt.planning.ties import ForeignKey
from snowmelt.preflight import duplicates, orphans, rows
from snowmelt.preflight.duplicates import UniqueKey
from snowmelt.preflight.orphans import Link
from snowmelt.preflight.rows import Looked
from snowmelt.verification.source_sql import SourceRows, as_of, of_table
from support.filter_operand import MARKER, places

NAME = '"D"."S"."T"'
TARGET = TableName(schema_name="public", name="t")
PLACE = Place("T", TARGET, "sources[0].tables[0]")
KEY_COLUMNS = (KeyColumn(name="ID", kind="number"), KeyColumn(name="NOTE", kind="text"))
RANGE = KeyRange(start=("3", "a"), stop=("9",), rows=7)
MARKS = WatermarkPlan(source="ID", target="id", kind="number", low="1", high="7", null_rows=0, limit="9")
BOUND = watermarks.predicate(MARKS)


def column(source: SourceColumn, target: TargetColumn) -> ColumnPlan:
    found = match(source, target)
    assert isinstance(found, Match)
    return found.plan


ID = column(SourceColumn(name="ID", type="FIXED", precision=18, scale=0), TargetColumn(name="id", type="int8"))
NOTE = column(SourceColumn(name="NOTE", type="TEXT", length=9), TargetColumn(name="note", type="varchar", typmod=8))
KEY = UniqueKey((ID, NOTE), is_configured=True)


def plan_of(condition: str) -> TablePlan:
    """A plan whose rows meet a filter and the bounds of a watermark."""
    return TablePlan(
        table_id=0,
        source="T",
        target=TARGET,
        columns=(ID, NOTE),
        key=("id", "note"),
        reads_from=NAME,
        conditions=(condition, BOUND),
        watermark=MARKS,
        order_by=("ID",),
        strategy="key_range",
        keys=spec_of(condition),
        truncate_onstart=True,
        append=False,
        batch_size=10,
        max_retry_attempts=3,
    )


def spec_of(condition: str) -> KeySpec:
    return KeySpec(
        table=NAME,
        columns=KEY_COLUMNS,
        batch_size=10,
        source_filter=statement.all_of((condition, BOUND)),
        within=KeyRange(start=("1",), stop=("99",), rows=70),
    )


def looked_of(condition: str) -> Looked:
    config = TableConfig(source="T", source_filter=condition, uniqueness_columns=("ID", "NOTE"))
    return Looked(PLACE, config, NAME, (condition, BOUND), (ID, NOTE), Loading("copy"), (("id",),))


def of_keys(condition: str) -> Iterator[str]:
    """The two queries that cut a table, with buckets that are listed, and with so many that they are counted again."""
    spec = spec_of(condition)
    yield composite.first_query(spec)
    few = (Bucket("1", "5", 100, True), Bucket("7", "7", 100, True), Bucket(None, None, 100, True))
    many = tuple(Bucket(f"{2 * i}", f"{2 * i + i % 2}", 100, True) for i in range(key_sql.MOST_LISTED_BUCKETS + 1))
    for buckets in (few, many):
        second = composite.second_query(spec, Histogram(buckets, 4, 100 * len(buckets)))
        assert second is not None
        yield second


def of_verification(condition: str) -> Iterator[str]:
    plan = plan_of(condition)
    for read in (of_table(plan), of_table(as_of(plan, datetime(2026, 11, 29, tzinfo=UTC)))):
        for every, without in ((1, ()), (4, ((7, 2),))):
            source = SourceRows(read, plan.columns, plan.columns, (ID,), every=every, without=without)
            yield from (source.count(), source.total(), source.buckets(8), source.pairs(8, [1, 2]), source.all_pairs())
            yield from (source.copies([5]), source.rows(), source.rows([3]))


def of_foreign_keys(condition: str) -> Iterator[str]:
    looked = looked_of(condition)
    key = ForeignKey("k", TARGET, TARGET, ("id",), ("id",))
    yield orphans.question([Link(key, looked, looked), Link(key, looked, looked)])


def numbered(condition: str) -> TablePlan:
    number = duplicates.repeat_number(KEY, watermark=MARKS, cut_by=["ID"], columns=(ID, NOTE))
    return plan_of(condition).model_copy(update={"repeat_number": number})


Statements = Callable[[str], Sequence[str] | Iterator[str]]
EVERY: dict[str, Statements] = {
    "a scan": lambda f: [statement.of_chunk(plan_of(f)), statement.of_chunk(numbered(f))],
    "a range": lambda f: [statement.of_chunk(plan_of(f), RANGE), statement.of_chunk(numbered(f), RANGE)],
    "what is told of a chunk": lambda f: [statement.shown_of_chunk(plan_of(f), RANGE)],
    "a count": lambda f: [statement.count(plan_of(f))],
    "a probe": lambda f: [statement.compiles(NAME, (f, BOUND))],
    "keys": of_keys,
    "bounds": lambda f: [
        watermarks.bounds_query(ID.source, limit=limit, source_table=NAME, source_filter=f) for limit in (None, "9")
    ],
    "duplicates": lambda f: [
        duplicates.question([KEY], source=NAME, conditions=(f, BOUND)),
        duplicates.spellings(KEY, source=NAME, conditions=(f, BOUND)),
        duplicates.examples(KEY, source=NAME, conditions=(f, BOUND)),
        duplicates.keys_of_both(plan_of(f), plan_of(f)) or "",
    ],
    "rows": lambda f: [rows.question(looked_of(f))],
    "foreign keys": of_foreign_keys,
    "verification": of_verification,
}
CALLERS = {
    "config.conditions.require_closed",
    "preflight.duplicates.examples",
    "preflight.duplicates.keys",
    "preflight.duplicates.question",
    "preflight.duplicates.spellings",
    "planning.key_sql._keys",
    "planning.statement.all_of",
    "planning.statement.compiles",
    "planning.statement.count",
    "planning.statement.of_chunk",
    "planning.watermarks.bounds_query",
    "preflight.orphans._rows",
    "preflight.rows.question",
}
"""What puts conditions into a statement; all are met by the statements above."""
NO_STATEMENTS = {"preflight.table_plans._put_together", "preflight.rows._filter"}
"""What puts them into a spec, which ``_keys`` reads, and into a line of a config that is proposed."""

HOSTILE = (
    f"{MARKER} = 1 OR 1 = 1",
    f"{MARKER}$$ > 0 OR {MARKER} = 2",
    f"{MARKER} = 'it''s' OR {MARKER} = 'x) OR (1=1' -- end",
    f"{MARKER} = 'back\\'slash) OR ('",
    f"{MARKER} = 1 // ) OR (1 = 1",
    f"{MARKER} = 1 /* ) OR (1 = 1 */",
    f"{MARKER} = $$) OR (1 = 1 ' -- $$ OR {MARKER} IS NULL",
    f'{MARKER} = 1 OR "a) OR (""b" = 2',
    f"{MARKER} = 1 -- a\r\n OR {MARKER} = 2 --",
    f"{MARKER} = ';' OR {MARKER} IN (SELECT X FROM Y WHERE (Z = ')'))",
    f"{MARKER} = 1 OR NOT {MARKER} BETWEEN 2 AND 3",
    f"CASE WHEN {MARKER} = 1 THEN TRUE ELSE FALSE END OR TRUE",
)
REFUSED = (
    f"{MARKER} = 1) OR (1 = 1",
    f"{MARKER}$$ > 0) OR (1 = 1 OR B$$ > 0",
    f"{MARKER} = 1 -- x\r) OR (1 = 1",
    f"{MARKER} = 1 /* /* */ ) OR (1 = 1 -- */",
    f"{MARKER} = 'x\\'",
    f"{MARKER} = $$x",
    f"{MARKER} = 1; DROP TABLE T",
    f"{MARKER} = 1 /*",
    f'"{MARKER} = 1',
    f"({MARKER} = 1",
)


@pytest.mark.parametrize("kind", EVERY)
def test_another_reader_finds_the_filter_as_one_operand(kind: str) -> None:
    for condition in HOSTILE:
        for built in EVERY[kind](condition):
            assert places(built, condition) >= 1, built


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_more_than_one_operand_is_never_built_into_a_statement(kind: str) -> None:
    for condition in REFUSED:
        with pytest.raises((ConfigError, ValueError), match=r"leaves|closes|holds"):
            list(EVERY[kind](condition))


PARTS = (
    *("'", '"', "$$", "$", "/*", "*/", "--", "//", "\n", "\r", "(", ")", "\\", "''", "\\'"),
    *("a", "a$$", "1", " ", " OR ", " AND ", "=", MARKER),
)


@given(parts=st.lists(st.sampled_from(PARTS), max_size=8), kind=st.sampled_from(["a range", "a count", "bounds"]))
@settings(max_examples=150)
def test_whatever_is_taken_is_one_operand(parts: list[str], kind: str) -> None:
    condition = f"{MARKER} = {''.join(parts)}"
    try:
        built = list(EVERY[kind](condition))
        found = [places(each, condition) for each in built]
    except (ConfigError, ValueError, SqlglotError):  # refused, or no SQL that anybody would run
        return
    assert min(found) >= 1


def test_nothing_else_puts_conditions_into_statements() -> None:
    source = Path(snowmelt.__file__).parent
    found = set()
    for path in source.rglob("*.py"):
        module = ".".join(path.relative_to(source).with_suffix("").parts)
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                found |= {f"{module}.{function.name}" for name in _called(function) if name in ("bracketed", "all_of")}
    found -= {"sql_text.lexer.bracketed"}
    assert found == CALLERS | NO_STATEMENTS


def _called(function: ast.FunctionDef) -> Iterator[str]:
    """Names that the function itself uses, without those of functions within it."""
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.Name):
            yield node.id
        if isinstance(node, ast.Attribute):
            yield node.attr
        waiting += ast.iter_child_nodes(node)
