"""Tests wait for conditions: how fast something was says more about who else is using the machine."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
CLOCKS = {"monotonic", "perf_counter", "time", "process_time"}


def reads_clock(node: ast.expr) -> bool:
    """Whether a difference of moments is in it: ``time.monotonic() - started``."""
    return any(
        isinstance(part, ast.BinOp)
        and isinstance(part.op, ast.Sub)
        and isinstance(part.left, ast.Call)
        and isinstance(part.left.func, ast.Attribute)
        and part.left.func.attr in CLOCKS
        for part in ast.walk(node)
    )


def bounds_from_above(compare: ast.Compare) -> bool:
    """Whether a duration must be less than something."""
    terms = [compare.left, *compare.comparators]
    return any(
        (isinstance(operator, ast.Lt | ast.LtE) and reads_clock(low))
        or (isinstance(operator, ast.Gt | ast.GtE) and reads_clock(high))
        for low, operator, high in zip(terms, compare.ops, terms[1:], strict=False)
    )


def bounds_in(text: str) -> list[int]:
    """The lines of assertions that something took no longer than so many seconds."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assert)
        if any(isinstance(part, ast.Compare) and bounds_from_above(part) for part in ast.walk(node.test))
    ]


def test_a_bound_is_found_in_each_way_to_write_it() -> None:
    text = """
assert time.monotonic() - began < 5
assert 1 <= time.monotonic() - began < 3
assert 5 > time.perf_counter() - began
assert time.monotonic() - began >= 1
assert time.monotonic() < until
"""
    assert bounds_in(text) == [2, 3, 4]


def test_no_test_asserts_that_something_was_fast() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        for line in bounds_in(path.read_text(encoding="utf-8"))
    ]
    assert found == []
