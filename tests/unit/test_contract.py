"""The contract with Snowflake: a page, a test and a break for each assumption."""

import ast
import re
from pathlib import Path

import pytest

from snowmelt.config import Config
from snowmelt.selftest import contract, privileges, scratch
from snowmelt.selftest.assumption import Assumption
from snowmelt.selftest.connections import Places
from snowmelt.selftest.contract import ASSUMPTIONS
from snowmelt.selftest.report import Redaction
from snowmelt_sandbox.snowflake.broken import BREAKS

ROOT = Path(__file__).parents[2]
CHECKED = [each for each in ASSUMPTIONS if each.check]


def test_the_page_is_the_table() -> None:
    assert (ROOT / "docs" / "snowflake-contract.md").read_text(encoding="utf-8") == contract.page()


@pytest.mark.parametrize("assumption", ASSUMPTIONS, ids=lambda each: each.id)
def test_the_test_that_a_row_names_is_there(assumption: Assumption) -> None:
    file, _, name = assumption.test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("assumption", ASSUMPTIONS, ids=lambda each: each.id)
def test_a_row_is_a_whole_one(assumption: Assumption) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", assumption.id)
    assert assumption.source.startswith("https://")
    assert "|" not in assumption.relies_on
    assert (assumption.check is None) == bool(assumption.not_checked)


def test_what_a_check_needs_is_checked_before_it() -> None:
    seen: set[str] = set()
    for each in ASSUMPTIONS:
        assert each.id not in seen
        assert set(each.needs) <= seen, each.id
        seen.add(each.id)


def test_the_stand_in_can_break_whatever_is_checked() -> None:
    assert set(BREAKS) == {each.id for each in CHECKED}


def test_the_grants_that_are_tried_are_those_of_the_scripts() -> None:
    snowflake = (ROOT / "sql" / "grants_snowflake.sql").read_text(encoding="utf-8")
    names = {"loading": "{warehouse}", "nyc.public": "{schema}", "nyc": "{database}", "snowmelt_reader": "{role}"}
    granted = [line.rstrip(";") for line in snowflake.splitlines() if re.match(r"GRANT (USAGE|SELECT)", line)]
    for name, place in names.items():
        granted = [re.sub(rf"\b{re.escape(name)}\b", place, line) for line in granted]
    assert granted == list(privileges.GRANTS)

    postgres = (ROOT / "sql" / "grants_postgres.sql").read_text(encoding="utf-8").split("-- The status schema")[0]
    lines = [line.rstrip(";") for line in postgres.splitlines() if line.startswith("GRANT")]
    for name, place in ((':"DBNAME"', "{database}"), (':"schema"', "{schema}"), (':"role"', "{role}")):
        lines = [line.replace(name, place) for line in lines]
    assert [line for line in lines if "MAINTAIN" not in line] == list(scratch.GRANTS)


def test_a_report_names_nothing_of_the_account() -> None:
    config = Config.model_validate(
        {
            "snowflake": {"account": "acme-prod", "user": "LOADER", "password": "x", "warehouse": "WH_SECRET"},
            "postgres": {"host": "db.acme.example", "user": "mover"},
            "sources": [
                {
                    "source_name": "s",
                    "source_sf_database": "SALES",
                    "source_sf_schema": "PUBLIC",
                    "target_pg_database": "sales",
                    "target_pg_schema": "public",
                    "tables": [{"source": "A"}],
                }
            ],
        }
    )
    given = Places("ab", "SALES", "PUBLIC", False, "warehouse_db", "public", False)
    said = Redaction(config, given).of(
        "user LOADER of account acme-prod at acme-prod.snowflakecomputing.com: WH_SECRET, db.acme.example, SALES.T"
    )
    for name in ("LOADER", "acme", "WH_SECRET", "SALES"):
        assert name not in said
    assert "<snowflake.user>" in said
