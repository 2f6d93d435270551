r"""Read Snowflake's SQL as far as one must know where its texts, names and comments end.

A text is between single quotes, in which ``''`` and ``\'`` are a quote, or between ``$$``, in which nothing is special.
A name is between double quotes, in which ``""`` is a quote, or a word: it begins with a letter or ``_`` and may hold
``$``, so that ``a$$`` is one. A comment begins with ``--`` or ``//`` and ends with the line, or stands between ``/*``
and ``*/``.

What readers of SQL end in different places is refused, as it says one thing to whoever checks it and another to who
runs it: a comment within a comment, a carriage return alone, and ``$$`` right behind what is neither a word nor an
operator.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "name", "word", "number", "comment", "blank", "mark"]

_TOKEN = re.compile(
    r"""
      (?P<blank>   (?:[ \t\n\f\v]|\r\n)+)
    | (?P<text>    '(?:[^'\\]|''|\\.)*' | \$\$.*?\$\$)
    | (?P<name>    "(?:[^"]|"")*")
    | (?P<comment> (?:--|//)[^\n]* | /\*.*?\*/)
    | (?P<open>    '|"|\$\$|/\*)
    | (?P<word>    [A-Za-z_][A-Za-z0-9_$]*)
    | (?P<number>  \d(?:[A-Za-z0-9_.]|(?<=[eE])[+-](?=\d))*)
    | (?P<mark>    \$[A-Za-z0-9_]* | .)
    """,
    re.VERBOSE | re.DOTALL,
)
MARK = "/*?*/"
"""A comment right before a text that is to be bound: the statement means the same whether it is or not."""
_CALLED = {"'": "a text", '"': "a name", "$$": "a text", "/*": "a comment"}


@dataclass(frozen=True)
class Token:
    """A part of a statement, as it is written."""

    kind: Kind
    text: str


def tokens(sql: str) -> Iterator[Token]:
    """Yield the parts of the text, in their order and without a gap; ValueError where it is open or ambiguous."""
    before = ""
    for found in _TOKEN.finditer(sql):
        text = found[0]
        if found["open"]:
            raise ValueError(f"leaves {_CALLED[text]} open that begins with {text}")
        if found["comment"] and text.startswith("/*") and "/*" in text[2:]:
            raise ValueError("holds a comment within a comment, which not every reader of SQL ends in the same place")
        if (found["comment"] and re.search(r"\r(?!\n|$)", text)) or (found["mark"] and text == "\r"):
            raise ValueError("holds a carriage return without a line feed, which ends a line for some readers only")
        if text.startswith("$") and before and _may_go_on(before):
            raise ValueError("holds $$ right behind a number, a variable or a letter that is not ASCII; put a blank")
        kind: Kind = found.lastgroup  # type: ignore[assignment]
        yield Token(kind, text)
        before = text


def _may_go_on(before: str) -> bool:
    """Return whether what stands before a dollar may have it as a part of its own, for some readers."""
    return before[0].isdigit() or (before[0] == "$" and before[:2] != "$$") or not before[-1].isascii()


def bracketed(condition: str) -> str:
    """Return a condition as one operand, in brackets on lines of its own; ValueError when it reaches beyond them.

    It may be any expression. It may not end the statement, close a bracket that it did not open, or leave a text, a
    name or a comment open: these would swallow what comes after.
    """
    if "\0" in condition:
        raise ValueError("holds a NUL character")
    depth = 0
    for token in tokens(condition):
        if token.kind != "mark":
            continue
        if token.text == ";":
            raise ValueError("holds a semicolon, which would end the statement; it is one condition")
        depth += (token.text == "(") - (token.text == ")")
        if depth < 0:
            raise ValueError("closes a bracket that it did not open")
    if depth:
        raise ValueError("leaves a bracket open")
    return f"(\n{condition}\n)"


def without_literals(statement: str) -> str:
    """Return a statement with ``?`` for its texts and numbers, and without its comments."""
    parts: list[str] = []
    try:
        for token in tokens(statement):
            match token.kind:
                case "text" | "number":
                    parts.append("?")
                case "comment" if token.text != MARK:
                    parts.append(" ")
                case "comment":
                    continue
                case _:
                    parts.append(token.text)
    except ValueError:  # from here on nobody knows what is a literal
        parts.append("?")
    return "".join(parts)
