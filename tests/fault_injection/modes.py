"""The ways to load a table, each with a small table, its target as it stands before, and what must be in it after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from fault_injection.difference import Row

ROWS = 2_400
ROWS_PER_CHUNK = 500
TYPES = {"ID": "NUMBER(18,0)", "AMOUNT": "NUMBER(12,2)", "NOTE": "VARCHAR", "BOOKED": "TIMESTAMP_NTZ(6)"}
TARGET = ("CREATE TABLE {} (id bigint, amount numeric(12,2), note text, booked timestamp)",)
PARTITIONED = (
    "CREATE TABLE {} (id bigint, amount numeric(12,2), note text, booked timestamp) PARTITION BY RANGE (id)",
    "CREATE TABLE {0}_low PARTITION OF {0} FOR VALUES FROM (MINVALUE) TO (500)",
    "CREATE TABLE {0}_middle PARTITION OF {0} FOR VALUES FROM (500) TO (1700)",
    "CREATE TABLE {0}_rest PARTITION OF {0} DEFAULT",
)
CHOOSY = (
    "CREATE TABLE {} (id bigint, amount numeric(12,2) CHECK (amount > -10.5), note text, booked timestamp)",
    "ALTER TABLE {} ADD CHECK (note <> 'refused')",
)
COLUMNS = "id, amount, note, booked"
_ARROW = {
    "NUMBER(18,0)": pa.int64(),
    "NUMBER(12,2)": pa.decimal128(12, 2),
    "VARCHAR": pa.string(),
    "TIMESTAMP_NTZ(6)": pa.timestamp("us"),
}
_BEGAN = datetime(2024, 2, 29, 23, 59, 59, 999_999)  # noqa: DTZ001 - a TIMESTAMP_NTZ has no zone
_ODD = ("", None, "\\N", "NULL", "tab\tand\nline", "Größe ⛄", 'quoted "x", y')
_KEY = "ALTER TABLE {0} ADD PRIMARY KEY (id)"
_INDEXES = (
    "CREATE INDEX {0}_booked ON {0} (booked DESC NULLS LAST, amount) WHERE id > 3",
    "CREATE UNIQUE INDEX {0}_note ON {0} (id, note)",
    "CREATE INDEX {0}_lower ON {0} (lower(note))",
)


@dataclass(frozen=True)
class Mode:
    """One way to load; ``settings`` are the config's for the table, ``before`` the statements that make its target."""

    name: str
    settings: Mapping[str, Any]
    target: Sequence[str] = TARGET
    """Statements that make the table, with its columns only."""
    types: Mapping[str, str] = field(default_factory=lambda: TYPES, repr=False)
    """The source's columns."""
    icu: bool = False
    """Whether text is ordered by ICU in the target's database."""
    before: Sequence[str] = ()
    """Statements that come after those."""
    held: Sequence[Row] = ()
    """Rows that the target holds before."""
    keeps_held: bool = False
    """Whether rows that are held and not in the source stay."""
    held_win: bool = False
    """Whether a row that is held stays as it is, whatever the source has."""
    earlier: Sequence[Row] = field(default=(), repr=False)
    """What the source held when an earlier run moved it; then the target holds that."""
    later: Sequence[Row] = field(default=(), repr=False)
    """What the source holds after that, beside the first thousand of those rows."""
    passed_over: Sequence[Row] = field(default=(), repr=False)
    """Rows of the source that give way to newer ones of their key."""
    refused: Sequence[Row] = field(default=(), repr=False)
    """Rows of the source that the target refuses; what it holds under their keys stays."""

    @property
    def table(self) -> str:
        """The target's name; the source's is the same in upper case."""
        return self.name

    @property
    def adds_once(self) -> bool:
        """Whether nothing but the target's being empty keeps rows from coming twice."""
        return not {"truncate_onstart", "uniqueness_columns"} & self.settings.keys()

    def source(self) -> list[Row]:
        """What the source holds while faults strike."""
        first = list(self.earlier[:1_000]) or [row(i) for i in range(ROWS)]
        instead = {r[0]: r for r in self.refused}
        return [*(instead.get(r[0], r) for r in first), *self.passed_over, *self.later]

    def expected(self) -> list[Row]:
        """What the target must hold in the end."""
        passed_over, refused = set(self.passed_over), set(self.refused)
        source = [r for r in self.source() if r not in passed_over and r not in refused]
        held, keys = {r[0]: r for r in self.held}, {r[0] for r in source}
        kept = [r for r in self.held if r[0] not in keys] if self.keeps_held else []
        return kept + [held.get(r[0], r) if self.held_win else r for r in source]


