"""What the pages say is so."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from snowmelt import __version__, config
from snowmelt.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "sql" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")


def test_the_config_in_the_readme_is_a_config() -> None:
    text = re.findall(r"```json\n(.*?)```", README, re.DOTALL)[0]
    parsed = config.load(text, {"PG_PASSWORD": "x"}, where="README.md")
    assert [table.snowflake_name for table in parsed.sources[0].tables] == ["AIRLINES", "FLIGHTS", "Plane Details"]
    assert json.loads(text)["sources"][0]["source_name"] in README.split("## Use it from the command line")[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_page_of_the_package_index_links_to_nothing_in_the_checkout() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / project["readme"]).read_text(encoding="utf-8")

    assert re.findall(r"\]\((?!https:)[^)]*\)|(?:href|src)=", page) == []
    commands = re.findall(r"^snowmelt ([a-z-]+)", page, re.MULTILINE)
    assert set(commands) <= set(COMMANDS)
    assert len(commands) > 5


def test_the_version_has_its_place_in_the_changelog() -> None:
    versions = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert versions[0] == "Unreleased"
    assert __version__ == project["version"] == versions[1]


def test_the_map_names_what_is_in_the_repository() -> None:
    table = README.split("## The repository")[1].split("## Tests")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    under = [ROOT, ROOT / "src" / "snowmelt"]
    assert named
    assert [name for name in named if not any([*folder.glob(name.rstrip("/"))] for folder in under)] == []
