"""Every error has a code that is documented, with a remedy, and whether it is tried again."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import snowmelt
from snowmelt import errors
from snowmelt.errors import SnowmeltError

ROOT = Path(__file__).parents[2]
STATUS_CODE = re.compile(r"error_code = (?:CASE .* THEN |coalesce\(error_code, )?'(\w+)'")


def kinds(kind: type[SnowmeltError] = SnowmeltError) -> Iterator[type[SnowmeltError]]:
    for child in kind.__subclasses__():
        yield child
        yield from kinds(child)


def test_the_page_of_codes_is_the_one_the_classes_make() -> None:
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == errors.page()


def test_every_class_of_error_anywhere_in_the_package_has_a_code() -> None:
    for module in pkgutil.iter_modules(snowmelt.__path__):
        if module.name != "lambda_handler":
            importlib.import_module(f"snowmelt.{module.name}")
    shipped = {kind.__name__ for kind in kinds() if kind.__module__.startswith("snowmelt.")}
    assert shipped <= {code.name for code in errors.codes()}


def test_every_code_that_sql_writes_is_documented() -> None:
    written = {
        code for file in (ROOT / "src/snowmelt").rglob("*.sql") for code in STATUS_CODE.findall(file.read_text())
    }
    assert {"WorkerLost", "Abandoned", "BuildLost"} <= written
    assert written <= {code.name for code in errors.codes()}


@pytest.mark.parametrize("code", errors.codes(), ids=lambda code: code.name)
def test_a_code_says_what_it_means_and_what_to_do(code: errors.Code) -> None:
    assert code.meaning.endswith(".")
    assert code.remedy
    assert errors.code(code.name) == code


def test_codes_are_told_apart() -> None:
    names = [code.name for code in errors.codes()]
    assert len(names) == len(set(names))


def test_a_message_is_one_line() -> None:
    assert errors.DataError("one\n  two").message == "one two"


OPTIONS = ("no-resume", "resume-run-id", "allow-shrink", "accept-rejected")


def texts(node: ast.AST) -> Iterator[str]:
    """Every text below the node, one that is put together whole."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


@pytest.mark.parametrize("option", OPTIONS)
def test_whoever_is_told_an_option_is_told_the_key_of_the_event_too(option: str) -> None:
    source = Path(snowmelt.__file__).parent
    files = [file for file in source.rglob("*.py") if file.relative_to(source).parts[0] != "cli"]
    told = [(file.name, text) for file in files for text in texts(ast.parse(file.read_text(encoding="utf-8")))]
    told += [("errors", code.remedy) for code in errors.codes()]
    named = [(where, text) for where, text in told if f"--{option}" in text]
    assert named
    assert [(where, text) for where, text in named if option.replace("-", "_") not in text] == []
