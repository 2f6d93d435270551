"""What the rows themselves stand in the way with: one aggregate per table, asked of Snowflake.

Every condition counts rows that a load would refuse or change, by the very rules of the load.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from snowmelt import wording
from snowmelt.columns.batch_conversion import Doubt, doubts
from snowmelt.columns.type_pairs import NO_NANOSECONDS, best_type, postgres_type, quoted, remedy, snowflake_type
from snowmelt.config import TableConfig
from snowmelt.findings import Finding, Place
from snowmelt.models import ColumnPlan
from snowmelt.planning import load_mode, statement
from snowmelt.planning.load_mode import Loading
from snowmelt.preflight import duplicates
from snowmelt.preflight.duplicates import RepeatedKey, UniqueKey
from snowmelt.sql_text.lexer import bracketed

_CHANGED = {
    "strip": "lose them",
    "replace": "have them replaced",
    "truncate": "are cut",
    "null": "become NULL",
}


@dataclass(frozen=True)
class Looked:
    """A table whose rows can be looked at, and where they are read."""

    place: Place
    config: TableConfig
    source: str
    """The source table's full name as SQL."""
    conditions: tuple[str, ...]
    columns: tuple[ColumnPlan, ...]
    loading: Loading | None
    unique_keys: tuple[tuple[str, ...], ...] = ()
    """Target columns that the target keeps unique together."""
    equal_nulls: frozenset[frozenset[str]] = frozenset()
    """Those of them in which a NULL is a value like any other."""
    labels: Mapping[str, Sequence[str]] | None = None
    """The labels of each enum, by the type's name."""
    is_incremental: bool = False
    """Whether only rows since a stored watermark are read."""

    @property
    def key(self) -> tuple[str, ...]:
        """Target columns of the configured key; none where one of them is not loaded."""
        found, unknown = load_mode.target_key(self.config, self.columns)
        return () if unknown else found

    @property
    def kept_apart(self) -> tuple[UniqueKey, ...]:
        """Sets of loaded columns by which no two rows may be equal: the configured key, then unique indexes."""
        kept = [frozenset(key) for key in self.unique_keys]
        return duplicates.unique_keys(self.columns, self.key, kept, self.equal_nulls)

    def source_columns(self, key: Sequence[str]) -> tuple[str, ...]:
        """The source's names of target columns."""
        return load_mode.source_key(key, self.columns)


@dataclass(frozen=True)
class Counted:
    """The answer: how many rows there are, how many are doubtful, how often keys are NULL or repeated."""

    rows: int
    doubtful: tuple[tuple[ColumnPlan, Doubt, int], ...]
    null_keys: int
    repeated: tuple[RepeatedKey, ...]


# --- the question -----------------------------------------------------------------------------------------------------


def question(looked: Looked) -> str:
    """One row: COUNT(*), then a count for each doubt, for NULLs in the key, and two for each set of columns."""
    counts = ["COUNT(*)", *(f"COUNT_IF({doubt.where})" for _, doubt in _doubts(looked))]
    counts.append(f"COUNT_IF({_is_null(looked)})")
    counts += [expression for key in looked.kept_apart for expression in duplicates.counts(key)]
    named = ",\n       ".join(f"{expression} AS c{i}" for i, expression in enumerate(counts))
    where = f"\nWHERE {statement.all_of(looked.conditions)}" if looked.conditions else ""
    return f"SELECT {named}\nFROM {looked.source}{where}"


def answer(looked: Looked, row: Sequence[object]) -> Counted:
    """What the row of ``question`` says."""
    numbers = [int(str(value or 0)) for value in row]
    place = count()
    rows = numbers[next(place)]
    doubtful = tuple((column, doubt, numbers[next(place)]) for column, doubt in _doubts(looked))
    null_keys = numbers[next(place)]
    return Counted(rows, doubtful, null_keys, duplicates.answer(looked.kept_apart, numbers[next(place) :]))


def counts_of_keys(looked: Looked, row: Sequence[object]) -> Sequence[object]:
    """The part of the row of ``question`` that counts keys."""
    return row[2 + sum(1 for _ in _doubts(looked)) :]


def _doubts(looked: Looked) -> Iterator[tuple[ColumnPlan, Doubt]]:
    for column in looked.columns:
        for doubt in doubts(column, labels=(looked.labels or {}).get(column.target.declared)):
            yield column, doubt


def _is_null(looked: Looked) -> str:
    """The condition of a key that holds NULL where the target would take it."""
    nullable = {c.target.name for c in looked.columns if c.target.nullable}
    names = looked.source_columns([name for name in looked.key if name in nullable])
    return " OR ".join(f"{quoted(name)} IS NULL" for name in names) or "FALSE"


# --- what it means ----------------------------------------------------------------------------------------------------


