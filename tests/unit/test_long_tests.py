"""Each long test is run by a fifth of the commits, and none of them is begun that could not end in time."""

import time
from collections import Counter
from pathlib import Path

import pytest

from support import long_tests

TESTS = """
import pytest

@pytest.mark.full
@pytest.mark.parametrize("number", range(100))
def test_long(number): pass

@pytest.mark.full(minutes=12)
def test_longest(): pass

def test_short(): pass
"""
COMMITS = [f"{number:040x}" for number in range(50)]


class Seen:
    """What pytest was about to run, in its order, and what became of it."""

    def __init__(self) -> None:
        self.collected: list[str] = []
        self.skipped: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.collected = [item.name for item in session.items]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self.skipped.append(report.nodeid.split("::")[1])


def run(folder: Path, *options: str) -> Seen:
    """The tests of the folder, chosen by the project's own conftest."""
    file = folder / f"test_of_{folder.name}.py"  # the name of a module in this process, too
    file.write_text(TESTS, encoding="utf-8")
    seen = Seen()
    conftest = Path(__file__).parents[1] / "conftest.py"
    arguments = [
        str(file),
        "-q",
        "-p",
        "no:cacheprovider",
        "--confcutdir",
        str(folder),
        "-c",
        str(conftest.parents[1] / "pyproject.toml"),
    ]
    pytest.main([*arguments, "--rootdir", str(folder), "-p", "conftest", *options], plugins=[seen])
    return seen


def test_every_long_test_is_in_one_part_and_the_parts_are_about_even() -> None:
    sizes = Counter(long_tests.part_of(f"tests/test_x.py::test_{number}") for number in range(1_000))
    assert sorted(sizes) == list(range(long_tests.PARTS))
    assert min(sizes.values()) > 120


def test_commits_take_every_part_in_turn_by_their_hash() -> None:
    assert {long_tests.part_of_commit(commit) for commit in COMMITS} == set(range(long_tests.PARTS))


def test_the_fifths_of_five_commits_are_all_long_tests_and_no_short_one(tmp_path: Path) -> None:
    of_part = {long_tests.part_of_commit(commit): commit for commit in COMMITS}
    runs = [run(tmp_path, "--collect-only", "--fifth", of_part[part]).collected for part in range(long_tests.PARTS)]
    names = [name for names in runs for name in names]
    assert len(names) == len(set(names)) == 101
    assert "test_short" not in names
    assert [names[0] for names in runs if "test_longest" in names] == ["test_longest"]


def test_a_test_that_could_not_end_in_time_is_skipped_and_not_failed(tmp_path: Path) -> None:
    ten_minutes = str(time.time() + 600)
    seen = run(tmp_path, "--full", "-k", "longest or short or 7]", "--until", ten_minutes)
    assert seen.skipped == ["test_longest"]
