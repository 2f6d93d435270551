"""Which values travel from Snowflake into which PostgreSQL columns, and as what.

A pair of types is allowed because it stands in ``_WAYS``; every other pair is refused. That is a matter of
safety: binary COPY reads eight bytes as whatever the column is, so a wrong pair of the same width corrupts
silently, and a narrower column rounds or cuts without a word. Hence digits, fractions and lengths are
compared too. What does not arrive as it was is said in ``Match.lossy``; what depends on the values (a number
too big for an integer, a text too long) is checked value by value before it is sent.

    Snowflake               PostgreSQL                              travels as
    NUMBER(p,0)             int2, int4, int8                        int16 .. int64; out of range is an error
    NUMBER(p,s)             numeric, numeric(P,S) with S >= s       decimal; too big is an error
    NUMBER(p,s)             float4 if p <= 6, float8 if p <= 15     float, double
    FLOAT                   float8                                  double
    BOOLEAN                 bool                                    bool
    VARCHAR                 text, varchar, varchar(n)               string; too long is an error
    VARCHAR                 bpchar, char(n) (lossy)                 string; too long is an error
    VARCHAR                 json, jsonb (lossy)                     string
    VARCHAR                 uuid                                    string, encoded to 16 bytes
    VARIANT, OBJECT, ARRAY  json, jsonb, text, varchar, varchar(n)  JSON text
    BINARY                  bytea                                   binary
    DATE                    date                                    date
    DATE                    timestamp, timestamp(p)                 timestamp at midnight
    TIME(s)                 time, time(p)                           time; p >= s, or p = 6 (lossy)
    TIMESTAMP_NTZ(s)        timestamp, timestamp(p)                 timestamp; p >= s, or p = 6 (lossy)
    TIMESTAMP_NTZ(s)        timestamptz (lossy)                     timestamp, taken as UTC
    TIMESTAMP_LTZ(s)        timestamptz, timestamp (lossy)          the moment in UTC
    TIMESTAMP_TZ(s)         timestamptz, timestamp (both lossy)     the moment in UTC
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from snowmelt.errors import DataError
from snowmelt.models import ColumnPlan, SourceColumn, TargetColumn

MICROSECOND_DIGITS = 6
"""Digits of a second that PostgreSQL keeps."""


@dataclass(frozen=True)
class Match:
    """A column that can travel; ``lossy`` says what does not arrive as it was, None if all does."""

    plan: ColumnPlan
    lossy: str | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a column cannot travel, and what would let it."""

    reason: str


def match(source: SourceColumn, target: TargetColumn) -> Match | Refusal:
    """How the source column's values get into the target column, or why they do not."""
    way = _WAYS.get(source.type, {}).get(target.type)
    if way is None:
        return Refusal(f"{_no_way(source, target)}; {_cure(source)}")
    found = way(source, target)
    if isinstance(found, str):
        return Refusal(f"{_no_way(source, target)}: {found}; {_cure(source)}")
    select = found.select(snowflake_identifier(source.name))
    return Match(ColumnPlan(source=source, target=target, select=select, wire=found.wire), found.lossy)


def allowed_pairs() -> frozenset[tuple[str, str]]:
    """Every pair of a Snowflake and a PostgreSQL type that can travel, if digits and lengths allow it."""
    return frozenset((source, target) for source, ways in _WAYS.items() for target in ways)


def snowflake_identifier(name: str) -> str:
    """The name quoted for Snowflake, exact in case and characters."""
    return '"' + name.replace('"', '""') + '"'


# --- types in words -----------------------------------------------------------------------------------------


def snowflake_type(column: SourceColumn) -> str:
    """The column's type as Snowflake's DDL writes it."""
    match column.type:
        case "FIXED":
            return f"NUMBER({_precision(column)},{_scale(column)})"
        case "REAL":
            return "FLOAT"
        case "TEXT":
            return "VARCHAR" if column.length is None else f"VARCHAR({column.length})"
        case "TIME" | "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ":
            return f"{column.type}({_fraction_digits(column)})"
        case _:
            return column.type


