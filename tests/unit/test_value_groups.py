"""Ranges of texts and UUIDs."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from support.key_planning import assert_cut_well, planned, spec_of

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
keys = st.one_of(
    st.lists(st.one_of(st.none(), texts), max_size=80),
    st.lists(st.one_of(st.none(), st.uuids().map(str)), max_size=80),
    st.lists(st.integers(0, 300).map(lambda number: f"ORDER-{number:08d}"), max_size=150),
    st.lists(st.sampled_from(["", "a", "A", "'", "\\", None]), max_size=80),
)


@given(keys, st.integers(1, 20), st.integers(0, 4), st.integers(1, 14))
def test_ranges_hold_every_text_once_however_many_characters_name_a_group(
    values: list[str | None], batch_size: int, characters: int, more: int
) -> None:
    rows = [(value,) for value in values]
    spec = spec_of("text", batch_size=batch_size)
    result = planned(spec, rows, lambda key: key[:characters], lambda key: key[: characters + more])
    assert_cut_well(spec, rows, result)


def test_uuids_are_cut_into_even_ranges_by_one_query() -> None:
    rows = [(str(UUID(int=(i * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128)),) for i in range(4_000)]
    spec = spec_of("text", batch_size=500)
    result = planned(spec, rows, lambda key: key[:3])
    assert result.answered == 16
    assert len(result.ranges) == 8
    assert all(480 <= each.rows <= 520 for each in result.ranges)
