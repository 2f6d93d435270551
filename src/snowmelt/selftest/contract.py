"""The contract: every assumption about Snowflake that Snowmelt relies on, and the page that shows them.

``python -m snowmelt.selftest.contract > docs/snowflake-contract.md`` writes the page.
"""

import sys

from snowmelt.selftest import policies, privileges, results, sessions, text_forms, time_travel, values
from snowmelt.selftest.assumption import Assumption

ASSUMPTIONS: tuple[Assumption, ...] = (
    *results.ASSUMPTIONS,
    *sessions.ASSUMPTIONS,
    *time_travel.ASSUMPTIONS,
    *values.ASSUMPTIONS,
    *text_forms.ASSUMPTIONS,
    *policies.ASSUMPTIONS,
    *privileges.ASSUMPTIONS,
)


def page() -> str:
    """Return the page of all assumptions, in Markdown."""
    return "\n".join((_HEAD, *map(_row, ASSUMPTIONS), ""))


def _row(assumption: Assumption) -> str:
    source = f"[{_shown(assumption.source)}]({assumption.source})"
    cells = (f"`{assumption.id}`", assumption.relies_on, source, f"`{assumption.test}`", _checked(assumption))
    return f"| {' | '.join(cells)} |"


def _shown(address: str) -> str:
    """Return what a link shows: the end of its address."""
    path = address.removeprefix("https://").rstrip("/")
    return path.removeprefix("docs.snowflake.com/en/")


def _checked(assumption: Assumption) -> str:
    return "yes" if assumption.check else f"no: {assumption.not_checked}"


_HEAD = """\
# What Snowmelt relies on of Snowflake

One row per assumption: what is relied on, where it is documented, and the test that holds the stand-in for Snowflake
to it. [`snowmelt selftest`](selftest.md) shows the same on your account: it runs the check of each row that has one.
The page is made from `src/snowmelt/selftest/`, and a test compares them.

| assumption | what is relied on | source | test of the stand-in | checked by `snowmelt selftest` |
|---|---|---|---|---|"""


if __name__ == "__main__":
    sys.stdout.write(page())
