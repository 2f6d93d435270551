"""What follows from the facts: the verdict in three sentences, sums, the cost. ``report.json`` is this."""

from collections.abc import Iterator
from typing import Literal

from snowmelt.models import Value
from snowmelt.monitoring.speeds import loading_seconds, rows_per_second
from snowmelt.reports import cost
from snowmelt.reports.cost import Cost
from snowmelt.reports.facts import Facts
from snowmelt.reports.words import duration, joined, number, rate
from snowmelt.wording import counted, gave_way, omissions

REPORT_FORMAT = 2
"""Version of the shape of ``report.json``: grows when a field goes or changes its meaning, not when one comes."""
_NAMED = 3
_LONGEST = 500


class Verdict(Value):
    """What a reader in a hurry needs to know."""

    tone: Literal["good", "attention", "bad", "running"]
    headline: str
    sentences: tuple[str, ...]
    """Three: what moved, whether it is as it was, whether it was verified."""
    next_step: str = ""
    """What is left to do, if anything is."""


class Totals(Value):
    """Sums over all tables."""

    tables: int
    tables_completed: int
    source_rows: int | None
    """None while a source is not counted."""
    rows: int
    rejected: int
    changed_values: int
    size_bytes: int
    chunks: int
    chunks_completed: int
    chunks_failed: int
    chunks_retried: int
    retries: int
    load_seconds: float | None
    """From the first claim of a chunk of any table to the last mark."""
    rows_per_second: float | None
    """Over ``load_seconds``."""
    peak_rows_per_second: float | None
    """In the best part of the time in which rows were loaded."""


class Report(Facts):
    """The facts, and what follows from them."""

    report_format: int = REPORT_FORMAT
    verdict: Verdict
    totals: Totals
    cost: Cost


def build(facts: Facts, prices: cost.Prices | None = None) -> Report:
    """The report of a run. The same facts make the same report."""
    totals = _totals(facts)
    estimate = cost.estimate(
        facts.tables, facts.executions, facts.workers, facts.snowflake, rounds=facts.run.rounds, prices=prices
    )
    parts = {name: getattr(facts, name) for name in Facts.model_fields}
    return Report(**parts, verdict=_verdict(facts, totals), totals=totals, cost=estimate)


def _totals(facts: Facts) -> Totals:
    tables = facts.tables
    sources = [table.source_rows for table in tables]
    rows = sum(table.rows for table in tables)
    loading = loading_seconds((table.first_claimed_at, table.last_loaded_at) for table in tables)
    return Totals(
        tables=len(tables),
        tables_completed=sum(table.status == "completed" for table in tables),
        source_rows=None if None in sources else sum(rows or 0 for rows in sources),
        rows=rows,
        rejected=sum(table.rejected for table in tables),
        changed_values=sum(n for t in tables for changes in t.changed_values.values() for n in changes.values()),
        size_bytes=sum(table.size_bytes for table in tables),
        chunks=sum(table.chunks for table in tables),
        chunks_completed=sum(table.chunks_completed for table in tables),
        chunks_failed=sum(table.chunks_failed for table in tables),
        chunks_retried=sum(table.chunks_retried for table in tables),
        retries=sum(table.retries for table in tables),
        load_seconds=loading,
        rows_per_second=rows_per_second(rows, loading),
        peak_rows_per_second=max((pace.rows_per_second for pace in facts.pace), default=None),
    )


# --- the verdict ------------------------------------------------------------------------------------------------------


def _verdict(facts: Facts, totals: Totals) -> Verdict:
    return Verdict(
        tone=_tone(facts),
        headline=_headline(facts, totals),
        sentences=(_what_moved(facts, totals), _as_it_was(facts, totals), _verified(facts)),
        next_step=" ".join(_next_steps(facts)),
    )


def _tone(facts: Facts) -> Literal["good", "attention", "bad", "running"]:
    status = facts.run.status
    if status == "running":
        return "running"
    if status in ("failed", "abandoned") or any(each.verdict == "different" for each in facts.verification):
        return "bad"
    unknown = any(each.verdict == "not comparable" for each in facts.verification)
    return "attention" if unknown or status == "completed_with_rejects" else "good"


