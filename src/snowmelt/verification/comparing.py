"""Find what differs without moving rows: sums of hashes, then sums by buckets, then the hashes of few rows."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

HASHES = 1 << 64
_ROWS_PER_BUCKET = 2_000
_FEWEST_BUCKETS, _MOST_BUCKETS = 256, 1 << 16
ROWS_AT_ONCE = 200_000
"""Hashes that are fetched from each side at a time."""


@dataclass(frozen=True)
class Tally:
    """Rows, and the sum of their hashes; which side adds with a sign does not show."""

    rows: int = 0
    hashes: int = 0

    @classmethod
    def of(cls, rows: int, hashes: int | None) -> "Tally":
        """What a query gave: no rows have no sum."""
        return cls(int(rows), int(hashes or 0) % HASHES)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.rows + other.rows, (self.hashes + other.hashes) % HASHES)

    def __sub__(self, other: "Tally") -> "Tally":
        return Tally(self.rows - other.rows, (self.hashes - other.hashes) % HASHES)

    @classmethod
    def of_pairs(cls, pairs: Collection["Pair"]) -> "Tally":
        """Return the sum over rows whose hashes are known."""
        return cls(len(pairs), sum(row for _, row in pairs) % HASHES)


Pair = tuple[int, int]
"""The hash of a row's key, and of the row."""


class Side(Protocol):
    """Rows of which hashes can be asked."""

    def total(self) -> Tally:
        """All rows."""
        ...

    def buckets(self, count: int) -> Mapping[int, Tally]:
        """The rows by the key's hash modulo ``count``."""
        ...

    def pairs(self, count: int, buckets: Collection[int]) -> Iterable[Pair]:
        """The hashes of every row in those buckets."""
        ...


@dataclass
class Suspects:
    """Keys, by their hashes, under which the sides do not have the same rows."""

    missing: set[int] = field(default_factory=set)
    extra: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    missing_rows: int = 0
    extra_rows: int = 0

    @property
    def in_source(self) -> set[int]:
        """Keys whose rows the source has."""
        return self.missing | self.changed

    @property
    def in_target(self) -> set[int]:
        """Keys whose rows the target has."""
        return self.extra | self.changed

    def __len__(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.changed)

    def add(self, other: "Suspects") -> None:
        """Take in what was found elsewhere; keys are in one bucket only."""
        self.missing |= other.missing
        self.extra |= other.extra
        self.changed |= other.changed
        self.missing_rows += other.missing_rows
        self.extra_rows += other.extra_rows


def without(pairs: Iterable[Pair], left_out: Iterable[Pair]) -> Iterator[Pair]:
    """Yield the pairs but for as many of each as are left out."""
    waiting = Counter((key % HASHES, row % HASHES) for key, row in left_out)
    for key, row in pairs:
        pair = key % HASHES, row % HASHES
        if waiting[pair]:
            waiting[pair] -= 1
        else:
            yield pair


def bucket_count(rows: int) -> int:
    """How many buckets sort that many rows: a power of two, which signed and unsigned hashes agree about."""
    wanted = max(_FEWEST_BUCKETS, min(_MOST_BUCKETS, rows // _ROWS_PER_BUCKET))
    return 1 << (wanted - 1).bit_length()


def unequal_buckets(source: Mapping[int, Tally], target: Mapping[int, Tally]) -> dict[int, int]:
    """Buckets whose sums differ, each with the rows of its bigger side."""
    unequal = {}
    for bucket in source.keys() | target.keys():
        there, here = source.get(bucket, Tally()), target.get(bucket, Tally())
        if there != here:
            unequal[bucket] = max(there.rows, here.rows)
    return unequal


def groups(unequal: Mapping[int, int], rows_at_once: int = ROWS_AT_ONCE) -> Iterator[tuple[int, ...]]:
    """The buckets in groups of so many rows together; a bigger bucket is a group of its own."""
    group: list[int] = []
    rows = 0
    for bucket in sorted(unequal):
        if group and rows + unequal[bucket] > rows_at_once:
            yield tuple(group)
            group, rows = [], 0
        group.append(bucket)
        rows += unequal[bucket]
    if group:
        yield tuple(group)


def suspects(source: Iterable[Pair], target: Iterable[Pair], *, one_of: bool = False) -> Suspects:
    """What differs between the rows of the same buckets.

    ``one_of``: of the source's rows with the same key the target holds one, as a merge leaves it.
    """
    there, here = _by_key(source), _by_key(target)
    found = Suspects()
    for key in there.keys() | here.keys():
        wanted, got = there.get(key, Counter()), here.get(key, Counter())
        if wanted == got or (one_of and got.total() == 1 and wanted[next(iter(got))]):
            continue
        if not got:
            found.missing.add(key)
            found.missing_rows += wanted.total()
        elif not wanted:
            found.extra.add(key)
            found.extra_rows += got.total()
        elif wanted.keys() == got.keys() == {key}:  # rows without a key: the same row, other times
            more = got.total() - wanted.total()
            (found.extra if more > 0 else found.missing).add(key)
            found.extra_rows += max(0, more)
            found.missing_rows += max(0, -more)
        else:
            found.changed.add(key)
    return found


def _by_key(pairs: Iterable[Pair]) -> dict[int, "Counter[int]"]:
    by_key: dict[int, Counter[int]] = {}
    for key, row in pairs:
        by_key.setdefault(key % HASHES, Counter())[row % HASHES] += 1
    return by_key


def locate(source: Side, target: Side, rows: int, *, one_of: bool = False) -> Suspects:
    """The keys under which the sides differ."""
    found = locate_within(source, target, rows, most_statements=None, one_of=one_of)
    return found or Suspects()


def locate_within(
    source: Side, target: Side, rows: int, *, most_statements: int | None, one_of: bool = False
) -> Suspects | None:
    """Return the keys under which the sides differ; None where that takes more statements, each a pass over a side."""
    count = bucket_count(rows)
    unequal = unequal_buckets(source.buckets(count), target.buckets(count))
    found = Suspects()
    parts = list(groups(unequal))
    if most_statements is not None and len(parts) > most_statements:
        return None
    for group in parts:
        found.add(suspects(source.pairs(count, group), target.pairs(count, group), one_of=one_of))
    return found


def in_parts(keys: Collection[int], most: int) -> Iterator[Sequence[int]]:
    """The keys, in order, in parts of so many."""
    ordered = sorted(keys)
    for start in range(0, len(ordered), most):
        yield ordered[start : start + most]
