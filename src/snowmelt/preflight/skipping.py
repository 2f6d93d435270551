"""Which tables of a run are skipped, because a check refuses them; the others are planned as a run without these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snowmelt.config import TableConfig
from snowmelt.errors import TableSkippedError
from snowmelt.findings import Finding, Place
from snowmelt.models import TableName
from snowmelt.planning import ties
from snowmelt.planning.ties import ForeignKey, Tied
from snowmelt.wording import counted


@dataclass(frozen=True)
class SkippedTable:
    """A table that is refused, and everything that is wrong with it."""

    table_id: int
    source: str
    target: TableName
    problems: tuple[str, ...]

    @property
    def error(self) -> TableSkippedError:
        """What its row in the status schema says."""
        return TableSkippedError(self.text)

    @property
    def text(self) -> str:
        """Which table it is, and why it is skipped."""
        return f"table {self.source} is skipped, nothing of it is loaded: {'; '.join(self.problems)}"

    def brief(self, most: int) -> str:
        """Return the same with so many problems at most, for messages about many tables."""
        further = len(self.problems) - most
        more = (f"and {counted(further, 'more problem')}",) if further > 0 else ()
        return f"table {self.source} is skipped: {'; '.join((*self.problems[:most], *more))}"


def skip(
    places: Sequence[Place], tables: Sequence[TableConfig], keys: Sequence[ForeignKey], errors: Sequence[Finding]
) -> tuple[tuple[SkippedTable, ...], Mapping[int, Tied]]:
    """Return the tables that errors name, and how foreign keys tie the others without them.

    A table that cannot be truncated without one that is skipped is skipped itself. Positions are the ``table_id``s.
    """
    problems: dict[str, list[Finding]] = {}
    for error in errors:
        problems.setdefault(error.table or "", []).append(error)
    while True:
        left = {i: place for i, place in enumerate(places) if place.table not in problems}
        tied = ties.plan(
            left,
            [i for i in left if tables[i].truncate_onstart],
            keys,
            [i for i in left if tables[i].drop_foreign_keys],
        )
        if not tied.problems:
            break
        for found in tied.problems:
            problems.setdefault(found.table or "", []).append(found)
    skipped = (
        SkippedTable(i, place.table, place.target, tuple(_without_table(each) for each in problems[place.table]))
        for i, place in enumerate(places)
        if place.table in problems
    )
    return tuple(skipped), tied.tables


def _without_table(problem: Finding) -> str:
    """Return the problem as a sentence about the table that is named before it."""
    return str(problem).removeprefix(f"table {problem.table}: ")
