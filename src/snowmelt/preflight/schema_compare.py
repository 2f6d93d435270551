"""Which column of a source table goes into which column of its target."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

from snowmelt.columns import type_pairs
from snowmelt.columns.type_pairs import quoted
from snowmelt.config import TableConfig, ValuePolicies
from snowmelt.config.names import POSTGRES_NAME_BYTES
from snowmelt.findings import Finding, Place, of_severity
from snowmelt.models import ColumnPlan, OnExtraColumns, Policies, SourceColumn, TargetColumn


@dataclass(frozen=True)
class Comparison:
    """The columns that travel, in the target's order, and what was found on the way.

    With an error, nothing of the table may move.
    """

    columns: tuple[ColumnPlan, ...]
    findings: tuple[Finding, ...]
    refused: frozenset[str] = frozenset()
    """Names, of both sides and without case, of columns that find each other and whose types do not go together."""
    omitted: str = ""
    """One clause: which source columns are not loaded, and what pairs of types lose."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is worth knowing, each on a line."""
        return tuple(map(str, of_severity(self.findings, "warning")))

    @property
    def problems(self) -> tuple[str, ...]:
        """What must be fixed first, each on a line."""
        return tuple(map(str, of_severity(self.findings, "error")))


@dataclass(frozen=True)
class Choices:
    """What the config says of a table's columns beside their names."""

    exclude: Sequence[str] = ()
    """Source columns that take no part."""
    on_extra: OnExtraColumns = "warn"
    """What any other source column is that the target lacks."""
    column_map: Mapping[str, str] = field(default_factory=dict)
    """Source column to target column, where the names differ."""
    policies: ValuePolicies = field(default_factory=ValuePolicies)
    """What becomes of values that do not fit."""
    column_policies: Mapping[str, ValuePolicies] = field(default_factory=dict)
    """The same of single columns, by their names in the target, or else in the source."""
    watermarks: tuple[str, str] | None = None
    """Source and target column of a watermark; they go together unless the target also has the source's name."""

    @classmethod
    def of(cls, table: TableConfig) -> Self:
        """Return what a table's config says."""
        pair = (table.source_watermark, table.target_watermark)
        return cls(
            exclude=table.exclude_columns,
            on_extra=table.on_extra_columns or "warn",
            column_map=table.column_map,
            policies=table.value_policies,
            column_policies=table.column_policies,
            watermarks=(pair[0], pair[1]) if pair[0] and pair[1] else None,
        )


def compare(
    place: Place,
    source: Sequence[SourceColumn],
    target: Sequence[TargetColumn],
    choices: Choices | None = None,
) -> Comparison:
    """Pair the columns by name and say how each travels, or why the table cannot.

    What the choices map goes together first; then names that are equal to the letter; of what is left, those that
    differ in case only, if there is one on each side. ``place`` is the table that all findings are about.
    """
    choices = choices or Choices()
    excluded, unknown = _excluded(place, source, choices.exclude)
    source = [column for column in source if column not in excluded]
    mapped, wrong = _mapped(place, source, target, choices)
    pairing = _pair(source, target, mapped)
    loaded = [pair for pair in pairing.pairs if _is_loaded(pair[1])]
    policies, unnamed = _policies(place, loaded, choices)
    verdicts = [
        _with_policies(type_pairs.match(*pair, narrow=of_pair.narrow), of_pair)
        for pair, of_pair in zip(loaded, policies, strict=True)
    ]
    checks = (
        _ambiguities(place, pairing),
        _cut_names(place, pairing),
        _refusals(place, loaded, verdicts),
        _unfed(place, pairing),
        _no_common(place, pairing),
        unknown,
        wrong,
        unnamed,
        _left_out(place, pairing, choices.on_extra),
        _never_loaded(place, pairing),
        _losses(place, verdicts),
        _possible_nulls(place, loaded),
        _left_empty(place, pairing),
    )
    return Comparison(
        columns=tuple(verdict.plan for verdict in verdicts if isinstance(verdict, type_pairs.Match)),
        findings=tuple(finding for check in checks for finding in check),
        refused=frozenset(
            column.name.casefold()
            for pair, verdict in zip(loaded, verdicts, strict=True)
            if isinstance(verdict, type_pairs.Refusal)
            for column in pair
        ),
        omitted=_omitted(excluded, pairing, verdicts),
    )


# --- policies -----------------------------------------------------------------------------------------------


