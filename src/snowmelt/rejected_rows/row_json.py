"""A row as JSON and back: what is kept of a row that could not be loaded, and what is loaded of it later.

Every value is text as Arrow writes it, bytes are hexadecimal, NULL is null. Bytes of a text that are not UTF-8 come
through as lone surrogates (``\\udcff``), as Python's ``surrogateescape`` makes them, so that nothing is lost.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc

from snowmelt import disclosure
from snowmelt.columns.batch_conversion import arrow_type
from snowmelt.errors import DataError
from snowmelt.models import ColumnPlan

RowText: TypeAlias = Mapping[str, str | None]
"""Values of a row by the names of the source's columns."""


def row_text(batch: pa.RecordBatch, place: int, columns: Sequence[ColumnPlan]) -> bytes:
    """One row of a batch as Snowflake sent it, the columns in the order of the plan."""
    row = {
        column.source.name: _text(values.slice(place, 1))
        for values, column in zip(batch.columns, columns, strict=False)
    }
    return json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace")


def parsed(content: bytes) -> RowText:
    """The values of a row that ``row_text`` wrote; DataError when it is something else."""
    try:
        row = json.loads(content)
    except ValueError as error:
        raise DataError(f"a row is not JSON: {error}") from error
    except RecursionError:
        raise DataError("a row is not JSON of a name and a text for each value: it is nested too deep") from None
    if not isinstance(row, dict) or not all(value is None or isinstance(value, str) for value in row.values()):
        raise DataError("a row is not a JSON object whose values are texts or null")
    return row


def batch_of(rows: Mapping[int, RowText], columns: Sequence[ColumnPlan], *, where: str) -> pa.RecordBatch:
    """The rows, given by their numbers, as a batch of the plan's columns.

    DataError, which begins with ``where``, names the column of a value that cannot be read.
    """
    arrays = []
    for column in columns:
        name = column.source.name
        missing = next((number for number, row in rows.items() if name not in row), None)
        if missing is not None:
            raise DataError(f'{where}: row {missing} has no value for column "{name}"; null stands for NULL')
        try:
            arrays.append(_array([row[name] for row in rows.values()], arrow_type(column.wire)))
        except (pa.ArrowInvalid, ValueError) as error:
            # Arrow's words quote the value.
            raise DataError(
                f'{where}, column "{name}": the value cannot be read as {column.wire}: '
                f"{disclosure.fingerprint(error)}; write it as the export does"
            ) from error
    return pa.record_batch(arrays, names=[column.source.name for column in columns])


def _text(value: "pa.Array[Any]") -> str | None:
    if pa.types.is_dictionary(value.type):
        value = cast("pa.DictionaryArray[Any, Any]", value).dictionary_decode()
    if pa.types.is_string(value.type) or pa.types.is_binary(value.type):
        (raw,) = value.cast(pa.binary(), safe=False).to_pylist()
        if raw is None or pa.types.is_binary(value.type):
            return None if raw is None else raw.hex()
        return str(raw.decode(errors="surrogateescape"))
    (text,) = value.cast(pa.string()).to_pylist()  # by Arrow: Python knows no year before 1
    return text


def _array(texts: Sequence[str | None], wanted: pa.DataType) -> "pa.Array[Any]":
    if pa.types.is_binary(wanted):
        return pa.array([None if text is None else bytes.fromhex(text) for text in texts], wanted)
    raw = pa.array([None if text is None else text.encode(errors="surrogateescape") for text in texts], pa.binary())
    values: pa.Array[Any] = raw.cast(pa.string(), safe=False)
    if pa.types.is_time(wanted):  # Arrow reads no times of day, but times of a day
        values = pa.array([None if text is None else f"1970-01-01 {text}" for text in texts], pa.string())
        return values.cast(pa.timestamp("us")).cast(wanted)
    if pa.types.is_string(wanted):
        return values
    if pa.types.is_integer(wanted):
        return values.cast(pa.decimal128(38, 0)).cast(pa.int64())
    if pa.types.is_decimal(wanted):
        return _number(values, wanted.scale)
    if pa.types.is_date(wanted) or pa.types.is_timestamp(wanted):
        return _moments(texts, wanted)
    return values.cast(pa.float64() if pa.types.is_floating(wanted) else wanted)


_DAYS_IN_400_YEARS = 146_097
"""After so many days the calendar is the same again."""


def _moments(texts: Sequence[str | None], wanted: pa.DataType) -> "pa.Array[Any]":
    """Dates or times of any year: Arrow writes those before 0000 and after 9999, but does not read them."""
    cycles, within = [], []
    for text in texts:
        year, dash, rest = text[1:].partition("-") if text else ("", "", "")
        if text is None or not dash:
            cycles.append(0)
            within.append(text)
            continue
        cycle, year_within = divmod(int(text[0] + year) - 2000, 400)
        cycles.append(cycle)
        within.append(f"{2000 + year_within:04}-{rest}")
    days = pa.array(cycles, pa.int64())
    steps = _DAYS_IN_400_YEARS if pa.types.is_date(wanted) else _DAYS_IN_400_YEARS * 86_400_000_000
    read = pa.array(within, pa.string()).cast(wanted)
    count = pa.int32() if pa.types.is_date(wanted) else pa.int64()
    return pc.add(read.cast(count), pc.multiply(days, steps).cast(count)).cast(wanted)


def _number(texts: "pa.Array[Any]", scale: int) -> "pa.Array[Any]":
    """Decimal numbers as wide as can be: whether they fit is for the load to say."""
    digits = (len(text.partition(".")[2]) for text in texts.to_pylist() if text)
    return texts.cast(pa.decimal128(38, max(scale, *digits, 0)))