def _headline(facts: Facts, totals: Totals) -> str:
    tables = counted(totals.tables, "table")
    match facts.run.status:
        case "completed":
            return f"Completed: all rows of {tables} are in PostgreSQL{_but_for(facts)}"
        case "completed_with_rejects":
            rejected = counted(totals.rejected, "row")
            return f"Completed, but for {rejected} that PostgreSQL refused{_but_for(facts)}"
        case "failed":
            return f"Failed: {totals.tables - totals.tables_completed} of {tables} not complete"
        case "abandoned":
            return f"Closed before its end: {totals.tables_completed} of {tables} complete"
        case "running":
            return f"Running: {totals.tables_completed} of {tables} complete"


def _but_for(facts: Facts) -> str:
    """Say what the headline must not pass over: tables that could not be compared, what is not loaded."""
    unknown = sum(each.verdict == "not comparable" for each in facts.verification)
    said = omissions((table.table, table.omitted) for table in facts.tables)
    if given := sum(table.deduplicated for table in facts.tables):
        said = f"; {gave_way(given)}{said}"
    return f"{said}; {counted(unknown, 'table')} not comparable" if unknown else said


def _what_moved(facts: Facts, totals: Totals) -> str:
    source, speed = facts.config.get("source", {}), totals.rows_per_second
    way = (
        f" went from {source['source_sf_database']}.{source['source_sf_schema']} in Snowflake to schema "
        f"{source['target_pg_schema']} of database {source['target_pg_database']} in PostgreSQL"
        if source
        else " went from Snowflake to PostgreSQL"
    )
    pace = f"; loading took {duration(totals.load_seconds)}, {rate(speed)}" if speed else ""
    return f"{counted(totals.rows, 'row')}{way} in {duration(facts.run.seconds)}{pace}."


def _as_it_was(facts: Facts, totals: Totals) -> str:
    refused = (
        f"{counted(totals.rejected, 'row')} were rejected and "
        f"{'is' if totals.rejected == 1 else 'are'} kept with the reason"
        if totals.rejected
        else "No row was refused"
    )
    columns = sum(len(table.changed_values) for table in facts.tables)
    changed = (
        f"{counted(totals.changed_values, 'value')} in {counted(columns, 'column')} "
        f"{'was' if totals.changed_values == 1 else 'were'} changed on the way, as was said beforehand"
        if totals.changed_values
        else "no value was changed on the way"
    )
    if any(table.omitted for table in facts.tables):
        changed += ", but for columns that are not loaded and what types lose"
    return f"{refused}, and {changed}."


def _verified(facts: Facts) -> str:
    found = facts.verification
    if not found:
        return "Nothing was verified yet: run `snowmelt verify` to compare every target with its source."
    by_verdict = {
        verdict: [each.table for each in found if each.verdict == verdict]
        for verdict in ("equal", "different", "not comparable")
    }
    if different := by_verdict["different"]:
        return f"Verification found {_names(different)} different from the source."
    kept = sum(each.kept_newer for each in found)
    newer = f"; {counted(kept, 'row')} of the source gave way to newer ones in the target" if kept else ""
    if len(by_verdict["equal"]) == len(facts.tables):
        return f"Every table was compared with its source and found equal{newer}."
    said = f"{len(by_verdict['equal'])} of {counted(len(facts.tables), 'table')} were verified and found equal"
    unknown = by_verdict["not comparable"]
    return f"{said}; {_names(unknown)} could not be compared." if unknown else f"{said}; the others were not verified."


def _names(tables: list[str]) -> str:
    more = len(tables) - _NAMED
    return joined([*tables[:_NAMED], *([f"{number(more)} more"] if more > 0 else [])])


def _next_steps(facts: Facts) -> Iterator[str]:
    """What is left to do; each a sentence."""
    match facts.run.status:
        case "failed":
            yield f"{_sentence(facts.run.error or 'the reason is not known')}"
            yield "What is completed stays; the next start tries the rest again."
        case "completed_with_rejects":
            yield "See `snowmelt rejects list` for the rows; fix them or the target, then `snowmelt rejects replay`."
        case "abandoned":
            yield f"{_sentence(facts.run.error or 'another run took its place')}"
    for each in [each for each in facts.verification if each.verdict == "not comparable"][:_NAMED]:
        yield f"{each.table} is not comparable: {_sentence(each.reason or 'no reason is known')}"
    if any(each.verdict == "different" for each in facts.verification):
        yield "`snowmelt verify` shows the rows that differ, and with `--repair` fixes them."


def _sentence(text: str) -> str:
    """Return the text, no longer than a reader in a hurry bears; all of it is further below."""
    said = (text[:1].upper() + text[1:]).rstrip(".")
    return f"{said}." if len(said) <= _LONGEST else f"{said[:_LONGEST].rstrip()} …"
