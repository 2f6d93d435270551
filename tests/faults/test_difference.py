"""What is missing, what is there too often, and what is not as it was."""

import random
from datetime import datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from fault_injection.difference import Difference, Row, difference
from fault_injection.modes import MODES, row

ROWS = st.lists(st.integers(0, 40), unique=True, max_size=30).map(lambda keys: [row(i) for i in keys])


@given(ROWS, st.integers())
def test_the_same_rows_in_any_order_do_not_differ(rows: list[Row], seed: int) -> None:
    there = list(rows)
    random.Random(seed).shuffle(there)
    assert not difference(rows, there)


@given(ROWS, st.data())
def test_each_row_that_was_lost_doubled_or_changed_is_counted_as_that(rows: list[Row], data: st.DataObject) -> None:
    fates = data.draw(
        st.lists(st.sampled_from(["kept", "lost", "doubled", "changed"]), min_size=len(rows), max_size=len(rows))
    )
    there: list[Row] = []
    for each, fate in zip(rows, fates, strict=True):
        altered = (*each[:2], "altered", each[3])
        there += {"kept": [each], "lost": [], "doubled": [each, each], "changed": [altered]}[fate]
    counted = Difference(*(fates.count(fate) for fate in ("lost", "doubled", "changed")))
    assert difference(rows, there) == counted


def test_rows_that_nobody_expected_are_not_passed_over() -> None:
    assert difference([row(1)], [row(1), row(2)]) == Difference(doubled=1)


def test_a_row_that_is_there_twice_once_with_other_values_is_doubled() -> None:
    assert difference([row(1)], [row(1), (1, Decimal(0), None, None)]) == Difference(doubled=1)


def test_what_each_mode_must_hold_in_the_end_follows_from_both_sides() -> None:
    expected = {mode.name: {r[0]: r for r in mode.expected()} for mode in MODES}
    assert all(len(mode.expected()) == len(expected[mode.name]) for mode in MODES)
    old = (450, Decimal(450), "of old", datetime(2024, 2, 29, 23, 59, 59, 999_999))  # noqa: DTZ001
    assert expected["refilled"].keys() == expected["copied"].keys()
    assert expected["merged"][450] == row(450)
    assert expected["added"][450] == old
    assert expected["merged"][-5][2] == expected["added"][-5][2] == "of old"
    assert expected["followed"][999] == row(999)
    assert expected["followed"][1_000][2] == "fixed 1000"
    assert max(expected["followed"]) == 2_999


def test_what_the_target_refuses_or_another_row_outdoes_is_not_expected() -> None:
    expected = {mode.name: {r[0]: r for r in mode.expected()} for mode in MODES}
    assert expected["partly_refused"][11] == row(11)
    assert expected["partly_refused"][593][2] == "of old"
    assert 981 not in expected["partly_refused"]
    assert expected["text_marked"][1_200][2:] == ("newer 1200", "a001200")
    assert expected["text_marked"][999][2:] == ("first 999", "B000999")
