"""Whether a migration said that it failed, or stood still, although nothing was wrong."""

from collections.abc import Sequence

from fault_injection.kinds import Case
from fault_injection.starts import Ended

HELD = "HeldError"
"""A start is refused since the driver before it is not known to be gone; it says so, and the next one is let in."""
STOPPED = "Interrupted"
STALLED = "StalledError"
"""No chunk fits in an invocation, which the error says; on a busy machine that is so where time is short."""


def false_failure(
    case: Case,
    first: Ended,
    *,
    run_failed: bool,
    taken_over: Sequence[Ended] = (),
    met: Sequence[Ended] = (),
    afterwards: Sequence[Ended] = (),
    corrected: bool = False,
) -> str:
    """Say what failed that should not have, and how; empty where all is explained by what was done to it.

    ``run_failed``: the run itself was marked so. ``taken_over``: starts that took over from a driver that was stopped;
    ``met``: those beside which it went on, and which it may have kept out.
    ``afterwards``: starts when nothing was wrong any more, of which the last must be completed; those that found the
    driver before them alive do not count. ``corrected``: something had to be put right first, as the error said.
    """
    if run_failed and case.excuses != "the run" and not corrected:
        return f"the run was marked failed: {_said(first)}"
    is_told_too_short = case.is_short and first.verdict == "failed" and first.code == STALLED
    if (
        case.excuses == "nothing"
        and not (corrected or is_told_too_short)
        and first.verdict in ("failed", "hung", "died")
    ):
        return f"the first start {_said(first)}"
    if first.verdict == "hung":
        return f"the first start {_said(first)}"
    for each in (*taken_over, *met):
        is_kept_out = each in met and first.verdict == "completed" and _may_be_kept_out(case, each)
        if each.verdict != "completed" and not is_kept_out:
            return f"the start that took over {_said(each)}"
    for number, each in enumerate(afterwards, start=1):
        is_last = number == len(afterwards)
        if each.verdict != "completed" and (is_last or each.code != HELD) and not (corrected and not is_last):
            return f"start {number} after all was over {_said(each)}"
    return ""


def _may_be_kept_out(case: Case, ended: Ended) -> bool:
    """Whether the driver that went on kept it out: it was at work still, or had ended, and a new run began."""
    return ended.code == HELD or (case.mode.adds_once and "holds rows already" in ended.message)


def not_refused(case: Case, first: Ended) -> str:
    """Say so when a start that had to be refused with a certain word was not."""
    word = case.refused_for
    if not word or (first.verdict == "failed" and word in first.message):
        return ""
    return f"should be refused with the word {word!r}, but the first start {_said(first)}"


def _said(ended: Ended) -> str:
    return " ".join(word for word in (ended.verdict, ended.code, ended.message[:400]) if word)
