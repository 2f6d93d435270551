"""Test that a terminal is shown control characters and never sent them."""

import io
import json
import logging

import pytest
from rich.table import Table

from snowmelt import console
from snowmelt.terminal_text import on_one_line, shown

HOSTILE = "a\x1b[31mred\x07\x08\r\x9b31m\x85\u202eevil\u2066\u200b\ufeff\x7f\udcff"


def written(terminal: bool, print_it: object) -> str:
    stream = io.StringIO()
    plain = console._PlainConsole(file=stream, force_terminal=terminal, width=400, highlight=False, markup=False)
    plain.print(print_it)
    return stream.getvalue()


def obeyed(text: str) -> list[str]:
    """List what a terminal would obey of a text."""
    return [c for c in text if c != "\n" and shown(c) != c]


def test_control_and_bidirectional_characters_are_spelt_out() -> None:
    assert shown(HOSTILE) == (r"a\x1b[31mred\x07\x08\x0d\x9b31m\x85\u202eevil\u2066\u200b\ufeff\x7f\udcff")
    assert on_one_line("a\nb\tc") == r"a\nb\tc"
    assert shown("Größe 漢字 \t🦄\n") == "Größe 漢字 \t🦄\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_neither_a_line_nor_a_cell_of_a_table_sends_them(terminal: bool) -> None:
    grid = Table("name")
    grid.add_row(HOSTILE)
    for what in (HOSTILE, grid, console.text_of(HOSTILE)):
        text = written(False, what)
        assert obeyed(text) == []
        assert r"\x1b[31m" in text
        assert r"\u202e" in text
    if terminal:
        assert "\x1b[31m" not in written(terminal, grid)


def test_a_log_line_for_people_is_one_line_and_the_same_as_json_is_exact() -> None:
    record = logging.makeLogRecord({"msg": f"{HOSTILE}\nforged", "levelno": logging.INFO, "table": HOSTILE})
    line = console.LineFormatter().format(record)
    assert (obeyed(line), "\n" in line) == ([], False)
    given = console.JsonFormatter().format(record)
    assert json.loads(given)["table"] == HOSTILE
    assert given.isascii()
