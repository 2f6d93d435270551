"""How a bench reports what it found."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from snowmelt.local.bench import __main__ as bench
from snowmelt.local.bench.figures import Figure


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
