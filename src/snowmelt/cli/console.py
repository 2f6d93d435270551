"""What a person sees: closing tables, errors, log lines. What it shows is imported by those who make it."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from snowmelt import disclosure
from snowmelt.cli import terminal_text
from snowmelt.errors import ConfigError, OutputError, SnowmeltError
from snowmelt.wording import counted, gave_way

if TYPE_CHECKING:
    from snowmelt.models import DryRunPlan
    from snowmelt.monitoring.monitor import ErrorGroup, RunProgress, TableProgress
    from snowmelt.rejected_rows.expired_rows import ExpiredRows
    from snowmelt.rejected_rows.store import RejectedRow
    from snowmelt.verification.verdicts import TableVerdict, Verification

_logger = logging.getLogger("snowmelt")
_STANDARD_KEYS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

_PIPE_WIDTH = 200


@contextmanager
def _written() -> Iterator[None]:
    """Turn what keeps lines from being written to stdout into OutputError; nothing more is written there then."""
    try:
        yield
    except OSError as error:
        with suppress(OSError, ValueError):  # or the interpreter would try once more when it ends, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(
            f"the output cannot be written ({error.strerror or error}); what the command did is done: "
            "`snowmelt status` shows it"
        ) from error


class _PlainConsole(Console):
    """A console that sends no character of a name or a value that the terminal would obey.

    Texts go through ``text_of`` before they are laid out; the rest is looked at once more on its way out.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text, its control characters spelt out."""
        return super().render_str(terminal_text.shown(disclosure.revealed(text)), **options)

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        return super()._render_buffer(
            each if each.control else Segment(terminal_text.shown(each.text), each.style) for each in buffer
        )


class _Output(_PlainConsole):
    """A console on stdout whose failures to write are ours to explain."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as any console does; OutputError when nobody takes it."""
        with _written():
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Do not end the process silently, as others do."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class _Grid(Table):
    """A table in which no cell begins a line of its own."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row; texts are shown on one line."""
        super().add_row(*(text_of(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def text_of(text: str) -> str:
    """Return what a terminal shows of a text, on one line; values only where they were asked for."""
    return terminal_text.on_one_line(disclosure.revealed(text))


def _say(text: str, **options: Any) -> None:
    """Print a line that nothing in it can break."""
    out.print(text_of(text), markup=False, **options)


def _console(*, stderr: bool = False) -> Console:
    """A console that fits its terminal, and cuts nothing off where there is none."""
    # Names of tables may hold brackets and colons, which are no markup and no emoji.
    plain = partial(
        _PlainConsole if stderr else _Output, stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True
    )
    console = plain()
    return console if console.is_terminal else plain(width=_PIPE_WIDTH)


out = _console()
err = _console(stderr=True)


class LineFormatter(logging.Formatter):
    """A log line for people: time, level when it matters, message, then what the program would key it by."""

    def format(self, record: logging.LogRecord) -> str:
        """The record on one line."""
        keys = " ".join(f"{k}={v}" for k, v in vars(record).items() if k not in _STANDARD_KEYS and v is not None)
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        line = f"{self.formatTime(record, '%H:%M:%S')} {level}{record.getMessage()}"
        return text_of(f"{line}  {keys}" if keys else line)


class JsonFormatter(logging.Formatter):
    """A log line for pipes: the same keys as on AWS."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a JSON object."""
        keys = {k: v for k, v in vars(record).items() if k not in _STANDARD_KEYS}
        return json.dumps(
            {"level": record.levelname, "timestamp": self.formatTime(record), "message": record.getMessage(), **keys},
            default=str,
        )


def set_up_logging(level: str | None, *, as_json: bool, log_format: str | None = None) -> None:
    """Log lines on stderr; on a terminal, where the progress is seen, only what needs attention.

    They are JSON where the result is, unless ``log_format`` says ``plain`` or ``json``.
    """
    handler = logging.StreamHandler(sys.stderr)
    logs_json = as_json if log_format is None else log_format == "json"
    handler.setFormatter(JsonFormatter() if logs_json else LineFormatter())
    _logger.handlers[:] = [handler]
    _logger.propagate = False
    _logger.setLevel(level or ("WARNING" if err.is_terminal else "INFO"))


def show_note(text: str) -> None:
    """A line for people on stderr; JSON where log lines are."""
    if _logs_json():
        _logger.warning(text)
    else:
        err.print(text)


def _logs_json() -> bool:
    return any(isinstance(handler.formatter, JsonFormatter) for handler in _logger.handlers)


def show_error(error: SnowmeltError) -> None:
    """The error on stderr: a line, and one for each problem if there are several; JSON where log lines are."""
    problems = error.problems if isinstance(error, ConfigError) else ()
    if _logs_json():
        _logger.error(error.message, extra={"error_code": error.code, "problems": list(problems)})
        return
    if len(problems) < 2:
        err.print(text_of(f"{error.code}: {error.message}"))
        return
    err.print(f"{error.code}: {error.message.removesuffix('; '.join(('', *problems)))}:")
    for problem in problems:
        err.print(text_of(f"  {problem}"))


def show_tables(tables: Sequence[TableProgress], title: str) -> None:
    """Show the closing table: rows, seconds from scan to end, rows/s of the time in which it was loaded, bytes."""
    grid = _Grid(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    grid.add_column("table")
    grid.add_column("target")
    grid.add_column("status")
    for name in ("rows", "of", "chunks", "seconds", "loading", "rows/s", "bytes"):
        grid.add_column(name, justify="right")
    grid.add_column("verified")
    for t in tables:
        grid.add_row(
            t.table,
            t.target,
            t.status,
            f"{t.rows:,}",
            "?" if t.source_rows is None else f"{t.source_rows:,}",
            f"{t.chunks_completed}/{t.chunks}",
            "" if t.seconds is None else f"{t.seconds:.1f}",
            "" if t.load_seconds is None else f"{t.load_seconds:.1f}",
            "" if t.rows_per_second is None else f"{t.rows_per_second:,.0f}",
            decimal(t.size_bytes),
            t.verdict or "",
        )
    out.print(grid)
    for t in tables:
        if t.omitted:
            _say(f"{t.table}: {t.omitted}")
        if t.verdict == "not comparable":
            _say(f"{t.table}: not comparable: {t.verdict_reason}")
        if t.rejected:
            _say(f"{t.table}: {t.rejected:,} rows were rejected: see `snowmelt rejects list`")
        if t.kept_newer:
            kept = counted(t.kept_newer, "row of the source is", "rows of the source are")
            _say(f"{t.table}: {kept} not loaded: the target has newer ones")
        if t.gave_way:
            _say(f"{t.table}: {gave_way(t.gave_way)}")
        for column, changes in t.changed_values.items():
            said = ", ".join(f"{count:,} {change}" for change, count in changes.items())
            _say(f"{t.table}: values of {column} changed on the way: {said}")
        if t.error:
            _say(f"{t.table}: {t.error}")


def show_errors(groups: Sequence[ErrorGroup]) -> None:
    """Each kind of error: where and how often, an example, what to do."""
    if not groups:
        out.print("no error")
    for group in groups:
        where = f"{group.what}{'s' * (group.count > 1)}" + (f" of {group.table}" if group.table else "")
        first = f", first {group.first}" if group.first else ""
        over = " (over)" if group.is_over else ""
        _say(f"{group.code}{over}: {group.count:,} {where}{first}", style="bold")
        if group.example:
            _say(f"  {group.example}")
        if group.remedy:
            _say(f"  what to do: {group.remedy}; tried again: {group.retried}")


def warn_of_expired_rows(expired: Sequence[ExpiredRows]) -> None:
    """Say on stderr how many rejected rows are not kept any more."""
    for each in expired:
        err.print(text_of(str(each)))


def show_rejects(
    rows: Sequence[RejectedRow], *, expired: Sequence[ExpiredRows] = (), show_values: bool = False
) -> None:
    """Show a line per rejected row, and say what is not kept any more."""
    warn_of_expired_rows(expired)
    if not rows:
        out.print("no rejected row is kept" if expired else "no row was refused")
        return
    grid = _Grid(box=None, pad_edge=False, header_style="bold")
    for name in ("table", "chunk", "row", "column", "code", "reason"):
        grid.add_column(name)
    for row in rows:
        cells = (
            row.table,
            str(row.chunk_id),
            str(row.row_number),
            row.column or "",
            row.sqlstate or "",
            row.reason_in_full if show_values else row.reason,
        )
        grid.add_row(*cells)
    out.print(grid)


def show_runs(runs: Sequence[RunProgress]) -> None:
    """A line per run, newest first."""
    grid = _Grid(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "status", "started", "seconds", "tables", "rows"):
        grid.add_column(name)
    for r in runs:
        grid.add_row(
            r.run_id,
            r.status,
            f"{r.started_at:%Y-%m-%d %H:%M:%S}",
            f"{r.seconds:.0f}",
            f"{r.tables_completed}/{r.tables}",
            f"{r.rows:,}",
        )
    out.print(grid)


def show_dry_run(message: str, plan: DryRunPlan | None) -> None:
    """What a run would do, table by table."""
    out.print(message)
    if plan is None:
        return
    grid = _Grid(box=None, pad_edge=False, header_style="bold")
    for name in ("table", "target", "read by", "loaded by", "rows", "chunks", "truncated", "indexes dropped", "after"):
        grid.add_column(name, justify="right" if name in ("rows", "chunks") else "left")
    for t in plan.tables:
        grid.add_row(
            t.table,
            t.target,
            t.strategy,
            t.load_mode,
            f"{t.rows:,}",
            f"{t.chunks:,}",
            "yes" if t.truncates else "no",
            ", ".join(t.drops_indexes) or "none",
            ", ".join(t.loads_after),
        )
    out.print(grid)
    out.print(f"connections: {plan.connections_needed} needed, {plan.connections_free} free")
    for skipped in plan.skipped:
        _say(f"{skipped.table} -> {skipped.target} would be skipped:")
        for problem in skipped.problems:
            _say(f"  {problem}")
    for warning in (*plan.warnings, *(w for t in plan.tables for w in t.warnings)):
        out.print(f"warning: {warning}")
    for t in plan.tables:
        if t.on_duplicate_keys:
            _say(f"{t.table}: on_duplicate_keys {t.on_duplicate_keys}")
        for column in t.staged_columns:
            _say(f"{t.table}: by a staging table, as PostgreSQL converts {column}")
    for t in plan.tables:
        for statement in t.statements:
            out.print(f"\n-- {t.table}\n{statement};")


def show_verification(found: Verification) -> None:
    """The verdict on each table, then the rows that differ, side by side."""
    grid = _Grid(box=None, pad_edge=False, header_style="bold")
    for name in ("table", "target", "by", "verdict", "source rows", "target rows", "missing", "extra", "changed", "s"):
        grid.add_column(name, justify="left" if name in ("table", "target", "by", "verdict") else "right")
    for t in found.tables:
        counts = (t.source_rows, t.target_rows, t.missing, t.extra, t.changed)
        shown = ("?" if count is None else f"{count:,}" for count in counts)
        grid.add_row(t.table, t.target, t.mode, t.verdict, *shown, f"{t.seconds:.1f}")
    out.print(grid)
    for t in found.tables:
        for line in _said_of(t):
            _say(f"{t.table}: {line}")


def _said_of(table: TableVerdict) -> Iterator[str]:
    if table.reason:
        yield table.reason
    if table.advice:
        yield f"what to do: {table.advice}"
    if table.omitted:
        yield f"compared as it was loaded: {table.omitted}"
    if table.snapshot:
        yield f"compared with {table.snapshot}"
    if table.sampled:
        yield f"a sample: one of {table.sampled:,} keys was looked at"
    if table.rejected:
        yield f"{table.rejected:,} rows were refused by the load: see `snowmelt rejects list`"
    if table.kept_newer:
        yield f"{counted(table.kept_newer, 'row')} of the source gave way to newer ones in the target, and are equal"
    if table.gave_way:
        yield f"{gave_way(table.gave_way)}: the target is equal without them"
    if table.left_alone:
        yield f"{table.left_alone:,} rows that only the target has are left alone, as the load keeps such rows"
    if table.repaired:
        done = table.repaired
        wrote = "written, but not kept" if table.differs else "repaired"
        yield f"{wrote}: {done.updated:,} rows updated, {done.inserted:,} inserted, {done.deleted:,} deleted"
    for row in table.differences:
        yield f"{row.kind} {_pairs(row.key)}"
        for column in row.columns:
            yield f"  {column.column}: {_short(column.source)} in the source, {_short(column.target)} in the target"


def _pairs(values: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


_SHOWN_CHARACTERS = 120


def _short(value: str | None) -> str:
    if value is None:
        return "NULL"
    cut = value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}…"
    return json.dumps(cut, ensure_ascii=False)


def show_json(value: object) -> None:
    """Write the result as one line of JSON on stdout."""
    show_json_line(json.dumps(value, default=str))


def show_json_line(line: str) -> None:
    """Write a line of JSON, in ASCII, on stdout."""
    _write(line.replace("\x7f", "\\u007f") + "\n")  # DEL is the one control character that JSON leaves as it is


def show_script(text: str) -> None:
    """Write SQL on stdout: exact for pipes and files, with control characters spelt out on a terminal."""
    _write(terminal_text.shown(text) if out.is_terminal else text)


def _write(text: str) -> None:
    with _written():
        sys.stdout.write(text)
        sys.stdout.flush()
