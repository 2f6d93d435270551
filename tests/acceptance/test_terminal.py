"""Names and values that try to command a terminal are shown on it, and never sent to it."""

import os
import pty
import subprocess
import sys
from collections.abc import Sequence

import pyarrow as pa
from psycopg2 import sql

from snowmelt.cli.terminal_text import shown
from support.world import World

TITLE, C1, BELL, TURNED = "\x1b]0;owned", "\x9b31m", "\x07", "\u202e"
HOSTILE = f"{TITLE}{BELL} {C1} {TURNED}\rforged\nforged"
TABLE = f"t{TITLE}{BELL}{C1}{TURNED}"


def on_terminal(world: World, *arguments: str) -> str:
    """Return what a terminal is sent by a command."""
    control, terminal = pty.openpty()
    environment = {**world.environment(str(world.folder / "store")), "TERM": "xterm-256color", "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-m", "snowmelt.cli", *arguments],
        cwd=world.folder,
        env={"PATH": os.defpath, "HOME": str(world.folder), "PYTHONUTF8": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    ):
        os.close(terminal)
        sent = b"".join(_read(control))
    os.close(control)
    return sent.decode()


def _read(control: int) -> Sequence[bytes]:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(control, 65536)
        except OSError:  # the other end is closed
            return parts
        if not part:
            return parts
        parts.append(part)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_no_command_sends_what_a_terminal_would_obey(world: World) -> None:
    rows = pa.table({"V": pa.array([HOSTILE, "1"], pa.string())})
    world.snowflake.load_table(world.source_database, "PUBLIC", TABLE, rows)
    world.target.execute(
        sql.SQL("CREATE TABLE {0} (v text CHECK (v <> {1}), w text DEFAULT 'w')").format(
            sql.Identifier(TABLE), sql.Literal(HOSTILE)
        )
    )
    world.target.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF length(NEW.v) > 5 THEN RAISE EXCEPTION 'no: %', NEW.v; END IF; RETURN NEW; END $$"
    )
    world.target.execute(
        sql.SQL("CREATE TRIGGER refuse BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION refuse()").format(
            sql.Identifier(TABLE)
        )
    )
    world.tables.append({"source": quoted(TABLE), "target": quoted(TABLE)})
    world.configure(max_retry_attempts=1)

    sent = {
        words: on_terminal(world, *words)
        for words in (
            ("migrate", "--show-values"),
            ("status",),
            ("errors", "--show-values"),
            ("rejects", "list", "--show-values"),
        )
    }

    found = {
        words: [each for each in (TITLE, C1, BELL, TURNED, "\rforged", "\nforged") if each in text]
        for words, text in sent.items()
    }
    assert {words: what for words, what in found.items() if what} == {}
    for words in (("migrate", "--show-values"), ("status",), ("errors", "--show-values")):
        assert shown(TABLE) in sent[words], sent[words]
    assert shown(HOSTILE).replace("\n", "\\n") in "".join(sent["rejects", "list", "--show-values"].splitlines())
