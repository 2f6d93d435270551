"""What can go wrong: each class is a code, the same in status rows, logs, exit codes and Step Functions.

The first level sorts by what the reader should do; the classes below say it more exactly. Every message is one line:
what happened, where, and what to do. ``page`` makes the documentation of all codes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from inspect import cleandoc
from typing import ClassVar, Literal

from snowmelt.wording import WITH_ACCEPT_REJECTED, WITH_ALLOW_SHRINK, WITH_NO_RESUME

Retried = Literal["at once", "as a chunk", "by a start", "by a new run", "by itself", "never"]
"""Who tries again: the same action, the next round, a resume, a new run, the workflow in its normal course, nobody."""


class SnowmeltError(Exception):
    """Something Snowmelt can explain."""

    exit_code: ClassVar[int] = 1
    retried: ClassVar[Retried] = "by a start"
    remedy: ClassVar[str] = "read the message"

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    @property
    def message(self) -> str:
        """The whole explanation on one line."""
        return str(self.args[0])

    @property
    def is_final(self) -> bool:
        """Whether another attempt of the same run must fail in the same way."""
        return self.retried in ("by a start", "by a new run", "never")

    @property
    def code(self) -> str:
        """A stable name for the kind of error, the same in status rows, logs and Step Functions."""
        return type(self).__name__


# --- fix the config, the event or the call ---------------------------------------------------------------------------


class ConfigError(SnowmeltError):
    """The config, an event or a command line asks for something that cannot be done."""

    exit_code = 2
    retried = "never"
    remedy = "fix what the message names; nothing was touched"

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join((message, *self.problems)) if self.problems else message)


# --- fix an account, a network, a grant ------------------------------------------------------------------------------


class AccessError(SnowmeltError):
    """A server refuses the sign-in, or withholds a privilege."""

    remedy = "fix the sign-in or grant what is missing, then start again; `sql/grants_*.sql` has all that is needed"

    def __init__(self, message: str, fix: Iterable[str] = ()) -> None:
        self.fix = tuple(fix)
        """Statements that grant what is missing, where they are known."""
        super().__init__(message)


class UnreachableError(AccessError):
    """PostgreSQL did not answer at the start of a run; in the middle of one that may pass, and is a TransientError."""

    remedy = "check host and port, that the server runs, and that security groups and the VPC let the function in"


class NoWarehouseError(AccessError):
    """No warehouse runs the statement: it was dropped, is not granted, or was stopped by a resource monitor."""

    remedy = (
        "start the warehouse, raise the monitor's quota, or name another in `snowflake.warehouse`, then start again: "
        "the run resumes; what was scanned before is loaded all the same, as results need no warehouse"
    )


# --- nothing to fix --------------------------------------------------------------------------------------------------


class TransientError(SnowmeltError):
    """A failure that passes by itself: a lost connection, a deadlock, a lock not granted, a server that restarts."""

    retried: ClassVar[Retried] = "at once"
    remedy = "nothing, unless it lasts: then see what the message names; a start resumes"


# --- look at the data or the tables -----------------------------------------------------------------------------------


class DataError(SnowmeltError):
    """The data or the tables do not allow what was asked."""

    retried: ClassVar[Retried] = "as a chunk"
    remedy: ClassVar[str] = "look at what the message names"


class RejectedRowsError(DataError):
    """Rows hold a value that the target cannot take, and nothing says what else to do with it."""

    retried = "by a start"
    remedy = (
        "see `snowmelt rejects`; fix the target and start again, which loads them; or fix the source and start again: "
        "when the target still rejects them, a new run begins; or fix the rows and replay them; or accept that they "
        f"are left in `rejected_rows`: start {WITH_ACCEPT_REJECTED}"
    )


class TooManyRejectedError(DataError):
    """So many rows of a chunk are refused that something else must be wrong; nothing of it was loaded."""

    retried = "by a new run"
    remedy = (
        f"fix the source or the target and start again; or set `max_rejected_rows` higher, and start {WITH_NO_RESUME}"
    )


class DuplicateKeyError(DataError):
    """A row's key is in the table already, or twice among the rows that were sent, and no key is configured."""

    retried = "by a new run"
    remedy = (
        "delete the duplicates that the message names, in the source or in the target, and start again; or name "
        f"`uniqueness_columns`, by which rows are merged, and start {WITH_NO_RESUME}"
    )


class AmbiguousKeyError(DataError):
    """Rows share a key, and no watermark says which of them is the newest."""

    retried = "by a new run"
    remedy = (
        "fix the source and start again; or fix `uniqueness_columns`, or name `source_watermark` and "
        f"`target_watermark`, and start {WITH_NO_RESUME}"
    )


class RowsDroppedError(DataError):
    """PostgreSQL kept fewer rows than were sent, without an error; nothing of the chunk was kept."""

    retried = "by a start"
    remedy = "look for a trigger or a rule on the target that drops rows, then start again and the run resumes"


