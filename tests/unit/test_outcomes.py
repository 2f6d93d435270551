"""Every outcome that there can be is in the table, and the page shows it."""

from pathlib import Path
from typing import get_args

import pytest

from snowmelt import errors
from snowmelt.cli import outcomes, shared
from snowmelt.cli.outcomes import Of
from snowmelt.models import FinalizeResult, MigrateResult, SourceOutcome
from snowmelt.monitoring.health import Pulse
from snowmelt.reports.facts import Run, Verified
from snowmelt.sql_text.queries import text
from snowmelt.verification.verdicts import TableVerdict

ROOT = Path(__file__).parents[2]


def choices(model: type, field: str) -> set[str]:
    return set(get_args(model.model_fields[field].annotation))  # type: ignore[attr-defined]


def test_the_page_is_the_table() -> None:
    assert (ROOT / "docs" / "outcomes.md").read_text(encoding="utf-8") == outcomes.page()


@pytest.mark.parametrize(
    ("of", "known"),
    [
        ("run", choices(Run, "status")),
        ("verification", choices(TableVerdict, "verdict")),
        ("verification", choices(Verified, "verdict")),
        ("pulse", choices(Pulse, "state")),
    ],
)
def test_every_word_is_explained(of: Of, known: set[str]) -> None:
    assert outcomes.words(of) == known


def test_the_status_schema_takes_just_these_words() -> None:
    schema = text("engine/status_schema.sql")
    for of in ("run", "table", "chunk", "verification"):
        checked = [line for line in schema.splitlines() if "CHECK (" in line and " IN (" in line]
        sets = [set(line.split(" IN (")[1].split(")")[0].replace("'", "").split(", ")) for line in checked]
        assert set(outcomes.words(of)) in sets, of


def test_what_a_finalize_says_is_a_status_of_a_run() -> None:
    assert choices(FinalizeResult, "status") <= outcomes.words("run")
    assert choices(MigrateResult, "status") | choices(SourceOutcome, "status") == outcomes.words("answer")


def test_every_exit_code_is_explained() -> None:
    of_errors = {code.exit_code for code in errors.codes() if code.exit_code}
    of_commands = {value for name, value in vars(shared).items() if name.startswith("EXIT_")}
    assert {each.code for each in outcomes.EXITS} == of_errors | of_commands | {0}
    assert all(errors.code(each.error_code) for each in outcomes.TAKEN_AWAY)


@pytest.mark.parametrize("page", ["README.md", "docs/command-line.md"])
def test_the_page_is_linked(page: str) -> None:
    assert "outcomes.md)" in (ROOT / page).read_text(encoding="utf-8")
