"""Every word by which a run or a verification ends, and what each command makes of it; the docs show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Of = Literal["run", "table", "verification", "pulse"]


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
        "all rows are loaded; a table that is `not comparable` is named in `message`",
        *("0", "", "0", "SUCCEEDED"),
    ),
    Outcome(
        "run",
        "completed_with_rejects",
        "the same, but for rejected rows, which `max_rejected_rows` or `--accept-rejected` allow",
        *("0", "", "0", "SUCCEEDED"),
    ),
    Outcome("run", "failed", "`error` says what, where, and what to do", "1", "", "1", "FAILED"),
    Outcome("run", "abandoned", "closed for good: a new run took its place, or takes it", "", "", "1", ""),
    Outcome("table", "pending", "it waits for tables that it refers to, or for its turn"),
    Outcome("table", "scanning", "Snowflake runs its statement"),
    Outcome("table", "loading", "its chunks are loaded"),
    Outcome("table", "finalizing", "all loaded; indexes, statistics, sequences and verification are left"),
    Outcome("table", "completed", "done, and not found to differ"),
    Outcome("table", "failed", "`error` says why; the run fails when everything else is done", "1", "", "1", "FAILED"),
    Outcome("table", "abandoned", "its run was closed before the table was done"),
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
)

_TITLES: tuple[tuple[Of, str, str], ...] = (
    (
        "run",
        "A run",
        "`status` of `migrate`, `status` and `runs`; `run.status` of `report.json`; `migration_runs.status`",
    ),
    ("table", "A table", "`tables[].status` of `migrate` and `status`; `migration_table_status.status`"),
    (
        "verification",
        "What a verification found of a table",
        (
            "`tables[].verdict` of `verify`, `migrate` and `status`; `verification[].verdict` of `report.json`; "
            "`verification_results.verdict`. `verify` also has `equal`, true if all are, and `not_comparable`, a list"
        ),
    ),
    ("pulse", "A run that is on", "`pulse.state` of `status`"),
)


def words(of: Of) -> frozenset[str]:
    """Return the words of one kind."""
    return frozenset(each.word for each in OUTCOMES if each.of == of)


def page() -> str:
    """Return the page of all outcomes, in Markdown."""
    parts = [_HEAD]
    for of, title, where in _TITLES:
        rows = [each for each in OUTCOMES if each.of == of]
        parts += [f"## {title}", f"In `--json` and SQL: {where}.", _table(rows)]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Outcome]) -> str:
    head = "| word | meaning | exit code of `migrate`, `retry` | of `verify` | of `status --watch` | execution |"
    lines = [f"| `{r.word}` | {r.meaning} | {r.migrate} | {r.verify} | {r.watch} | {r.machine} |" for r in rows]
    return "\n".join([head, "|---|---|---|---|---|---|", *lines])


_HEAD = """\
# Outcomes

Every word by which a run, a table or a verification is described, where `--json` has it, and the exit code that comes
of it. An exit code of 2 means that the config, the environment or the call is wrong, and nothing was touched; whatever
else keeps a command from its answer is 1, with one line on stderr. [Command line](command-line.md) has the other
commands."""