class RowCountError(DataError):
    """Rows that were read are not as many as planned; nothing that does not add up is kept or called complete."""

    retried = "by a new run"
    remedy = "start again; if it comes back, somebody writes to a source that was thought to be still"


class RowsMissingError(DataError):
    """A scan gave another number of rows than Snowflake counts in the table, which nobody changed meanwhile."""

    retried = "by a new run"
    remedy = (
        "see that no setting of the account or the user cuts results, and that no row access policy hides rows from "
        "the role, then start again; if the role is meant to read only some rows, set `source_filter` (`TRUE` will "
        f"do), and start {WITH_NO_RESUME}"
    )


class SourceChangedError(DataError):
    """The source is not what it was when the run was planned: other columns, other types, a result cut otherwise."""

    retried = "by a new run"
    remedy = "start again"


class TableSkippedError(DataError):
    """A check refused the table before the run began, and the run goes on without it, as it was asked to."""

    retried = "by a new run"
    remedy = "fix what the message names and start again: when the others are complete, a new run loads it with them"


class ResultGoneError(DataError):
    """A Snowflake result cannot be opened any more: it is older than a day, unknown, or another user's."""

    retried = "by itself"
    remedy = "nothing: the next plan scans the table again, or says why it cannot"


class NoTimeTravelError(DataError):
    """Snowflake no longer knows what a table held at the moment that the run reads it as of."""

    retried = "by a new run"
    remedy = (
        "let `DATA_RETENTION_TIME_IN_DAYS` of the table outlast the run, or set `chunking` to `one_scan`, which needs "
        "no time travel; then start again: a new run reads the table as it is by then"
    )


class ResultLostError(DataError):
    """A Snowflake result is gone of which rows were added to the target already: what is missing cannot be told."""

    retried = "by a new run"
    remedy = "empty the target, then start again"


class StatementError(DataError):
    """Snowflake refused a statement, or ended it."""

    remedy = "the message has Snowflake's words and the query id; look it up in the query history"


class StatementRefusedError(StatementError):
    """Snowflake cannot compile a statement: a condition, a column or a function in it is wrong."""

    retried = "by a start"
    remedy = (
        "fix what the message names, such as a privilege or a view, and start again; or change the config, such as "
        f"`source_filter`, and start {WITH_NO_RESUME}"
    )


class SourceValueError(StatementError):
    """Snowflake cannot convert a value of the source, in `source_filter` or on its way."""

    retried = "by a new run"
    remedy = (
        "fix the value in the source and start again; or exclude its row by `source_filter`, and start "
        f"{WITH_NO_RESUME}"
    )


class NotRunningError(DataError):
    """The statement to be ended is not at work."""

    retried = "never"
    remedy = "nothing"


class TargetChangedError(DataError):
    """A target table or one of its columns is gone, or has another type, since the run was planned."""

    retried = "by a start"
    remedy = f"undo the change and start again; or start {WITH_NO_RESUME}, which plans a new run for the table as it is"


class TargetRefusedError(DataError):
    """PostgreSQL cannot do what it is asked for, whatever the rows: a function, an operator or an option is missing."""

    retried = "by a start"
    remedy = "fix what the message names, then start again and the run resumes"


class TargetNotEmptyError(DataError):
    """Somebody wrote into a target that was empty when the run began."""

    retried = "by a start"
    remedy = (
        "find out who wrote the rows; empty the target and start again, which resumes the run; or set "
        f"`truncate_onstart` or `append`, and start {WITH_NO_RESUME}"
    )


class TruncationRefusedError(DataError):
    """Emptying the target would lose most of its rows, as its source has far fewer; nothing was touched."""

    retried = "by a new run"
    remedy = (
        "fix the source and start again; or change `source_filter`, and start "
        f"{WITH_NO_RESUME}; if the loss is meant, start {WITH_ALLOW_SHRINK}: the run resumes"
    )


class TooLargeError(DataError):
    """What can only be done at one go does not fit in an invocation: a row, or rows that no key tells apart."""

    retried = "by a start"
    remedy = "what the message names; or raise the function's time-out, or lower `lambda_timeout_buffer_seconds`"


class DiskFullError(DataError):
    """The server of the target has no room."""

    remedy = "make room, then start again and the run resumes"


class IndexNotRestoredError(DataError):
    """An index that was dropped for the load cannot be built again; the rows are in, and its definition is kept."""

    retried = "by a start"
    remedy = "fix what the message names, then `snowmelt indexes restore`"


class NotEqualError(DataError):
    """The target does not hold the rows that were read for it."""

    retried = "by a start"
    remedy = (
        "see which rows differ by `snowmelt verify`, and what else writes to the target; repair them by "
        f"`snowmelt verify --repair` and start again, or load the table again: start {WITH_NO_RESUME}"
    )


class TableFailedError(DataError):
    """Chunks of a table could not be loaded, were never tried, or its place in the run was lost."""

    retried = "by a start"
    remedy = "fix what its chunks' errors name (`snowmelt errors`), then start again"


