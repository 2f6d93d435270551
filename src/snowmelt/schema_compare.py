"""Which column of a source table goes into which column of its target."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from snowmelt import types
from snowmelt.models import ColumnPlan, SourceColumn, TargetColumn


@dataclass(frozen=True)
class Comparison:
    """The columns that travel, in the target's order; what is worth knowing; what must be mended first.

    With a problem, nothing of the table may move.
    """

    columns: tuple[ColumnPlan, ...]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]


def compare(table: str, source: Sequence[SourceColumn], target: Sequence[TargetColumn]) -> Comparison:
    """Pair the columns by name and say how each travels, or why the table cannot.

    Names that are equal to the letter go together; of what is left, those that differ in case only, if there
    is one on each side. ``table`` is how every warning and problem calls the table.
    """
    pairing = _pair(source, target)
    loaded = [pair for pair in pairing.pairs if _is_loaded(pair[1])]
    verdicts = [types.match(*pair) for pair in loaded]
    warnings = (*_left_out(pairing), *_never_loaded(pairing), *_losses(verdicts), *_possible_nulls(loaded))
    problems = (*_ambiguities(pairing), *_refusals(loaded, verdicts), *_unfed(pairing), *_no_common(pairing))
    return Comparison(
        columns=tuple(verdict.plan for verdict in verdicts if isinstance(verdict, types.Match)),
        warnings=tuple(f"{table}: {warning}" for warning in warnings),
        problems=tuple(f"{table}: {problem}" for problem in problems),
    )


# --- names --------------------------------------------------------------------------------------------------

_Pair = tuple[SourceColumn, TargetColumn]
_Column = TypeVar("_Column", SourceColumn, TargetColumn)


@dataclass(frozen=True)
class _Pairing:
    """Every column of both sides, once: paired, one of several that differ in case only, or alone."""

    pairs: tuple[_Pair, ...]
    ambiguous: tuple[tuple[list[SourceColumn], list[TargetColumn]], ...]
    source_alone: tuple[SourceColumn, ...]
    target_alone: tuple[TargetColumn, ...]


def _pair(source: Sequence[SourceColumn], target: Sequence[TargetColumn]) -> _Pairing:
    exact = {column.name for column in source} & {column.name for column in target}
    sources = _by_name(source, exact)
    targets = _by_name(target, exact)
    groups = [(sources[name], targets[name]) for name in targets if name in sources]
    pairs = {to[0].name: (of[0], to[0]) for of, to in groups if len(of) == len(to) == 1}
    return _Pairing(
        pairs=tuple(pairs[column.name] for column in target if column.name in pairs),
        ambiguous=tuple((of, to) for of, to in groups if len(of) + len(to) > 2),
        source_alone=tuple(column for name, of in sources.items() if name not in targets for column in of),
        target_alone=tuple(column for name, to in targets.items() if name not in sources for column in to),
    )


def _by_name(columns: Iterable[_Column], exact: set[str]) -> dict[tuple[bool, str], list[_Column]]:
    """The columns by what pairs them: the very name if both sides have it, else the name without case."""
    groups = defaultdict(list)
    for column in columns:
        is_exact = column.name in exact
        groups[is_exact, column.name if is_exact else column.name.casefold()].append(column)
    return groups


def _is_loaded(column: TargetColumn) -> bool:
    return not column.generated and column.identity != "always"


# --- problems -----------------------------------------------------------------------------------------------


def _ambiguities(pairing: _Pairing) -> Iterator[str]:
    for of, to in pairing.ambiguous:
        yield (
            f"source {_listed(of)} and target {_listed(to)} differ in case only, so it is not clear which "
            "goes where; rename them so that each pair has the same name to the letter"
        )


def _refusals(loaded: Iterable[_Pair], verdicts: Iterable[types.Match | types.Refusal]) -> Iterator[str]:
    for (_, target), verdict in zip(loaded, verdicts, strict=True):
        if isinstance(verdict, types.Refusal):
            yield f'column "{target.name}": {verdict.reason}'


def _unfed(pairing: _Pairing) -> Iterator[str]:
    for column in pairing.target_alone:
        given_elsewhere = column.nullable or column.has_default or column.generated or column.identity
        if not given_elsewhere:
            yield (
                f'target column "{column.name}" is NOT NULL without a default and has no source column; '
                "give it a default, drop NOT NULL, or add it to the source by a Snowflake view"
            )


def _no_common(pairing: _Pairing) -> Iterator[str]:
    if not any(_is_loaded(target) for _, target in pairing.pairs) and not pairing.ambiguous:
        yield "source and target have no column in common that can be loaded; check `source` and `target`"


# --- warnings -----------------------------------------------------------------------------------------------


def _left_out(pairing: _Pairing) -> Iterator[str]:
    for column in pairing.source_alone:
        yield (
            f'source column "{column.name}" is left out, the target has no such column; '
            f"add it there ({types.snowflake_type(column)} in Snowflake) if it is wanted"
        )


def _never_loaded(pairing: _Pairing) -> Iterator[str]:
    for source, target in pairing.pairs:
        if not _is_loaded(target):
            kind = "generated" if target.generated else "an identity that is always generated"
            yield (
                f'source column "{source.name}" is left out, target column "{target.name}" is {kind}; '
                "make it a plain column if the source's values are wanted"
            )


def _losses(verdicts: Iterable[types.Match | types.Refusal]) -> Iterator[str]:
    for verdict in verdicts:
        if isinstance(verdict, types.Match) and verdict.lossy:
            source, target = verdict.plan.source, verdict.plan.target
            yield (
                f'column "{target.name}", {types.snowflake_type(source)} into {types.postgres_type(target)}: '
                f"{verdict.lossy}; nothing to do if that is fine"
            )


def _possible_nulls(loaded: Iterable[_Pair]) -> Iterator[str]:
    for source, target in loaded:
        if source.nullable and not target.nullable:
            yield (
                f'source column "{source.name}" may hold NULL, target column "{target.name}" is NOT NULL '
                "and a NULL would fail the load; check the source, or drop NOT NULL"
            )


def _listed(columns: Sequence[SourceColumn] | Sequence[TargetColumn]) -> str:
    return ", ".join(f'"{column.name}"' for column in columns)
