"""Every word by which a run or a verification ends, and what each command makes of it; the docs show it.

``python -m snowmelt.cli.outcomes > docs/outcomes.md`` writes the page.
"""

import sys
from dataclasses import dataclass
from typing import Literal

Of = Literal["run", "table", "chunk", "verification", "pulse", "answer"]


@dataclass(frozen=True)
class Outcome:
    """A word, what it means, and the exit codes that come of it; no code where a command does not meet it."""

    of: Of
    word: str
    meaning: str
    migrate: str = ""
    verify: str = ""
    watch: str = ""
    """Of ``status --watch``; ``status`` itself exits with 0 whatever it shows."""
    machine: str = ""
    """What the execution of the state machine ends as."""


OUTCOMES: tuple[Outcome, ...] = (
    Outcome(
        "run", "running", "it is under way, or nobody drives it any more", "4 (stopped by Ctrl-C)", "", "", "RUNNING"
    ),
    Outcome(
        "run",
        "completed",
        "all rows are loaded; `message` names tables that are `not comparable`, and columns that are not loaded",
        *("0", "", "0", "SUCCEEDED"),
    ),
    Outcome(
        "run",
        "completed_with_rejects",
        "loaded but for rejected rows, which `max_rejected_rows` or `--accept-rejected` (`accept_rejected`) allow",
        *("0", "", "0", "SUCCEEDED"),
    ),
    Outcome("run", "failed", "`error` says what, where, and what to do", "1", "", "1", "FAILED"),
    Outcome(
        "run",
        "abandoned",
        "closed for good, as a new run took its place: `error` says why, and keeps the failure it had",
        *("", "", "1", ""),
    ),
    Outcome("table", "pending", "it waits for tables that it refers to, or for its turn"),
    Outcome("table", "scanning", "Snowflake runs its statement"),
    Outcome("table", "loading", "its chunks are loaded"),
    Outcome("table", "finalizing", "all loaded; indexes, statistics, sequences and verification are left"),
    Outcome("table", "completed", "done, and not found to differ"),
    Outcome(
        "table",
        "failed",
        "`error` says why, `TableSkippedError` for one that the run skips; the run fails when everything else is done",
        *("1", "", "1", "FAILED"),
    ),
    Outcome("table", "abandoned", "its run was closed before the table was done"),
    Outcome("chunk", "pending", "it waits for a worker; with an `error_code`, for its next attempt"),
    Outcome("chunk", "running", "a worker has it, or had it when it died: the next round sees"),
    Outcome("chunk", "completed", "its rows and this mark were committed together"),
    Outcome("chunk", "failed", "no further attempt is made before a start resumes the run", "1", "", "1", "FAILED"),
    Outcome("chunk", "superseded", "split, or planned again: other chunks have its rows"),
    Outcome("verification", "equal", "the target holds what was read for it, but for what `omitted` names", "0", "0"),
    Outcome(
        "verification",
        "different",
        "rows are missing, too many or changed: `differences` shows some, `by_column` counts",
        *("1", "3", "", "FAILED"),
    ),
    Outcome(
        "verification",
        "not comparable",
        "nothing could be found: `reason` says why, `advice` what to do",
        *("0", "3; 0 with `--allow-not-comparable`", "", "SUCCEEDED"),
    ),
    Outcome("pulse", "moves", "of a running run: chunks are being completed"),
    Outcome("pulse", "waits", "for Snowflake, a lock or a living worker; `says` names it"),
    Outcome("pulse", "stands still", "nobody drives it, or no worker comes; `says` names what to do"),
    Outcome("answer", "completed", "every source is complete, with or without rejected rows"),
    Outcome("answer", "completed_with_rejects", "of a source: complete but for rejected rows"),
    Outcome("answer", "failed", "a source has failed; `message` says which and why, the others were run all the same"),
    Outcome("answer", "partial", "the invocation's time was nearly over: the same event again goes on"),
    Outcome("answer", "not_started", "of a source: an earlier one is not done yet"),
    Outcome("answer", "dry_run", "of a source: what a start would do; nothing was touched"),
)

_WHAT: dict[Of, str] = {
    "run": "run",
    "table": "table",
    "chunk": "chunk",
    "verification": "verification of a table",
    "pulse": "run that is on",
    "answer": "answer of the function called alone",
}
_IN_JSON: dict[Of, str] = {
    "run": '`"status": "{}"` of `migrate`, `retry`, `status`, `runs`; `run.status` of `report.json`',
    "table": "`tables[].status` of `migrate`, `status`; `run.tables[].status` of `status --watch`",
    "chunk": "`chunks_completed`, `chunks_running`, `chunks_failed` of tables count them",
    "verification": "`tables[].verdict` of `verify`, `migrate`, `status`; `verification[].verdict` of `report.json`",
    "pulse": "`pulse.state` of `status`",
    "answer": "`status`, and `runs[].status` of a source",
}
_IN_SQL: dict[Of, str] = {
    "run": "`runs.status`",
    "table": "`run_tables.status`",
    "chunk": "`chunks.status`",
    "verification": "`verification_results.verdict`",
    "pulse": "",
    "answer": "",
}


