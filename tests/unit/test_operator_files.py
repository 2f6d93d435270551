"""``snowmelt sql``: the files of the top-level folder, from a checkout and from a wheel."""

import json
import re
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from snowmelt import cli
from snowmelt.errors import ConfigError
from snowmelt.sql_text import operator_files

ROOT = Path(__file__).parents[2]
FILES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "sql").glob("*.sql")}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    cli.app(["sql", *arguments], standalone_mode=False)
    return capsys.readouterr().out


def test_the_list_has_each_file_with_its_server_and_its_first_comment(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(printed(capsys, "list", "--json"))

    assert [each["name"] for each in listed] == sorted(FILES)
    for each in listed:
        first, _, rest = FILES[each["name"]].partition("\n")
        assert first == f"-- {each['purpose']}"
        assert first[-1] in ".?", "a sentence that ends on its line"
        assert (each["server"] == "Snowflake") == ("worksheet" in rest), each


def test_a_file_is_printed_by_its_name_with_or_without_the_ending(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "show", "progress") == printed(capsys, "show", "progress.sql") == FILES["progress"]


def test_a_file_that_includes_another_is_printed_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    """``snowmelt sql show grants_postgres | psql`` finds no file beside it."""
    shown = printed(capsys, "show", "grants_postgres")

    assert shown == FILES["grants_postgres"].replace("\\ir status_schema.sql\n", f"{FILES['status_schema']}\n")
    assert [name for name in FILES if re.search(r"^\\ir? ", operator_files.text(name), re.MULTILINE)] == []


def test_a_name_that_there_is_not_is_an_error_of_the_call() -> None:
    with pytest.raises(
        ConfigError, match=r"there is no file diagnos; did you mean diagnose\?; there are clear_state, "
    ):
        cli.app(["sql", "show", "diagnos"], standalone_mode=False)


@pytest.mark.full
def test_a_wheel_has_them_and_neither_tests_nor_benchmarks(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    built = subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT], capture_output=True, text=True, check=False
    )
    if built.returncode != 0 and "hatchling" in built.stderr:
        pytest.skip(f"no package index gives hatchling: {built.stderr[-300:]}")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        tops = {name.partition("/")[0] for name in names}
        licence = next(name for name in names if name.endswith("licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert tops == {"snowmelt", "snowmelt_sandbox", "snowmelt-0.1.0.dist-info"}
    assert [name for name in names if re.search(r"(^|/)(tests|benchmarks|fault_injection|conftest)\b", name)] == []

    # Installed where no checkout is near; its dependencies are those of this environment.
    home = tmp_path / "installed"
    venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/python3*/site-packages")
    (mine,) = Path(sys.prefix).glob("lib/python3*/site-packages")
    subprocess.run([*pip, "install", "--no-deps", "--target", packages, wheel], check=True)
    (packages / "others.pth").write_text(f"{mine}\n", encoding="utf-8")
    for name in ("grants_postgres", "grants_snowflake", "status_schema"):
        shown = subprocess.run(
            [home / "bin" / "python", "-m", "snowmelt.cli", "sql", "show", name],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stdout == operator_files.text(name)
