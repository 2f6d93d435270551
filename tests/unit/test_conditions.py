"""A condition is any expression, and never more than that."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot.dialects.snowflake import Snowflake
from sqlglot.errors import TokenError

from snowmelt.config.conditions import require_closed
from snowmelt.errors import ConfigError
from snowmelt.planning.statement import all_of
from snowmelt.sql_text.lexer import tokens

CLOSED = (
    "A > 1",
    "A = ';' AND B = ')'",
    "A = 'it''s' OR B = 'back\\'slash'",
    '"A;B" = 1 AND "say ""hi""" = 2',
    "A IN (SELECT B FROM C WHERE (D = 1))",
    "A = $$ ; ' ) $$",
    "A = 1 -- why; not)",
    "A = 1 // why; not)",
    "A = 1 /* why; ' not) */ AND B = 2",
    "A = 'größe'",
    "A$$ = 1 AND B$c$$ = 2",
    "$1 > 2 AND X = $$a$$",
    "A = X'2F' AND B = 1e-5--3",
    "A = 'one\\rline' -- windows\r\nAND B = 1",
)
REACHING = {
    "1 = 1; DROP TABLE T": "semicolon",
    "1 = 1) OR (1 = 1": "did not open",
    "(1 = 1": "leaves a bracket open",
    "A = 'x": "leaves a text open",
    "A = 'x\\'": "leaves a text open",
    'A = "x': "leaves a name open",
    "A = 1 /* and": "leaves a comment open",
    "A = $$x": "leaves a text open",
    "A = 1 */ ) --": "did not open",
    "A = '\0'": "NUL",
    "A$$ > 0) OR (1 = 1 OR B$$ > 0": "did not open",
    "1$$a$$ > 1": "right behind a number",
    "é$$ ) -- $$": "right behind a number, a variable or a letter that is not ASCII",
    "$a$$ ) $$": "right behind a number, a variable",
    "A = 1 /* a /* b */ ) OR (1 = 1 -- */": "a comment within a comment",
    "A = 1 -- x\r) OR (1 = 1": "a carriage return without a line feed",
    "A = 1 // x\r) OR (1 = 1": "a carriage return without a line feed",
    "A = 1\r AND B = 1": "a carriage return without a line feed",
}


@pytest.mark.parametrize("condition", CLOSED)
def test_an_expression_is_taken_as_it_is(condition: str) -> None:
    assert require_closed(condition) == condition


@pytest.mark.parametrize("condition", REACHING)
def test_what_reaches_beyond_itself_is_refused(condition: str) -> None:
    with pytest.raises(ValueError, match=REACHING[condition]):
        require_closed(condition)


PARTS = (
    *("'", '"', "$$", "$", "/*", "*/", "--", "//", "\n", "\r", "\r\n", "(", ")", ";", "\\", "''", '""', "\\'"),
    *("a", "a$$", "$1", "1", "1e", "é", " ", "x'", "AND", "=", "/", "-", "*"),
)


@given(parts=st.lists(st.sampled_from(PARTS), max_size=12))
def test_whatever_is_taken_leaves_what_comes_after_it_as_it_was(parts: list[str]) -> None:
    """Put between brackets on lines of its own, a second condition after it is read in the same way."""
    condition = "".join(parts)
    try:
        require_closed(condition)
    except ValueError:
        return
    require_closed(f"(\n{condition}\n) AND (B = 'x')")
    with pytest.raises(ValueError, match="semicolon"):
        require_closed(f"(\n{condition}\n); DROP TABLE T")


@given(parts=st.lists(st.sampled_from(PARTS), max_size=12))
def test_another_reader_of_the_statement_finds_the_filter_as_one_operand_too(parts: list[str]) -> None:
    condition = "".join(parts)
    try:
        statement = f"SELECT 1 FROM T WHERE {all_of([condition, 'BOUND > 7'])}"
    except ConfigError:
        return

    try:
        found = Snowflake.Tokenizer().tokenize(statement)
    except TokenError:  # such as x'x', which is no hexadecimal number: nobody runs that
        return

    assert [token.text for token in found[:6]] == ["SELECT", "1", "FROM", "T", "WHERE", "("]
    assert [token.text for token in found[-7:]] == [")", "AND", "(", "BOUND", ">", "7", ")"]
    steps = {"L_PAREN": 1, "R_PAREN": -1}  # the text of a text may be a bracket too
    depth = [*accumulate(steps.get(token.token_type.name, 0) for token in found[5:-6])]
    assert depth[-1] == 0
    assert min(depth[:-1]) == 1


def test_a_condition_that_gets_past_the_config_is_refused_where_the_statement_is_built() -> None:
    with pytest.raises(ConfigError, match="source_filter closes a bracket that it did not open"):
        all_of(["1 = 1) OR (1 = 1"])


@given(sql=st.text(alphabet=list("a'$/*-\\\"\n 1é;()"), max_size=30))
def test_the_parts_of_a_statement_are_all_of_it(sql: str) -> None:
    try:
        found = [*tokens(sql)]
    except ValueError:
        return
    assert "".join(token.text for token in found) == sql
