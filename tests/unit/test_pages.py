"""What the pages say is so."""

import json
import re
from pathlib import Path

import pytest

from snowmelt import config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "sql" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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


def test_the_map_names_what_is_in_the_repository() -> None:
    table = README.split("## The repository")[1].split("## Tests")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    under = [ROOT, ROOT / "src" / "snowmelt"]
    assert named
    assert [name for name in named if not any([*folder.glob(name.rstrip("/"))] for folder in under)] == []