def _policies(
    place: Place, loaded: Sequence["_Pair"], choices: Choices
) -> tuple[tuple[Policies, ...], tuple[Finding, ...]]:
    """Return what holds for the values of each pair, and an error for each name that means no column, or several."""
    named: dict[str, ValuePolicies] = {}
    findings = []
    for name, policies in choices.column_policies.items():
        alike = [to.name for _, to in loaded if to.name == name] or [
            to.name for of, to in loaded if name.casefold() in (to.name.casefold(), of.name.casefold())
        ]
        if len(alike) == 1:
            named[alike[0]] = policies
            continue
        text = f"column_policies names {name}, which is not among the columns that are loaded"
        setting = place.key(f"column_policies[{json.dumps(name, ensure_ascii=False)}]")
        findings.append(place.error("setting_unknown", text, setting=setting))
    of_pairs = (named.get(to.name, ValuePolicies()).over(choices.policies) for _, to in loaded)
    return tuple(Policies.model_validate(each.model_dump(exclude_none=True)) for each in of_pairs), tuple(findings)


def _with_policies(
    verdict: type_pairs.Match | type_pairs.Refusal, policies: Policies
) -> type_pairs.Match | type_pairs.Refusal:
    if isinstance(verdict, type_pairs.Refusal):
        return verdict
    return replace(verdict, plan=verdict.plan.model_copy(update={"policies": policies}))


# --- what is not loaded -------------------------------------------------------------------------------------

_MOST_OMITTED = 8


def _excluded(
    place: Place, source: Sequence[SourceColumn], names: Sequence[str]
) -> tuple[list[SourceColumn], list[Finding]]:
    """Return the columns that the names mean, and an error for each name that means none, or several."""
    excluded, findings = [], []
    for name in names:
        alike = called(source, name)
        if len(alike) == 1:
            excluded += alike
            continue
        what = "is no column of the source" if not alike else f"could be any of {_listed(alike)}"
        text = f"exclude_columns names {name}, which {what}"
        setting = place.key("exclude_columns")
        advice = "write the name as Snowflake has it, or take it away"
        findings.append(place.error("column_excluded", text, advice, setting=setting))
    return excluded, findings


def not_excluded(source: Sequence[SourceColumn], names: Sequence[str]) -> tuple[SourceColumn, ...]:
    """Return the columns that none of the names excludes."""
    meant = [alike for name in names if len(alike := called(source, name)) == 1]
    return tuple(column for column in source if [column] not in meant)


def _omitted(
    excluded: Sequence[SourceColumn], pairing: "_Pairing", verdicts: Sequence[type_pairs.Match | type_pairs.Refusal]
) -> str:
    """Say in one clause what does not arrive: columns, and what types lose of values."""
    generated = [source for source, target in pairing.pairs if not _is_loaded(target)]
    reasons = (
        (pairing.source_alone, "not in the target"),
        (generated, "generated in the target"),
        (excluded, "excluded"),
    )
    columns = [f"{column.name} ({reason})" for group, reason in reasons for column in group]
    losses = [
        f"{verdict.plan.target.name}: {verdict.lossy}"
        for verdict in verdicts
        if isinstance(verdict, type_pairs.Match) and verdict.lossy
    ]
    parts = (f"without {_few(columns)}" if columns else "", _few(losses))
    return "; ".join(part for part in parts if part)


def _few(texts: Sequence[str]) -> str:
    more = [f"{len(texts) - _MOST_OMITTED} more"] if len(texts) > _MOST_OMITTED else []
    return ", ".join([*texts[:_MOST_OMITTED], *more])


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


def called(columns: Sequence[_Column], name: str) -> list[_Column]:
    """Return the column of that name, else those that differ from it in case only."""
    return [c for c in columns if c.name == name] or [c for c in columns if c.name.casefold() == name.casefold()]


def _mapped(
    place: Place, source: Sequence[SourceColumn], target: Sequence[TargetColumn], choices: Choices
) -> tuple[dict[str, _Pair], list[Finding]]:
    """Return the pairs that the choices make, by the target's name, and an error for each name that means no column."""
    mapped: dict[str, _Pair] = {}
    findings = []
    for from_name, to_name in choices.column_map.items():
        of, to = called(source, from_name), called(target, to_name)
        if len(of) == len(to) == 1:
            mapped[to[0].name] = (of[0], to[0])
            continue
        sides = ((from_name, of, "source"), (to_name, to, "target"))
        for name, alike, side in sides:
            if len(alike) != 1:
                what = f"could be any of {_listed(alike)}" if alike else f"is no column of the {side}"
                text = f"column_map names {name}, which {what}"
                setting = place.key("column_map")
                findings.append(
                    place.error("column_mapped", text, f"write the name as the {side} has it", setting=setting)
                )
    if choices.watermarks is not None and not called(target, choices.watermarks[0]):
        of, to = called(source, choices.watermarks[0]), called(target, choices.watermarks[1])
        if len(of) == len(to) == 1 and of[0] not in [pair[0] for pair in mapped.values()]:
            mapped.setdefault(to[0].name, (of[0], to[0]))
    return mapped, findings


