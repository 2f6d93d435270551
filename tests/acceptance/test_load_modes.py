"""Full loads, merges, insert-only and incremental runs, each over a target that another run left behind."""

import json

import pytest

from support.loads import change, counts, keyed, migrate, refused, verdict
from support.world import World


def test_a_second_run_with_a_key_merges_and_rewrites_nothing_that_did_not_change(world: World) -> None:
    keyed(world, uniqueness_columns=["ID"])
    world.configure(batch_size=1000)
    first = migrate(world)
    before = world.target.rows("SELECT id, xmin::text, ctid::text FROM orders ORDER BY id")
    change(world, "UPDATE ORDERS SET NOTE = 'fixed' WHERE ID IN (5, 1500)")
    change(world, "INSERT INTO ORDERS SELECT 9000, AMOUNT, NOTE, BOOKED FROM ORDERS WHERE ID = 7")
    second = migrate(world)
    after = world.target.rows("SELECT id, xmin::text, ctid::text FROM orders ORDER BY id")
    assert world.equal("orders")
    assert counts(world, first["run_id"])["inserted"] == 3000
    assert counts(world, second["run_id"]) == {
        "actual": 3001,
        "inserted": 1,
        "updated": 2,
        "unchanged": 2998,
        "deduplicated": 0,
    }
    assert {row[0] for row in set(after) - set(before)} == {5, 1500, 9000}


@pytest.mark.full
def test_insert_only_leaves_changed_rows_as_they_are(world: World) -> None:
    keyed(world, uniqueness_columns=["ID"])
    world.configure(insert_only_mode=True)
    migrate(world)
    change(world, "UPDATE ORDERS SET NOTE = 'fixed' WHERE ID = 6")
    change(world, "INSERT INTO ORDERS SELECT 9000, AMOUNT, NOTE, BOOKED FROM ORDERS WHERE ID = 6")
    migrate(world)
    assert world.target.rows("SELECT id FROM orders WHERE note = 'fixed'") == [(9000,)]
    assert world.target.rows("SELECT count(*) FROM orders") == [(3001,)]


def test_an_incremental_run_reads_only_what_is_newer_and_moves_the_watermark_when_all_is_in(world: World) -> None:
    keyed(world, uniqueness_columns=["ID"], source_watermark="BOOKED", watermark_overlap="2s")
    world.configure()
    change(world, "UPDATE ORDERS SET BOOKED = DATEADD(second, ID, '2024-01-01'::TIMESTAMP_NTZ)")
    migrate(world)
    stored = world.status("SELECT watermark, watermark_type FROM migration_status.watermarks")
    assert stored == [{"watermark": "2024-01-01 00:49:59.000000000", "watermark_type": "timestamp"}]

    change(world, "UPDATE ORDERS SET NOTE = 'fixed', BOOKED = '2024-02-01' WHERE ID = 10")
    change(world, "UPDATE ORDERS SET NOTE = 'late', BOOKED = '2024-01-01 00:49:58' WHERE ID = 11")
    second = migrate(world)
    # The two seconds of overlap hold 2997, 2998 and 2999, found unchanged, and the row that was committed late.
    assert counts(world, second["run_id"]) == {
        "actual": 5,
        "inserted": 0,
        "updated": 2,
        "unchanged": 3,
        "deduplicated": 0,
    }
    assert world.equal("orders")
    assert world.status("SELECT watermark FROM migration_status.watermarks") == [
        {"watermark": "2024-02-01 00:00:00.000000000"}
    ]


@pytest.mark.full
def test_rows_without_a_watermark_are_read_each_time_and_said(world: World) -> None:
    keyed(world, uniqueness_columns=["ID"], source_watermark="BOOKED")
    world.configure()
    change(world, "UPDATE ORDERS SET BOOKED = NULL WHERE ID < 4")
    first = migrate(world)
    assert any("rows have no BOOKED" in warning for warning in first["warnings"])
    change(world, "UPDATE ORDERS SET NOTE = 'fixed' WHERE ID = 2")
    migrate(world)
    assert world.equal("orders")


