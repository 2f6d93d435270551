"""Find rows that the target would not keep apart: two of them with one key, as PostgreSQL will compare it.

One aggregated query counts them for every set of columns that the target keeps unique; a second one names a few.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from snowmelt import disclosure, wording
from snowmelt.columns.type_pairs import postgres_type, quoted
from snowmelt.config import TableConfig
from snowmelt.findings import Finding, Place
from snowmelt.models import ColumnPlan, OnDuplicateKeys, TablePlan, WatermarkPlan
from snowmelt.planning import statement
from snowmelt.planning.key_images import is_rejected, key_image, null_and_value, only_postgres_compares, stored_text

_SHOWN = 3
_ORDERED = ("TEXT", "FIXED", "REAL", "DATE", "TIME", "TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ")
"""Types of which MIN and MAX show two spellings of one key."""


@dataclass(frozen=True)
class UniqueKey:
    """Columns by which no two rows of the target may be equal; ``is_configured``: ``uniqueness_columns`` name them."""

    columns: tuple[ColumnPlan, ...]
    is_configured: bool = False
    nulls_are_equal: bool = False
    """Whether a NULL is a value like any other (NULLS NOT DISTINCT)."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns as the target names them."""
        return tuple(column.target.name for column in self.columns)

    @property
    def unsaid(self) -> tuple[ColumnPlan, ...]:
        """Columns whose values only PostgreSQL can compare."""
        return tuple(column for column in self.columns if only_postgres_compares(column))


@dataclass(frozen=True)
class RepeatedKey:
    """A key, how many rows have one that another row has, and a few of these."""

    key: UniqueKey
    rows: int
    by_postgres: int = 0
    """Those of them that only PostgreSQL takes for the same."""
    shown: Sequence[Sequence[object]] = ()


def unique_keys(
    columns: Sequence[ColumnPlan],
    key: Sequence[str],
    kept: Iterable[Set[str]],
    equal_nulls: Collection[Set[str]] = (),
) -> tuple[UniqueKey, ...]:
    """The configured key, if there is one, then every other set that the target keeps unique and that is loaded.

    ``equal_nulls`` are those sets in which a NULL is a value like any other.
    """
    by_name = {column.target.name: column for column in columns}
    others = dict.fromkeys(frozenset(names) for names in kept if set(names) != set(key) and set(names) <= set(by_name))
    configured = (UniqueKey(tuple(by_name[name] for name in key), is_configured=True),) if key else ()
    return (
        *configured,
        *(
            UniqueKey(
                tuple(c for c in columns if c.target.name in names),
                nulls_are_equal=any(names == e for e in equal_nulls),
            )
            for names in others
        ),
    )


# --- the questions ----------------------------------------------------------------------------------------------------


def counts(key: UniqueKey) -> tuple[str, str]:
    """Two aggregates: rows that have the whole key, and how many keys these are."""
    if key.nulls_are_equal:
        stored = _is_stored(key)
        parts = [part for column in key.columns for part in null_and_value(column)]
        counted = ", ".join([f"IFF({stored}, {parts[0]}, NULL)", *parts[1:]])
        return f"COUNT_IF({stored})", f"COUNT(DISTINCT {counted})"
    images = [key_image(column) for column in key.columns]
    return (
        f"COUNT_IF({' AND '.join(f'{image} IS NOT NULL' for image in images)})",
        f"COUNT(DISTINCT {', '.join(images)})",
    )


def _is_stored(key: UniqueKey) -> str:
    """The condition of rows whose key is not rejected."""
    rejected = [condition for column in key.columns if (condition := is_rejected(column))]
    return f"NOT COALESCE({' OR '.join(f'({each})' for each in rejected)}, FALSE)" if rejected else "TRUE"


def question(keys: Sequence[UniqueKey], *, source: str, conditions: Sequence[str]) -> str:
    """The query for one row: the two counts of each key."""
    wanted = [expression for key in keys for expression in counts(key)]
    named = ",\n       ".join(f"{expression} AS c{i}" for i, expression in enumerate(wanted))
    where = f"\nWHERE {statement.all_of(conditions)}" if conditions else ""
    return f"SELECT {named}\nFROM {source}{where}"


def numbers(keys: Sequence[UniqueKey], row: Sequence[object]) -> tuple[tuple[int, int], ...]:
    """How many rows have each key whole, and how many keys these are, as far as Snowflake can tell them apart."""
    counted = [int(str(value or 0)) for value in row]
    return tuple((counted[2 * i], counted[2 * i + 1]) for i in range(len(keys)))


