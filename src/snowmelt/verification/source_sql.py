"""What Snowflake is asked: one query that adds up hashes, the same by buckets, and the rows of some hashes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest

from snowmelt.columns.batch_conversion import cut_masks
from snowmelt.columns.type_pairs import quoted
from snowmelt.models import ColumnPlan, TablePlan
from snowmelt.planning import statement
from snowmelt.sql_text.literals import constant
from snowmelt.verification import forms

LONGEST_STATEMENT = 500_000
"""Characters of a statement that hashes rows; Snowflake takes a megabyte, and keys and buckets come on top."""


class StatementTooLongError(Exception):
    """A row of this table has too many columns for Snowflake to hash it in one statement."""


_KEY, _ROW = '"snowmelt key"', '"snowmelt row"'


@dataclass(frozen=True)
class SourceRows:
    """Rows as the load's statement gave them, columns called as in the target, and how they are hashed.

    Without a key a row is its own key.
    """

    select: str
    columns: tuple[ColumnPlan, ...]
    compared: tuple[ColumnPlan, ...]
    key: tuple[ColumnPlan, ...]
    every: int = 1
    """Only rows whose key's hash is a multiple of it, a power of two."""
    without: tuple[tuple[int, int], ...] = ()
    """Hashes of rows that ``rows`` leaves out, each with how many of such rows."""

    def count(self) -> str:
        """One row: how many there are."""
        if self.every == 1:
            return f"SELECT COUNT(*) FROM (\n{self.select}\n) AS source_rows"  # noqa: S608
        return f"SELECT COUNT(*) FROM {self._hashed()}"  # noqa: S608 - put together from quoted names and numbers

    def total(self) -> str:
        """One row: how many there are, and the sum of their hashes; StatementTooLongError if it cannot be asked."""
        statement = f"SELECT COUNT(*), SUM({_ROW}) FROM {self._hashed()}"  # noqa: S608
        if len(statement) > LONGEST_STATEMENT:
            raise StatementTooLongError
        return statement

    def buckets(self, count: int) -> str:
        """A row per bucket of key hashes: its number, rows, sum of hashes."""
        return f"SELECT MOD({_KEY}, {count:d}), COUNT(*), SUM({_ROW}) FROM {self._hashed()}\nGROUP BY 1"  # noqa: S608

    def pairs(self, count: int, buckets: Collection[int]) -> str:
        """A row per row of those buckets: the hashes of its key and of itself."""
        wanted = ", ".join(map(str, sorted(buckets)))
        return f"SELECT {_KEY}, {_ROW} FROM {self._hashed()}\nWHERE MOD({_KEY}, {count:d}) IN ({wanted})"  # noqa: S608

    def all_pairs(self) -> str:
        """A row per row: the hashes of its key and of itself."""
        return f"SELECT {_KEY}, {_ROW} FROM {self._hashed()}"  # noqa: S608

    def texts(self) -> str:
        """A row per row: the text of its key and its own, as they are before they are hashed."""
        key, row = (
            forms.record_in_snowflake([forms.form(column, quoted(column.target.name)).source for column in columns])
            for columns in (self._key, self.compared)
        )
        return f"SELECT {key}, {row} FROM {self._prepared(self.compared)}"  # noqa: S608 - quoted names

    def copies(self, rows: Collection[int]) -> str:
        """A row per hash of a row that is there: the hash, and of how many rows."""
        wanted = ", ".join(map(str, sorted(rows)))
        return f"SELECT {_ROW}, COUNT(*) FROM {self._hashed()}\nWHERE {_ROW} IN ({wanted})\nGROUP BY 1"  # noqa: S608

    def rows(self, keys: Collection[int] | None = None) -> str:
        """The rows with those key hashes, or all, in the form of the load's statement; without those left out."""
        names = [quoted(column.target.name) for column in self.columns]
        # What the masks tell was told and counted by the load.
        selected = ", ".join([*names, *("0" for _ in cut_masks(self.columns))])
        conditions = self._sampled()
        if keys is not None:
            conditions.append(f"{_KEY} IN ({', '.join(map(str, sorted(keys)))})")
        where = f"\nWHERE {' AND '.join(conditions)}" if conditions else ""
        hashes, hashed = f"{self._hash(self._key)} AS {_KEY}", self._key
        if self.without:
            hashes, hashed = f"{hashes}, {self._hash(self.compared)} AS {_ROW}", (*self._key, *self.compared)
            where += f"\nQUALIFY {self._is_kept()}"
        return f"SELECT {selected} FROM (\nSELECT *, {hashes} FROM {self._prepared(hashed)}\n) AS known_rows{where}"  # noqa: S608

    def _is_kept(self) -> str:
        """Of rows with the same hash, which are the same, as many are left out as are to be."""
        left_out = ", ".join(f"{row}, {count}" for row, count in self.without)
        return f"ROW_NUMBER() OVER (PARTITION BY {_ROW} ORDER BY {_KEY}) > DECODE({_ROW}, {left_out}, 0)"

    @property
    def _key(self) -> tuple[ColumnPlan, ...]:
        return self.key or self.compared

    def _sampled(self) -> list[str]:
        return [f"MOD({_KEY}, {self.every:d}) = 0"] if self.every > 1 else []

    def _hashed(self) -> str:
        """The hashes of all rows, or of the sample's."""
        row = self._hash(self.compared)
        key = self._hash(self.key) if self.key else row
        hashed = f"(\nSELECT {key} AS {_KEY}, {row} AS {_ROW} FROM {self._prepared(self.compared)}\n) AS hashed_rows"
        if not self._sampled():
            return hashed
        return f"(\nSELECT * FROM {hashed}\nWHERE {self._sampled()[0]}\n) AS hashed_rows"

    def _prepared(self, columns: Sequence[ColumnPlan]) -> str:
        """The rows with what their forms have computed beforehand."""
        prepared = f"(\n{self.select}\n) AS source_rows"
        for level in zip_longest(*(forms.form(c, quoted(c.target.name)).steps for c in (*columns, *self.key))):
            added = ", ".join(dict.fromkeys(f"{step[1]} AS {step[0]}" for step in level if step is not None))
            prepared = f"(SELECT *, {added} FROM {prepared}) AS source_rows"  # noqa: S608
        return prepared

    @staticmethod
    def _hash(columns: Sequence[ColumnPlan]) -> str:
        return forms.hash_in_snowflake([forms.form(column, quoted(column.target.name)).source for column in columns])


def of_result(query_id: str) -> str:
    """The rows of a result that Snowflake keeps."""
    return f"SELECT * FROM TABLE(RESULT_SCAN({constant(query_id)}))"  # noqa: S608 - a literal


def of_table(plan: TablePlan) -> str:
    """The rows that the plan's statement gives now, or at the moment that its name says."""
    return statement.of_chunk(plan.model_copy(update={"order_by": ()}))


def as_of(plan: TablePlan, moment: datetime) -> TablePlan:
    """Return the plan, reading its table as it was at that moment.

    ``BEFORE(STATEMENT => …)`` would show it as it was when a statement completed, with what was committed meanwhile.
    """
    return plan.model_copy(update={"reads_from": f"{plan.reads_from} {statement.at(moment)}"})
