"""Migrations that are killed at a chosen statement, each in a process of its own, one after another.

A process that has everything imported and nothing open reads one line of JSON per migration from stdin, forks, and
answers with a line of JSON on stdout: how the fork ended, and the statements that would change something, as it came
to them. So a point of death costs no start of an interpreter.
"""

import functools
import json
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg2
import psycopg2.extensions

from snowmelt import runner, settings
from snowmelt.errors import SnowmeltError
from snowmelt.snowflake_source import ScanRunning, SnowflakeSource
from snowmelt.sql_text import queries
from snowmelt.wiring import Wiring

_CHANGES = re.compile(
    r"(?<!')\b(INSERT INTO|(?<!FOR )UPDATE|DELETE FROM|TRUNCATE|DROP|CREATE|COPY|ALTER TABLE|ANALYZE"
    r"|setval|restore_index|pg_terminate_backend)\b"
)
"""What only reads, locks or sets a parameter is no point of interest: whoever dies there has changed nothing."""
_COMMENTS = re.compile(r"^\s*--.*$", re.MULTILINE)


class Guard:
    """Names each statement that changes something, and kills this process before or after the chosen one."""

    def __init__(self, statement: str | None, when: str | None, tell: Callable[[str], None]) -> None:
        self._statement = statement
        self._when = when
        self._tell = tell
        self._met: Counter[str] = Counter()
        self._lock = threading.Lock()

    def around(self, what: str, do: Callable[[], Any]) -> Any:
        """Do it, unless death comes before."""
        with self._lock:
            self._met[what] += 1
            name = f"{what} #{self._met[what]}"
            self._tell(name)
        self._die(name, "before")
        done = do()
        self._die(name, "after")
        return done

    def _die(self, name: str, when: str) -> None:
        if (self._statement, self._when) == (name, when):
            os.kill(os.getpid(), signal.SIGKILL)


_NAMES = {
    str(queries.text("engine/status_schema.sql")): "install",
    **{str(queries.query(name)): name for name in queries.names()},
}


def name_of(statement: Any, values: Any, connection: Any) -> str | None:
    """The statement's name, with the table and the chunk it is about; None when it changes nothing."""
    text = statement if isinstance(statement, str) else statement.as_string(connection)
    plain = _COMMENTS.sub("", text)
    if not _CHANGES.search(plain):
        return None
    about = [f"{key} {values[key]}" for key in ("table_id", "chunk_id") if values and key in values]
    return " ".join([_NAMES.get(text) or " ".join(plain.split())[:60], *about])


def guarded(guard: Guard) -> type[psycopg2.extensions.connection]:
    """A class of connections whose statements and commits pass the guard."""

    class Connection(psycopg2.extensions.connection):
        uncommitted: str | None = None

        def cursor(self, *arguments: Any, **options: Any) -> Any:
            kind = options.pop("cursor_factory", None) or psycopg2.extensions.cursor
            return super().cursor(*arguments, cursor_factory=watching(kind), **options)

        def commit(self) -> None:
            if self.uncommitted is None:
                super().commit()
                return
            what, self.uncommitted = f"COMMIT of {self.uncommitted}", None
            guard.around(what, super().commit)

        def rollback(self) -> None:
            self.uncommitted = None
            super().rollback()

    def watching(kind: Any) -> Any:
        class Cursor(kind):  # type: ignore[misc]
            def execute(self, statement: Any, values: Any = None) -> Any:
                return self._passed(statement, values, lambda: super(Cursor, self).execute(statement, values))

            def copy_expert(self, statement: Any, *arguments: Any, **options: Any) -> Any:
                def copy() -> Any:
                    return super(Cursor, self).copy_expert(statement, *arguments, **options)

                return self._passed(statement, None, copy)

            def _passed(self, statement: Any, values: Any, do: Callable[[], Any]) -> Any:
                what = name_of(statement, values, self.connection)
                if what is None:
                    return do()
                if not self.connection.autocommit:
                    self.connection.uncommitted = what
                return guard.around(what, do)

        return Cursor

    return Connection


def migrate(guard: Guard) -> str:
    """One start of the migration, as the command line makes it; how it ended, if it is let live."""
    connect = functools.partial(psycopg2.connect, connection_factory=guarded(guard))
    wiring = Wiring(settings.load(), settings.environment())
    with patch.object(psycopg2, "connect", connect), patch.object(SnowflakeSource, "submit", _submit_and_wait):
        try:
            outcome = runner.migrate({}, wiring, execution_id=f"process {os.getpid()}")
        except SnowmeltError as error:
            return f"{error.code}: {error.message}"
    return outcome.status if outcome.status == "completed" else outcome.message


_submit = SnowflakeSource.submit


def _submit_and_wait(source: SnowflakeSource, scan: str, **options: Any) -> str:
    """Which scan ends first would change what is done in which round, and how often."""
    query_id = _submit(source, scan, **options)
    while isinstance(source.scan_state(query_id), ScanRunning):
        time.sleep(0.01)
    return query_id


def forked(statement: str | None, when: str | None) -> dict[str, Any]:
    """A migration in a fork of this process: the statements it came to, and its end - None when it was killed."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        try:
            _line(theirs, f"={migrate(Guard(statement, when, lambda name: _line(theirs, name)))}")
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    os.close(theirs)
    with open(ours, encoding="utf-8") as told:  # noqa: PTH123 - it is a file descriptor
        lines = told.read().splitlines()
    _, code = os.waitpid(child, 0)
    ended = [line.removeprefix("=") for line in lines if line.startswith("=")]
    return {
        "statements": [line for line in lines if not line.startswith("=")],
        "killed": os.WIFSIGNALED(code) and os.WTERMSIG(code) == signal.SIGKILL,
        "ended": ended[0] if ended else None,
    }


def _line(pipe: int, text: str) -> None:
    os.write(pipe, f"{text}\n".encode())


def main() -> None:
    """Serve until stdin ends; the one argument is where complaints go."""
    with Path(sys.argv[1]).open("a", encoding="utf-8") as complaints:
        os.dup2(complaints.fileno(), 2)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(forked(**json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
