"""DDL for targets: names that fit, keys that are meant, comments that stay comments."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from snowmelt.config import TableConfig
from snowmelt.findings import Place
from snowmelt.models import SourceColumn, TableName, TargetColumn
from snowmelt.preflight.schema_compare import compare
from snowmelt.preflight.schema_ddl import Wanted, ddl, target_names, unknown_keys

PLACE = Place("ORDERS", TableName(schema_name="public", name="orders"), "sources[0].tables[0]")


def columns(*names: str, **options: Any) -> tuple[SourceColumn, ...]:
    return tuple(SourceColumn(name=name, **{"type": "TEXT", "nullable": True, **options}) for name in names)


def wanted(*of: SourceColumn, **more: Any) -> Wanted:
    settings = more.pop("settings", {})
    return Wanted(place=PLACE, config=TableConfig(source="ORDERS", **settings), columns=of, **more)


def test_names_in_upper_case_become_lower_and_all_others_stay() -> None:
    names = target_names(columns("ID", "Mixed", "lower", "TWO WORDS"))

    assert list(names.values()) == ["id", "Mixed", "lower", "two words"]


def test_names_that_differ_in_case_only_stay_apart() -> None:
    assert list(target_names(columns("ID", "id", "Id")).values()) == ["ID", "id", "Id"]


@given(st.lists(st.text(alphabet="aAbBßİ_é", min_size=1, max_size=80), min_size=1, unique=True))
def test_names_fit_are_unlike_each_other_and_find_their_column_unless_they_had_to_change(
    given_names: list[str],
) -> None:
    of = columns(*given_names)
    names = target_names(of)
    made = [TargetColumn(name=names[column.name], type="text") for column in of]

    assert len(set(names.values())) == len(given_names)
    assert all(0 < len(name.encode()) <= 63 for name in names.values())
    travelling = {c.source.name: c.target.name for c in compare(PLACE, of, made).columns}
    kept = {name: name_there for name, name_there in names.items() if name_there in (name, name.lower())}
    assert {name: travelling.get(name) for name in kept} == kept


def test_the_configured_key_comes_before_snowflakes_own() -> None:
    of = columns("ID", "CODE")

    own = ddl(wanted(*of, primary_key=("ID",))).text
    configured = ddl(wanted(*of, primary_key=("ID",), settings={"uniqueness_columns": ["code"]})).text

    assert 'PRIMARY KEY ("id")' in own
    assert 'PRIMARY KEY ("code")' in configured
    assert '"code" text NOT NULL' in configured


def test_a_key_of_columns_that_the_source_has_not_is_a_problem_at_its_place() -> None:
    of = columns("ID", "CODE")
    named = {"uniqueness_columns": ["id", '"ID"']}

    assert unknown_keys(wanted(*of, settings=named)) == (
        'sources[0].tables[0].uniqueness_columns: ORDERS has no column "ID"; write one of ID, CODE',
    )
    assert unknown_keys(wanted(*of, settings=named, target=())) == ()


def test_columns_without_a_type_are_left_out_and_named() -> None:
    written = ddl(wanted(*columns("A"), *columns("B", type="UNKNOWN")))

    assert '"B" is left out' in written.text
    assert '"b"' not in "".join(written.statements)


def test_a_table_without_a_column_is_no_statement() -> None:
    assert ddl(wanted(*columns("B", type="UNKNOWN"))).statements == ()


def test_a_name_that_was_cut_says_so() -> None:
    assert "column_map" in ddl(wanted(*columns("A" * 70))).text


def test_a_table_that_is_there_is_only_told_what_it_lacks() -> None:
    written = ddl(wanted(*columns("ID", "NOTE"), target=(TargetColumn(name="id", type="text"),)))

    assert written.statements == ()
    assert '-- ALTER TABLE "public"."orders" ADD COLUMN "note" text;' in written.text


@given(st.text(min_size=1, max_size=20))
def test_whatever_names_hold_what_is_not_executed_stays_a_comment(name: str) -> None:
    of = columns(name, "ID")
    place = Place(f"{name}\nDROP TABLE kept;", PLACE.target)
    there = Wanted(place=place, config=TableConfig(source="ORDERS"), columns=of, target=())

    lines = ddl(there).text.replace("\r", "\n").split("\n")

    assert [line for line in lines if line and not line.startswith("--")] == []


def test_columns_have_the_names_that_the_config_gives_them() -> None:
    made = ddl(
        wanted(
            *columns("ID", "Updated", "LONG"),
            settings={
                "column_map": {"LONG": "short"},
                "source_watermark": "updated",
                "target_watermark": "loaded_at",
                "uniqueness_columns": ["ID", "short"],
            },
        )
    ).text

    assert '"loaded_at"' in made
    assert 'PRIMARY KEY ("id", "short")' in made
    assert "will not travel" not in made