def postgres_type(column: TargetColumn) -> str:
    """The column's type with what its typmod says: ``numeric(10,2)``, ``varchar(20)``, ``timestamp(0)``."""
    if column.typmod < 0:
        return column.type
    match column.type:
        case "numeric":
            precision, scale = numeric_digits(column.typmod)
            return f"numeric({precision},{scale})"
        case "varchar" | "bpchar":
            return f"{column.type}({column.typmod - _VARLENA_HEADER})"
        case "time" | "timestamp" | "timestamptz":
            return f"{column.type}({column.typmod})"
        case _:
            return column.type


_VARLENA_HEADER = 4
"""What PostgreSQL adds to the length or the digits in a typmod."""


def numeric_digits(typmod: int) -> tuple[int, int]:
    """Precision and scale of a constrained ``numeric``; the scale is a signed number of 11 bits."""
    packed = typmod - _VARLENA_HEADER
    scale = packed & 0x7FF
    return packed >> 16, scale - 0x800 if scale & 0x400 else scale


def longest_text(plan: ColumnPlan) -> int | None:
    """Characters that fit into the target, if a value of the source may be longer; None if none can be."""
    if plan.target.type not in ("varchar", "bpchar") or plan.target.typmod < 0:
        return None
    limit = plan.target.typmod - _VARLENA_HEADER
    never_longer = plan.source.type == "TEXT" and plan.source.length is not None and plan.source.length <= limit
    return None if never_longer else limit


def _precision(column: SourceColumn) -> int:
    return 38 if column.precision is None else column.precision


def _scale(column: SourceColumn) -> int:
    return column.scale or 0


def _fraction_digits(column: SourceColumn) -> int:
    return 9 if column.scale is None else column.scale


# --- ways ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Way:
    """How a column travels: the Arrow type of its values, and what reads them, given the quoted name."""

    wire: str
    select: Callable[[str], str] = str
    lossy: str | None = None


_Rule = Callable[[SourceColumn, TargetColumn], _Way | str]
"""Gives the way for one pair of types, or what is wrong with this pair of lengths and digits."""


def _always(way: _Way) -> _Rule:
    return lambda _source, _target: way


def _whole(wire: str) -> _Rule:
    def rule(source: SourceColumn, target: TargetColumn) -> _Way | str:
        if _scale(source) > 0:
            return f"{target.type} has no digits after the point"
        return _Way(wire)

    return rule


def _numeric(source: SourceColumn, target: TargetColumn) -> _Way | str:
    as_it_is = _Way(f"decimal128({_precision(source)}, {_scale(source)})")
    if target.typmod < 0:
        return as_it_is
    precision, scale = numeric_digits(target.typmod)
    if scale < _scale(source):
        return f"{_scale(source)} digits after the point would be rounded to {scale}"
    if precision > _DECIMAL_DIGITS:
        return as_it_is  # PostgreSQL adds zeros, and raises where a value has too many digits before the point
    return _Way(f"decimal128({precision}, {scale})")


_DECIMAL_DIGITS = 38
"""What Arrow's decimal128 and Snowflake's NUMBER hold."""


def _float(wire: str, digits: int) -> _Rule:
    def rule(source: SourceColumn, target: TargetColumn) -> _Way | str:
        if _precision(source) > digits:
            return f"{target.type} keeps {digits} digits of {_precision(source)}"
        return _Way(wire, select=lambda name: f"{name}::FLOAT")  # Snowflake rounds correctly, Arrow's cast does not

    return rule


def _clock(wire: str, *, select: Callable[[str], str] = str, lossy: str | None = None) -> _Rule:
    def rule(source: SourceColumn, target: TargetColumn) -> _Way | str:
        digits = _fraction_digits(source)
        kept = MICROSECOND_DIGITS if target.typmod < 0 else target.typmod
        if digits > kept and kept < MICROSECOND_DIGITS:
            return f"{digits} digits of a second would be rounded to {kept}"
        losses = (lossy, _NO_NANOSECONDS if digits > kept else None)
        return _Way(wire, select, " and ".join(loss for loss in losses if loss) or None)

    return rule


def _utc(name: str) -> str:
    return f"CONVERT_TIMEZONE('UTC', {name})::TIMESTAMP_NTZ"


