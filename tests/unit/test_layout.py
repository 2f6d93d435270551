"""The house stays as it was drawn: few modules at the top, and tests that lean on nothing but their support."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "snowmelt"


def test_the_top_of_the_package_has_at_most_twelve_modules() -> None:
    assert len([file for file in PACKAGE.glob("*.py") if file.name != "__init__.py"]) <= 12


def test_every_room_says_what_is_in_it() -> None:
    rooms = [folder for folder in PACKAGE.rglob("*") if any(folder.glob("*.py"))]
    said = {
        room.name: ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) for room in rooms
    }
    assert len(rooms) > 10
    assert [name for name, text in said.items() if not text] == []


def test_no_test_imports_another() -> None:
    found = [
        f"{file.name}: {node.module}"
        for file in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2].startswith("test_")
    ]
    assert found == []


def test_what_tests_share_lies_in_their_support() -> None:
    programs = {"mutation.py", "conftest.py", "__init__.py"}
    own_rooms = {"support", "benchmarks", "fault_injection"}
    loose = [
        file.name
        for file in (ROOT / "tests").rglob("*.py")
        if not file.name.startswith("test_")
        and file.name not in programs
        and not own_rooms & set(file.relative_to(ROOT / "tests").parts)
    ]
    assert loose == []
