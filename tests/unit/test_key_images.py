"""The image of a key's value, as the target will compare it."""

import pytest

from snowmelt.columns.type_pairs import Match, match
from snowmelt.models import Policies, SourceColumn, TargetColumn
from snowmelt.planning.key_images import key_image, only_postgres_compares
from snowmelt.preflight.duplicates import counts, unique_keys


def image(source: SourceColumn, target: TargetColumn, **policies: str) -> str:
    way = match(source, target)
    assert isinstance(way, Match)
    return key_image(way.plan.model_copy(update={"policies": Policies.model_validate(policies)}))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("TIMESTAMP_NTZ", "timestamp", '"K"::TIMESTAMP_NTZ(6)'),
        ("TIMESTAMP_TZ", "timestamptz", """CONVERT_TIMEZONE('UTC', "K")::TIMESTAMP_NTZ::TIMESTAMP_NTZ(6)"""),
        ("TIME", "time", '"K"::TIME(6)'),
    ],
)
def test_moments_are_alike_to_the_microsecond(source: str, target: str, expected: str) -> None:
    found = image(
        SourceColumn(name="K", type=source, scale=9), TargetColumn(name="k", type=target), sub_microsecond="truncate"
    )

    assert expected in found


def test_a_value_that_a_policy_turns_into_null_repeats_no_key() -> None:
    number = SourceColumn(name="K", type="FIXED", precision=38, scale=0)

    assert image(number, TargetColumn(name="k", type="int4"), out_of_range="null") == (
        'IFF(("K" <= -2147483649 OR "K" >= 2147483648), NULL, "K")'
    )


@pytest.mark.parametrize(
    ("kind", "folds"), [("citext.citext", False), ("inet", False), ("jsonb", False), ("text", True)]
)
def test_what_only_postgres_can_compare_is_known(kind: str, folds: bool) -> None:
    way = match(SourceColumn(name="K", type="TEXT"), TargetColumn(name="k", type=kind, declared=kind, folds=folds))

    assert isinstance(way, Match)
    assert only_postgres_compares(way.plan)


def test_two_nulls_are_one_key_where_the_target_says_so() -> None:
    number = SourceColumn(name="K", type="FIXED", precision=9, scale=0)
    way = match(number, TargetColumn(name="k", type="int4"))
    assert isinstance(way, Match)

    (apart,) = unique_keys([way.plan], (), [{"k"}])
    (equal,) = unique_keys([way.plan], (), [{"k"}], [{"k"}])

    assert counts(apart) == ('COUNT_IF("K" IS NOT NULL)', 'COUNT(DISTINCT "K")')
    assert counts(equal) == (
        "COUNT_IF(TRUE)",
        'COUNT(DISTINCT IFF(TRUE, IFF("K" IS NULL, 1, 0), NULL), COALESCE("K", 0))',
    )
