"""Every mutant of tests/mutants/ can be applied to the code as it is; scripts/mutants shows that tests notice them."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import mutation
from mutation import ROOT, Mutant

MUTANTS = mutation.read()
FEWEST = 120


def test_there_are_as_many_mutants_as_promised() -> None:
    assert len(MUTANTS) >= FEWEST
    assert [name for name, times in Counter(m.name for m in MUTANTS).items() if times > 1] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_changes_one_place_of_the_code_as_it_is(mutant: Mutant) -> None:
    assert mutant.problem is None
    assert mutant.before != mutant.after
    changed = mutant.changed((ROOT / mutant.file).read_text(encoding="utf-8"))
    if mutant.file.endswith(".py"):
        ast.parse(changed)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_says_what_is_wrong_and_names_tests_that_exist(mutant: Mutant) -> None:
    assert len(mutant.reason) > 15
    assert mutant.equivalent or mutant.tests
    for test in mutant.tests:
        path, *names = test.split("::")
        assert (ROOT / path).is_file(), test
        for name in names:
            assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_a_mutant_whose_place_is_gone_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "some.toml").write_text(
        'tests = ["tests/unit/test_mutants.py"]\nfile = "src/snowmelt/deadline.py"\n'
        '[[mutant]]\nname = "gone"\nbefore = "is nowhere in it"\nafter = ""\nreason = "it shows an error"\n',
        encoding="utf-8",
    )
    (gone,) = mutation.read(tmp_path)
    assert gone.problem == "what it changes is in src/snowmelt/deadline.py 0 times, not once"
