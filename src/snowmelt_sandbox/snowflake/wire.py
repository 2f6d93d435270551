"""Rows as Snowflake lays them out in Arrow, which the connector's converter expects to the letter."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from snowmelt_sandbox.snowflake.declared_types import Column, DeclaredType

_TIMESTAMPS = ("timestamp_ntz", "timestamp_ltz", "timestamp_tz")
_TEXTS = ("text", "variant", "object", "array", "geography", "geometry")
_SENT_AS: dict[str, Any] = {"real": pa.float64(), "date": pa.date32()} | dict.fromkeys(_TEXTS, pa.string())
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UTC_OFFSET_MINUTES = 1440  # Snowflake adds a day so that the field is never negative


def encode(batch: pa.Table, columns: Sequence[Column]) -> bytes:
    """An Arrow stream of the rows, in the layout and with the field metadata of a Snowflake result batch."""
    arrays = [_column(batch.column(i).combine_chunks(), c.type) for i, c in enumerate(columns)]
    fields = [_field(c, a) for c, a in zip(columns, arrays, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _field(column: Column, array: Any) -> Any:
    declared = column.type
    # the converter knows no GEOGRAPHY; Snowflake sends GeoJSON as an OBJECT
    logical = "OBJECT" if declared.kind in ("geography", "geometry") else declared.kind.upper()
    metadata = {
        "logicalType": logical,
        "precision": str(declared.precision or 0 if declared.kind != "fixed" else declared.precision or 38),
        "scale": str(declared.scale or 0),
        "charLength": str(declared.length or 0),
        "byteLength": "16" if declared.kind == "timestamp_tz" else str(declared.length or 0),
    }
    return pa.field(column.name, array.type, metadata=metadata)


def _column(values: Any, declared: DeclaredType) -> Any:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks() if values.num_chunks else pa.array([], values.type)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = declared.kind
    if kind == "fixed":
        return _narrowest(values)
    if kind in _TIMESTAMPS:
        return _timestamp(values, declared)
    if kind == "time":
        return _rescale(values.cast(pa.time64("us")).cast(pa.int64()), declared.scale or 0)
    sent_as = _SENT_AS.get(kind)
    return values.cast(sent_as) if sent_as is not None else values


def _narrowest(values: Any) -> Any:
    """The scaled integers in as few bytes as this batch allows; widths differ from batch to batch, as in Snowflake."""
    if pa.types.is_decimal(values.type):
        whole = pa.decimal128(38, 0)  # the same bytes without the point: the scaled integer
        scaled = pa.Array.from_buffers(
            whole, len(values), values.buffers(), null_count=values.null_count, offset=values.offset
        )
        try:
            integers: Any = scaled.cast(pa.int64())
        except pa.ArrowInvalid:
            return values
    else:
        integers = values.cast(pa.int64())
    extent: Any = pc.min_max(integers).as_py()
    low, high = extent["min"] or 0, extent["max"] or 0
    for narrow, bits in ((pa.int8(), 7), (pa.int16(), 15), (pa.int32(), 31)):
        if -(1 << bits) <= low and high < (1 << bits):
            return integers.cast(narrow)
    return integers


def _rescale(microseconds: Any, scale: int) -> Any:
    """Microseconds in units of ``10 ** -scale`` seconds; what is finer is cut off, as in Snowflake."""
    if scale >= 6:
        return pc.multiply(microseconds, 10 ** (scale - 6))
    return _floor_divide(microseconds, 10 ** (6 - scale))


def _floor_divide(values: Any, divisor: int) -> Any:
    # Arrow's integer division truncates towards zero, which is wrong before 1970
    quotient = pc.divide(values, divisor)
    below = pc.less(values, pc.multiply(quotient, divisor))
    return pc.subtract(quotient, below.cast(pa.int64()))


def _timestamp(values: Any, declared: DeclaredType) -> Any:
    unit = pa.timestamp("us", tz=values.type.tz)
    microseconds = values.cast(unit).cast(pa.int64())
    scale = 9 if declared.scale is None else declared.scale
    if declared.kind != "timestamp_tz" and scale <= 6:
        return _rescale(microseconds, scale)
    present = pc.fill_null(microseconds, 0)
    epoch = _floor_divide(present, 1_000_000)
    fraction = pc.multiply(pc.subtract(present, pc.multiply(epoch, 1_000_000)), 1000)
    if scale < 6:
        step = 10 ** (9 - scale)
        fraction = pc.multiply(pc.divide(fraction, step), step)
    parts: dict[str, Any] = {"epoch": epoch, "fraction": fraction.cast(pa.int32())}
    if declared.kind == "timestamp_tz":
        parts["timezone"] = pa.array([_UTC_OFFSET_MINUTES], pa.int32()).take(pa.array([0] * len(values), pa.int32()))
    fields = [pa.field(name, part.type, nullable=False) for name, part in parts.items()]
    # without the mask a NULL arrives as 1970-01-01
    return pa.StructArray.from_arrays(list(parts.values()), fields=fields, mask=pc.is_null(values))


def as_json_rows(table: pa.Table) -> list[list[str | None]]:
    """The rows in the JSON form that Snowflake uses for the answers of statements that are not queries."""
    return [[_json_value(v) for v in row.values()] for row in _rows(table)]


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    names = [str(i) for i in range(table.num_columns)]  # duplicate names would collide in a dict
    return list(table.rename_columns(names).to_pylist())


def _json_value(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, datetime):
        seconds = f"{(value.replace(tzinfo=value.tzinfo or UTC) - _EPOCH) // timedelta(microseconds=1) / 10**6:.6f}"
        return f"{seconds} {_UTC_OFFSET_MINUTES}" if value.tzinfo else seconds
    if isinstance(value, date):
        return str((value - _EPOCH.date()).days)
    return str(value)


# --- and back ---------------------------------------------------------------------------------------------------------


def decoded_schema(columns: Sequence[Column]) -> pa.Schema:
    """What ``decode`` gives: each value in a type of Arrow's own."""
    return pa.schema([pa.field(c.name, _decoded_type(c.type)) for c in columns])