def answer(keys: Sequence[UniqueKey], row: Sequence[object]) -> tuple[RepeatedKey, ...]:
    """Return the keys that more than one row has, as far as Snowflake can tell."""
    counted = zip(keys, numbers(keys, row), strict=True)
    return tuple(RepeatedKey(key, rows - images) for key, (rows, images) in counted if rows > images)


def spellings(key: UniqueKey, *, source: str, conditions: Sequence[str]) -> str:
    """The query for every key once, for PostgreSQL to compare: of what only it can compare the text that is sent."""
    images = [key_image(column) for column in key.columns]
    shown = ", ".join(
        f"MIN({stored_text(column)})" if only_postgres_compares(column) else image
        for column, image in zip(key.columns, images, strict=True)
    )
    where = statement.all_of((*conditions, *(f"{image} IS NOT NULL" for image in images)))
    return f"SELECT {shown}\nFROM {source}\nWHERE {where}\nGROUP BY {', '.join(images)}"


def examples(key: UniqueKey, *, source: str, conditions: Sequence[str]) -> str:
    """The query for a few keys that more than one row has: of each column two spellings, which may be the same."""
    images = [key_image(column) for column in key.columns]
    shown = ", ".join(text for column in key.columns for text in _spellings(column))
    present = [_is_stored(key)] if key.nulls_are_equal else [f"{image} IS NOT NULL" for image in images]
    where = statement.all_of((*conditions, *present))
    groups = ", ".join(images)
    return f"SELECT {shown}\nFROM {source}\nWHERE {where}\nGROUP BY {groups}\nHAVING COUNT(*) > 1\nLIMIT {_SHOWN}"


def _spellings(column: ColumnPlan) -> tuple[str, str]:
    if column.source.type not in _ORDERED:
        image = key_image(column)
        return image, image
    name = quoted(column.source.name)
    lowest, highest = f"MIN({name})", f"MAX({name})"
    if column.cut and column.source.type != "FIXED":  # a driver would cut just what tells the two
        digits = "HH24:MI:SS.FF9" if column.source.type == "TIME" else "YYYY-MM-DD HH24:MI:SS.FF9"
        return f"TO_VARCHAR({lowest}, '{digits}')", f"TO_VARCHAR({highest}, '{digits}')"
    return lowest, highest


def keys_of_both(one: TablePlan, other: TablePlan) -> str | None:
    """The query for how many keys both tables have, as they are read; None where they are merged by different keys."""
    if set(one.key) != set(other.key):
        return None

    def keys(plan: TablePlan) -> str:
        by_name = {column.target.name: column for column in plan.columns}
        images = [key_image(by_name[name]) for name in sorted(plan.key)]
        where = statement.all_of((*plan.conditions, *(f"{image} IS NOT NULL" for image in images)))
        return f"SELECT {', '.join(images)} FROM {plan.reads_from}\nWHERE {where}"  # noqa: S608 - quoted names

    return f"SELECT COUNT(*) FROM (\n{keys(one)}\nINTERSECT\n{keys(other)}\n) AS keys_of_both"  # noqa: S608


# --- what it means ----------------------------------------------------------------------------------------------------


def wanted(table: TableConfig) -> OnDuplicateKeys:
    """What becomes of rows with one key: what the config says, else the newest counts where there is a watermark."""
    return table.on_duplicate_keys or ("fail" if table.source_watermark is None else "newest")


def repeat_number(
    key: UniqueKey, *, watermark: WatermarkPlan | None, cut_by: Sequence[str], columns: Sequence[ColumnPlan]
) -> str:
    """SQL that numbers the rows of each key: 1 for the one to load, the newest one where there is a watermark.

    ``cut_by`` are source columns by which the table is cut into ranges: each is a statement of its own, and all of them
    must number alike. A row whose key is not whole, or not to be stored, repeats none.
    """
    images = [key_image(column) for column in key.columns]
    newest = [f"{quoted(watermark.source)} DESC NULLS LAST"] if watermark else []
    order = [*newest, *map(quoted, cut_by)] or [quoted(columns[0].source.name)]
    numbered = f"ROW_NUMBER() OVER (PARTITION BY {', '.join(images)} ORDER BY {', '.join(order)})"
    return f"IFF({' AND '.join(f'{image} IS NOT NULL' for image in images)}, {numbered}, 1)"


