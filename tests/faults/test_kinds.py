"""Cases are drawn from a seed and a number, and from nothing else."""

from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.local.faults.effects import Effects
from snowmelt.local.faults.kinds import KINDS, case
from snowmelt.local.faults.modes import MODES


@given(st.integers(), st.integers(0, 10_000))
def test_a_case_is_the_same_whenever_it_is_asked_for(seed: int, number: int) -> None:
    assert case(seed, number) == case(seed, number)


@settings(max_examples=5)
@given(st.integers())
def test_every_kind_meets_every_mode_before_a_pair_comes_again(seed: int) -> None:
    count = len(KINDS) * len(MODES)
    drawn = [case(seed, number) for number in range(count)]
    assert len({(each.mode.name, each.strikes[0].kind.name) for each in drawn}) == count


def test_every_effect_that_a_kind_names_is_there() -> None:
    for kind in KINDS:
        assert not kind.effect or callable(getattr(Effects, kind.effect, None)), kind.name
        assert bool(kind.codes) == (kind.ways == ("refuse",)), kind.name
