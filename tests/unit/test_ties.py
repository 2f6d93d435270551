"""What foreign keys ask of the tables of a run, for any keys among any tables."""

from graphlib import CycleError, TopologicalSorter

from hypothesis import given
from hypothesis import strategies as st

from snowmelt.findings import Place
from snowmelt.models import TableName
from snowmelt.planning import ties
from snowmelt.planning.ties import ForeignKey, Ties

numbers = st.integers(0, 6)
pairs = st.lists(st.tuples(numbers, numbers), max_size=12, unique=True)
some = st.frozensets(numbers)


def name(number: int) -> TableName:
    return TableName(schema_name="public", name=f"t{number}")


def planned(
    tables: frozenset[int], truncated: frozenset[int], edges: list[tuple[int, int]], drops: frozenset[int] = frozenset()
) -> Ties:
    """``edges`` are pairs of a child and its parent."""
    keys = [ForeignKey(f"k{child}_{parent}", name(child), name(parent)) for child, parent in edges]
    places = {number: Place(f"T{number}", name(number)) for number in sorted(tables)}
    return ties.plan(places, sorted(truncated & tables), keys, sorted(drops & tables))


@given(some, some, pairs, some)
def test_every_table_comes_after_those_it_refers_to_unless_its_keys_are_dropped(
    tables: frozenset[int], truncated: frozenset[int], edges: list[tuple[int, int]], drops: frozenset[int]
) -> None:
    plan = planned(tables, truncated, edges, drops)
    inside = [(child, parent) for child, parent in edges if {child, parent} <= tables]
    for number, tied in plan.tables.items():
        parents = {parent for child, parent in inside if child == number}
        assert set(tied.loads_after) == (set() if number in drops else parents - {number})
        assert tied.refers_to_itself == (number in parents and number not in drops)
        dropped = {f"k{number}_{parent}" for parent in parents}
        assert set(tied.dropped_keys) == (dropped if number in drops else set())


@given(some, some, pairs, some)
def test_keys_that_go_round_in_a_circle_are_a_problem_and_nothing_else_of_the_order_is(
    tables: frozenset[int], truncated: frozenset[int], edges: list[tuple[int, int]], drops: frozenset[int]
) -> None:
    plan = planned(tables, truncated, edges, drops)
    waits = {number: tied.loads_after for number, tied in plan.tables.items()}
    try:
        TopologicalSorter(waits).prepare()
    except CycleError:
        assert any(problem.check == "foreign_key_circle" for problem in plan.problems)
    else:
        assert not any(problem.check == "foreign_key_circle" for problem in plan.problems)


@given(some, pairs)
def test_no_circle_is_left_when_every_table_drops_its_keys(
    tables: frozenset[int], edges: list[tuple[int, int]]
) -> None:
    assert planned(tables, frozenset(), edges, tables).problems == ()


@given(some, some, pairs, some)
def test_tables_that_begin_together_all_say_so_and_hold_all_that_must(
    tables: frozenset[int], truncated: frozenset[int], edges: list[tuple[int, int]], drops: frozenset[int]
) -> None:
    plan = planned(tables, truncated, edges, drops)
    for number, tied in plan.tables.items():
        assert number in tied.starts_with
        assert all(plan.tables[other].starts_with == tied.starts_with for other in tied.starts_with)
    for child, parent in edges:
        if {child, parent} <= tables and ({child, parent} <= truncated or child in drops):
            assert plan.tables[child].starts_with == plan.tables[parent].starts_with


@given(some, some, pairs)
def test_a_truncated_table_to_which_rows_that_stay_refer_is_a_problem(
    tables: frozenset[int], truncated: frozenset[int], edges: list[tuple[int, int]]
) -> None:
    plan = planned(tables, truncated, edges)
    emptied = truncated & tables
    blocking = [(child, parent) for child, parent in edges if parent in emptied and child not in emptied]
    assert len([problem for problem in plan.problems if "cannot be truncated" in problem.message]) == len(blocking)


def test_tables_that_keep_their_rows_begin_each_on_its_own() -> None:
    plan = planned(frozenset({1, 2}), frozenset({2}), [(2, 1)], frozenset())
    assert (plan.tables[1].starts_with, plan.tables[2].starts_with) == ((1,), (2,))
