"""Log lines: readable ones for people, JSON for pipes, and one line for each event in both."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from snowmelt.cli import console
from snowmelt.cli.console import JsonFormatter, LineFormatter
from snowmelt.errors import ConfigError, DataError, SnowmeltError
from snowmelt.monitoring.monitor import TableProgress


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """The package's logger as it was, whatever a test does to it."""
    logger = logging.getLogger("snowmelt")
    before = (logger.handlers[:], logger.propagate, logger.level)
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on stderr, which is a pipe."""
    return capsys.readouterr().err.splitlines()


def record(message: str, level: int = logging.INFO, **keys: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "levelno": level, "levelname": logging.getLevelName(level), **keys})
    made.name = "snowmelt.actions.process_chunk"
    return made


# --- the two forms --------------------------------------------------------------------------------------------------


def test_a_line_for_people_has_time_message_and_keys() -> None:
    line = LineFormatter().format(record("chunk completed", run_id="ledger-1", table="ENTRIES", chunk=7, rows=None))

    time, rest = line.split(" ", 1)
    assert len(time.split(":")) == 3
    assert rest == "chunk completed  run_id=ledger-1 table=ENTRIES chunk=7"


def test_a_level_is_named_when_it_matters() -> None:
    assert " WARNING trying again" in LineFormatter().format(record("trying again", logging.WARNING))
    assert "INFO" not in LineFormatter().format(record("chunk completed"))


@given(
    message=st.text(max_size=40),
    keys=st.dictionaries(
        st.sampled_from(["run_id", "table", "chunk"]), st.text(max_size=20) | st.integers() | st.none()
    ),
)
def test_a_json_line_is_one_line_and_holds_every_key(message: str, keys: dict[str, Any]) -> None:
    line = JsonFormatter().format(record("%s", args=(message,), **keys))

    assert "\n" not in line
    read = json.loads(line)
    assert read.pop("timestamp")
    assert read == {"level": "INFO", "message": message, **keys}


def test_a_json_line_holds_values_that_json_has_not() -> None:
    line = JsonFormatter().format(record("failed", error_code=DataError))

    assert "DataError" in json.loads(line)["error_code"]


# --- where they go --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_a_message_is_one_line_although_others_have_set_up_the_root_logger(
    capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    root = logging.StreamHandler()
    logging.getLogger().addHandler(root)
    try:
        console.set_up_logging(None, as_json=as_json)
        console.set_up_logging(None, as_json=as_json)
        logging.getLogger("snowmelt.actions.finalize").info("run ended", extra={"run_id": "r"})
    finally:
        logging.getLogger().removeHandler(root)

    (line,) = said(capsys)
    assert "run ended" in line
    assert line.startswith("{") == as_json


@pytest.mark.parametrize(
    ("level", "seen"), [(None, ["INFO", "WARNING"]), ("WARNING", ["WARNING"]), ("DEBUG", ["DEBUG", "INFO", "WARNING"])]
)
def test_a_level_lets_through_what_is_at_least_as_grave(
    capsys: pytest.CaptureFixture[str], level: str | None, seen: list[str]
) -> None:
    console.set_up_logging(level, as_json=True)
    logger = logging.getLogger("snowmelt.runner")

    for grave in (logging.DEBUG, logging.INFO, logging.WARNING):
        logger.log(grave, "event")

    assert [json.loads(line)["level"] for line in said(capsys)] == seen


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (DataError("table A: gone; create it"), ["DataError: table A: gone; create it"]),
        (ConfigError("c.json is not JSON; fix it"), ["ConfigError: c.json is not JSON; fix it"]),
        (
            ConfigError("c.json has 1 problem", ["a: bad; fix it"]),
            ["ConfigError: c.json has 1 problem; a: bad; fix it"],
        ),
        (
            ConfigError("c.json; the second has 2 problems", ["a: bad; fix it", "b: worse"]),
            ["ConfigError: c.json; the second has 2 problems:", "  a: bad; fix it", "  b: worse"],
        ),
    ],
)
def test_an_error_is_a_line_and_several_problems_are_a_line_each(
    capsys: pytest.CaptureFixture[str], error: SnowmeltError, lines: list[str]
) -> None:
    console.show_error(error)

    assert said(capsys) == lines


def test_an_error_is_json_where_log_lines_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.set_up_logging("WARNING", as_json=True)

    console.show_error(ConfigError("c.json has 2 problems", ["a: bad", "b: worse"]))

    (line,) = map(json.loads, said(capsys))
    assert (line["level"], line["error_code"], line["problems"]) == ("ERROR", "ConfigError", ["a: bad", "b: worse"])
    assert line["message"] == "c.json has 2 problems; a: bad; b: worse"


@pytest.mark.parametrize("length", [10, 500, 5_000])
def test_an_error_stays_on_its_line_however_long_it_is(capsys: pytest.CaptureFixture[str], length: int) -> None:
    console.show_error(DataError("word " * length))

    assert said(capsys) == ["DataError: " + " ".join(["word"] * length)]


ODD_NAMES = ('"Order [Details]"', "[/red]", ":key:", "a:smile:b", "[bold]x[/bold]", "\\[x]", "{x}", "100 %")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Brackets and colons of a name are no markup and no emoji."""
    console.show_error(DataError(f"table {name}: gone"))

    assert said(capsys) == [f"DataError: table {name}: gone"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_shown_as_they_are_in_the_closing_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(console, "out", console._console())
    table = TableProgress(
        table=name,
        target="public.x",
        status="completed",
        source_rows=1_234_567,
        rows=1_234_567,
        size_bytes=10**9,
        chunks=3,
        chunks_completed=3,
        chunks_running=0,
        chunks_failed=0,
        seconds=3.0,
        load_seconds=2.0,
        rows_per_second=617_283.5,
        error=f"{name} is odd",
    )

    console.show_tables([table], f"run {name}")

    title, _, row, error = capsys.readouterr().out.splitlines()
    assert title.strip() == f"run {name}"
    assert row.startswith(name)
    assert row.split()[-9:] == ["completed", "1,234,567", "1,234,567", "3/3", "3.0", "2.0", "617,284", "1.0", "GB"]
    assert error == f"{name}: {name} is odd"


def test_a_console_without_a_terminal_cuts_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Console = console._console()

    assert made.width >= 200 or made.is_terminal
