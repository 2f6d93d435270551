"""Cases are drawn from a seed and a number, and from nothing else."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fault_injection.effects import Effects
from fault_injection.kinds import KINDS, case
from fault_injection.modes import MODES


@given(st.integers(), st.integers(0, 10_000))
def test_a_case_is_the_same_whenever_it_is_asked_for(seed: int, number: int) -> None:
    assert case(seed, number) == case(seed, number)


@settings(max_examples=5)
@given(st.integers())
def test_every_kind_meets_every_mode_before_a_pair_comes_again(seed: int) -> None:
    pairs = {(mode.name, kind.name) for mode in MODES for kind in KINDS if kind.strikes_at(mode)}
    drawn = [case(seed, number) for number in range(len(pairs))]
    assert {(each.mode.name, each.strikes[0].kind.name) for each in drawn} == pairs
    assert all(strike.kind.strikes_at(each.mode) for each in drawn for strike in each.strikes)


def test_every_effect_that_a_kind_names_is_there() -> None:
    for kind in KINDS:
        assert not kind.effect or callable(getattr(Effects, kind.effect, None)), kind.name
        assert bool(kind.codes) == (kind.ways == ("refuse",)), kind.name


def test_kinds_and_modes_name_each_other_rightly() -> None:
    names = [kind.name for kind in KINDS]
    assert len(set(names)) == len(names)
    for kind in KINDS:
        assert set(kind.modes) <= {mode.name for mode in MODES}, kind.name
        assert not kind.refused_for or kind.excuses == "a start", kind.name


def test_five_hundred_cases_have_every_kind_and_every_mode() -> None:
    drawn = [case(1, number) for number in range(500)]
    assert {each.strikes[0].kind.name for each in drawn} == {kind.name for kind in KINDS}
    assert {each.mode.name for each in drawn} == {mode.name for mode in MODES}
