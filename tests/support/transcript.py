"""What an on-call sees and does in an incident, kept in docs/incidents.md as it was printed."""

import fcntl
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from support.forked import Command, Ended
from support.world import World

PAGE = Path(__file__).parents[2] / "docs" / "incidents.md"
COLUMNS = 118
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)

_MASKS = (
    (r"ledger-\d{8}T\d{6}-[0-9a-f]{6}", "ledger-20261121T020000-4f1c2a"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "01c0f2a4-0604-7a1e-0001-00000000a3b2"),
    (r"local:[\w.-]+:\d+:[0-9a-f]{8}", "local:loader-1:4711:9ac1b2d3"),
    (r"(Snowflake at|to DB:) 127\.0\.0\.1:\d+", r"\1 myorg-myaccount.snowflakecomputing.com:443"),
    (r"127\.0\.0\.1:\d+", "db.example.com:5432"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-11-21 02:00:00"),
    (r"(?m)^\d\d:\d\d:\d\d ", "02:00:00 "),
    (r"\S*/store/runs/", ".snowmelt/runs/"),
    (r"process \d+", "process 4711"),
    (r"pg_terminate_backend\(\d+\)", "pg_terminate_backend(4711)"),
    (r"SHA256:[A-Za-z0-9+/=]+", "SHA256:q3Nn0Vq1mJ7cX1e5m0kR5bq0w2v8JcYh9sGk2dT4yU8="),
    (r"base/\d+/\d+", "base/16384/16402"),
)
"""What differs from run to run and from machine to machine, and what stands for it on the page."""
_FIGURES = (
    (r"(\d+/\d+)(\s+[\d.,]+)*\s+[\d.,]+ (bytes|kB|MB)\b", r"\1 #"),
    (r"\b\d+(\.\d+)? (s|min)\b", "# s"),
    (r"\b(seconds|size_bytes)=[\d.]+", r"\1=#"),
)
"""Times, speeds and sizes, which the page shows as they once were."""


class Transcript:
    """The commands of one incident with what they print, up to the step that fixes it and from there on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._parts: list[list[str]] = [[]]

    def starts(self, *arguments: str) -> Command:
        """``snowmelt ARGUMENTS`` in another terminal."""
        return self._world.start_cli(*arguments)

    def runs(self, *arguments: str) -> Ended:
        """``snowmelt ARGUMENTS`` to its end, as typed and printed."""
        return self.finishes(self.starts(*arguments), *arguments)

    def finishes(self, command: Command, *arguments: str) -> Ended:
        """The rest of a command that is at work in another terminal."""
        return self.shows(f"snowmelt {' '.join(arguments)}", command.wait())

    def shows(self, command: str, done: Ended) -> Ended:
        """Another command and what it printed."""
        self._parts[-1].append("\n".join((f"$ {command}", *_lines(done.err), *_lines(done.out))))
        assert "Traceback" not in done.err
        return done

    def queries(self, statement: str) -> None:
        """A statement for the target, by a superuser."""
        with closing(self._world.target.connect()) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(statement)
        self._parts[-1].append(f"$ psql -c {_quoted(statement)}")

    def asks_snowflake(self, statement: str) -> None:
        """A statement for the source; the table's name is completed."""
        full = statement.replace("ORDERS", f'"{self._world.source_database}"."PUBLIC"."ORDERS"', 1)
        self._world.snowflake.execute(full)
        self._parts[-1].append(f"$ snow sql -q {_quoted(statement)}")

    def does(self, what: str) -> None:
        """Something that is done by hand, in words."""
        self._parts[-1].append(f"# {what}")

    def seen(self) -> str:
        """All of it so far on one line, for assertions."""
        return _squeezed("\n".join("\n".join(part) for part in self._parts))

    def turn(self) -> None:
        """What follows fixes it."""
        self._parts.append([])

    def blocks(self) -> list[str]:
        """What the page has, a block for each part."""
        return [_masked("\n".join(part), self._world) for part in self._parts]


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _quoted(statement: str) -> str:
    return f'"{statement}"' if '"' not in statement else f"'{statement}'"


def _masked(text: str, world: World) -> str:
    for pattern, replacement in _MASKS:
        text = re.sub(pattern, replacement, text)
    return text.replace(world.target.name, "books").replace(world.source_database, "BOOKS")


def _squeezed(text: str) -> str:
    """Without what is different each time, and without the page's line breaks."""
    for pattern, replacement in _FIGURES:
        text = re.sub(pattern, replacement, text)
    return " ".join(text.split())


# --- the page ---------------------------------------------------------------------------------------------------------


def compare(transcript: Transcript, heading: str) -> None:
    """Fail unless the section's blocks say what was printed."""
    shown = _BLOCK.findall(_section(PAGE.read_text(encoding="utf-8"), heading))
    differs = [
        f"the page: {page}\nprinted: {printed}"
        for page, printed in zip(map(_squeezed, shown), map(_squeezed, transcript.blocks()), strict=True)
        if page != printed
    ]
    assert not differs, "\n".join((f"{PAGE.name}, {heading}: write it again by pytest --write-incidents", *differs))


def write(transcript: Transcript, heading: str) -> None:
    """Put what was printed into the section's blocks; those that say it already stay as they are."""
    with _alone() as (text, save):
        section = _section(text, heading)
        blocks = iter(transcript.blocks())
        assert len(_BLOCK.findall(section)) == len(transcript.blocks()), f"{heading}: as many blocks as parts"

        def written(match: re.Match[str]) -> str:
            block = next(blocks)
            if _squeezed(match[1]) == _squeezed(block):
                return match[0]
            return f"```console\n{_folded(block)}\n```"

        save(text.replace(section, _BLOCK.sub(written, section)))


def _section(text: str, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"{PAGE.name} has no section {heading}"
    return found[0]


def _folded(block: str) -> str:
    """Lines as a terminal breaks them, at blanks."""
    fold = textwrap.TextWrapper(
        COLUMNS, break_long_words=False, break_on_hyphens=False, replace_whitespace=False, drop_whitespace=True
    )
    return "\n".join("\n".join(fold.wrap(line)) if len(line) > COLUMNS else line for line in block.splitlines())


@contextmanager
def _alone() -> Iterator[tuple[str, Callable[[str], object]]]:
    """The page's text and a way to replace it, while no other worker of the tests does the same."""
    with PAGE.open("r+", encoding="utf-8") as page:
        fcntl.flock(page, fcntl.LOCK_EX)

        def save(text: str) -> None:
            page.seek(0)
            page.truncate()
            page.write(text)

        yield page.read(), save