def finding(place: Place, table: TableConfig, repeated: RepeatedKey, *, is_incremental: bool) -> Finding:
    """What there is to say of rows that have one key, among all rows or only those that an incremental run reads."""
    key, found = repeated.key, repeated.rows
    names = ", ".join(column.source.name for column in key.columns)
    rows = f"{wording.counted(found, 'row has', 'rows have')} the same"
    again, allowed = (
        f"{_as_in(key, repeated.shown)}{_folding(key)}{_AMONG if is_incremental else ''}",
        table.max_rejected_rows or 0,
    )
    if not key.is_configured:
        judge = place.warning if found <= allowed else place.error
        return judge(
            "unique_duplicates",
            f"{rows} ({', '.join(key.names)}) as another, which a unique index of the target forbids{again}"
            + ("; they are rejected" if found <= allowed else ""),
            "correct the rows, exclude them by source_filter, set max_rejected_rows, or drop the index",
            column=key.names[0] if len(key.names) == 1 else None,
        )
    setting = place.key("uniqueness_columns")
    choice = wanted(table)
    if choice == "reject" and repeated.by_postgres:
        return place.error(
            "key_duplicates",
            f"{rows} key ({names}) as another, which only PostgreSQL can tell, so they cannot be rejected{again}",
            "correct the source, or set on_duplicate_keys to newest, with source_watermark",
            setting=place.key("on_duplicate_keys"),
        )
    match choice:
        case "newest":
            text = f"{rows} key ({names}) as a newer one, and give way to it{again}"
            return place.warning("key_duplicates", text, "nothing to do if that is meant", setting=setting)
        case "reject":
            judge = place.warning if found <= allowed else place.error
            text = f"{rows} key ({names}) as another, and are rejected, where max_rejected_rows is {allowed}{again}"
            return judge("key_duplicates", text, "correct the source", setting=place.key("max_rejected_rows"))
        case _:
            text = (
                f"the source holds the key ({names}) more than once ({wording.counted(found, 'row')} too many){again}"
            )
            why = ", and no watermark says which is newer" if table.source_watermark is None else ""
            return place.error(
                "key_duplicates",
                text + why,
                "correct uniqueness_columns or the source, name source_watermark, or set on_duplicate_keys",
                setting=setting,
            )


def shared(place: Place, one: TablePlan, other: TablePlan, found: int, *, has_same_key: bool) -> Iterator[Finding]:
    """What there is to say of two tables that are merged into one target and have keys in common."""
    setting = place.key("uniqueness_columns")
    if not has_same_key:
        yield place.error(
            "key_shared",
            f"{one.source} and {other.source} are merged into {other.target} by different keys "
            f"({', '.join(one.key)}; {', '.join(other.key)})",
            "name the same target columns in uniqueness_columns of both, or give each table its own target",
            setting=setting,
        )
        return
    if not found:
        return
    keys = f"{wording.counted(found, 'key')} ({', '.join(other.key)}) of {other.source} {'is' if found == 1 else 'are'}"
    text = f"{keys} in {one.source} too, which is merged into the same target {other.target}"
    if one.takes_newest and other.takes_newest and one.target_watermark == other.target_watermark:
        said = f"{text}; the row with the newest {other.target_watermark} counts"
        yield place.warning("key_shared", said, "nothing to do if that is meant", setting=setting)
        return
    yield place.error(
        "key_shared",
        f"{text}, and it would depend on chance which row stays",
        "exclude such rows by source_filter, or have the newest of both loaded: name source_watermark and "
        "target_watermark for both, with on_duplicate_keys newest",
        setting=setting,
    )


_AMONG = ", among the rows that are read since the stored watermark"


def _as_in(key: UniqueKey, rows: Sequence[Sequence[object]]) -> str:
    shown = "; ".join(
        ", ".join(f"{column.source.name}={_two(*row[2 * i : 2 * i + 2])}" for i, column in enumerate(key.columns))
        for row in rows
    )
    return f", as in {shown}" if shown else ""


def _two(first: object, second: object = None) -> str:
    if first == second or second is None:
        return disclosure.fingerprint(first)
    # Marks show where a text ends, to whoever sees it in full.
    marks = "'" if isinstance(first, str) else ""
    return " and ".join(f"{marks}{disclosure.fingerprint(each)}{marks}" for each in (first, second))


def _folding(key: UniqueKey) -> str:
    """Say which types compare otherwise than Snowflake does."""
    folding = [
        c
        for c in key.columns
        if only_postgres_compares(c) or (key_image(c) != quoted(c.source.name) and c.target.type in _FOLDING)
    ]
    named = ", ".join(f"{c.target.name} {postgres_type(c.target)}" for c in folding)
    return f", compared as the target compares them ({named})" if named else ""


_FOLDING = ("bpchar", "uuid", "float4", "time", "timetz", "timestamp", "timestamptz", "citext.citext", "inet", "cidr")
