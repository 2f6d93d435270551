"""Values in statements to Snowflake: literals as they stand, bound where they are sent."""

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from snowmelt.sql_text import literals
from snowmelt.sql_text.lexer import without_literals

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["?", "/*?*/", "/*?*/'x'", "\\", "\\'", "''", "$$", "--", "\n"]
)


@given(st.lists(TEXTS, max_size=5))
def test_every_value_is_bound_once_and_in_its_order(values: list[str]) -> None:
    statement = "SELECT " + ", ".join(["'kept'", *map(literals.text, values)])
    sent, bound = literals.bind(statement)
    assert list(bound) == values
    assert sent == "SELECT " + ", ".join(["'kept'", *("?" for _ in values)])


@given(TEXTS.filter(lambda value: "\0" not in value))
def test_a_value_is_a_literal_of_itself_where_it_is_not_bound(value: str) -> None:
    (parsed,) = sqlglot.parse(f"SELECT {literals.text(value)}", dialect="snowflake")
    assert parsed is not None
    (literal,) = parsed.find_all(exp.Literal)
    assert literal.this == value


@pytest.mark.parametrize(
    ("digits", "sql"),
    [
        ("0", "CAST(/*?*/'0' AS NUMBER(1,0))"),
        ("-12.50", "CAST(/*?*/'-12.50' AS NUMBER(4,2))"),
        (".5", "CAST(/*?*/'.5' AS NUMBER(1,1))"),
        ("9" * 38, f"CAST(/*?*/'{'9' * 38}' AS NUMBER(38,0))"),
    ],
)
def test_a_number_has_the_type_that_a_literal_of_its_digits_would_have(digits: str, sql: str) -> None:
    assert literals.number(digits) == sql


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'a?b' FROM t WHERE x = '/*?*/'",
        "SELECT $$/*?*/'a'$$",
        'SELECT "/*?*/" FROM t -- /*?*/',
        "SELECT 1 /*?*/ + 1",
        "SELECT /*?*/'a\\nb'",
        "SELECT 'never closed /*?*/''",
    ],
)
def test_what_is_no_value_of_ours_stays_as_it_is(statement: str) -> None:
    assert literals.bind(statement) == (statement, ())


def test_a_statement_is_shown_without_its_values() -> None:
    statement = f'SELECT 1 FROM "T" WHERE "D" >= {literals.date("2026-01-31")}'
    assert without_literals(statement) == 'SELECT ? FROM "T" WHERE "D" >= TO_DATE(?, ?)'
