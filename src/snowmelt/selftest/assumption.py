"""What an assumption about Snowflake is, and how a check of it ends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from snowmelt.selftest.bench import Bench

Verdict = Literal["pass", "fail", "skipped"]
DOCS = "https://docs.snowflake.com/en/"
"""Where most sources are."""


class BrokenError(Exception):
    """What was relied on is not so; the text says what was seen instead, and holds no value of the user's."""


class NotCheckedError(Exception):
    """The check cannot be made here; the text is the reason."""


Check = Callable[[Bench], None]
"""Returns where all is as relied on; raises BrokenError or NotCheckedError."""


@dataclass(frozen=True)
class Step:
    """One check of a self-test."""

    id: str
    check: Check | None
    needs: tuple[str, ...] = ()
    """Checks without which it says nothing: it is skipped where one of them fails."""
    not_checked: str = ""
    """Why there is no check."""


@dataclass(frozen=True)
class Assumption:
    """A behaviour of Snowflake that Snowmelt relies on."""

    id: str
    relies_on: str
    """The behaviour, as a sentence."""
    source: str
    """Address of the page, or of the connector's issue, that documents it."""
    test: str
    """The test that holds the stand-in to it: file and name."""
    check: Check | None = None
    """Shows it on an account; None where that would take longer than a self-test may."""
    needs: tuple[str, ...] = ()
    """Assumptions that the check itself relies on: it is skipped where one of them does not hold."""
    not_checked: str = ""
    """Why there is no check."""

    @property
    def step(self) -> Step:
        """The check of it."""
        return Step(self.id, self.check, self.needs, self.not_checked)


@dataclass(frozen=True)
class Result:
    """How one check has ended."""

    id: str
    verdict: Verdict
    seconds: float
    reason: str = ""
    """Why it failed or was skipped."""


def expect(found: object, wanted: object, what: str) -> None:
    """Raise BrokenError where what was found is not what was wanted; both come from the self-test's own tables."""
    if found != wanted:
        raise BrokenError(f"{what}: {found!r}, not {wanted!r}")
