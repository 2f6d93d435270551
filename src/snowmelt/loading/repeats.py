"""Rows that have the key of another row and are to be rejected: Snowflake numbers the rows of each key for it.

The number comes as the last column of a batch, where the plan asks for it: 1 for the row to load, more for the others.
So it does not matter which chunk loads which of them, or when.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from snowmelt.columns.batch_conversion import Rejected
from snowmelt.columns.type_pairs import quoted
from snowmelt.errors import RejectedRowsError
from snowmelt.models import TablePlan

UNIQUE_VIOLATION = "23505"


def without_numbers(plan: TablePlan, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the batches without the numbers; RejectedRowsError at the first row that is to be rejected."""
    first_row = 1
    for batch in batches:
        rows, repeated = numbered(plan, batch)
        if repeated:
            raise RejectedRowsError(
                f"table {plan.source}: row {first_row + min(repeated)} of the chunk has the key of another row "
                f"({', '.join(plan.key)})"
            )
        yield rows
        first_row += batch.num_rows
        del batch, rows  # or they would stay in memory while the next one is fetched


def numbered(plan: TablePlan, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Collection[int]]:
    """Return the batch without the numbers, and the places of rows that are to be rejected."""
    if not plan.repeat_number:
        return batch, ()
    last = batch.num_columns - 1
    numbers = batch.column(last)
    rows = batch.select(list(range(last)))
    if batch.num_rows == 0 or pc.max(numbers).as_py() == 1:
        return rows, ()
    return rows, [place for place, number in enumerate(numbers.to_pylist()) if number != 1]


def reasons(plan: TablePlan, repeated: Collection[int]) -> Mapping[int, Rejected]:
    """Return why the rows at those places are rejected."""
    key = ", ".join(quoted(name) for name in plan.key)
    kept = f"the newest by {plan.watermark.source}" if plan.watermark else "the first one"
    reason = f"another row has the same key ({key}), of which {kept} is loaded, as on_duplicate_keys is reject"
    return {place: Rejected(place, ", ".join(plan.key), reason, UNIQUE_VIOLATION) for place in repeated}