class RunFailedError(DataError):
    """The verdict of a run with tables that are not complete; it names the first reasons."""

    retried = "by a start"
    remedy = "fix what `snowmelt errors` shows, then start again: the run resumes, or says why a new one begins"


class MissingError(DataError):
    """A run, or something the run wrote into its store, is not there."""

    retried = "never"
    remedy = (
        "check the name, and that `SNOWMELT_STORE` and `SNOWMELT_CONFIG` are those the run began with; where "
        f"what the run kept there was deleted, start {WITH_NO_RESUME}"
    )


class OutputError(SnowmeltError):
    """What a command found or did could not be written out: the pipe was closed, or the disk is full."""

    exit_code = 5
    retried = "never"
    remedy = "nothing for the run, which goes its way and keeps its result: `snowmelt status` shows it"


# --- others are at work -----------------------------------------------------------------------------------------------


class HeldError(SnowmeltError):
    """Another living run or execution holds what this one needs."""

    retried = "never"
    remedy = "wait for the one that the message names, or stop it"


class FencedError(SnowmeltError):
    """The chunk was given to someone else, or its table moved on; nothing of this attempt is kept."""

    retried = "by itself"
    remedy = "nothing: this worker was late, and another one has the chunk"


class OutOfTimeError(SnowmeltError):
    """The invocation is about to end; what was begun is handed back."""

    retried = "by itself"
    remedy = "nothing: the workflow goes on with it"


class StalledError(SnowmeltError):
    """The run made no progress and was ended rather than left to turn for ever."""

    remedy = "fix what the message says was tried last, then start again and the run resumes"


# --- all codes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Code:
    """What a code in a status row, a log line or an execution means."""

    name: str
    meaning: str
    remedy: str
    retried: Retried
    exit_code: int | None = None


_MARKS = (
    Code("Interrupted", "An invocation's time ended while it loaded the chunk.", "nothing", "by itself"),
    Code(
        "TooLong",
        "The chunk had a whole invocation to itself and was not finished: the next plan splits it.",
        "nothing; a smaller `batch_size` saves the attempts",
        "by itself",
    ),
    Code("WorkerLost", "The worker died: killed, out of memory, or out of reach.", "nothing", "by itself"),
    Code(
        "BuildLost",
        "Building an index was begun and ended without a word, again and again.",
        "see the server's log",
        "by a start",
    ),
    Code(
        "Abandoned",
        "The run was closed for good, before anything had failed in it: by `no_resume`, its age, or another run.",
        "nothing",
        "never",
    ),
)


def codes() -> tuple[Code, ...]:
    """Every code there is, in the order of the page."""
    classes = (
        Code(kind.__name__, _first_line(kind), kind.remedy, kind.retried, kind.exit_code)
        for kind in _below(SnowmeltError)
    )
    return (*classes, *_MARKS)


def code(name: str) -> Code | None:
    """What the code means, if it is one of ours; five characters are PostgreSQL's own, its SQLSTATE."""
    return next((each for each in codes() if each.name == name), None)


def page() -> str:
    """The page of all codes, in Markdown."""
    rows = "\n".join(
        f"| `{each.name}` | {each.meaning} | {each.remedy} | {each.retried} | {each.exit_code or ''} |"
        for each in codes()
    )
    return f"{_HEAD}\n{rows}\n{_FOOT}"


def _below(kind: type[SnowmeltError]) -> Iterator[type[SnowmeltError]]:
    for child in kind.__subclasses__():
        if child.__module__ == __name__:
            yield child
            yield from _below(child)


def _first_line(kind: type[SnowmeltError]) -> str:
    return cleandoc(kind.__doc__ or "").partition("\n")[0]


_HEAD = """\
# Error codes

Every error has a code that never changes: it is `error_code` in the status schema and in log lines, the error's name
in Step Functions, and what `snowmelt errors` groups by. Its message says what happened, where, and what to do. Errors
are tried again:

- *at once*: with growing pauses and jitter, as long as the invocation's time allows; then as a chunk
- *as a chunk*: in the next round, up to `max_retry_attempts` times; everything else goes on meanwhile
- *by itself*: in the normal course of the workflow; no attempt is counted
- *by a start*: when somebody starts again and the run resumes, as the same attempt would fail in the same way until
  then; what is loaded stays loaded
- *by a new run*: the rows that were read do not change any more, so a start does not resume the run: it closes it with
  this reason and begins a new one
- *never*: trying again would end in the same way

| code | meaning | what to do | tried again | exit code |
|---|---|---|---|---|"""
_FOOT = """
A code of five digits and letters is PostgreSQL's own, such as `23505`. In an execution's history there are also the
names that Lambda and Step Functions give (`Lambda.TooManyRequestsException`, `Sandbox.Timedout`, `States.Timeout`); the
state machine tries them again, and reports as `FailedByAws` what remains.
"""
