"""Files with plans, reports and credentials are for their owner alone."""

from pathlib import Path

from snowmelt import private_files
from snowmelt.manifest_store import FolderStore


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_store_in_a_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")

    store.put("runs/r/report.html", b"report")

    assert store.get("runs/r/report.html") == b"report"
    assert mode(tmp_path / "store" / "runs" / "r" / "report.html") == 0o600
    for folder in ("store", "store/runs", "store/runs/r"):
        assert mode(tmp_path / folder) == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    there = tmp_path / ".env"
    there.write_text("a much longer content than the new one")
    there.chmod(0o644)

    private_files.write(there, b"POSTGRES_PASSWORD=x")

    assert (there.read_bytes(), mode(there)) == (b"POSTGRES_PASSWORD=x", 0o600)


def test_what_is_no_file_can_be_written_too() -> None:
    private_files.write(Path("/dev/null"), b"nothing")

    assert mode(Path("/dev/null")) == 0o666


def test_a_folder_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    private_files.make_folder(tmp_path)

    assert mode(tmp_path) == 0o755