@dataclass(frozen=True)
class Exit:
    """An exit code, when a command ends with it, and what ``--json`` prints then."""

    code: int
    meaning: str
    json: str


EXITS: tuple[Exit, ...] = (
    Exit(0, "done", "the result, a line on stdout"),
    Exit(
        1,
        "failed: a server, a privilege, the data, or a run that someone else drives. `migrate`, `retry`: the run has "
        "failed. `test-connections`: `ok` is false. `rejects replay`: rows are still rejected. `indexes restore`: one "
        "cannot be built. `selftest`: a check has failed, or something that it made is still there",
        "the result where there is one; else a line on stderr with `message` and `error_code`, one of "
        "[these](errors.md)",
    ),
    Exit(
        2,
        "the config, the environment or the call is wrong; nothing was touched",
        "a line on stderr with `message`, `error_code` (`ConfigError`) and `problems`, a list",
    ),
    Exit(
        3,
        "`verify`: a table differs (`equal` is false), or could not be compared (`not_comparable` names it). "
        "`preflight`: `go` is false",
        "the result, a line on stdout",
    ),
    Exit(
        4,
        "stopped by Ctrl-C before the end; the same command resumes. `indexes restore`: some are still to be built. "
        "`selftest`: what it made is dropped; or the answer was no",
        "nothing on stdout, a line on stderr. `indexes restore`: the result",
    ),
    Exit(
        5,
        "the result could not be written: the pipe was closed, as by `head -1`, or the disk is full. What the command "
        "did is done",
        "a line on stderr with `error_code` (`OutputError`)",
    ),
)


@dataclass(frozen=True)
class TakenAway:
    """Something that is removed while a run is on, and what ``migrate`` says of it."""

    what: str
    says: str
    exit_code: int
    error_code: str
    what_to_do: str


TAKEN_AWAY: tuple[TakenAway, ...] = (
    TakenAway(
        "the reader of stdout, or the room for it",
        "the output cannot be written; the run goes its way, and has its result in the status schema",
        5,
        "OutputError",
        "`snowmelt status`, `snowmelt report`",
    ),
    TakenAway(
        "the folder or prefix that SNOWMELT_STORE names",
        "which file is not there; what is loaded stays, the run ends failed",
        1,
        "MissingError",
        "set `SNOWMELT_STORE` to where the run began; where it was deleted, start with `--no-resume` "
        "(`no_resume: true`)",
    ),
    TakenAway(
        "a target table",
        "that the target is gone; its table fails at once, all others are completed, the run ends failed",
        1,
        "TargetChangedError",
        "restore the table with its rows and start again; or create it and start with `--no-resume` "
        "(`no_resume: true`)",
    ),
    TakenAway(
        "the schema migration_status",
        "that the status schema is gone, and with it what runs had done; nothing more is loaded",
        1,
        "MissingError",
        "start again: a new run begins. Targets that had begun to load must be emptied before, or have "
        "`truncate_onstart`",
    ),
    TakenAway(
        "Snowflake's result",
        "nothing: the table is scanned again, where no row could be loaded twice by it",
        0,
        "ResultGoneError",
        "nothing; [incidents](incidents.md) has the other case",
    ),
)


def words(of: Of) -> frozenset[str]:
    """Return the words of one kind."""
    return frozenset(each.word for each in OUTCOMES if each.of == of)


def page() -> str:
    """Return the page of all outcomes, in Markdown."""
    rows = (
        f"| {_WHAT[o.of]} | `{o.word}` | {o.meaning} | {_IN_JSON[o.of].format(o.word)} | {_IN_SQL[o.of]} | {o.migrate} "
        f"| {o.verify} | {o.watch} | {o.machine} |"
        for o in OUTCOMES
    )
    exits = (f"| {each.code} | {each.meaning} | {each.json} |" for each in EXITS)
    gone = (f"| {t.what} | {t.says} | {t.exit_code} | `{t.error_code}` | {t.what_to_do} |" for t in TAKEN_AWAY)
    return "\n".join((_HEAD, *rows, _EXITS, *exits, _TAKEN_AWAY, *gone, ""))


_HEAD = """\
# Outcomes

Every word by which a run, a table, a chunk or a verification is described: where `--json` and the status schema have
it, and the exit code that comes of it. [Command line](command-line.md) has the commands, [error codes](errors.md) what
can go wrong.

| of a | word | meaning | `--json` | SQL | exit code of `migrate`, `retry` | `verify` | `status --watch` | execution |
|---|---|---|---|---|---|---|---|---|"""
_EXITS = """
`verify` also has `equal`, true if every table is, and `not_comparable`, the tables that are. `status` and `runs` exit
with 0 whatever they show.

## Exit codes

| code | meaning | `--json` |
|---|---|---|"""
_TAKEN_AWAY = """
## Something is taken away in the middle of a run

| what | what the last line says | exit code | error code | what to do |
|---|---|---|---|---|"""


if __name__ == "__main__":
    sys.stdout.write(page())
