"""How a bench reports what it found."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import __main__ as bench
from benchmarks import chunks, cost, end_to_end, memory, mixed_table, rivals
from benchmarks.figures import Figure
from snowmelt import config
from snowmelt.errors import DataError
from snowmelt.reports.cost import Prices


def run(monkeypatch: pytest.MonkeyPatch, *figures: Figure, arguments: tuple[str, ...] = ()) -> int:
    """The exit code of a bench that finds these figures."""

    def measure(definition: Path, rows: int | None) -> Iterator[Figure]:
        assert rows is None
        assert definition == Path("some.asl.json")
        yield from figures

    monkeypatch.setattr(bench, "BENCHES", {"weight": measure})
    monkeypatch.setattr(sys, "argv", ["bench", "--definition", "some.asl.json", "weight", *arguments])
    return bench.main()


def test_each_figure_is_a_line_of_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(monkeypatch, Figure("a", 1.5, "MB"), Figure("b", 2, "ratio", at_most=3), arguments=("--json",))
    assert code == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"bench": "weight", "name": "a", "value": 1.5, "unit": "MB"},
        {"bench": "weight", "name": "b", "value": 2, "unit": "ratio"},
    ]


def test_a_figure_beyond_its_limit_is_shown_and_fails_the_bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Figure("a", 301, "MB", at_most=300), Figure("b", 1, "MB", at_most=1)) == 1
    assert capsys.readouterr().out.splitlines() == [
        "a 301 MB  (at most 300: EXCEEDED)",
        "b 1 MB  (at most 1: kept)",
    ]


def test_a_figure_that_does_not_reach_its_limit_fails_the_bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Figure("a", 2.9, "times", at_least=3), Figure("b", 3, "times", at_least=3)) == 1
    assert capsys.readouterr().out.splitlines() == [
        "a 2.9 times  (at least 3: MISSED)",
        "b 3 times  (at least 3: kept)",
    ]


def test_a_bench_is_tried_with_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def measure(definition: Path, rows: int | None) -> Iterator[Figure]:
        asked.append(rows)
        yield Figure("a", 1, "MB")

    monkeypatch.setattr(bench, "BENCHES", {"weight": measure})
    monkeypatch.setattr(sys, "argv", ["bench", "--definition", "some.asl.json", "weight", "--rows", "1000"])
    assert bench.main() == 0
    assert asked == [1000]


def test_only_benches_whose_worker_reads_snowflake_take_another_connector(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--definition", "some.asl.json", "upsert", "--connector", "5"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "--connector 5 is for copy and end-to-end" in capsys.readouterr().err


def test_figures_by_another_connector_have_names_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Figure("a", 1, "MB", at_most=1), arguments=("--suffix", "_connector_5")) == 0
    assert capsys.readouterr().out == "a_connector_5 1 MB  (at most 1: kept)\n"


def test_every_bench_is_in_the_script_and_in_the_documentation() -> None:
    root = Path(__file__).parents[2]
    for name in bench.BENCHES:
        for page in ("scripts/bench", "docs/performance.md"):
            assert f"scripts/bench {name} " in (root / page).read_text(encoding="utf-8"), f"{name} is not in {page}"


def test_a_config_is_written_for_a_table_a_size_of_chunks_and_threads_of_one_invocation(tmp_path: Path) -> None:
    path = mixed_table.write_config(tmp_path, table="EDGES", batch_size=10, threads=4)
    environment = {
        "SNOWFLAKE_ACCOUNT": "local",
        "SNOWFLAKE_USER": "U",
        "SNOWFLAKE_PASSWORD": "p",
        "SNOWFLAKE_WAREHOUSE": "W",
        "POSTGRES_HOST": "h",
        "POSTGRES_USER": "u",
    }
    loaded = config.load(path.read_text(encoding="utf-8"), environment, where=str(path))
    assert (loaded.batch_size, loaded.parallel_threads, loaded.threads_per_invocation) == (10, 4, 4)
    (table,) = loaded.source(mixed_table.SOURCE_NAME).tables
    assert table.source == "EDGES"


# --- what a run costs on AWS ------------------------------------------------------------------------------------------

ROWS_ALONE = cost.Work(
    seconds_per_million_rows=4, cpu_seconds_per_million_rows=1, seconds_per_chunk=0, seconds_per_cold_start=0
)


def test_a_worker_that_waits_for_its_servers_costs_the_time_it_waits() -> None:
    estimate = cost.estimate(ROWS_ALONE, cost.Shape(rows=10_000_000, memory_mb=1024))
    assert estimate.worker_seconds == pytest.approx(40)
    assert estimate.gb_seconds == pytest.approx(40 + cost.ACTIONS_BESIDE_ITEMS * cost.SECONDS_PER_ACTION)


def test_a_worker_with_half_a_processor_takes_twice_its_processor_time() -> None:
    work = replace(ROWS_ALONE, cpu_seconds_per_million_rows=3)
    shape = cost.Shape(rows=10_000_000, memory_mb=cost.VCPU_MB // 2)
    assert cost.estimate(work, shape).worker_seconds == pytest.approx(60, rel=0.01)


def test_more_than_a_whole_processor_makes_no_thread_faster() -> None:
    work = replace(ROWS_ALONE, cpu_seconds_per_million_rows=6)
    shape = cost.Shape(rows=10_000_000, memory_mb=4 * cost.VCPU_MB)
    assert cost.estimate(work, shape).worker_seconds == pytest.approx(60)


def test_each_chunk_and_each_cold_start_is_paid_for() -> None:
    work = replace(ROWS_ALONE, seconds_per_chunk=0.5, seconds_per_cold_start=2)
    shape = cost.Shape(rows=10_000_000, rows_per_chunk=1_000_000, workers=3)
    assert cost.estimate(work, shape).worker_seconds == pytest.approx(40 + 10 * 0.5 + 3 * 2)


def test_work_items_are_counted_as_they_are_planned() -> None:
    few = cost.Shape(rows=10_000_000, rows_per_chunk=1_000_000, workers=3)
    assert (few.chunks, few.items) == (10, 10)
    many = cost.Shape(rows=10_000_000, rows_per_chunk=10_000, workers=3)
    assert (many.chunks, many.items) == (1000, 24)


def test_prices_are_multiplied_with_what_is_used() -> None:
    prices = Prices(lambda_gb_second=1, lambda_request=10, state_transition=100, s3_put=1000)
    estimate = cost.estimate(ROWS_ALONE, cost.Shape(rows=1_000_000), prices)
    assert estimate.lambda_usd == pytest.approx(estimate.gb_seconds + 10 * estimate.requests)
    assert estimate.step_functions_usd == 100 * estimate.state_transitions
    assert estimate.s3_usd == 1000 * cost.PUTS
    assert f"{estimate.usd:.2f} USD" in str(estimate)


@given(
    rows=st.integers(0, 10**9),
    rows_per_chunk=st.integers(100_000, 10**7),
    memory_mb=st.integers(128, 10_240),
    price=st.floats(0, 1),
)
def test_what_a_run_costs_is_the_sum_of_its_parts_and_grows_with_its_rows(
    rows: int, rows_per_chunk: int, memory_mb: int, price: float
) -> None:
    work = cost.Work(seconds_per_million_rows=3, cpu_seconds_per_million_rows=2.5)
    prices = Prices(lambda_gb_second=price)
    shape = cost.Shape(rows=rows, rows_per_chunk=rows_per_chunk, memory_mb=memory_mb)
    estimate = cost.estimate(work, shape, prices)
    assert estimate.usd == estimate.lambda_usd + estimate.step_functions_usd + estimate.s3_usd
    more = cost.estimate(work, replace(shape, rows=rows + 10_000_000), prices)
    assert more.worker_seconds > estimate.worker_seconds


# --- what the benches make of what they measured ----------------------------------------------------------------------


def test_the_cost_of_a_chunk_is_the_slope_over_the_chunks() -> None:
    figures = {f.name: f.value for f in chunks._figures({1: [0.5, 0.4, 9.0], 101: [1.5, 1.4, 1.6]})}
    assert figures["overhead_ms_per_chunk"] == pytest.approx(10)
    assert figures["seconds_in_101_chunks"] == 1.5


def test_a_table_that_was_never_cut_gives_no_figure() -> None:
    with pytest.raises(DataError, match="give it more rows"):
        list(chunks._figures({1: [0.5, 0.4]}))


def test_memory_is_the_highest_of_one_thread_with_ordinary_batches() -> None:
    peaks = memory.Peaks(by_table=(100, 110, 105), large_chunk=121, threads=300, large_batches=700)
    figures = {f.name: f for f in memory._figures(peaks)}
    assert figures["peak_rss_mb"].value == 121
    assert figures["growth_over_table"].value == 1.1
    assert figures["growth_over_chunk"].value == 1.1
    assert figures["peak_rss_mb_4_threads"].value == 300
    assert figures["peak_rss_mb_160_mb_batches"].value == 700
    assert all(figure.kept for figure in figures.values())


def spent(seconds: float, cpu_seconds: float = 1.0, loading_seconds: float = 0.0) -> end_to_end.Spent:
    return end_to_end.Spent(seconds, cpu_seconds, loading_seconds)


def test_tools_are_held_against_the_whole_command_and_psql_against_its_loading() -> None:
    measured = {"ours": [spent(4, 3, 2)], "psql_binary": [spent(2)], "sling": [spent(24)]}
    figures = {f.name: f.value for f in end_to_end._figures(measured, spent(1), 1_000_000)}
    assert figures["vs_psql_binary"] == 1.0
    assert figures["vs_psql_binary_whole_command"] == 0.5
    assert figures["vs_sling"] == 6.0
    assert "vs_dlt" not in figures  # it could not be run, so nothing is said of it
    assert figures["worker_cpu_seconds_per_million_rows"] == 2.0


def test_a_ratio_is_the_median_of_the_rounds_and_not_a_quotient_of_medians() -> None:
    measured = {"ours": [spent(1), spent(10), spent(2)], "dlt": [spent(4), spent(30), spent(4)]}
    assert end_to_end._ratio(measured["dlt"], [each.seconds for each in measured["ours"]]) == 3.0


def test_the_reason_of_a_tool_is_its_last_line_without_colours() -> None:
    assert rivals._reason("it began\n\x1b[31mit failed: no such table\x1b[0m\n\n") == "it failed: no such table"
    assert rivals._reason("\n") == "it said nothing"
