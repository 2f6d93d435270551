"""What a verification found, as values for people and pipes."""

from typing import Literal

from pydantic import Field

from snowmelt.models import Value

Mode = Literal["counts", "checksums", "rows"]


class ColumnDifference(Value):
    """A value on both sides, as PostgreSQL writes it; None for NULL."""

    column: str
    source: str | None
    target: str | None


class RowDifference(Value):
    """A row that only one side has, or that holds other values. ``key`` is the whole row where there is no key."""

    kind: Literal["missing", "extra", "changed"]
    key: dict[str, str | None]
    columns: tuple[ColumnDifference, ...] = ()


class Repair(Value):
    """What a repair did, in one transaction."""

    updated: int
    inserted: int
    deleted: int


class TableVerdict(Value):
    """Whether a table's target holds what was read for it."""

    table: str
    target: str
    run_id: str | None
    mode: Mode
    verdict: Literal["equal", "different", "not comparable"]
    reason: str = ""
    """Why it is not comparable, or what is worth knowing of the comparison."""
    advice: str = ""
    """What to do about a table that is not comparable."""
    omitted: str = ""
    """What was not compared, in one clause: source columns that are not loaded, and what pairs of types lose."""
    snapshot: str = ""
    """Which state of the source was read."""
    sampled: int | None = None
    """Of so many keys one was looked at; None for all rows."""
    source_rows: int | None = None
    target_rows: int | None = None
    missing: int = 0
    """Rows that the target lacks."""
    extra: int = 0
    """Rows that the source does not have."""
    changed: int = 0
    """Keys whose row holds other values."""
    left_alone: int = 0
    """Rows that only the target has, where a merge or an append leaves such rows."""
    kept_newer: int = 0
    """Rows of the source that a merge does not load, as the target's rows have newer watermarks: they are equal."""
    gave_way: int = 0
    """Rows of the source that are not in the target because a newer one has the same key: it is equal without them."""
    rejected: int = 0
    """Rows that were refused, and kept with the reason: the target is equal without them."""
    by_column: dict[str, int] = Field(default_factory=dict)
    """How many of the rows that are shown differ in each column."""
    differences: tuple[RowDifference, ...] = ()
    """Some of the rows that differ."""
    not_exact: tuple[str, ...] = ()
    """Columns that the two servers spell differently: where their hashes differ, values were compared."""
    repaired: Repair | None = None
    seconds: float = 0.0

    @property
    def differs(self) -> bool:
        """Whether something is to be fixed."""
        return self.verdict == "different"


class Verification(Value):
    """The verdicts of all tables."""

    tables: tuple[TableVerdict, ...]

    @property
    def equal(self) -> bool:
        """Whether every table was compared and found equal."""
        return all(table.verdict == "equal" for table in self.tables)

    @property
    def differs(self) -> bool:
        """Whether a table was found to differ."""
        return any(table.differs for table in self.tables)

    @property
    def not_comparable(self) -> tuple[str, ...]:
        """The tables of which nothing could be found."""
        return tuple(table.table for table in self.tables if table.verdict == "not comparable")
