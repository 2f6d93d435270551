"""Masking and row access policies: what the role sees of a table may not be what is in it."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from snowmelt.findings import Finding, Place
from snowmelt.models import ColumnPlan, WatermarkPlan

_NAME, _POLICY = 0, 10
"""Where DESCRIBE TABLE has the name of a column and that of the policy set on it."""
_ADVICE = (
    "read it by a role that the policy lets see all, or leave it out (exclude_columns, source_filter); verification "
    "cannot tell, as its role sees the same"
)


@dataclass
class TablePolicies:
    """What is set on one table, as far as the role may know."""

    by_column: dict[str, str] = field(default_factory=dict)
    of_rows: list[str] = field(default_factory=list)


def of_description(rows: Iterable[Sequence[Any]]) -> dict[str, str]:
    """Return the policy of each column that has one, from the rows of DESCRIBE TABLE."""
    return {str(row[_NAME]): str(row[_POLICY]) for row in rows if len(row) > _POLICY and row[_POLICY]}


def findings(
    place: Place,
    policies: TablePolicies,
    *,
    columns: Sequence[ColumnPlan],
    key: Collection[str],
    watermark: WatermarkPlan | None,
) -> Iterator[Finding]:
    """Yield a warning for each loaded column that may be masked, an error where rows are told apart by it.

    ``key`` has the names of source columns by which rows are merged or cut. A watermark counts as one: masked moments
    leave rows behind.
    """
    keys = {*key, *([watermark.source] if watermark else [])}
    for column in columns:
        name = column.source.name
        policy = policies.by_column.get(name)
        if policy is None or name in keys:
            continue
        text = f'column "{name}": the policy {policy} is set on it, so this role may read masked values'
        yield place.warning("masking", text, _ADVICE, column=name)
    for name in sorted(keys & policies.by_column.keys()):
        text = (
            f'column "{name}": the policy {policies.by_column[name]} is set on it, and rows are told apart, cut or '
            "chosen by its values, which may be masked for this role"
        )
        advice = "read it by a role that the policy lets see all, or name other columns"
        yield place.error("masking", text, advice, column=name)
    for policy in policies.of_rows:
        text = f"the row access policy {policy} is set on it, so this role may not see all of its rows"
        yield place.warning("row_access", text, _ADVICE)