def findings(looked: Looked, counted: Counted) -> Iterator[Finding]:
    """What the counts come to."""
    refused = sum(found for _, doubt, found in counted.doubtful if doubt.is_refused)
    for column, doubt, found in counted.doubtful:
        if found:
            is_tolerated = refused <= (looked.config.max_rejected_rows or 0)
            yield _doubtful(looked, column, doubt, found, is_tolerated=is_tolerated)
        elif _is_narrower(looked, column, doubt):
            yield looked.place.note(
                doubt.check,
                f'column "{column.target.name}", {snowflake_type(column.source)} into {postgres_type(column.target)}: '
                f"no row is in the way now, but one may come: {doubt.what}",
                column=column.target.name,
            )
    if counted.null_keys and looked.key:
        yield looked.place.error(
            "key_nulls",
            f"{_rows(counted.null_keys)} NULL in the key ({', '.join(looked.key)}), and could not be found again",
            "fix the rows, exclude them by source_filter, or name other uniqueness_columns",
            setting=looked.place.key("uniqueness_columns"),
            fix=(_filter(looked, f"NOT ({_is_null(looked)})"),),
        )
    for repeated in counted.repeated:
        yield duplicates.finding(looked.place, looked.config, repeated, is_incremental=looked.is_incremental)


def _is_narrower(looked: Looked, column: ColumnPlan, doubt: Doubt) -> bool:
    """Whether the source was declared to take what the target does not.

    What every column is unless someone says otherwise tells nothing: a VARCHAR of any length, a NUMBER of 38 digits, a
    key that may hold NULL, as all may in Snowflake.
    """
    source = column.source
    match doubt.check:
        case "nulls":
            return not any(column.target.name in key for key in (looked.key, *looked.unique_keys))
        case "too_long":
            return source.type == "TEXT" and source.length is not None and source.length < _LONGEST_DECLARED
        case "out_of_range":
            return source.type == "FIXED" and source.precision is not None and source.precision < _MOST_DIGITS
        case _:
            return False


_LONGEST_DECLARED = 16_777_216
"""Characters of a VARCHAR without a length; more in an account that allows larger objects."""
_MOST_DIGITS = 38
"""Digits of a NUMBER without a precision."""


def supersedes(looked: Looked, finding: Finding) -> bool:
    """Whether the counts tell more exactly what the finding only feared."""
    if finding.table != looked.place.table or finding.column not in {c.target.name for c in looked.columns}:
        return False
    return finding.check == "nulls" or (
        finding.check == "column_lossy" and finding.message.endswith(f": {NO_NANOSECONDS}")
    )


def _doubtful(looked: Looked, column: ColumnPlan, doubt: Doubt, found: int, *, is_tolerated: bool) -> Finding:
    place, name = looked.place, column.target.name
    what = f'column "{name}": {_rows(found)} a value that is in the way: {doubt.what}'
    if not doubt.is_refused:
        said = f"{what}; as value_policies say, they {_CHANGED.get(doubt.action, 'are changed')}"
        return place.warning(doubt.check, said, "nothing to do if that is meant", column=name)
    find = f"find them in Snowflake by WHERE {doubt.where}; fix them, or {_instead(column, doubt)}"
    ddl, policy = _ddl(place, column, doubt), f"column_policies[{json.dumps(name, ensure_ascii=False)}].{doubt.policy}"
    fix = (
        *((ddl,) if ddl else ()),
        *(place.line(policy, other) for other in doubt.other_actions),
        _filter(looked, f"NOT COALESCE({doubt.where}, FALSE)"),
    )
    judge = place.warning if is_tolerated else place.error
    return judge(doubt.check, what, find, column=name, fix=fix)


def _instead(column: ColumnPlan, doubt: Doubt) -> str:
    """What to do about rows that shall not be fixed."""
    if doubt.check == "nulls":
        return "drop NOT NULL"
    if doubt.check in _OF_TYPE:
        return remedy(column.source)
    return f"choose another way in value_policies.{doubt.policy}"


_OF_TYPE = ("too_long", "out_of_range", "unreadable_text")
"""Checks of values that another type of the column would take."""


def _ddl(place: Place, column: ColumnPlan, doubt: Doubt) -> str | None:
    name, fitting = quoted(column.target.name), best_type(column.source)
    if doubt.check == "nulls":
        return place.alter(f"ALTER COLUMN {name} DROP NOT NULL")
    if doubt.check in _OF_TYPE and fitting:
        return place.alter(f"ALTER COLUMN {name} TYPE {fitting}")
    return None


def _rows(found: int) -> str:
    return wording.counted(found, "row has", "rows have")


def _filter(looked: Looked, condition: str) -> str:
    given = looked.config.source_filter
    if not given:
        return looked.place.line("source_filter", condition)
    # On lines of its own where it may end in a comment, which would swallow the bracket.
    own = bracketed(given) if "--" in given or "//" in given else f"({given})"
    return looked.place.line("source_filter", f"{own} AND {condition}")