def test_a_late_row_and_one_whose_watermark_is_gone_are_what_the_merge_says_and_no_difference(world: World) -> None:
    """Into a partitioned target: late rows are counted and equal, and a repair leaves the newer ones alone."""
    world.add_table("orders", 300, uniqueness_columns=["ID"], source_watermark="BOOKED", watermark_overlap="1h")
    world.target.execute(
        "DROP TABLE orders; CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(12,2), note text,"
        " booked timestamp) PARTITION BY HASH (id);"
        "CREATE TABLE even PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE odd PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    )
    world.configure(verification="checksums")
    change(world, "UPDATE ORDERS SET BOOKED = IFF(ID IN (10, 11), NULL, '2026-01-01 00:00:00'::TIMESTAMP_NTZ)")
    migrate(world)

    change(world, "UPDATE ORDERS SET NOTE = 'still unmarked' WHERE ID = 10")
    change(world, "UPDATE ORDERS SET BOOKED = '2025-12-31 23:30:00', NOTE = 'marked' WHERE ID = 11")
    change(world, "UPDATE ORDERS SET BOOKED = '2025-12-31 23:30:00', NOTE = 'late' WHERE ID IN (4, 5)")
    change(world, "UPDATE ORDERS SET BOOKED = NULL, NOTE = 'unmarked' WHERE ID = 6")
    change(world, "INSERT INTO ORDERS SELECT 900, AMOUNT, 'new', BOOKED FROM ORDERS WHERE ID = 7")
    second = migrate(world)

    (chunk,) = [c for c in world.chunks("completed") if c["run_id"] == second["run_id"]]
    names = ("inserted", "updated", "unchanged", "kept_newer", "deduplicated")
    assert [chunk[f"{name}_rows"] for name in names] == [1, 3, 295, 2, 0]
    assert "1 table verified; 2 rows are not loaded, as the target has newer ones" in second["message"]
    kept = world.target.rows("SELECT id, note, booked::text FROM orders WHERE id IN (4, 5, 6, 900) ORDER BY id")
    assert [row[0::2] for row in kept] == [
        (4, "2026-01-01 00:00:00"),
        (5, "2026-01-01 00:00:00"),
        (6, None),
        (900, "2026-01-01 00:00:00"),
    ]
    assert [row[1] for row in kept[2:]] == ["unmarked", "new"]
    assert world.target.rows("SELECT note, booked::text FROM orders WHERE id IN (10, 11) ORDER BY id") == [
        ("still unmarked", None),
        ("marked", "2025-12-31 23:30:00"),
    ]
    (shown,) = json.loads(world.cli("status", "--json").out)["tables"]
    assert shown["kept_newer"] == 2

    for mode in ("checksums", "rows", "counts"):
        found = verdict(world, "--mode", mode)
        assert (found["verdict"], found["kept_newer"]) == ("equal", 0 if mode == "counts" else 2), mode
    world.target.execute("UPDATE orders SET note = 'changed by hand' WHERE id = 8")
    repaired = verdict(world, "--repair")
    assert (repaired["verdict"], repaired["kept_newer"]) == ("equal", 2)
    assert repaired["repaired"] == {"updated": 1, "inserted": 0, "deleted": 0}
    assert world.target.rows("SELECT id, note, booked::text FROM orders WHERE id IN (4, 5, 6, 900) ORDER BY id") == kept


def test_insert_only_leaves_rows_that_became_newer_in_the_source_and_verifies(world: World) -> None:
    keyed(world, rows=100, uniqueness_columns=["ID"], source_watermark="BOOKED", watermark_overlap="0s")
    world.configure(verification="checksums", insert_only_mode=True)
    change(world, "UPDATE ORDERS SET BOOKED = '2026-01-01'")
    migrate(world)
    before = world.target.rows("SELECT id, note FROM orders WHERE id = 5")
    change(world, "UPDATE ORDERS SET BOOKED = '2026-02-01', NOTE = 'changed' WHERE ID = 5")
    change(world, "INSERT INTO ORDERS SELECT 900, AMOUNT, 'new', '2026-02-01' FROM ORDERS WHERE ID = 7")
    migrate(world)
    for mode in ("checksums", "counts", "rows"):
        assert verdict(world, "--mode", mode)["verdict"] == "equal"
    world.target.execute("DELETE FROM orders WHERE id = 900")
    repaired = verdict(world, "--repair")
    assert repaired["repaired"] == {"updated": 0, "inserted": 1, "deleted": 0}
    assert world.target.rows("SELECT id, note FROM orders WHERE id = 5") == before


@pytest.mark.parametrize("truncates", [False, pytest.param(True, marks=pytest.mark.full)])
def test_a_repair_of_a_first_load_leaves_what_became_newer_since_unless_every_run_truncates(
    world: World, truncates: bool
) -> None:
    keyed(world, rows=100, uniqueness_columns=["ID"], source_watermark="BOOKED", truncate_onstart=truncates)
    world.configure(verification="checksums")
    change(world, "UPDATE ORDERS SET BOOKED = '2026-01-01'")
    migrate(world)
    world.target.execute("UPDATE orders SET note = 'newer', booked = '2026-02-01' WHERE id = 5")
    world.target.execute("UPDATE orders SET note = 'changed' WHERE id = 6")

    repaired = verdict(world, "--repair")

    assert (repaired["verdict"], repaired["kept_newer"]) == ("equal", 0 if truncates else 1)
    assert repaired["repaired"] == {"updated": 2 if truncates else 1, "inserted": 0, "deleted": 0}
    is_newer = world.target.rows("SELECT note IS NOT DISTINCT FROM 'newer' FROM orders WHERE id IN (5, 6) ORDER BY id")
    assert is_newer == [(not truncates,), (False,)]


def test_a_target_that_another_tool_filled_goes_on_from_its_own_highest_watermark(world: World) -> None:
    keyed(
        world,
        uniqueness_columns=["ID"],
        source_watermark="BOOKED",
        watermark_from_target=True,
        watermark_overlap="0s",
    )
    world.configure()
    change(world, "UPDATE ORDERS SET BOOKED = DATEADD(second, ID, '2024-01-01'::TIMESTAMP_NTZ)")
    world.target.execute(
        "INSERT INTO orders SELECT i, NULL, 'theirs', '2024-01-01'::timestamp + i * interval '1 second' "
        "FROM generate_series(0, 2989) i"
    )
    result = migrate(world)
    assert counts(world, result["run_id"])["actual"] == 11
    assert world.target.rows("SELECT count(*), count(*) FILTER (WHERE note = 'theirs') FROM orders") == [(3000, 2989)]


def test_a_filled_target_without_a_key_is_refused_before_anything_moves(world: World) -> None:
    world.add_table("orders", 100)
    world.configure()
    migrate(world)
    refused(world.cli("migrate"), "orders holds rows already", "uniqueness_columns")


@pytest.mark.full
def test_a_key_that_the_target_does_not_keep_unique_is_refused(world: World) -> None:
    world.add_table("orders", 100, uniqueness_columns=["ID"])
    world.configure()
    migrate(world)
    refused(world.cli("migrate"), "has no unique index on id")


def test_duplicates_in_a_full_load_are_refused_and_named_without_a_watermark(world: World) -> None:
    keyed(world, uniqueness_columns=["ID"])
    world.configure(batch_size=500)
    change(world, "INSERT INTO ORDERS SELECT ID, AMOUNT, 'twin', BOOKED FROM ORDERS WHERE ID = 8")
    refused(world.cli("migrate"), "more than once", "no watermark says which is newer")


def test_of_duplicates_in_a_full_load_the_newest_counts(world: World) -> None:
    keyed(world, uniqueness_columns=["ID"], source_watermark="BOOKED")
    world.configure(batch_size=500)
    change(world, "INSERT INTO ORDERS SELECT ID, AMOUNT, 'twin', '2099-01-01' FROM ORDERS WHERE ID IN (8, 9)")
    result = migrate(world)
    found = counts(world, result["run_id"])
    assert found["actual"] == 3002
    assert found["updated"] + found["unchanged"] + found["deduplicated"] == 2
    assert world.target.rows("SELECT id FROM orders WHERE note = 'twin' ORDER BY id") == [(8,), (9,)]


def test_a_source_emptied_by_mistake_does_not_empty_the_target(world: World) -> None:
    world.add_table("orders", 2000, truncate_onstart=True)
    world.configure()
    migrate(world)
    change(world, "DELETE FROM ORDERS WHERE ID >= 900")
    refused(world.cli("migrate"), "the source has 900 rows", "--allow-shrink")
    assert world.target.rows("SELECT count(*) FROM orders") == [(2000,)]
    result = migrate(world, "--allow-shrink")
    assert result["resumed"]
    assert world.target.rows("SELECT count(*) FROM orders") == [(900,)]
    assert world.equal("orders")


@pytest.mark.full
def test_tables_tied_by_foreign_keys_are_truncated_together_and_parents_load_first(world: World) -> None:
    for name in ("lines", "orders", "buyers"):
        keyed(world, name, rows=1500, truncate_onstart=True)
    world.target.execute("ALTER TABLE lines ADD FOREIGN KEY (id) REFERENCES orders")
    world.target.execute("ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES buyers")
    world.configure(batch_size=400)
    migrate(world)
    migrate(world)
    assert all(world.equal(name) for name in ("lines", "orders", "buyers"))


def test_a_table_that_someone_else_refers_to_is_not_truncated(world: World) -> None:
    keyed(world, truncate_onstart=True)
    world.target.execute("CREATE TABLE invoices (order_id bigint REFERENCES orders)")
    world.configure()
    refused(world.cli("migrate"), "public.orders cannot be truncated, because public.invoices refers to it")


def test_a_table_that_refers_to_itself_is_loaded_whole(world: World) -> None:
    keyed(world, rows=2500)
    world.target.execute("ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES orders")
    world.configure(batch_size=500)
    migrate(world)
    assert world.equal("orders")
    assert len(world.chunks("completed")) == 1


def test_two_tables_that_only_add_may_share_a_target(world: World) -> None:
    world.add_table("orders", 800, append=True)
    world.add_table("returns", 300, append=True)
    world.tables[1]["target"] = "orders"
    world.configure()
    migrate(world)
    assert world.target.rows("SELECT count(*) FROM orders") == [(1100,)]
    del world.tables[0]["append"]
    world.configure()
    refused(world.cli("migrate"), "sources[0].tables[1].target", "set append for both")
