"""Write values into Snowflake's SQL: each of its own type, by an explicit format, and marked to be bound.

A value of a row does not belong into the text of a statement, which Snowflake's history keeps for a year. It is written
as a text behind a mark, ``/*?*/'…'``: valid SQL as it stands, which may be composed, stored in a plan and parsed.
``bind`` puts ``?`` in the place of all marked texts where a statement is sent, and gives what to bind.

What an account has for ``DATE_INPUT_FORMAT`` and its siblings decides what ``'…'::DATE`` means; the functions used
here say how their text is to be read.
"""

import re

from snowmelt.sql_text.lexer import MARK, tokens

_DAY = "YYYY-MM-DD"
_MOMENT = f"{_DAY} HH24:MI:SS.FF9"
_ZONED = f"{_MOMENT} TZHTZM"
_ESCAPES_OF_OURS = re.compile(r"(?:[^'\\]|''|\\\\)*")
_MOST_DIGITS = 38


EPOCH_DATE = f"TO_DATE('1970-01-01', '{_DAY}')"
EPOCH = "TO_TIMESTAMP_NTZ('1970-01-01 00:00:00', 'YYYY-MM-DD HH24:MI:SS')"
MIDNIGHT = "TO_TIME('00:00:00', 'HH24:MI:SS')"


def constant(text: str) -> str:
    """Write a text that is no value of a row, such as a name or a query id."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def text(value: str) -> str:
    """Write a text."""
    return MARK + constant(value)


def number(digits: str) -> str:
    """Write a number, such as ``-12.50``, with the precision and scale that a literal of its digits would have."""
    whole, _, fraction = digits.lstrip("-").partition(".")
    precision = min(_MOST_DIGITS, max(1, len(whole) + len(fraction)))
    return f"CAST({text(digits)} AS NUMBER({precision},{len(fraction)}))"


def date(day: str) -> str:
    """Write a date of the form ``2026-01-31``."""
    return f"TO_DATE({text(day)}, '{_DAY}')"


def timestamp_ntz(moment: str) -> str:
    """Write a timestamp without zone of the form ``2026-01-31 23:59:59.123456789``."""
    return f"TO_TIMESTAMP_NTZ({text(moment)}, '{_MOMENT}')"


def timestamp_ltz(moment: str) -> str:
    """Write a moment, given in UTC as ``timestamp_ntz`` has it, in the session's zone."""
    return f"TO_TIMESTAMP_LTZ({text(f'{moment} +0000')}, '{_ZONED}')"


def timestamp_tz(moment: str) -> str:
    """Write a moment, given in UTC as ``timestamp_ntz`` has it, with the offset of UTC."""
    return f"TO_TIMESTAMP_TZ({text(f'{moment} +0000')}, '{_ZONED}')"


def moment_constant(moment: str) -> str:
    """Write a moment that is no value of a row, given in UTC as ``timestamp_ntz`` has it, unbound."""
    return f"TO_TIMESTAMP_LTZ({constant(f'{moment} +0000')}, '{_ZONED}')"


def bind(statement: str) -> tuple[str, tuple[str, ...]]:
    """Return the statement with ``?`` for every marked text, and the texts in their order.

    A statement that nobody can read to its end stays as it is: Snowflake refuses it.
    """
    if MARK not in statement:
        return statement, ()
    parts: list[str] = []
    bound: list[str] = []
    is_marked = False
    try:
        for token in tokens(statement):
            if is_marked and token.kind == "text" and _ESCAPES_OF_OURS.fullmatch(token.text[1:-1]):
                parts[-1] = "?"
                bound.append(token.text[1:-1].replace("''", "'").replace("\\\\", "\\"))
                is_marked = False
                continue
            is_marked = token.kind == "comment" and token.text == MARK
            parts.append(token.text)
    except ValueError:
        return statement, ()
    return "".join(parts), tuple(bound)