def _midnight(name: str) -> str:
    return f"{name}::TIMESTAMP_NTZ"


def _json(name: str) -> str:
    return f"TO_JSON({name})"


_TIMESTAMP, _TIMESTAMP_UTC = "timestamp[us]", "timestamp[us, tz=UTC]"
_NO_NANOSECONDS = "digits of a second below the microsecond are cut off"
_NO_OFFSET = "the moment is kept, the UTC offset it was written with is not"
_NO_BLANKS = "blanks at the end of a value mean nothing in this type"
_NO_SPELLING = "the JSON value is kept, its spelling (blanks, order of keys, repeated keys) is not"

_FROM_JSON: Mapping[str, _Rule] = {
    "json": _always(_Way("string", _json)),
    "jsonb": _always(_Way("string", _json)),
    "text": _always(_Way("string", _json)),
    "varchar": _always(_Way("string", _json)),
}

_WAYS: Mapping[str, Mapping[str, _Rule]] = {
    "FIXED": {
        "int2": _whole("int16"),
        "int4": _whole("int32"),
        "int8": _whole("int64"),
        "numeric": _numeric,
        "float4": _float("float", digits=6),
        "float8": _float("double", digits=15),
    },
    "REAL": {"float8": _always(_Way("double"))},
    "BOOLEAN": {"bool": _always(_Way("bool"))},
    "TEXT": {
        "text": _always(_Way("string")),
        "varchar": _always(_Way("string")),
        "bpchar": _always(_Way("string", lossy=_NO_BLANKS)),
        "json": _always(_Way("string")),
        "jsonb": _always(_Way("string", lossy=_NO_SPELLING)),
        "uuid": _always(_Way("string")),
    },
    "VARIANT": _FROM_JSON,
    "OBJECT": _FROM_JSON,
    "ARRAY": _FROM_JSON,
    "BINARY": {"bytea": _always(_Way("binary"))},
    "DATE": {
        "date": _always(_Way("date32[day]")),
        "timestamp": _always(_Way(_TIMESTAMP, _midnight)),
    },
    "TIME": {"time": _clock("time64[us]")},
    "TIMESTAMP_NTZ": {
        "timestamp": _clock(_TIMESTAMP),
        "timestamptz": _clock(_TIMESTAMP_UTC, lossy="it names no time zone and is taken as UTC"),
    },
    "TIMESTAMP_LTZ": {
        "timestamp": _clock(_TIMESTAMP, select=_utc, lossy="the moment is written in UTC"),
        "timestamptz": _clock(_TIMESTAMP_UTC, select=_utc),
    },
    "TIMESTAMP_TZ": {
        "timestamp": _clock(_TIMESTAMP, select=_utc, lossy=f"the moment is written in UTC and {_NO_OFFSET}"),
        "timestamptz": _clock(_TIMESTAMP_UTC, select=_utc, lossy=_NO_OFFSET),
    },
}


def _no_way(source: SourceColumn, target: TargetColumn) -> str:
    return f"{snowflake_type(source)} does not go into {postgres_type(target)}"


def _cure(source: SourceColumn) -> str:
    """What to do about a column that has no way: another type in PostgreSQL, or a view in Snowflake."""
    view = "read the table through a Snowflake view that converts it"
    fitting = _fitting_type(source)
    return f"make the target column {fitting}, or {view}" if fitting else view


def _fitting_type(source: SourceColumn) -> str | None:
    """The PostgreSQL type that takes every value of the column."""
    if source.type == "FIXED":
        return f"numeric({_precision(source)},{_scale(source)})"
    return {
        "REAL": "float8",
        "TEXT": "text",
        "BOOLEAN": "boolean",
        "VARIANT": "jsonb",
        "OBJECT": "jsonb",
        "ARRAY": "jsonb",
        "BINARY": "bytea",
        "DATE": "date",
        "TIME": "time",
        "TIMESTAMP_NTZ": "timestamp",
        "TIMESTAMP_LTZ": "timestamptz",
        "TIMESTAMP_TZ": "timestamptz",
    }.get(source.type)


# --- Arrow --------------------------------------------------------------------------------------------------

