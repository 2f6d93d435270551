"""What is put into the store comes back as it was, from a folder and from a bucket, with or without a prefix."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snowmelt import manifest_store
from snowmelt.errors import AccessError, ConfigError, DataError, TransientError
from snowmelt.manifest_store import FolderStore, Store
from snowmelt.models import ColumnPlan, RunPlan, SourceColumn, TableName, TablePlan, TargetColumn, WorkItem
from snowmelt_sandbox.aws.moto_service import CREDENTIALS, REGION, MotoService, create_bucket, s3_client

BUCKET = "snowmelt-test"
ITEMS = tuple(
    WorkItem(item_id=i, table_id=i % 3, table=f'"Größe {i}"', chunks=(i, i + 1), slowest_seconds=0.25)
    for i in range(50)
)


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with MotoService() as moto:
        create_bucket(moto.url, BUCKET)
        yield moto.url


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint, to which every client of this test now goes."""
    for name, value in {**CREDENTIALS, "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": s3_url}.items():
        monkeypatch.setenv(name, value)
    return s3_url


@pytest.fixture(params=["folder", "bucket", "bucket and prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path, s3: str) -> Store:
    places = {
        "folder": str(tmp_path / "a" / "b"),
        "bucket": f"s3://{BUCKET}",
        "bucket and prefix": f"s3://{BUCKET}/a/b/",
    }
    return manifest_store.open_store(places[request.param])


def a_table(table_id: int) -> TablePlan:
    column = ColumnPlan(
        source=SourceColumn(name="Größe", type="FIXED", precision=12, scale=2),
        target=TargetColumn(name="größe", type="numeric", typmod=786_438),
        select='"Größe"',
        wire="decimal128(12, 2)",
    )
    return TablePlan(
        table_id=table_id,
        source=f"T{table_id}",
        target=TableName(schema_name="public", name=f"t{table_id}"),
        columns=(column,),
        reads_from='"Größe"',
        truncate_onstart=True,
        append=False,
        batch_size=500_000,
        max_retry_attempts=3,
    )


def a_run(run_id: str, tables: int = 2) -> RunPlan:
    return RunPlan(
        snowmelt_version="1",
        run_id=run_id,
        source_name="ledger",
        config_hash="hash",
        config={"batch_size": 7, "source": {"name": "Größe"}},
        target_database="db",
        snowflake_database="DB",
        snowflake_schema="PUBLIC",
        snowflake_user="U",
        snowflake_role="R",
        parallel_threads=4,
        lambda_timeout_buffer_seconds=90,
        tables=tuple(f"T{i}" for i in range(tables)),
    )


# --- there and back -------------------------------------------------------------------------------------------------


def test_a_run_and_its_tables_come_back_as_they_were(store: Store) -> None:
    plan, tables = a_run("run-1"), (a_table(0), a_table(1))

    manifest_store.save_run(store, plan, tables)

    assert manifest_store.load_run(store, "run-1") == plan
    assert tuple(manifest_store.load_table(store, "run-1", i) for i in range(2)) == tables


def test_a_manifest_is_read_from_where_it_was_put(store: Store) -> None:
    location = manifest_store.save_manifest(store, "run-1", "000001", ITEMS)

    assert manifest_store.load_manifest(location, store) == ITEMS


def test_a_manifest_in_a_bucket_is_the_json_array_that_the_map_reads(s3: str) -> None:
    store = manifest_store.open_store(f"s3://{BUCKET}/stage/one")

    location = manifest_store.save_manifest(store, "run-2", "000007", ITEMS)

    assert (location.bucket, location.key) == (BUCKET, "stage/one/runs/run-2/manifests/000007.json")
    body = s3_client(s3).get_object(Bucket=location.bucket, Key=location.key)["Body"].read()
    assert json.loads(body) == [item.model_dump(mode="json") for item in ITEMS]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(min_value=0, max_value=2**40), max_size=300))
def test_row_counts_come_back_in_their_order(tmp_path: Path, counts: list[int]) -> None:
    store = FolderStore(tmp_path)

    manifest_store.save_row_counts(store, "run-1", "01b2-77", counts)

    assert manifest_store.load_row_counts(store, "run-1", "01b2-77") == tuple(counts)


