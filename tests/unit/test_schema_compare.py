"""How columns of a source and a target find each other, and what is said about those that do not."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from snowmelt.config import ValuePolicies
from snowmelt.findings import Place
from snowmelt.models import SourceColumn, TableName, TargetColumn
from snowmelt.preflight.schema_compare import Choices, Comparison, compare

PLACE = Place("FLIGHTS", TableName(schema_name="public", name="flights"))


def source(*names: str, **options: Any) -> list[SourceColumn]:
    return [SourceColumn(name=name, **{"type": "TEXT", "nullable": False, **options}) for name in names]


def target(*names: str, **options: Any) -> list[TargetColumn]:
    return [TargetColumn(name=name, **{"type": "text", **options}) for name in names]


def compared(of: Sequence[SourceColumn], to: Sequence[TargetColumn], **choices: Any) -> Comparison:
    return compare(PLACE, of, to, Choices(**choices))


def pairs(comparison: Comparison) -> list[tuple[str, str]]:
    return [(column.source.name, column.target.name) for column in comparison.columns]


def test_columns_travel_in_the_targets_order() -> None:
    comparison = compared(source("A", "B", "C"), target("C", "A", "B"))

    assert pairs(comparison) == [("C", "C"), ("A", "A"), ("B", "B")]
    assert comparison.warnings == ()
    assert comparison.problems == ()


def test_names_hold_blanks_and_quotes() -> None:
    assert pairs(compared(source("Payer Id", 'the "x"'), target("Payer Id", 'the "x"'))) == [
        ("Payer Id", "Payer Id"),
        ('the "x"', 'the "x"'),
    ]


def test_names_that_differ_in_case_only_go_together() -> None:
    comparison = compared(source("PAYER ID", "YEAR"), target("year", "Payer Id"))

    assert pairs(comparison) == [("YEAR", "year"), ("PAYER ID", "Payer Id")]
    assert comparison.problems == ()


def test_the_exact_name_wins_over_one_that_differs_in_case() -> None:
    comparison = compared(source("ID", "id"), target("id"))

    assert pairs(comparison) == [("id", "id")]
    assert comparison.problems == ()
    assert [warning for warning in comparison.warnings if 'source column "ID" is left out' in warning]


def test_what_the_exact_names_leave_goes_together_by_case() -> None:
    assert pairs(compared(source("ID", "Id"), target("id", "Id"))) == [("ID", "id"), ("Id", "Id")]


def test_two_source_columns_for_one_target_are_a_problem_that_names_both() -> None:
    comparison = compared(source("ID", "Id", "X"), target("id", "x"))

    assert pairs(comparison) == [("X", "x")]
    (problem,) = comparison.problems
    assert problem.startswith('table FLIGHTS: source "ID", "Id" and target "id" differ in case only')
    assert "rename" in problem


def test_two_target_columns_for_one_source_are_a_problem_that_names_both() -> None:
    comparison = compared(source("ID", "X"), target("Id", "id", "x", nullable=False))

    (ambiguous,) = [problem for problem in comparison.problems if "differ in case" in problem]
    assert 'source "ID" and target "Id", "id"' in ambiguous


def test_source_columns_the_target_lacks_are_left_out_with_a_warning() -> None:
    comparison = compared(source("A", "EXTRA"), target("a"))

    assert pairs(comparison) == [("A", "a")]
    (warning,) = comparison.warnings
    assert warning.startswith('table FLIGHTS: source column "EXTRA" is left out')
    assert "VARCHAR" in warning


def test_a_target_column_that_must_be_given_a_value_and_has_no_source_is_a_problem() -> None:
    (problem,) = compared(source("A"), target("a") + target("b", nullable=False)).problems

    assert problem.startswith('table FLIGHTS: target column "b" is NOT NULL without a default and has no source column')


def test_target_columns_that_get_their_value_elsewhere_need_no_source() -> None:
    elsewhere: list[dict[str, Any]] = [
        {"nullable": True},
        {"has_default": True},
        {"generated": True},
        {"identity": "always"},
        {"identity": "by default"},
    ]

    for options in elsewhere:
        assert compared(source("A"), target("a") + target("b", **{"nullable": False, **options})).problems == ()


def test_generated_columns_and_fixed_identities_are_never_loaded() -> None:
    comparison = compared(
        source("A", "SUM", "ID"),
        target("a") + target("sum", generated=True) + target("id", identity="always", nullable=False),
    )

    assert pairs(comparison) == [("A", "a")]
    assert comparison.problems == ()
    assert ["is generated;" in warning for warning in comparison.warnings] == [True, False]
    assert ["always generated;" in warning for warning in comparison.warnings] == [False, True]


def test_an_identity_that_only_fills_in_is_loaded() -> None:
    assert pairs(compared(source("ID"), target("id", identity="by default", nullable=False))) == [("ID", "id")]


def test_nulls_that_may_meet_not_null_are_a_warning() -> None:
    (warning,) = compared(source("A", nullable=True), target("a", nullable=False)).warnings

    assert 'source column "A" may hold NULL, target column "a" is NOT NULL' in warning


def test_tables_without_a_common_column_are_a_problem() -> None:
    assert "no column in common" in compared(source("A"), target("b")).problems[0]
    assert "no column in common" in compared(source("A"), target("a", generated=True)).problems[0]
    assert "no column in common" in compared((), ()).problems[0]


def test_a_pair_of_types_that_is_refused_is_a_problem_that_names_the_column() -> None:
    comparison = compared(source("A", "N"), target("a") + target("n", type="int4"))

    assert pairs(comparison) == [("A", "a")]
    (problem,) = comparison.problems
    assert problem.startswith('table FLIGHTS: column "n": VARCHAR does not go into int4; make the target column text')


def test_a_pair_of_types_that_loses_something_is_a_warning_that_says_what() -> None:
    (warning,) = compared(source("T", type="TIMESTAMP_NTZ", scale=9), target("t", type="timestamp")).warnings

    assert warning.startswith('table FLIGHTS: column "t", TIMESTAMP_NTZ(9) into timestamp: digits of a second below')


names = st.lists(st.sampled_from(["a", "A", "b", "B", "ab", "Ab", "aB", "AB", "ß", "SS"]), unique=True)


@given(names, names)
def test_every_source_column_travels_or_is_named(of: list[str], to: list[str]) -> None:
    comparison = compared(source(*of), target(*to, nullable=False))
    said = " ".join((*comparison.warnings, *comparison.problems))
    travelling = pairs(comparison)

    for name in of:
        assert [name for pair in travelling if pair[0] == name] == [name] or f'"{name}"' in said
    for name in to:
        assert [name for pair in travelling if pair[1] == name] == [name] or f'"{name}"' in said
    assert [pair for pair in travelling if pair[0].casefold() != pair[1].casefold()] == []
    assert {name for name in of if name in to} <= {of for of, to in travelling if of == to}


def test_columns_of_other_names_go_where_column_map_says() -> None:
    comparison = compared(source("A", "B", "C"), target("b", "a", "x"), column_map={"a": "B", "B": "A", "C": "X"})

    assert pairs(comparison) == [("A", "b"), ("B", "a"), ("C", "x")]
    assert comparison.problems == ()
    assert comparison.warnings == ()


def test_a_name_in_column_map_that_is_none_is_named_with_its_side() -> None:
    (of_source,) = compared(source("A"), target("a"), column_map={"Z": "a"}).problems
    (of_target,) = compared(source("A"), target("a"), column_map={"A": "z"}).problems

    assert "column_map names Z, which is no column of the source" in of_source
    assert "column_map names z, which is no column of the target" in of_target


def test_watermarks_of_different_names_go_together_unless_the_target_has_the_sources_name() -> None:
    watermarks = ("Updated", "Loaded")

    assert pairs(compared(source("ID", "Updated"), target("id", "Loaded"), watermarks=watermarks)) == [
        ("ID", "id"),
        ("Updated", "Loaded"),
    ]
    both = compared(source("Updated", "Loaded"), target("Loaded"), watermarks=watermarks)
    assert pairs(both) == [("Updated", "Loaded")]
    assert ['source column "Loaded" is left out' in warning for warning in both.warnings] == [True]
    assert pairs(compared(source("Updated", "Loaded"), target("updated", "Loaded"), watermarks=watermarks)) == [
        ("Updated", "updated"),
        ("Loaded", "Loaded"),
    ]


def test_policies_of_a_column_are_found_by_its_name_on_either_side_and_before_those_of_the_table() -> None:
    amounts = source("A", "B", "C", type="FIXED", precision=20, scale=4)
    wholes = [*target("b", "c", type="int8"), *target("A", type="numeric", typmod=(20 << 16 | 1) + 4)]
    named = {"c": ValuePolicies(narrow="truncate"), "a": ValuePolicies(too_long="truncate", narrow="reject")}

    comparison = compared(
        amounts,
        wholes,
        policies=ValuePolicies(narrow="round", out_of_range="null"),
        column_policies={**named, "nothing": ValuePolicies()},
    )

    assert {c.target.name: (c.policies.narrow, c.policies.out_of_range) for c in comparison.columns} == {
        "b": ("round", "null"),
        "c": ("truncate", "null"),
    }
    assert 'column "A"' in comparison.problems[0]
    assert "column_policies names nothing, which is not among the columns" in comparison.problems[1]