def decode(stored: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """The rows of a stored result batch, as they were before they were laid out for the connector."""
    arrays = [_decoded(stored.column(i).combine_chunks(), c.type) for i, c in enumerate(columns)]
    return pa.Table.from_arrays(arrays, schema=decoded_schema(columns))


def _decoded_type(declared: DeclaredType) -> Any:
    if declared.kind == "fixed":
        return pa.decimal128(declared.precision or 38, declared.scale or 0)
    return _DECODED.get(declared.kind, pa.string())


_DECODED: dict[str, Any] = {
    "real": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "boolean": pa.bool_(),
    "binary": pa.binary(),
    "timestamp_ntz": pa.timestamp("us"),
    "timestamp_ltz": pa.timestamp("us", tz="UTC"),
    "timestamp_tz": pa.timestamp("us", tz="UTC"),
}


def _decoded(values: Any, declared: DeclaredType) -> Any:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks() if values.num_chunks else pa.array([], values.type)
    wanted = _decoded_type(declared)
    if declared.kind == "fixed":
        return _with_point(values, wanted)
    if declared.kind == "time":
        return _microseconds(values.cast(pa.int64()), declared.scale or 0).cast(wanted)
    if declared.kind in _TIMESTAMPS:
        if not pa.types.is_struct(values.type):
            return _microseconds(values, 9 if declared.scale is None else declared.scale).cast(wanted)
        epoch, fraction = (values.field(name) for name in ("epoch", "fraction"))
        moments = pc.add(pc.multiply(epoch, 1_000_000), pc.divide(fraction.cast(pa.int64()), 1000))
        return pc.if_else(values.is_valid(), moments, pa.scalar(None, pa.int64())).cast(wanted)
    return values.cast(wanted)


def _with_point(values: Any, wanted: Any) -> Any:
    """Scaled integers as decimals: the same bytes with the point put back."""
    if pa.types.is_integer(values.type):
        values = values.cast(pa.int64()).cast(pa.decimal128(19, 0))
    return pa.Array.from_buffers(
        wanted, len(values), values.buffers(), null_count=values.null_count, offset=values.offset
    )


def _microseconds(values: Any, scale: int) -> Any:
    if scale >= 6:
        return _floor_divide(values, 10 ** (scale - 6))
    return pc.multiply(values, 10 ** (6 - scale))
