"""Reports: what is said of a run, what it costs, and the page that says it."""

import ast
import re
from collections import defaultdict
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt import reports
from snowmelt.reports import charts, cost, words
from snowmelt.reports.facts import Durations, Execution, Facts, Pace, SnowflakeUse
from snowmelt.reports.page import page
from snowmelt.reports.report import Report, build
from support.report_facts import BEGAN, a_rejection, a_run, a_table, a_warehouse, after, facts, verified

VOID = {"meta"}


class Page(HTMLParser):
    """A page as its reader sees it: what each section says, and every mark of its charts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._section = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._section = dict(attrs).get("id") or self._section
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts[self._section] += data.split()

    @property
    def said(self) -> dict[str, str]:
        """The words of each section."""
        return {section: " ".join(words) for section, words in self.texts.items()}


def said(given: Facts) -> dict[str, str]:
    """The words of each section."""
    read = Page(page(build(given)))
    assert read.open == []
    return read.said


# --- the verdict ----------------------------------------------------------------------------------------------------


def test_a_run_whose_rows_are_all_in_is_complete_and_says_so_first() -> None:
    verdict = build(facts()).verdict

    assert verdict.tone == "good"
    assert verdict.headline == "Completed: all rows of 2 tables are in PostgreSQL"
    assert verdict.sentences == (
        (
            "1,200,034 rows went from SALES.RAW in Snowflake to schema public of database sales in PostgreSQL in "
            "6 min 40 s; loading took 4 min, 5,000 rows/s."
        ),
        "No row was refused, and no value was changed on the way.",
        "Nothing was verified yet: run `snowmelt verify` to compare every target with its source.",
    )
    assert verdict.next_step == ""


def test_refused_rows_and_changed_values_are_in_the_verdict() -> None:
    table = a_table(rejected=1234, changed_values={"note": {"too_long": 5, "nul_characters": 2}, "rate": {"nan": 1}})
    report = build(facts(run=a_run(status="completed_with_rejects"), tables=(table,), rejects=(a_rejection(),)))

    assert report.verdict.tone == "attention"
    assert report.verdict.headline == "Completed, but for 1,234 rows that PostgreSQL refused"
    assert report.verdict.sentences[1] == (
        "1,234 rows were rejected and are kept with the reason, and 8 values in 2 columns were changed on the way, "
        "as was said beforehand."
    )
    assert "rejects replay" in report.verdict.next_step


def test_a_failed_run_says_why_and_that_a_start_resumes() -> None:
    failed = a_run(status="failed", error_code="RunFailedError", error="run ledger-1 failed: the disk is full")
    verdict = build(facts(run=failed, tables=(a_table(status="failed"), a_table(1, "NOTES")))).verdict

    assert (verdict.tone, verdict.headline) == ("bad", "Failed: 1 of 2 tables not complete")
    assert verdict.next_step.startswith("Run ledger-1 failed: the disk is full.")
    assert "the next start tries the rest again" in verdict.next_step


def test_a_long_reason_is_cut_on_top() -> None:
    failed = a_run(status="failed", error="no room; " * 1000)

    assert len(build(facts(run=failed)).verdict.next_step) < 600


def test_a_run_that_is_on_is_neither_good_nor_bad() -> None:
    running = a_run(status="running", completed_at=None)
    report = build(facts(run=running, tables=(a_table(), a_table(1, "NOTES", status="scanning", source_rows=None))))

    assert (report.verdict.tone, report.verdict.headline) == ("running", "Running: 1 of 2 tables complete")
    assert report.totals.source_rows is None


@pytest.mark.parametrize(
    ("found", "sentence", "tone"),
    [
        (("equal", "equal"), "Every table was compared with its source and found equal.", "good"),
        (("equal", "different"), "Verification found NOTES different from the source.", "bad"),
        (
            ("equal", "not comparable"),
            "1 of 2 tables were verified and found equal; NOTES could not be compared.",
            "attention",
        ),
        (("equal",), "1 of 2 tables were verified and found equal; the others were not verified.", "good"),
    ],
)
def test_the_verdict_says_what_verification_found(found: tuple[str, ...], sentence: str, tone: str) -> None:
    results = tuple(verified(name, verdict) for name, verdict in zip(("ENTRIES", "NOTES"), found, strict=False))
    verdict = build(facts(verification=results)).verdict

    assert (verdict.sentences[2], verdict.tone) == (sentence, tone)
    assert verdict.headline.endswith("; 1 table not comparable") == ("not comparable" in found)


def test_many_tables_that_differ_are_counted_and_not_all_named() -> None:
    results = tuple(verified(f"T{n}", "different") for n in range(9))

    assert "found T0, T1, T2 and 6 more different" in build(facts(verification=results)).verdict.sentences[2]


# --- JSON -----------------------------------------------------------------------------------------------------------


def test_a_report_comes_back_from_its_json_as_it_was() -> None:
    report = build(facts(rejects=(a_rejection(),), verification=(verified(),)))

    assert Report.model_validate_json(report.model_dump_json()) == report
    assert report.report_format == 2
    assert (report.totals.rows, report.totals.retries, report.totals.chunks) == (1_200_034, 4, 13)


def test_the_same_facts_make_the_same_page() -> None:
    assert page(build(facts())) == page(build(facts()))


# --- cost -----------------------------------------------------------------------------------------------------------


def test_cost_is_measured_work_times_prices() -> None:
    """Thirteen chunks make thirteen items for four workers, four more are retries; three rounds."""
    prices = cost.Prices(lambda_gb_second=1, lambda_request=10, state_transition=100, s3_put=1000, snowflake_credit=7)
    estimate = build(facts(), prices).cost

    seconds = 480 + 4 * 1.5 + 7 * 5
    by_name = {item.what: item for item in estimate.items}
    assert by_name["AWS Lambda, compute"].usd == pytest.approx(seconds * 2)
    assert by_name["AWS Lambda, requests"].usd == 10 * (17 + 7)
    assert by_name["AWS Step Functions"].usd == 100 * (17 * 3 + 3 * 6 + 10)
    assert by_name["Amazon S3"].usd == 1000 * (4 + 3 + 5)
    assert by_name["Snowflake, warehouse"].usd == pytest.approx(7 * 4 * 1800 / 3600)
    assert estimate.total_usd == pytest.approx(sum(item.usd or 0 for item in estimate.items))
    assert estimate.is_complete
    assert not estimate.is_hypothetical


def test_threads_of_an_invocation_share_its_seconds() -> None:
    alone, shared = (
        build(facts(workers={"invocations": 4, "threads": threads, "memory_mb": 1024})).cost.items[0].quantity or 0
        for threads in (1, 4)
    )

    assert alone - shared == pytest.approx(480 * 3 / 4, rel=0.02)


def test_a_warehouse_is_charged_a_minute_at_least() -> None:
    used = SnowflakeUse(warehouses=(a_warehouse(size="X-Small", execution_seconds=2.0),), is_partial=False)

    assert build(facts(snowflake=used)).cost.items[-1].quantity == pytest.approx(1 / 60)


@pytest.mark.parametrize(
    ("used", "why"),
    [
        (None, "is not known"),
        (SnowflakeUse(warehouses=(a_warehouse(size="Adaptive"),), is_partial=False), "size of warehouse LOADING"),
    ],
)
def test_what_is_not_known_costs_nothing_and_is_named(used: SnowflakeUse | None, why: str) -> None:
    estimate = build(facts(snowflake=used)).cost

    assert (estimate.items[-1].usd, estimate.is_complete) == (None, False)
    assert why in estimate.items[-1].how
    assert "not known" in said(facts(snowflake=used))["cost"]


def test_statements_that_need_no_warehouse_cost_no_credits() -> None:
    metadata = a_warehouse(name="", size="")

    assert build(facts(snowflake=SnowflakeUse(warehouses=(metadata,), is_partial=False))).cost.items[-1].usd == 0


def test_a_run_from_a_command_line_says_that_aws_had_no_part_in_it() -> None:
    local = Execution(execution_id="local:host:1:ab", started_at=BEGAN, ended_at=None)

    assert build(facts(executions=(local,))).cost.is_hypothetical
    assert "driven from a command line" in said(facts(executions=(local,)))["cost"]


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_says_in_each_section_what_the_facts_are() -> None:
    sections = said(
        facts(
            rejects=(a_rejection(),),
            verification=(verified(seconds=7.5),),
            tables=(a_table(changed_values={"note": {"too_long": 1051}}), a_table(1, "NOTES")),
            not_known=("what was said of 3 tables: time ran out",),
        )
    )

    assert "Completed: all rows of 2 tables" in sections["verdict"]
    assert "ENTRIES equal checksums 1,200,000 1,200,000 0 0 0 7.5 s" in sections["verification"]
    assert "completed 1,200,000 1,200,000 0 346 MB 4 min 6 min 30 s 5,000" in sections["tables"]
    assert "ENTRIES 12 12 0 1 2 20 s 31 s 42 s" in sections["chunks"]
    assert "WorkerLost over 2 chunk of ENTRIES first chunk 3" in sections["problems"]
    assert "ENTRIES amount 23514 1,234 it is negative" in sections["rejects"]
    assert "ENTRIES note too long 1,051" in sections["lossy"]
    assert "by_day of public.entries built 9.7 MB 1 1 min 23 s" in sections["indexes"]
    assert "LOADING Medium 17 2.5 GB 33 min 20 s 30 min" in sections["snowflake"]
    assert "2 credits $3.00 $6.00" in sections["cost"]
    assert '"parallel_threads": 4' in sections["config"]
    assert "time ran out" in sections["not-known"]


def test_a_page_without_verification_says_how_to_verify() -> None:
    assert "snowmelt verify compares every target with its source" in said(facts())["verification"]


def test_a_run_that_has_hardly_begun_has_a_page_too() -> None:
    nothing: dict[str, Any] = {
        "status": "pending",
        **dict.fromkeys(("rows", "inserted", "size_bytes", "chunks", "chunks_completed", "retries"), 0),
        **dict.fromkeys(("source_rows", "seconds", "load_seconds", "rows_per_second", "started_at"), None),
        **dict.fromkeys(("first_claimed_at", "last_loaded_at", "completed_at", "median_seconds"), None),
        "query_ids": (),
    }
    parts = dict.fromkeys(("pace", "durations", "problems", "indexes", "executions"), ())
    sections = said(
        facts(
            run=a_run(status="running", seconds=0.0), tables=(a_table(**nothing),), snowflake=None, config={}, **parts
        )
    )

    assert "No table has begun yet" in sections["timeline"]
    assert "No chunk is in yet" in sections["pace"]


def test_names_and_reasons_are_text_wherever_they_stand() -> None:
    evil = '<script>alert("x")</script>'
    table = a_table(
        table=evil, target=evil, error=evil, changed_values={evil: {evil: 1}}, warnings=(evil,), query_ids=(evil,)
    )
    html = page(
        build(
            facts(
                run=a_run(source_name=evil, error=evil, status="failed", store=evil),
                tables=(table, table),
                rejects=(a_rejection(table=evil, column=evil, reason=evil),),
                verification=(verified(evil, "not comparable", reason=evil),),
                config={evil: evil},
                not_known=(f"`{evil}`",),
            )
        )
    )

    assert "<script" not in html
    assert {tag for tag, _ in Page(html).tags}.isdisjoint({"script", "iframe", "img", "link", "object", "a"})
    assert html.count("alert(") > 10


def test_nothing_is_fetched_from_elsewhere_and_nothing_runs() -> None:
    html = page(build(facts()))
    names = {name for _, attributes in Page(html).tags for name in attributes}

    assert re.findall(r"https?:|url\(|@import|[\"'(]//", html) == []
    assert names.isdisjoint({"src", "href", "xlink:href", "style", "onclick", "onload"})
    assert "default-src 'none'" in html


def test_a_thousand_tables_make_a_page_of_bounded_length() -> None:
    tables = tuple(a_table(n, f"T{n}", seconds=float(n)) for n in range(1000))
    html = page(build(facts(tables=tables)))

    assert len(html) < 1_500_000
    assert "The first 500 of 1,000" in Page(html).said["tables"]
    assert html.count('class="lane"') == charts.MOST_LANES


def imported_at_once(file: Path) -> set[str]:
    """What a module imports when it is imported itself."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_a_cold_start_does_not_wait_for_what_makes_pages() -> None:
    package = Path(reports.__file__).parents[1]
    makes_pages = {"jinja2", "snowmelt.reports.saved_report", "snowmelt.reports.run_facts"}
    makes_pages |= {"snowmelt.reports.snowflake_history", "snowmelt.reports", "snowmelt.reports.page"}
    deployed = set(package.rglob("*.py"))
    names = {file: ".".join(("snowmelt", *file.relative_to(package).with_suffix("").parts)) for file in deployed}
    others = {file for file, name in names.items() if name not in makes_pages and "reports" not in file.parts}

    assert len(others) > 80
    assert {names[file] for file in others if imported_at_once(file) & makes_pages} == set()
    assert "jinja2" in imported_at_once(package / "reports" / "page.py")