_WIRE_TYPES: Mapping[str, pa.DataType] = {
    str(arrow): arrow
    for arrow in (
        *(
            pa.bool_(),
            pa.int16(),
            pa.int32(),
            pa.int64(),
            pa.float32(),
            pa.float64(),
            pa.string(),
            pa.binary(),
        ),
        *(pa.date32(), pa.time64("us"), pa.timestamp("us"), pa.timestamp("us", "UTC")),
    )
}
_DECIMAL = re.compile(r"decimal128\((\d+), (\d+)\)")


def arrow_type(wire: str) -> pa.DataType:
    """The Arrow type that ``ColumnPlan.wire`` names."""
    if wire in _WIRE_TYPES:
        return _WIRE_TYPES[wire]
    if digits := _DECIMAL.fullmatch(wire):
        return pa.decimal128(int(digits[1]), int(digits[2]))
    raise DataError(f"The plan sends values as {wire!r}, which this version does not know; start a new run.")


def schema_of(columns: Sequence[ColumnPlan]) -> pa.Schema:
    """The one schema of every batch on its way, fields named after the target columns."""
    return pa.schema([pa.field(column.target.name, arrow_type(column.wire)) for column in columns])


def conform(batch: pa.RecordBatch, columns: Sequence[ColumnPlan], *, first_row: int = 1) -> pa.RecordBatch:
    """The batch in the schema of ``schema_of(columns)``; its columns are taken by position.

    Snowflake's batches differ from each other in widths of integers and units of time. No value changes, but
    digits below the microsecond are cut off. A value that does not fit raises DataError with its row, where
    ``first_row`` is the number of the batch's first.
    """
    schema = schema_of(columns)
    if batch.schema.equals(schema):
        return batch
    if batch.num_columns != len(columns):
        raise DataError(f"A batch has {batch.num_columns} columns where the plan has {len(columns)}; start a new run.")
    arrays = [_cast(values, column, first_row) for values, column in zip(batch.columns, columns, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _cast(values: "pa.Array[Any]", column: ColumnPlan, first_row: int) -> "pa.Array[Any]":
    wanted = arrow_type(column.wire)
    if values.type == wanted:
        return values
    if not _same_kind(values.type, wanted):
        raise DataError(
            f'Column "{column.source.name}" came as {values.type} where the plan has {column.wire}: '
            "the table was changed after it was planned; start a new run."
        )
    try:
        return _convert(values, wanted)
    except pa.ArrowInvalid:
        row = first_row + _first_misfit(values, wanted)
        raise DataError(
            f'Column "{column.source.name}": the value in row {row} of the chunk does not fit into '
            f"{postgres_type(column.target)}; {_cure(column.source)}."
        ) from None


def _same_kind(values: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a cast keeps the meaning; Arrow itself would also turn an integer into a date."""
    return pa.types.is_null(values) or any(kind(values) and kind(wanted) for kind in _KINDS)


_KINDS: tuple[Callable[[pa.DataType], bool], ...] = (
    lambda arrow: pa.types.is_integer(arrow) or pa.types.is_decimal(arrow),
    lambda arrow: pa.types.is_string(arrow) or pa.types.is_large_string(arrow),
    lambda arrow: pa.types.is_binary(arrow) or pa.types.is_large_binary(arrow),
    pa.types.is_floating,
    pa.types.is_timestamp,
    pa.types.is_time,
)


def _convert(values: "pa.Array[Any]", wanted: pa.DataType) -> "pa.Array[Any]":
    if pa.types.is_decimal(wanted) and pa.types.is_integer(values.type):
        values = values.cast(pa.decimal128(20, 0))  # holds every 64-bit integer, which Arrow insists on
    if values.type in (pa.timestamp("ns"), pa.time64("ns")):
        values = pc.floor_temporal(values, unit="microsecond")  # a cast would cut towards 1970
    return values.cast(wanted)


def _first_misfit(values: "pa.Array[Any]", wanted: pa.DataType) -> int:
    """Position of the first value that cannot be converted, found by halving."""
    start, stop = 0, len(values)
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            _convert(values.slice(start, middle - start), wanted)
        except pa.ArrowInvalid:
            stop = middle
        else:
            start = middle
    return start
