"""A condition is any expression, and never more than that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.config.conditions import require_closed

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
}


@pytest.mark.parametrize("condition", CLOSED)
def test_an_expression_is_taken_as_it_is(condition: str) -> None:
    assert require_closed(condition) == condition


@pytest.mark.parametrize("condition", REACHING)
def test_what_reaches_beyond_itself_is_refused(condition: str) -> None:
    with pytest.raises(ValueError, match=REACHING[condition]):
        require_closed(condition)


@given(
    parts=st.lists(
        st.sampled_from(["'", '"', "$$", "/*", "*/", "--", "//", "\n", "(", ")", ";", "\\", "a", " ", "''", '""']),
        max_size=12,
    )
)
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