def row(i: int) -> Row:
    """A row that differs from every other in each column, with NULL, empty and odd values among them."""
    note = f"entry {i}" if i % 5 else _ODD[i // 5 % len(_ODD)]
    return (i, None if i % 11 == 3 else Decimal(i * 37 - 999) / 100, note, _BEGAN + timedelta(seconds=i))


def as_arrow(rows: Sequence[Row], types: Mapping[str, str] = TYPES) -> pa.Table:
    """Rows as the stand-in loads them."""
    columns = zip(*rows, strict=True)
    return pa.table(
        {name: pa.array(column, _ARROW[kind]) for (name, kind), column in zip(types.items(), columns, strict=True)}
    )


def _stale(numbers: Sequence[int]) -> list[Row]:
    return [(i, Decimal(i), "of old", _BEGAN) for i in numbers]


_LEFT_BEHIND = _stale(range(-30, 200))
_MERGED_INTO = [*(row(i) for i in range(400)), *_stale(range(400, 700)), *_stale(range(-5, 0))]
_NEXT_DAY = _BEGAN + timedelta(days=1)
_FOLLOWING = [(i, Decimal(i), f"fixed {i}", _NEXT_DAY + timedelta(seconds=i)) for i in range(1_000, 3_000)]
_REFUSED = [(i, Decimal(-i) if i % 2 else Decimal(i), "refused", _BEGAN) for i in range(11, ROWS, 97)]
"""Some by one CHECK, some by two; those below 400 and from 400 to 700 are held by the target."""


def _marked(numbers: Sequence[int], mark: str, note: str) -> list[Row]:
    return [(i, Decimal(i), f"{note} {i}", f"{mark}{i:06d}") for i in numbers]


MODES: tuple[Mode, ...] = (
    Mode("copied", {}),
    Mode("refilled", {"truncate_onstart": True}, before=(_KEY, *_INDEXES), held=_LEFT_BEHIND),
    Mode(
        "reindexed",
        {"truncate_onstart": True, "disable_index": True},
        before=(_KEY, *_INDEXES),
        held=_LEFT_BEHIND,
    ),
    Mode("ranged", {"truncate_onstart": True, "chunking_columns": ["ID"]}, before=(_KEY,), held=_LEFT_BEHIND),
    Mode("merged", {"uniqueness_columns": ["ID"]}, before=(_KEY,), held=_MERGED_INTO, keeps_held=True),
    Mode(
        "merged_reindexed",
        {"uniqueness_columns": ["ID"], "disable_index": True},
        before=(_KEY, *_INDEXES),
        held=_MERGED_INTO,
        keeps_held=True,
    ),
    Mode(
        "added",
        {"uniqueness_columns": ["ID"], "insert_only_mode": True},
        before=(_KEY, *_INDEXES[:1]),
        held=_MERGED_INTO,
        keeps_held=True,
        held_win=True,
    ),
    Mode(
        "followed",
        {"uniqueness_columns": ["ID"], "source_watermark": "BOOKED", "watermark_overlap": "5s"},
        before=(_KEY, *_INDEXES[:1]),
        earlier=[row(i) for i in range(1_500)],
        later=_FOLLOWING,
    ),
    Mode(
        "partitioned",
        {"uniqueness_columns": ["ID"]},
        target=PARTITIONED,
        before=(_KEY, *_INDEXES[2:]),
        held=_MERGED_INTO,
        keeps_held=True,
    ),
    Mode(
        "partitioned_added",
        {"uniqueness_columns": ["ID"], "insert_only_mode": True},
        target=PARTITIONED,
        before=(_KEY,),
        held=_MERGED_INTO,
        keeps_held=True,
        held_win=True,
    ),
    Mode(
        "partly_refused",
        {"uniqueness_columns": ["ID"], "max_rejected_rows": 100},
        target=CHOOSY,
        before=(_KEY, *_INDEXES[:1]),
        held=_MERGED_INTO,
        keeps_held=True,
        refused=_REFUSED,
    ),
    Mode(
        "text_marked",
        {"uniqueness_columns": ["ID"], "source_watermark": "BOOKED", "watermark_overlap": "0s"},
        target=("CREATE TABLE {} (id bigint, amount numeric(12,2), note text, booked text)",),
        types={**TYPES, "BOOKED": "VARCHAR"},
        icu=True,
        before=(_KEY, *_INDEXES[:1]),
        earlier=_marked(range(1_500), "B", "first"),
        later=_marked(range(1_000, 3_000), "a", "newer"),
        passed_over=_marked(range(1_200, 2_800, 3), "Z", "older"),
    ),
)
"""Plain COPY into an empty table, COPY after TRUNCATE with indexes in place and with indexes taken away, by key ranges,
upsert with and without its other indexes, insert-only, an incremental run after an earlier one; upsert and insert-only
into partitions, upsert of which the target refuses rows, and an incremental run by a watermark of text, of which a key
comes twice: byte by byte ``a`` is newer than ``B`` and ``Z``, and ICU says the contrary."""
