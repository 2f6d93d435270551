"""A store in a folder keeps to its folder, and says nothing of what is in a file that it did not write."""

from pathlib import Path

import pytest

from snowmelt import manifest_store
from snowmelt.errors import ConfigError, DataError, MissingError
from snowmelt.manifest_store import FolderStore

PLANTED = "root:x:0:0:pl4nted"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    (tmp_path / "run.json").write_text(PLANTED)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "run.json").write_text(PLANTED)
    return FolderStore(tmp_path / "store")


@pytest.mark.parametrize("run_id", ["../..", "../../elsewhere", "a/../../../elsewhere", "a\0b"])
def test_no_id_leads_out_of_the_store(store: FolderStore, run_id: str) -> None:
    for attack in (
        lambda: manifest_store.load_run(store, run_id),
        lambda: store.put(f"runs/{run_id}/run.json", b"overwritten"),
    ):
        with pytest.raises((ConfigError, MissingError)) as caught:
            attack()
        assert "pl4nted" not in caught.value.message


def test_a_file_that_is_no_plan_is_named_and_not_quoted(store: FolderStore) -> None:
    for content in (PLANTED.encode(), b'{"run_id": "pl4nted"}', b"[" * 100_000, b'"pl4nted"'):
        store.put("runs/r/run.json", content)
        with pytest.raises(DataError, match=r"runs/r/run\.json in the store .* is no plan") as caught:
            manifest_store.load_run(store, "r")
        assert "pl4nted" not in caught.value.message
