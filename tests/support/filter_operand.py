"""Where a filter stands in a statement, as another reader of Snowflake's SQL sees it."""

from functools import cache

import sqlglot
from sqlglot import exp

MARKER = "FILTERED_BY"
"""A column that a filter names, so that none of its places in a statement is overlooked."""


@cache
def _parsed(condition: str) -> exp.Expression:
    (found,) = sqlglot.parse(f"(\n{condition}\n)", dialect="snowflake")
    assert isinstance(found, exp.Expression)
    return found


def places(statement: str, condition: str) -> int:
    """Count the places where the filter is one operand of a WHERE; AssertionError where it is more or less than that.

    The condition names ``MARKER``. ParseError where sqlglot cannot read one of the two.
    """
    operand = _parsed(condition)
    (tree,) = sqlglot.parse(statement, dialect="snowflake")  # one statement
    assert tree is not None
    operands = [found for found in tree.find_all(exp.Paren) if found == operand]
    for found in operands:
        above = found.parent
        while isinstance(above, exp.And | exp.Paren):
            above = above.parent
        assert isinstance(above, exp.Where), f"the filter is no condition of its own in {statement}"
    named = sum(_is_marker(column) for column in operand.find_all(exp.Column))
    everywhere = sum(_is_marker(column) for column in tree.find_all(exp.Column))
    assert named, condition
    assert everywhere == named * len(operands), f"a part of the filter is outside of its brackets in {statement}"
    return len(operands)


def _is_marker(column: exp.Column) -> bool:
    return column.name == MARKER