# --- charts ---------------------------------------------------------------------------------------------------------

SECONDS = st.floats(min_value=0.001, max_value=1e6)


@given(st.lists(st.floats(min_value=0, max_value=1e9), min_size=1, max_size=60), SECONDS)
def test_columns_of_the_pace_lie_side_by_side_within_the_chart(rows: list[float], seconds: float) -> None:
    parts = [
        Pace(starts_at=after(n * seconds), seconds=seconds, rows=each, size_bytes=0, chunks_at_once=1)
        for n, each in enumerate(rows)
    ]
    drawn = charts.pace(parts)

    assert drawn is not None
    assert len(drawn.bars) == len(rows)
    assert all(bar.x >= -1 and bar.x + bar.width <= 101 and 0 <= bar.y <= 100 for bar in drawn.bars)
    assert [bar.x for bar in drawn.bars] == sorted(bar.x for bar in drawn.bars)
    highest = max(range(len(rows)), key=lambda n: rows[n])
    assert drawn.bars[highest].height == max(bar.height for bar in drawn.bars)
    assert len(drawn.lines) <= 4


@given(st.floats(min_value=0.001, max_value=1e5), st.lists(st.integers(1, 10**6), min_size=1, max_size=18))
def test_columns_of_durations_are_as_high_as_there_are_chunks(low: float, counts: list[int]) -> None:
    parts = [
        Durations(low_seconds=low * 1.5**n, high_seconds=low * 1.5 ** (n + 1), chunks=count)
        for n, count in enumerate(counts)
    ]
    drawn = charts.durations(parts)

    assert drawn is not None
    assert all(bar.x >= -1 and bar.x + bar.width <= 101 for bar in drawn.bars)
    by_count = sorted(zip(counts, drawn.bars, strict=True), key=lambda pair: pair[0])
    assert [bar.height for _, bar in by_count] == sorted(bar.height for bar in drawn.bars)


