"""The ways to load a table, each with a small table, its target as it stands before, and what must be in it after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from snowmelt.local.faults.difference import Row

ROWS = 2_400
ROWS_PER_CHUNK = 500
TYPES = {"ID": "NUMBER(18,0)", "AMOUNT": "NUMBER(12,2)", "NOTE": "VARCHAR", "BOOKED": "TIMESTAMP_NTZ(6)"}
TARGET = "CREATE TABLE {} (id bigint, amount numeric(12,2), note text, booked timestamp)"
COLUMNS = "id, amount, note, booked"
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
    before: Sequence[str] = ()
    held: Sequence[Row] = ()
    """Rows that the target holds before."""
    keeps_held: bool = False
    """Whether rows that are held and not in the source stay."""
    held_win: bool = False
    """Whether a row that is held stays as it is, whatever the source has."""
    earlier: Sequence[Row] = field(default=(), repr=False)
    """What the source held when an earlier run moved it; then the target holds that."""

    @property
    def table(self) -> str:
        """The target's name; the source's is the same in upper case."""
        return self.name

    def source(self) -> list[Row]:
        """What the source holds while faults strike."""
        if not self.earlier:
            return [row(i) for i in range(ROWS)]
        later = _BEGAN + timedelta(days=1)
        newer = [(i, Decimal(i), f"mended {i}", later + timedelta(seconds=i)) for i in range(1_000, 3_000)]
        return [*self.earlier[:1_000], *newer]

    def expected(self) -> list[Row]:
        """What the target must hold in the end."""
        source, held = self.source(), {r[0]: r for r in self.held}
        keys = {r[0] for r in source}
        kept = [r for r in self.held if r[0] not in keys] if self.keeps_held else []
        return kept + [held.get(r[0], r) if self.held_win else r for r in source]


def row(i: int) -> Row:
    """A row that differs from every other in each column, with NULL, empty and odd values among them."""
    note = f"entry {i}" if i % 5 else _ODD[i // 5 % len(_ODD)]
    return (i, None if i % 11 == 3 else Decimal(i * 37 - 999) / 100, note, _BEGAN + timedelta(seconds=i))


def as_arrow(rows: Sequence[Row]) -> pa.Table:
    """Rows as the stand-in loads them."""
    ids, amounts, notes, booked = zip(*rows, strict=True)
    return pa.table(
        {
            "ID": pa.array(ids, pa.int64()),
            "AMOUNT": pa.array(amounts, pa.decimal128(12, 2)),
            "NOTE": pa.array(notes, pa.string()),
            "BOOKED": pa.array(booked, pa.timestamp("us")),
        }
    )


def _stale(numbers: Sequence[int]) -> list[Row]:
    return [(i, Decimal(i), "of old", _BEGAN) for i in numbers]


_LEFT_BEHIND = _stale(range(-30, 200))
_MERGED_INTO = [*(row(i) for i in range(400)), *_stale(range(400, 700)), *_stale(range(-5, 0))]

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
    ),
)
"""Plain COPY into an empty table, COPY after TRUNCATE with indexes in place and with indexes taken away, by key ranges,
upsert with and without its other indexes, insert-only, and an incremental run after an earlier one."""
