"""Test that a terminal is shown control characters and never sent them."""

import io
import json
import logging

import pytest
from rich.table import Table

from snowmelt.cli import console
from snowmelt.cli.terminal_text import on_one_line, shown

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


@pytest.mark.parametrize("terminal", [False, True])
def test_sql_is_exact_in_a_pipe_and_shown_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(type(console.out), "is_terminal", terminal)

    name = HOSTILE.removesuffix("\udcff")

    console.show_script(f'CREATE TABLE "{name}" ();\n')

    assert capsys.readouterr().out == f'CREATE TABLE "{shown(name) if terminal else name}" ();\n'


def test_a_line_of_json_has_nothing_that_a_terminal_would_obey_and_stays_exact(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.show_json({"value": HOSTILE})

    written = capsys.readouterr().out
    assert obeyed(written) == []
    assert json.loads(written) == {"value": HOSTILE}


def test_no_cell_begins_a_line_of_its_own() -> None:
    grid = console._Grid("name")
    grid.add_row("one\nforged")

    assert r"one\nforged" in written(False, grid)