@given(st.lists(st.tuples(SECONDS, SECONDS, SECONDS, SECONDS), min_size=1, max_size=80))
def test_lanes_of_the_timeline_stay_within_the_chart(moments: list[tuple[float, float, float, float]]) -> None:
    tables = []
    for number, spans in enumerate(moments):
        begin, claimed, loaded, end = (after(sum(spans[: n + 1])) for n in range(4))
        seconds = (end - begin).total_seconds()
        tables.append(
            a_table(number, f"T{number}", started_at=begin, first_claimed_at=claimed, last_loaded_at=loaded).model_copy(
                update={"completed_at": end, "seconds": seconds}
            )
        )
    drawn = charts.timeline(tables, after(0) + timedelta(days=100))

    assert drawn is not None
    assert len(drawn.lanes) + drawn.left_out == len(tables)
    bars = [phase.bar for lane in drawn.lanes for phase in lane.phases]
    assert all(0 <= bar.x <= 100 and bar.x + bar.width <= 100.001 and bar.width > 0 for bar in bars)


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"), (0.35, "350 ms"), (0.9999, "1.0 s"), (4.24, "4.2 s"), (9.97, "10 s"), (59.6, "1 min"),
        (185, "3 min 5 s"), (3600, "1 h"), (7_830, "2 h 10 min"), (273_600, "3 d 4 h"), (None, "\u2013"),
    ],
)  # fmt: skip
def test_durations_are_written_as_people_say_them(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_949, "1.0 MB"), (1_250_000, "1.2 MB"),
     (345_600_000, "346 MB"), (7.2e12, "7.2 TB"), (3e18, "3,000 PB")],
)  # fmt: skip
def test_sizes_are_written_by_thousands(value: float, text: str) -> None:
    assert words.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.345, "$12.35"), (0.1, "$0.10"), (0.0123, "$0.0123"), (0.00001, "under $0.0001"), (0, "$0.00"),
     (None, "not known")],
)  # fmt: skip
def test_small_amounts_keep_digits_that_say_something(value: float | None, text: str) -> None:
    assert words.dollars(value) == text