def test_a_report_is_kept_for_programs_and_for_people(store: Store) -> None:
    facts = manifest_store.save_report(store, "run-1", '{"rows": 7}')
    page = manifest_store.save_report_page(store, "run-1", "<p>sieben ⛄</p>")

    assert (json.loads(store.at(facts)), store.at(page).decode()) == ({"rows": 7}, "<p>sieben ⛄</p>")
    assert page.uri == f"{store.uri}/runs/run-1/report.html"


def test_a_browser_is_told_that_a_page_is_a_page(s3: str) -> None:
    store = manifest_store.open_store(f"s3://{BUCKET}/stage")

    kept = [manifest_store.save_report_page(store, "run-1", "<p>"), manifest_store.save_report(store, "run-1", "{}")]

    types = [s3_client(s3).head_object(Bucket=each.bucket, Key=each.key)["ContentType"] for each in kept]
    assert types == ["text/html; charset=utf-8", "application/json"]


def test_runs_do_not_see_each_other(store: Store) -> None:
    manifest_store.save_run(store, a_run("run-a"), (a_table(0),))
    manifest_store.save_run(store, a_run("run-b", tables=3), (a_table(0),))

    assert manifest_store.load_run(store, "run-a").tables == ("T0", "T1")


def test_a_store_is_named_as_it_names_itself(store: Store) -> None:
    """A run remembers its store by that name, and compares."""
    assert manifest_store.open_store(store.uri).uri == store.uri


def test_a_store_of_another_prefix_holds_nothing_of_this_one(s3: str) -> None:
    manifest_store.save_run(manifest_store.open_store(f"s3://{BUCKET}/one"), a_run("run-p"), ())

    with pytest.raises(DataError):
        manifest_store.load_run(manifest_store.open_store(f"s3://{BUCKET}/two"), "run-p")


def test_what_is_put_again_is_seen_old_or_new_and_never_in_part(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    contents = {b"a" * 1_000_000, b"b" * 2_000_000}
    store.put("x.json", min(contents))
    over = threading.Event()

    def rewrite() -> None:
        for _ in range(20):
            for content in contents:
                store.put("x.json", content)
        over.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    seen = set()
    while not over.is_set():
        seen.add(store.get("x.json"))
    writer.join()

    assert seen <= contents


# --- what cannot be had ---------------------------------------------------------------------------------------------


def test_a_run_that_is_not_in_the_store_is_an_error_that_names_the_setting(store: Store) -> None:
    with pytest.raises(DataError, match=r"run\.json is not there.*SNOWMELT_STORE"):
        manifest_store.load_run(store, "no-such-run")


def test_a_bucket_that_is_not_there_is_named(s3: str) -> None:
    store = manifest_store.open_store("s3://no-such-bucket/x")

    for attempt in (lambda: store.put("a", b""), lambda: store.get("a")):
        with pytest.raises(
            DataError, match=r"s3://no-such-bucket/x/a is not there \(NoSuchBucket\); check SNOWMELT_STORE"
        ):
            attempt()


def test_an_s3_that_does_not_answer_may_be_tried_again(monkeypatch: pytest.MonkeyPatch, s3: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(TransientError, match=f"s3://{BUCKET}/a: "):
        manifest_store.open_store(f"s3://{BUCKET}").put("a", b"")


def test_a_folder_that_cannot_be_written_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = manifest_store.open_store(str(tmp_path / "file" / "store"))

    with pytest.raises(AccessError, match="set SNOWMELT_STORE to a folder that is writable"):
        store.put("a", b"")
    with pytest.raises((AccessError, DataError)):
        store.get("a")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://", "names no bucket; write s3://bucket/prefix"),
        ("s3:///prefix", "names no bucket; write s3://bucket/prefix"),
        ("gs://bucket/x", "is neither s3://bucket/prefix nor a folder"),
        ("https://bucket.s3.amazonaws.com/x", "is neither s3://bucket/prefix nor a folder"),
    ],
)
def test_a_store_of_another_kind_is_refused(uri: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        manifest_store.open_store(uri)


@pytest.mark.parametrize("save", [lambda s: s.put("x/y.json", b"{}"), lambda s: s.put("y.json", b"{}")])
def test_a_folder_is_made_when_it_is_first_written_to(tmp_path: Path, save: Callable[[Store], object]) -> None:
    store = manifest_store.open_store(str(tmp_path / "not" / "yet"))
    assert not (tmp_path / "not").exists()

    save(store)

    assert [path.suffix for path in (tmp_path / "not").rglob("*") if path.is_file()] == [".json"]