def _pair(source: Sequence[SourceColumn], target: Sequence[TargetColumn], mapped: Mapping[str, _Pair]) -> _Pairing:
    taken = [pair[0] for pair in mapped.values()]
    everything = target
    source = [column for column in source if column not in taken]
    target = [column for column in target if column.name not in mapped]
    exact = {column.name for column in source} & {column.name for column in target}
    sources = _by_name(source, exact)
    targets = _by_name(target, exact)
    groups = [(sources[name], targets[name]) for name in targets if name in sources]
    pairs = {**mapped, **{to[0].name: (of[0], to[0]) for of, to in groups if len(of) == len(to) == 1}}
    return _Pairing(
        pairs=tuple(pairs[column.name] for column in everything if column.name in pairs),
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


def _ambiguities(place: Place, pairing: _Pairing) -> Iterator[Finding]:
    for of, to in pairing.ambiguous:
        yield place.error(
            "column_ambiguous",
            f"source {_listed(of)} and target {_listed(to)} differ in case only, so it is not clear which goes where",
            "rename them so that each pair has the same name to the letter",
            column=to[0].name,
            fix=tuple(
                place.alter(f"RENAME COLUMN {quoted(target.name)} TO {quoted(source.name)}")
                for source, target in zip(of, to, strict=False)
            ),
        )


def _cut_names(place: Place, pairing: _Pairing) -> Iterator[Finding]:
    """Names that PostgreSQL has cut, silently, so that they find no partner; or would make one of several."""
    for columns, meant in _mistaken(pairing):
        names = _listed(columns)
        what = (
            f"source columns {names} are the same in their first {POSTGRES_NAME_BYTES} bytes, which is all that "
            "PostgreSQL keeps of a name"
            if meant is None
            else f'source column {names} is longer than {POSTGRES_NAME_BYTES} bytes, and target column "{meant.name}" '
            "has what PostgreSQL left of it"
        )
        yield place.error(
            "column_name_long",
            what,
            "read the table through a Snowflake view with shorter names",
            column=columns[0].name if meant is None else meant.name,
            fix=tuple(f"{quoted(c.name)} AS {quoted(f'{_cut(c.name)[:50]}_{i}')}" for i, c in enumerate(columns, 1)),
        )


def _mistaken(pairing: _Pairing) -> Iterator[tuple[list[SourceColumn], TargetColumn | None]]:
    """Long names with the column that has one's first bytes, or several that have the same first bytes."""
    alike = defaultdict(list)
    for column in pairing.source_alone:
        if len(column.name.encode()) > POSTGRES_NAME_BYTES:
            alike[_cut(column.name).casefold()].append(column)
    meant = {column.name.casefold(): column for column in pairing.target_alone}
    for cut, columns in alike.items():
        if len(columns) > 1:
            yield columns, None
        elif cut in meant:
            yield columns, meant[cut]


def _cut(name: str) -> str:
    return name.encode()[:POSTGRES_NAME_BYTES].decode(errors="ignore")


def _refusals(
    place: Place, loaded: Iterable[_Pair], verdicts: Iterable[type_pairs.Match | type_pairs.Refusal]
) -> Iterator[Finding]:
    for (source, target), verdict in zip(loaded, verdicts, strict=True):
        if isinstance(verdict, type_pairs.Refusal):
            reason, _, advice = verdict.reason.rpartition("; ")
            fitting = type_pairs.best_type(source)
            fix = (place.alter(f"ALTER COLUMN {quoted(target.name)} TYPE {fitting}"),) if fitting else ()
            message = f'column "{target.name}": {reason}'
            yield place.error("column_type", message, advice, column=target.name, fix=fix)


def _unfed(place: Place, pairing: _Pairing) -> Iterator[Finding]:
    told = [meant for _, meant in _mistaken(pairing)]
    for column in pairing.target_alone:
        given_elsewhere = column.nullable or column.has_default or column.generated or column.identity
        if not given_elsewhere and column not in told:
            yield place.error(
                "column_unfed",
                f'target column "{column.name}" is NOT NULL without a default and has no source column',
                "give it a default, drop NOT NULL, or add it to the source by a Snowflake view",
                column=column.name,
                fix=(place.alter(f"ALTER COLUMN {quoted(column.name)} DROP NOT NULL"),),
            )


def _no_common(place: Place, pairing: _Pairing) -> Iterator[Finding]:
    if not any(_is_loaded(target) for _, target in pairing.pairs) and not pairing.ambiguous:
        yield place.error(
            "column_none",
            "source and target have no column in common that can be loaded",
            "check `source` and `target`",
        )


# --- warnings -----------------------------------------------------------------------------------------------


def _left_out(place: Place, pairing: _Pairing, on_extra: OnExtraColumns) -> Iterator[Finding]:
    told = [column for columns, _ in _mistaken(pairing) for column in columns]
    for column in pairing.source_alone:
        if column in told:
            continue
        kind, fitting = type_pairs.snowflake_type(column), type_pairs.best_type(column)
        is_long = len(column.name.encode()) > POSTGRES_NAME_BYTES
        there = {target.name for _, target in pairing.pairs} | {target.name for target in pairing.target_alone}
        folded = column.name.lower() if column.name.isupper() and column.name.lower() not in there else column.name
        add = place.alter(f"ADD COLUMN {quoted(folded)} {fitting}")
        yield (place.error if on_extra == "fail" else place.warning)(
            "column_name_long" if is_long else "column_missing",
            f'source column "{column.name}" is left out, the target has no such column',
            f"add it there ({kind} in Snowflake) if it is wanted"
            + (", under a shorter name that a Snowflake view gives it" if is_long else "")
            + (", or name it in exclude_columns" if on_extra == "fail" else ""),
            column=column.name,
            fix=(add,) if fitting and not is_long else (),
        )


def _never_loaded(place: Place, pairing: _Pairing) -> Iterator[Finding]:
    for source, target in pairing.pairs:
        if not _is_loaded(target):
            kind = "generated" if target.generated else "an identity that is always generated"
            action = "DROP EXPRESSION" if target.generated else "SET GENERATED BY DEFAULT"
            yield place.warning(
                "column_generated",
                f'source column "{source.name}" is left out, target column "{target.name}" is {kind}',
                "make it a plain column if the source's values are wanted",
                column=target.name,
                fix=(place.alter(f"ALTER COLUMN {quoted(target.name)} {action}"),),
            )


_MAY_BE_FINE = "nothing to do if that is fine"


def says_loss(warning: str) -> bool:
    """Whether it is the warning of a column whose type loses something."""
    return warning.endswith(_MAY_BE_FINE)


def _losses(place: Place, verdicts: Iterable[type_pairs.Match | type_pairs.Refusal]) -> Iterator[Finding]:
    for verdict in verdicts:
        if isinstance(verdict, type_pairs.Match) and verdict.lossy:
            source, target = verdict.plan.source, verdict.plan.target
            # Most semi-structured values hold no float, so this is no reason to warn at every start.
            tell = place.note if verdict.lossy == type_pairs.SIXTEEN_DIGITS else place.warning
            yield tell(
                "column_lossy",
                f'column "{target.name}", {type_pairs.snowflake_type(source)} into {type_pairs.postgres_type(target)}: '
                f"{verdict.lossy}",
                _MAY_BE_FINE,
                column=target.name,
            )


def _possible_nulls(place: Place, loaded: Iterable[_Pair]) -> Iterator[Finding]:
    for source, target in loaded:
        if source.nullable and not target.nullable:
            yield place.warning(
                "nulls",
                f'source column "{source.name}" may hold NULL, target column "{target.name}" is NOT NULL '
                "and a NULL would fail the load",
                "check the source, or drop NOT NULL",
                column=target.name,
                fix=(place.alter(f"ALTER COLUMN {quoted(target.name)} DROP NOT NULL"),),
            )


def _left_empty(place: Place, pairing: _Pairing) -> Iterator[Finding]:
    told = [meant for _, meant in _mistaken(pairing)]
    for column in pairing.target_alone:
        given_elsewhere = column.has_default or column.generated or column.identity
        if column.nullable and not given_elsewhere and column not in told:
            yield place.note(
                "column_extra",
                f'target column "{column.name}" has no source column and will be NULL in every row',
                "add it to the source by a Snowflake view, if it is to be filled",
                column=column.name,
            )


def _listed(columns: Sequence[SourceColumn] | Sequence[TargetColumn]) -> str:
    return ", ".join(f'"{column.name}"' for column in columns)
