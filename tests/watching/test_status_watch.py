"""``snowmelt status --watch`` stays with a run until it is over, on a terminal and in a pipe."""

import fcntl
import json
import logging
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from io import StringIO

import pytest
import typer
from rich.console import Console

from snowmelt.cli import status_screen, watch
from support.scenes import Stage, command
from support.world import eventually

END = "UPDATE migration_status.runs SET status = '{}', completed_at = now(), error_text = {} WHERE run_id = 'r1'"
ENDED = END.format("completed", "NULL")


def drawn(stage: Stage, *, height: int = 50, trouble: str | None = None) -> str:
    """What a terminal would show now."""
    with stage.lookout() as lookout:
        paper = Console(file=StringIO(), width=140, height=height, force_terminal=False)
        paper.print(status_screen.screen(lookout.scene(), trouble, height=height))
        assert isinstance(paper.file, StringIO)
        return paper.file.getvalue()


@pytest.fixture
def here(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The stage, found by commands of this process, which look again at once."""
    for name, value in stage.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(status_screen, "PIPE_SECONDS", 0.01)
    logger = logging.getLogger("snowmelt")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield stage
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def test_a_pipe_gets_a_line_of_json_now_and_then_and_the_last_one_is_the_verdict(
    here: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snowmelt.cli.status_screen.time.sleep", lambda _: here.database.execute(ENDED))
    with here.run("r1", workers=1):
        watch.watch_status(str(here.config), None, run_id=None, as_json=True)

    first, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["run"]["status"], first["run"]["pulse"]["state"]) == ("running", "moves")
    assert len(first["run"]["tables"]) == 5
    assert (last["run"]["status"], last["run"]["pulse"], last["trouble"]) == ("completed", None, None)


def test_a_server_that_goes_away_is_waited_for(
    here: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as away:
        steps = iter(
            (lambda: away.enter_context(here.unreachable()), away.close, partial(here.database.execute, ENDED))
        )
        monkeypatch.setattr("snowmelt.cli.status_screen.time.sleep", lambda _: next(steps)())
        with here.run("r1", workers=0):
            watch.watch_status(str(here.config), None, run_id=None, as_json=True)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [bool(line["trouble"]) for line in lines] == [False, True, False, False]
    assert [line["run"]["status"] for line in lines] == ["running"] * 3 + ["completed"]


def test_a_run_that_has_failed_ends_with_one_and_its_reason(here: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    with here.run("r1", workers=0, status="failed"), pytest.raises(typer.Exit) as ending:
        watch.watch_status(str(here.config), None, run_id=None, as_json=False)

    assert ending.value.exit_code == 1
    assert "Failed: PostgreSQL refuses the sign-in; fix it" in capsys.readouterr().out


@pytest.mark.parametrize(("as_json", "says"), [(True, "null\n"), (False, "no run yet\n")])
def test_where_there_is_no_run_it_says_so(
    here: Stage, capsys: pytest.CaptureFixture[str], as_json: bool, says: str
) -> None:
    watch.watch_status(str(here.config), None, run_id=None, as_json=as_json)

    assert capsys.readouterr().out == says


def test_ctrl_c_ends_the_watching_and_nothing_else(
    here: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("snowmelt.cli.status_screen.time.sleep", interrupted)
    with here.run("r1", workers=1), pytest.raises(typer.Exit) as ending:
        watch.watch_status(str(here.config), None, run_id=None, as_json=False)

    assert ending.value.exit_code == 0
    assert re.search(r" \d+%, [\d,]+ rows, [\d,]+ rows/s, .* left, 1 at work; Under way: ", capsys.readouterr().out)
    assert here.database.rows("SELECT status FROM migration_status.runs") == [("running",)]


def test_a_terminal_is_drawn_again_until_the_run_is_over(stage: Stage) -> None:
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(ours, 65536):
                shown.append(part)
        except OSError:
            return

    def seen(text: str) -> bool:
        return text in b"".join(shown).decode(errors="replace")

    with stage.run("r1", workers=1):
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
        process = command(stage, "status", "--watch", stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        eventually(lambda: seen("SHIPMENTS") or seen("ORDER_LINES"), what="the tables are drawn")
        assert seen("moves")
        before = len(b"".join(shown))
        stage.complete("r1", 2, 15)
        eventually(lambda: len(b"".join(shown)) > before, what="it is drawn again")
        stage.database.execute(ENDED)
        assert process.wait(timeout=120) == 0
        reader.join(timeout=120)

    assert seen("Completed: 2 of 5 tables")
    os.close(ours)


def test_a_screen_shows_speed_time_left_and_what_is_wrong(stage: Stage) -> None:
    with stage.run("r1", workers=2):
        text = drawn(stage)

    assert "Under way: 2 of 5 tables done" in text
    assert "it moves: 2 chunks being loaded" in text
    assert re.search(r"[\d,]+ rows/s +at least \d+ (s|min \d\d s) left +2 at work", text)
    assert re.search(r"INVOICES +loading .* 60% +600,000 +1,000,000 +12/20 +[\d,]+ +\d+", text)
    assert '22001: 3 rows, such as column "note": value too long' in text


def test_a_low_screen_shows_what_is_at_work_and_counts_the_rest(stage: Stage) -> None:
    with stage.run("r1", tables=50, completed=45, loading=4, workers=0):
        text = drawn(stage, height=24)

    assert len(re.findall(r" loading ", text)) == 4
    assert re.search(r"and \d+ more", text)
    assert len(text.splitlines()) <= 24


def test_what_keeps_it_from_looking_is_on_the_screen(stage: Stage) -> None:
    with stage.run("r1", workers=0):
        assert ": the server is restarting" in drawn(stage, trouble="the server is restarting")
