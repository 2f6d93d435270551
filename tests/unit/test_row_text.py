"""A row that is kept as JSON comes back as it was."""

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.errors import DataError
from snowmelt.models import ColumnPlan, SourceColumn, TargetColumn
from snowmelt.rejected_rows.row_json import batch_of, parsed, row_text

TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "decimal128(38, 9)": pa.decimal128(38, 9),
    "string": pa.string(),
    "binary": pa.binary(),
    "date32[day]": pa.date32(),
    "time64[us]": pa.time64("us"),
    "timestamp[us]": pa.timestamp("us"),
    "timestamp[us, tz=UTC]": pa.timestamp("us", "UTC"),
}
COLUMNS = tuple(
    ColumnPlan(
        source=SourceColumn(name=name.upper(), type="TEXT"),
        target=TargetColumn(name=name, type="text", nullable=True),
        select="x",
        wire=name,
    )
    for name in TYPES
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "decimal128(38, 9)": st.decimals(-(10**28), 10**28, places=9).map(Decimal),
    "string": st.text(),
    "binary": st.binary(),
    "date32[day]": st.integers(-1_500_000, 3_500_000),
    "time64[us]": st.integers(0, 86_399_999_999),
    "timestamp[us]": st.integers(-(10**17) * 2, 9 * 10**17),
    "timestamp[us, tz=UTC]": st.integers(-62135596800000000, 253402300799999999),
}


@given(row=st.tuples(*(st.none() | VALUES[name] for name in TYPES)))
def test_a_row_comes_back_as_it_was(row: tuple[Any, ...]) -> None:
    arrays = [pa.array([value], kind) for value, kind in zip(row, TYPES.values(), strict=True)]
    batch = pa.record_batch(arrays, names=list(TYPES))

    kept = row_text(batch, 0, COLUMNS)

    assert batch_of({1: parsed(kept)}, COLUMNS, where="here").columns == batch.columns


def test_bytes_that_are_not_utf8_come_back_as_they_were() -> None:
    bad = pa.array([b"caf\xe9 \xff"], pa.binary()).cast(pa.string(), safe=False)
    (column,) = (column for column in COLUMNS if column.wire == "string")

    kept = row_text(pa.record_batch([bad], names=["string"]), 0, [column])

    assert json.loads(kept)
    assert batch_of({1: parsed(kept)}, [column], where="here").column(0).cast(pa.binary(), safe=False).to_pylist() == [
        b"caf\xe9 \xff"
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nonsense", "a row is not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"INT64": 1}', "values are texts or null"),
    ],
)
def test_what_is_not_a_row_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        parsed(content)


def test_a_value_that_cannot_be_read_is_named_by_its_column() -> None:
    (column,) = (column for column in COLUMNS if column.wire == "int64")
    with pytest.raises(DataError, match='column "INT64": '):
        batch_of({1: {"INT64": "one"}}, [column], where="here")
    with pytest.raises(DataError, match='row 2 has no value for column "INT64"'):
        batch_of({1: {"INT64": "1"}, 2: {}}, [column], where="here")
