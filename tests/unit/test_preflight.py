"""From facts to findings, without a server."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from snowmelt.columns.type_pairs import Match, match
from snowmelt.config import TableConfig, ValuePolicies
from snowmelt.disclosure import fingerprint
from snowmelt.findings import CHECKS, Finding, Place, checks_table
from snowmelt.models import ColumnPlan, KeyColumn, KeySpec, Policies, SourceColumn, TableName, TablePlan, TargetColumn
from snowmelt.planning.load_mode import Loading
from snowmelt.planning.source_facts import SourceFacts
from snowmelt.planning.ties import ForeignKey
from snowmelt.preflight import collations, orphans, room, rows, servers
from snowmelt.preflight.room import Expected
from snowmelt.preflight.rows import Looked
from snowmelt.preflight.servers import Moment, ServerFacts, Slot

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PLACE = Place("ORDERS", TableName(schema_name="public", name="orders"), "sources[0].tables[2]")
HEALTHY = ServerFacts(
    role="loader",
    database="db",
    encoding="UTF8",
    now=NOW,
    max_connections=100,
    reserved_connections=3,
    connections=10,
    role_limit=-1,
    role_connections=1,
    database_limit=-1,
    database_connections=1,
    statement_timeout=0,
    transaction_timeout=0,
    idle_in_transaction_session_timeout=0,
    idle_session_timeout=0,
    may_make_temporary=True,
    max_wal_size_bytes=1 << 30,
    archive_fails=False,
    unread_slots=(),
    without_privilege=(),
)


def of_server(parallel_threads: int = 8, **changes: Any) -> list[Finding]:
    facts = HEALTHY.model_copy(update=changes)
    return list(servers.findings(facts, parallel_threads=parallel_threads, is_staged=True, disables_indexes=True))


def travelling(source: SourceColumn, target: TargetColumn, **policies: Any) -> ColumnPlan:
    matched = match(source, target)
    assert isinstance(matched, Match)
    return matched.plan.model_copy(update={"policies": Policies(**policies)})


def text(name: str, *, to: str = "text", nullable: bool = True, **options: Any) -> ColumnPlan:
    policies = options.pop("policies", {})
    target = TargetColumn(name=name.lower(), type=to, nullable=nullable, **options)
    return travelling(SourceColumn(name=name, type="TEXT", length=100), target, **policies)


def looked(
    *columns: ColumnPlan, place: Place = PLACE, keys: tuple[tuple[str, ...], ...] = (), **settings: Any
) -> Looked:
    config = TableConfig(source="ORDERS", **settings)
    given = (config.source_filter,) if config.source_filter else ()
    return Looked(place, config, '"DB"."S"."ORDERS"', given, columns, Loading("copy"), keys)


# --- findings ---------------------------------------------------------------------------------------------------------


def test_a_finding_belongs_to_a_check_that_is_known() -> None:
    with pytest.raises(ValidationError, match="there is no check"):
        PLACE.error("gravity", "it falls")


def test_the_page_has_every_check() -> None:
    page = (Path(__file__).parents[2] / "docs" / "preflight.md").read_text(encoding="utf-8")

    assert page.endswith(f"## The checks\n\n{checks_table()}")


def test_places_are_as_people_look_for_them() -> None:
    assert PLACE.error("triggers", "x").place == "table ORDERS -> public.orders"
    assert PLACE.error("nulls", "x", column='a "b"').place == 'table ORDERS -> public.orders, column "a "b""'
    assert PLACE.error("watermark", "x", setting=PLACE.key("source_watermark")).place == (
        "sources[0].tables[2].source_watermark"
    )
    assert str(PLACE.warning("triggers", "it has some", "drop them")) == "table ORDERS: it has some; drop them"


# --- servers ----------------------------------------------------------------------------------------------------------


def test_nothing_is_found_on_a_healthy_server() -> None:
    assert of_server() == []


@pytest.mark.parametrize(
    ("changes", "severity", "check", "fix"),
    [
        ({"max_connections": 13}, "warning", "connections", "max_connections = 24"),
        ({"max_connections": 6}, "error", "connections", "max_connections = 17"),
        ({"connections": 90}, "warning", "connections", "parallel_threads: 4"),
        ({"role_limit": 5}, "warning", "connections", 'ALTER ROLE "loader" CONNECTION LIMIT 11;'),
        ({"database_limit": 3}, "error", "connections", 'ALTER DATABASE "db" CONNECTION LIMIT 12;'),
        ({"may_make_temporary": False}, "error", "temporary", 'GRANT TEMPORARY ON DATABASE "db" TO "loader";'),
        ({"may_use_status": False}, "error", "status_privileges", "GRANT USAGE ON SCHEMA migration_status"),
        ({"without_privilege": (("watermarks", "INSERT"),)}, "error", "status_privileges", "ON ALL TABLES IN SCHEMA"),
        ({"statement_timeout": 60_000}, "note", "timeouts", "SET statement_timeout = 0;"),
        ({"transaction_timeout": 60_000}, "note", "timeouts", "SET transaction_timeout = 0;"),
        ({"idle_session_timeout": 60_000}, "note", "timeouts", "SET idle_session_timeout = 0;"),
        ({"encoding": "LATIN1"}, "warning", "encoding", "ENCODING 'UTF8'"),
        ({"unread_slots": (Slot(name="o'clock", kept_bytes=5),)}, "warning", "slots", "('o''clock')"),
        ({"archive_fails": True}, "warning", "archiving", ""),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_thing_that_is_wrong_with_a_server_is_found_alone(
    changes: dict[str, Any], severity: str, check: str, fix: str
) -> None:
    (found,) = of_server(**changes)

    assert (found.severity, found.check, found.place) == (severity, check, "PostgreSQL")
    assert any(fix in line for line in (*found.fix, ""))


def test_a_long_limit_on_statements_ends_nothing() -> None:
    assert of_server(statement_timeout=8 * 3_600_000) == []


def test_temporary_tables_are_no_matter_where_nothing_is_staged() -> None:
    facts = HEALTHY.model_copy(update={"may_make_temporary": False})

    assert list(servers.findings(facts, parallel_threads=1, is_staged=False, disables_indexes=False)) == []


@given(
    skew=st.timedeltas(min_value=timedelta(hours=-2), max_value=timedelta(hours=2)),
    there=st.floats(0, 30),
    back=st.floats(0, 30),
)
def test_clocks_are_found_to_differ_only_by_what_the_way_does_not_explain(
    skew: timedelta, there: float, back: float
) -> None:
    said = NOW + timedelta(seconds=there) + skew
    moment = Moment("Snowflake", NOW, said, NOW + timedelta(seconds=there + back))
    limit = servers.MOST_CLOCK_DIFFERENCE.total_seconds()

    found = list(servers.clocks([moment]))

    if abs(skew.total_seconds()) <= limit:
        assert found == []
    if abs(skew.total_seconds()) > limit + there + back:
        assert [f.check for f in found] == ["clock"]
        assert ("ahead of" in found[0].message) == (skew > timedelta())


# --- room and time ----------------------------------------------------------------------------------------------------


def plan(**changes: Any) -> TablePlan:
    made: dict[str, Any] = {
        "table_id": 0,
        "source": "ORDERS",
        "target": PLACE.target,
        "columns": (),
        "reads_from": '"DB"."S"."ORDERS"',
        "truncate_onstart": False,
        "append": False,
        "batch_size": 1000,
        "max_retry_attempts": 3,
    }
    return TablePlan(**{**made, **changes})


HUGE = Expected(rows=10**11, size_bytes=10**13)
KEYS = KeySpec(table='"DB"."S"."ORDERS"', columns=(KeyColumn(name="ID", kind="number"),), batch_size=1000)


def test_a_scan_whose_result_is_gone_before_its_load_ends_is_an_error_with_key_ranges_as_its_fix() -> None:
    (found,) = room.table_findings(PLACE, plan(key=("id",)), HUGE, None, threads=8)

    assert (found.severity, found.check) == ("error", "duration")
    assert "fails then" in found.message
    assert found.fix == ('sources[0].tables[2].chunking_columns: ["id"]',)
    (found,) = room.table_findings(PLACE, plan(truncate_onstart=True), HUGE, None, threads=8)
    assert "never end" in found.message


def test_a_table_that_is_forgotten_before_its_load_ends_is_an_error() -> None:
    ranged = plan(strategy="key_range", keys=KEYS)

    (found,) = room.table_findings(PLACE, ranged, HUGE, SourceFacts(None, None, 1), threads=8)

    assert (found.severity, found.check) == ("error", "time_travel")
    assert found.fix == ('ALTER TABLE "DB"."S"."ORDERS" SET DATA_RETENTION_TIME_IN_DAYS = 8;',)
    assert list(room.table_findings(PLACE, ranged, HUGE, SourceFacts(None, None, 90), threads=8)) == []
    assert list(room.table_findings(PLACE, ranged, HUGE, None, threads=8)) == []


def test_small_loads_say_nothing_of_room() -> None:
    assert list(room.server_findings([Expected(10, 10**6)], HEALTHY)) == []
    assert [f.check for f in room.server_findings([Expected(10, 10**12)], HEALTHY)] == ["room"] * 2


RDS = HEALTHY.model_copy(update={"is_rds": True})
AURORA = HEALTHY.model_copy(update={"is_rds": True, "is_aurora": True})


def test_on_rds_settings_are_those_of_the_parameter_group() -> None:
    told = [*of_server(max_connections=13, is_rds=True), *room.server_findings([Expected(10, 10**12)], RDS)]
    proposed = [line for finding in told for line in finding.fix]

    assert not [line for line in proposed if "ALTER SYSTEM" in line or "pg_reload_conf" in line]
    group = "aws rds modify-db-parameter-group --db-parameter-group-name GROUP --parameters"
    assert f"{group} ParameterName=max_connections,ParameterValue=24,ApplyMethod=pending-reboot" in proposed
    assert f"{group} ParameterName=max_wal_size,ParameterValue=51200,ApplyMethod=immediate" in proposed
    assert "FreeStorageSpace" in told[-2].advice


def test_on_rds_nobody_is_sent_to_what_aws_looks_after() -> None:
    (found,) = of_server(archive_fails=True, is_rds=True)

    assert "archive_command" not in found.advice
    assert "ask AWS" in found.advice


def test_on_aurora_there_are_no_checkpoints_and_the_storage_grows() -> None:
    (found,) = room.server_findings([Expected(10, 10**12)], AURORA)

    assert "the log" not in found.message
    assert "grows by itself" in found.advice


def test_on_aurora_temporary_tables_are_compared_with_the_instance_s_own_disk() -> None:
    merged = plan(key=("id",), load_mode="upsert", batch_size=500_000)
    expects = Expected(rows=10**8, size_bytes=10**8 * 200)
    staged = room.staging(merged, expects, threads=8)
    assert staged is not None

    (found,) = room.server_findings([], AURORA, [staged], threads=8)

    assert (found.severity, found.check) == ("note", "room")
    assert "up to 0.8 GB are in temporary tables at a time" in found.message
    assert "chunks of 500,000 rows of 200 bytes in 8 threads" in found.message
    assert "FreeLocalStorage" in found.advice
    assert list(room.server_findings([], RDS, [staged], threads=8)) == []
    small = room.Staging("SMALL", rows=1000, row_bytes=100, threads=8)
    (both,) = room.server_findings([], AURORA, [small, replace(staged, threads=2)], threads=8)
    assert "up to 0.2 GB" in both.message


def test_only_rows_that_go_through_a_temporary_table_count_and_no_more_threads_than_there_are_chunks() -> None:
    expects = Expected(rows=1500, size_bytes=150_000)

    assert room.staging(plan(), expects, threads=8) is None
    assert room.staging(plan(key=("id",), load_mode="upsert"), Expected(0, 0), threads=8) is None
    merged = room.staging(plan(key=("id",), load_mode="upsert", batch_size=1000), expects, threads=8)
    assert merged == room.Staging("ORDERS", rows=1000, row_bytes=100, threads=2)


def test_what_is_expected_grows_with_rows_and_with_what_snowflake_stores() -> None:
    columns = (text("A"),)
    alone = room.expected(1000, columns, None)

    assert alone.size_bytes == 1000 * (28 + 24)
    assert room.expected(1000, columns, SourceFacts(1000, 10**6, 1)).size_bytes == 3 * 10**6
    assert room.expected(500, columns, SourceFacts(1000, 10**6, 1)).size_bytes == 3 * 10**6 // 2


# --- rows -------------------------------------------------------------------------------------------------------------


def found_in(table: Looked, *numbers: int, **more: Any) -> list[Finding]:
    """What an answer with these numbers comes to."""
    counted = rows.answer(table, numbers)
    shown = more.get("examples", {})
    repeated = tuple(replace(each, shown=shown.get(each.key.names, ())) for each in counted.repeated)
    return list(rows.findings(table, replace(counted, repeated=repeated)))


def test_only_what_the_types_do_not_rule_out_is_asked() -> None:
    sound = travelling(SourceColumn(name="N", type="FIXED", precision=9, scale=0), TargetColumn(name="n", type="int4"))
    narrow = travelling(
        SourceColumn(name="N", type="FIXED", precision=10, scale=0), TargetColumn(name="n", type="int4")
    )

    assert '"N"' not in rows.question(looked(sound))
    assert '"N" <= -2147483649 OR "N" >= 2147483648' in rows.question(looked(narrow))


@pytest.mark.parametrize(("policy", "severity"), [("reject", "error"), ("truncate", "warning")])
def test_a_policy_decides_whether_what_does_not_fit_stands_in_the_way(policy: str, severity: str) -> None:
    column = text("A", to="varchar", typmod=7, policies={"too_long": policy})
    table = looked(column, value_policies=ValuePolicies.model_validate({"too_long": policy}))

    (found,) = found_in(table, 10, 0, 4, 0)

    assert (found.severity, found.check, found.column) == (severity, "too_long", "a")
    assert "4 rows have" in found.message


def test_rows_within_the_allowance_are_a_warning_and_all_of_them_count() -> None:
    columns = (text("A", nullable=False), text("B", nullable=False))

    within = found_in(looked(*columns, max_rejected_rows=5), 10, 2, 0, 3, 0, 0)
    beyond = found_in(looked(*columns, max_rejected_rows=4), 10, 2, 0, 3, 0, 0)

    assert [f.severity for f in within] == ["warning", "warning"]
    assert [f.severity for f in beyond] == ["error", "error"]


def test_the_filter_that_is_proposed_keeps_rows_of_which_nothing_is_known() -> None:
    (found,) = found_in(looked(text("A", to="varchar", typmod=7), source_filter="X = 1 OR Y"), 10, 0, 1, 0)

    assert found.fix[-1] == (
        'sources[0].tables[2].source_filter: "(X = 1 OR Y) AND NOT COALESCE(LENGTH(\\"A\\") > 3, FALSE)"'
    )


def test_a_narrower_column_is_a_note_where_someone_chose_the_wider_one() -> None:
    chosen, default = text("A", to="varchar", typmod=7), SourceColumn(name="A", type="TEXT", length=16_777_216)
    free = travelling(default, TargetColumn(name="a", type="varchar", typmod=7))

    assert [(f.severity, f.check) for f in found_in(looked(chosen), 10, 0, 0, 0)] == [("note", "too_long")]
    assert found_in(looked(free), 10, 0, 0, 0) == []


def test_duplicates_of_a_key_are_shown_and_a_watermark_settles_them() -> None:
    table = looked(text("A"), uniqueness_columns=["A"])
    answer = (10, 0, 0, 10, 8)

    (found,) = found_in(table, *answer, examples={("a",): [("x",)]})

    assert (found.check, found.severity) == ("key_duplicates", "error")
    assert f"A={fingerprint('x')}" in found.message
    settled = looked(text("A"), uniqueness_columns=["A"], source_watermark="A")
    (told,) = found_in(settled, *answer)
    assert (told.severity, "2 rows have the same key (A) as a newer one, and give way" in told.message) == (
        "warning",
        True,
    )
    skipped = replace(table, loading=Loading("insert_only"))
    assert [f.severity for f in found_in(skipped, *answer)] == ["error"]
    rejected = looked(text("A"), uniqueness_columns=["A"], on_duplicate_keys="reject", max_rejected_rows=2)
    (told,) = found_in(rejected, *answer)
    assert (told.severity, "are rejected, where max_rejected_rows is 2" in told.message) == ("warning", True)


def test_a_key_that_is_a_unique_index_too_is_counted_once() -> None:
    table = looked(text("A"), text("B"), keys=(("a",), ("a", "b"), ("c",)), uniqueness_columns=["a"])

    assert [key.names for key in table.kept_apart] == [("a",), ("a", "b")]
    assert rows.question(table).count("COUNT(DISTINCT") == 2


@given(st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_every_number_of_the_answer_reaches_its_own_finding(numbers: list[int]) -> None:
    columns = [text(name, nullable=False) for name in ("A", "B", "C")]
    interleaved = itertools.chain.from_iterable((n, 0) for n in numbers)

    found = found_in(looked(*columns), 100, *interleaved, 0)

    assert {f.column: f.severity for f in found} == {
        name: "error" if number else "note" for name, number in zip("abc", numbers, strict=True)
    }


def test_every_kind_of_doubt_is_a_check() -> None:
    wild = [
        text("A", nullable=False),
        text("B", to="varchar", typmod=7),
        text("C", to="uuid"),
        text("D", to="jsonb"),
        travelling(SourceColumn(name="F", type="REAL"), TargetColumn(name="f", type="float4"), nan="reject"),
        travelling(
            SourceColumn(name="T", type="TIMESTAMP_NTZ", scale=9),
            TargetColumn(name="t", type="timestamp"),
            before_year_1="null",
        ),
    ]
    answer = [1] * rows.question(looked(*wild)).count("COUNT")

    found = found_in(looked(*wild), *answer)

    assert {f.check for f in found} <= set(CHECKS)
    assert len(found) == len(answer) - 2


# --- foreign keys -----------------------------------------------------------------------------------------------------


def test_orphans_are_asked_by_the_source_names_and_only_where_both_sides_are_loaded() -> None:
    parent_place = Place("PARENTS", TableName(schema_name="public", name="parents"), "sources[0].tables[0]")
    child, parent = looked(text("P")), looked(text("K"), place=parent_place)
    names = {"child": PLACE.target, "parent": parent_place.target}
    key = ForeignKey("fk", names["child"], names["parent"], ("p",), ("k",))
    unloaded = replace(key, name="other", child_columns=("q",))
    known = {child.place.target: child, parent.place.target: parent}

    asked = orphans.links([key, unloaded], known, frozenset())
    notes = list(orphans.unasked([key, unloaded], known, asked))

    assert [link.key.name for link in asked] == ["fk"]
    assert [(note.severity, "other" in note.message) for note in notes] == [("note", True)]
    assert '"P" AS k0' in orphans.question(asked)
    (found,) = orphans.findings(asked, [(0, 2, "7")])
    assert (found.severity, found.column) == ("error", "p")
    assert list(orphans.findings(asked, [(0, 0, None)])) == []
    kept = orphans.links([key], known, frozenset([parent_place.target]))
    assert [f.severity for f in orphans.findings(kept, [(0, 2, "7")])] == ["warning"]


def test_a_key_that_snowflake_compares_by_a_collation_is_warned_of() -> None:
    declared = {"ID": "NUMBER(38,0)", "CODE": "VARCHAR(10) COLLATE 'en-ci'", "NOTE": "VARCHAR(10) COLLATE 'de'"}
    place = Place(table="T", target=TableName(schema_name="public", name="t"))
    (told,) = collations.findings(place, declared, key=["ID", "CODE"])
    assert (told.severity, told.check, told.column) == ("warning", "collation", "CODE")
    assert "by the collation en-ci" in told.message
    assert "COLLATE(CODE, '') AS CODE" in told.advice
