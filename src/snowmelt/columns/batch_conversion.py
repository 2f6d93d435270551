"""What becomes of values on their way: one schema for every batch, and nothing sent that PostgreSQL would bend.

Snowflake's batches differ from each other in widths of integers and units of time. A value that the target cannot take
as it is gets what the column's policy says: its row is refused and named, or it is changed and counted.
"""

import binascii
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc

from snowmelt.columns.type_pairs import (
    FLOAT4_LIMIT,
    beyond_float4,
    longest_text,
    numeric_digits,
    postgres_type,
    quoted,
    remedy,
)
from snowmelt.errors import DataError, RejectedRowsError, SourceChangedError
from snowmelt.models import Change, ColumnPlan, PolicyName

Values: TypeAlias = "pa.Array[Any]"
Changes = Counter[tuple[str, Change]]
"""How many values of a target column were changed, and how."""
Refused: TypeAlias = dict[int, tuple[str, str]]
"""Places of rows in a batch that are refused: for which column, and why."""


@dataclass(frozen=True)
class Rejected:
    """A row that does not go in: its number in the chunk, and why."""

    row: int
    column: str | None
    reason: str
    sqlstate: str | None = None
    reason_in_full: str | None = None
    """The reason with the values that it quotes; None where it quotes none."""


@dataclass(frozen=True)
class PreparedBatch:
    """A batch that is ready to be encoded, the numbers of its rows in the chunk, and the rows that were left out."""

    ready: pa.RecordBatch
    numbers: Sequence[int]
    rejected: Sequence[Rejected]


class Preparation:
    """Makes the batches of one load ready to be encoded, and counts what that changes."""

    def __init__(self, columns: Sequence[ColumnPlan]) -> None:
        self.schema = sent_schema(columns)
        self.changes: Changes = Counter()
        self._columns = tuple(columns)
        self._cut = tuple(column for column in columns if column.cut)
        self._width = len(self._columns) + len(cut_masks(columns))

    def prepare(self, batch: pa.RecordBatch, *, first_row: int) -> pa.RecordBatch:
        """The batch in the one schema; its columns are taken by position, ``first_row`` numbers its first row.

        Raises RejectedRowsError for the first column with rows to be refused, DataError for a batch that is not the
        plan's.
        """
        return self._prepared(batch, first_row, None)

    def separate(
        self, batch: pa.RecordBatch, *, first_row: int, repeated: Mapping[int, Rejected] | None = None
    ) -> PreparedBatch:
        """The same, but rows that would be rejected are not among them and given back, each with its reason.

        ``repeated`` are rows, by their places in the batch, that are rejected for the key of another row.
        """
        repeated = repeated or {}
        refused: Refused = {}
        ready = self._prepared(batch, first_row, refused)
        refused |= {place: (each.column or "", each.reason) for place, each in repeated.items()}
        kept = [place for place in range(batch.num_rows) if place not in refused]
        return PreparedBatch(
            ready=ready.take(pa.array(kept, pa.int64())) if refused else ready,
            numbers=[first_row + place for place in kept],
            rejected=[
                Rejected(first_row + place, column, reason, repeated[place].sqlstate if place in repeated else None)
                for place, (column, reason) in sorted(refused.items())
            ],
        )

    def _prepared(self, batch: pa.RecordBatch, first_row: int, refused: "Refused | None") -> pa.RecordBatch:
        if batch.num_columns != self._width:
            raise SourceChangedError(
                f"A batch has {batch.num_columns} columns where the plan has {self._width}; start a new run."
            )
        self._account_for_cuts(batch, first_row, refused)
        arrays = [
            _Column(column, first_row, self.changes, refused).prepared(values)
            for values, column in zip(batch.columns, self._columns, strict=False)  # the masks come after the columns
        ]
        return pa.record_batch(arrays, schema=self.schema)

    def _account_for_cuts(self, batch: pa.RecordBatch, first_row: int, refused: "Refused | None") -> None:
        """Count the values whose digits Snowflake's connector has cut, by the masks that came with the rows."""
        for position, mask in enumerate(batch.columns[len(self._columns) :]):
            if not pc.max(mask).as_py():
                continue
            bits = mask.cast(pa.int64())
            for bit, column in enumerate(self._cut[position * MASK_BITS : (position + 1) * MASK_BITS]):
                lost = pc.not_equal(pc.bit_wise_and(bits, pa.scalar(1 << bit, pa.int64())), pa.scalar(0, pa.int64()))
                _Column(column, first_row, self.changes, refused).count_or_reject(*_lost(column), lost)


MASK_BITS = 60
"""Columns that one number tells of; an int64 has room for them."""


def cut_masks(columns: Sequence[ColumnPlan]) -> tuple[str, ...]:
    """SQL expressions that say of each row which columns lose digits: a bit of a number for each column that may."""
    cuts = [column.cut for column in columns if column.cut]
    groups = [cuts[start : start + MASK_BITS] for start in range(0, len(cuts), MASK_BITS)]
    return tuple(" + ".join(f"IFF({cut}, {1 << bit}, 0)" for bit, cut in enumerate(group)) for group in groups)


# --- schemas ----------------------------------------------------------------------------------------------------------

_WIRE_TYPES: Mapping[str, pa.DataType] = {
    str(arrow): arrow
    for arrow in (
        *(pa.bool_(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary()),
        *(pa.date32(), pa.time64("us"), pa.timestamp("us"), pa.timestamp("us", "UTC")),
    )
}
_DECIMAL = re.compile(r"decimal128\((\d+), (\d+)\)")
_UUID = pa.binary(16)


def arrow_type(wire: str) -> pa.DataType:
    """The Arrow type that ``ColumnPlan.wire`` names."""
    if wire in _WIRE_TYPES:
        return _WIRE_TYPES[wire]
    if digits := _DECIMAL.fullmatch(wire):
        return pa.decimal128(int(digits[1]), int(digits[2]))
    raise DataError(f"The plan sends values as {wire!r}, which this version does not know; start a new run.")


def sent_schema(columns: Sequence[ColumnPlan]) -> pa.Schema:
    """The one schema of what is encoded, fields named after the target columns."""
    return pa.schema([pa.field(column.target.name, _sent_type(column)) for column in columns])


def _sent_type(column: ColumnPlan) -> pa.DataType:
    return _UUID if column.target.type == "uuid" else arrow_type(column.wire)


# --- a column ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Misfit:
    """What is wrong with a value, in words, and as a condition in Snowflake's SQL that finds such rows."""

    what: str
    where: str

    def in_sql(self, column: ColumnPlan) -> str:
        """The condition over a column of the source table."""
        parts = {"{value}": column.select, "{name}": quoted(column.source.name)}
        return re.sub(r"\{value\}|\{name\}", lambda part: parts[part[0]], self.where)


_NUL = _Misfit("the text holds a NUL character, which PostgreSQL cannot store", "CONTAINS({value}, CHR(0))")
_NUL_IN_JSON = _Misfit(
    "the JSON holds a NUL character (\\u0000), which jsonb cannot store", "CONTAINS({value}, '\\\\u0000')"
)
_NOT_UTF8 = _Misfit("the text is not valid UTF-8", "TRY_HEX_DECODE_STRING(HEX_ENCODE({value})) IS NULL")
_NOT_FINITE = _Misfit("the value is NaN or infinite", "{name} IN ('NaN'::FLOAT, 'inf'::FLOAT, '-inf'::FLOAT)")
_BEFORE_YEAR_1 = _Misfit("the date is before the year 1", "YEAR({name}) < 1")


_TOO_BIG_FOR_FLOAT4 = _Misfit("the value does not fit into float4", beyond_float4("{name}"))


def _lost(column: ColumnPlan) -> tuple[PolicyName, _Misfit]:
    """What a value loses for which ``cut`` is true, and by which policy."""
    if column.narrowed:
        return "narrow", _Misfit(f"the value has more digits than {postgres_type(column.target)}", column.cut or "")
    return "sub_microsecond", _Misfit("the value has digits below the microsecond", column.cut or "")


_MOST_NAMED = 5
"""Rows that an error names."""


@dataclass(frozen=True)
class _Column:
    """A column of one batch on its way."""

    plan: ColumnPlan
    first_row: int
    changes: Changes
    refused: "Refused | None" = None
    """Where refused rows are noted; without it the first of them raises."""

    def prepared(self, values: Values) -> Values:
        """The values as they are encoded."""
        wanted = arrow_type(self.plan.wire)
        if pa.types.is_null(values.type):
            return pa.array([None] * len(values), _sent_type(self.plan))
        if pa.types.is_dictionary(values.type):
            values = cast("pa.DictionaryArray[Any, Any]", values).dictionary_decode()
        if values.type != wanted and not _same_kind(values.type, wanted):
            raise SourceChangedError(
                f'Column "{self.plan.source.name}" came as {values.type} where the plan has {self.plan.wire}: '
                "the table was changed after it was planned; start a new run."
            )
        if pa.types.is_string(wanted):
            return self._text(cast("pa.StringArray", values))
        if pa.types.is_floating(wanted):
            return self._number(values, wanted)
        if pa.types.is_date(wanted) or pa.types.is_timestamp(wanted):
            return self._moment(self._fitted(values, wanted))
        return self._fitted(values, wanted)

    # --- numbers and times ---

    def _fitted(self, values: Values, wanted: pa.DataType) -> Values:
        """The values in the type of the plan; those that are too big for it get what the policy says."""
        if values.type == wanted:
            return values
        try:
            return _converted(values, wanted)
        except pa.ArrowInvalid:
            misfit = _out_of_range(self.plan)
            bad = _too_big(values, wanted)
            fitting = self._settled("out_of_range", bad, misfit, values, lambda kept: _nulled(kept, bad))
            return _converted(fitting, wanted)

    def _number(self, values: Values, wanted: pa.DataType) -> Values:
        if self.plan.narrowed and self.plan.cast:
            values = self._decimal(values)
        if self.plan.policies.nan != "keep":
            wild = pc.invert(pc.is_finite(values))
            values = self._settled("nan", wild, _NOT_FINITE, values, lambda kept: _nulled(kept, wild))
        if values.type == wanted:
            return values
        if not pa.types.is_float32(wanted):
            return values.cast(wanted, safe=False)
        overflows = pc.and_(pc.is_finite(values), pc.greater_equal(pc.abs(values), pa.scalar(FLOAT4_LIMIT)))
        values = self._settled(
            "out_of_range", overflows, _TOO_BIG_FOR_FLOAT4, values, lambda kept: _nulled(kept, overflows)
        )
        narrow = values.cast(wanted, safe=False)
        self._count("rounded", pc.not_equal(narrow.cast(values.type), pc.if_else(pc.is_nan(values), None, values)))
        return narrow

    def _decimal(self, values: Values) -> Values:
        """The numbers that PostgreSQL makes decimals of, with those it would change counted."""
        precision, scale = numeric_digits(self.plan.target.typmod)
        too_big = pc.and_(
            pc.is_finite(values), pc.greater_equal(pc.abs(values), pa.scalar(10.0 ** (precision - scale)))
        )
        misfit = _Misfit(
            f"the value does not fit into {postgres_type(self.plan.target)}", f"ABS({{name}}) >= 1e{precision - scale}"
        )
        values = self._settled("out_of_range", too_big, misfit, values, lambda kept: _nulled(kept, too_big))
        self._count("narrow", _more_decimals(values, scale))
        return values

    def _moment(self, values: Values) -> Values:
        if self.plan.policies.before_year_1 == "keep" or not len(values):
            return values
        early = pc.less(values, pa.scalar("0001-01-01").cast(pa.date32()).cast(values.type))
        return self._settled("before_year_1", early, _BEFORE_YEAR_1, values, lambda kept: _nulled(kept, early))

    # --- texts ---

    def _text(self, values: pa.StringArray) -> Values:
        values = self._valid(values)
        if b"\0" in text_bytes(values):
            nul = pc.match_substring(values, "\0")
            values = self._without("nul_characters", nul, _NUL, values, _removing("\0", "\ufffd"))
        if self.plan.target.type == "jsonb" and b"\\u0000" in text_bytes(values):
            nul = pc.match_substring_regex(values, _JSON_NUL)
            values = self._without("nul_characters", nul, _NUL_IN_JSON, values, _removing_from_json)
        if (limit := longest_text(self.plan)) is not None:
            values = _texts(self._short_enough(values, limit))
        return self._uuids(values) if self.plan.target.type == "uuid" else values

    def _valid(self, values: pa.StringArray) -> pa.StringArray:
        """The texts in UTF-8; Arrow takes the connector's word for it, PostgreSQL does not."""
        try:
            values.validate(full=True)
        except pa.ArrowInvalid:
            found = [_undecodable(value) for value in values.cast(pa.binary(), safe=False).to_pylist()]
            return self._without("invalid_utf8", pa.array(found), _NOT_UTF8, values, _decoded)
        return values if pa.types.is_string(values.type) else values.cast(pa.string())

    def _short_enough(self, values: pa.StringArray, limit: int) -> Values:
        too_long = pc.greater(pc.utf8_length(values), pa.scalar(limit))
        return self._settled(
            "too_long",
            too_long,
            _longer_than(self.plan, limit),
            values,
            lambda kept: pc.utf8_slice_codeunits(_texts(kept), 0, limit),
        )

    def _without(
        self,
        policy: Literal["nul_characters", "invalid_utf8"],
        bad: Values,
        misfit: _Misfit,
        values: pa.StringArray,
        cleaned: "Callable[[pa.StringArray, bool], pa.StringArray]",
    ) -> pa.StringArray:
        """The texts without what cannot be stored, stripped or replaced."""
        keeps_place = getattr(self.plan.policies, policy) == "replace"
        return _texts(self._settled(policy, bad, misfit, values, lambda kept: cleaned(_texts(kept), keeps_place)))

    def _uuids(self, values: pa.StringArray) -> Values:
        """The 16 bytes of each UUID, with or without hyphens."""
        packed = _packed(_without_nulls(values))
        if packed is None:
            bad = pc.invert(pc.match_substring_regex(values, _UUID_TEXT))
            values = _texts(self._settled(None, bad, _NOT_A_UUID, values, lambda kept: kept))
            packed = binascii.unhexlify(text_bytes(pc.replace_substring(_without_nulls(values), "-", "")))
        uuids: Values = pa.Array.from_buffers(_UUID, len(values), [None, pa.py_buffer(packed)])
        if not values.null_count:
            return uuids
        with_nulls: Values = pc.if_else(pc.is_valid(values), uuids, pa.scalar(None, _UUID))
        return with_nulls

    # --- what the policy says ---

    def _settled(
        self,
        policy: PolicyName | None,
        bad: Values,
        misfit: _Misfit,
        values: Values,
        changed: "Callable[[Values], Values]",
    ) -> Values:
        """The values with bad ones changed and counted; where their rows are refused, with NULL in their place."""
        if pc.index(bad, True).as_py() < 0:
            return values
        if policy is None or getattr(self.plan.policies, policy) == "reject":
            self._reject(bad, misfit, policy)
            return _nulled(values, bad)
        self._count(policy, bad)
        return changed(values)

    def count_or_reject(self, policy: PolicyName, misfit: _Misfit, bad: Values) -> None:
        """Count values that were changed before they came, or refuse their rows."""
        self._settled(policy, bad, misfit, bad, lambda values: values)

    def _count(self, change: Change, changed: Values) -> None:
        self.changes[self.plan.target.name, change] += int(pc.sum(changed).as_py() or 0)

    def _reject(self, bad: Values, misfit: _Misfit, policy: PolicyName | None) -> None:
        """Raise for rows that are bad, if there are any; the text never shows a value."""
        positions = [int(position) for position in cast("list[int]", pc.indices_nonzero(_certain(bad)).to_pylist())]
        if not positions:
            return
        rows = [str(self.first_row + position) for position in positions[:_MOST_NAMED]]
        more = f" and {len(positions) - _MOST_NAMED} more" if len(positions) > _MOST_NAMED else ""
        if self.refused is not None:
            for position in positions:
                self.refused.setdefault(position, (self.plan.target.name, misfit.what))
            return
        where = misfit.in_sql(self.plan)
        choices = f"choose another way in value_policies.{policy}, " if policy else ""
        raise RejectedRowsError(
            f'Column "{self.plan.target.name}", row{"s" * (len(positions) > 1)} {", ".join(rows)}{more} of the chunk: '
            f"{misfit.what}; find such rows in Snowflake by WHERE {where}, fix or exclude them, {choices}"
            f"or {remedy(self.plan.source)}"
        )


def _nulled(values: Values, bad: Values) -> Values:
    found: Values = pc.if_else(_certain(bad), pa.scalar(None, values.type), values)
    return found


def _texts(values: Values) -> pa.StringArray:
    return cast("pa.StringArray", values)


def _without_nulls(values: pa.StringArray) -> pa.StringArray:
    return _texts(values.fill_null(_NO_UUID)) if values.null_count else values


def _certain(found: Values) -> "pa.BooleanArray":
    """What was found of values, with False for NULLs."""
    return cast("pa.BooleanArray", found.fill_null(False))


# --- conversions ------------------------------------------------------------------------------------------------------


def _same_kind(values: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a cast keeps the meaning; Arrow itself would also turn an integer into a date."""
    return any(kind(values) and kind(wanted) for kind in _KINDS)


_KINDS: tuple[Callable[[pa.DataType], bool], ...] = (
    lambda arrow: pa.types.is_integer(arrow) or pa.types.is_decimal(arrow),
    lambda arrow: pa.types.is_string(arrow) or pa.types.is_large_string(arrow),
    lambda arrow: pa.types.is_binary(arrow) or pa.types.is_large_binary(arrow),
    pa.types.is_floating,
    pa.types.is_timestamp,
    pa.types.is_time,
)


def _converted(values: Values, wanted: pa.DataType) -> Values:
    if pa.types.is_decimal(wanted) and pa.types.is_integer(values.type):
        values = values.cast(pa.decimal128(20, 0))  # holds every 64-bit integer, which Arrow insists on
    if values.type in (pa.timestamp("ns"), pa.time64("ns")):
        values = pc.floor_temporal(values, unit="microsecond")  # a cast would cut towards 1970
    return values.cast(wanted)


def _more_decimals(values: Values, scale: int) -> Values:
    """Which floats have more digits after the point in the shortest decimal that names them."""
    texts = values.cast(pa.string())
    longer = pc.match_substring_regex(texts, rf"\.[0-9]{{{scale}}}[0-9]*[1-9]")
    written = pc.match_substring(texts, "e")
    if not pc.any(written).as_py():
        return longer
    exact = [None if v is None or not math.isfinite(v) else -_exponent(v) > scale for v in values.to_pylist()]
    return pa.array(exact, pa.bool_())


def _exponent(value: float) -> int:
    found = Decimal(repr(value)).normalize().as_tuple().exponent
    return found if isinstance(found, int) else 0


def _too_big(values: Values, wanted: pa.DataType) -> Values:
    """Which numbers are beyond what the type holds."""
    below, above = _limits(wanted)
    exact = values.cast(pa.decimal128(20, 0)) if pa.types.is_integer(values.type) else values
    roomy = exact.cast(pa.decimal256(_ROOMY_DIGITS, exact.type.scale))
    return pc.or_(
        pc.less_equal(roomy, pa.scalar(Decimal(below), roomy.type)),
        pc.greater_equal(roomy, pa.scalar(Decimal(above), roomy.type)),
    )


_ROOMY_DIGITS = 76


def _limits(wanted: pa.DataType) -> tuple[int, int]:
    """The first whole numbers that are too small and too big."""
    if pa.types.is_decimal(wanted):
        return -(10 ** (wanted.precision - wanted.scale)), 10 ** (wanted.precision - wanted.scale)
    return -(2 ** (wanted.bit_width - 1)) - 1, 2 ** (wanted.bit_width - 1)


def _out_of_range(column: ColumnPlan) -> _Misfit:
    below, above = _limits(arrow_type(column.wire))
    what = f"the value does not fit into {postgres_type(column.target)}"
    return _Misfit(what, f"{{value}} <= {below} OR {{value}} >= {above}")


# --- texts ------------------------------------------------------------------------------------------------------------


def _longer_than(column: ColumnPlan, limit: int) -> _Misfit:
    return _Misfit(f"the text is longer than {postgres_type(column.target)} holds", f"LENGTH({{value}}) > {limit}")


_JSON_NUL = r"(^|[^\\])(\\\\)*\\u0000"
_UUID_TEXT = "^[0-9A-Fa-f]{8}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{12}$"
_NOT_A_UUID = _Misfit("the text is not a UUID", f"NOT REGEXP_LIKE({{value}}, '{_UUID_TEXT}')")
_NO_UUID = "00000000-0000-0000-0000-000000000000"
_HYPHENS = (8, 13, 18, 23)


def text_bytes(values: pa.StringArray) -> bytes:
    """The characters of all values in a row, as they lie in memory; faster to search than value by value."""
    _, offsets, characters = values.buffers()
    if offsets is None or characters is None:
        return b""
    bounds = memoryview(offsets).cast("i")
    start, stop = bounds[values.offset], bounds[values.offset + len(values)]
    return characters.slice(start, stop - start).to_pybytes()


def _packed(values: pa.StringArray) -> bytes | None:
    """The bytes of UUIDs that are all written with hyphens, or all without; None where it takes a closer look.

    Four hyphens must stand in each value where they belong; when those were all there are, what is left is digits.
    """
    digits = text_bytes(values)
    count, length = len(values), len(digits) // max(1, len(values))
    if length not in (32, 36) or not pc.all(pc.equal(pc.binary_length(values), pa.scalar(length))).as_py():
        return None
    if length == 36:
        if any(digits[place::36] != b"-" * count for place in _HYPHENS):
            return None
        digits = digits.translate(None, b"-")
    try:
        return binascii.unhexlify(digits) if len(digits) == 32 * count else None
    except binascii.Error:
        return None


def _removing(character: str, substitute: str) -> "Callable[[pa.StringArray, bool], pa.StringArray]":
    return lambda values, keeps_place: pc.replace_substring(values, character, substitute if keeps_place else "")


def _removing_from_json(values: pa.StringArray, keeps_place: bool) -> pa.StringArray:
    by = r"\1\\ufffd" if keeps_place else r"\1"
    while pc.any(pc.match_substring_regex(values, _JSON_NUL)).as_py():  # neighbours share what comes before them
        values = pc.replace_substring_regex(values, r"((?:^|[^\\])(?:\\\\)*)\\u0000", by)
    return values


def _undecodable(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return True
    return False


def _decoded(values: pa.StringArray, keeps_place: bool) -> pa.StringArray:
    errors = "replace" if keeps_place else "ignore"
    texts = values.cast(pa.binary(), safe=False).to_pylist()
    return pa.array([None if text is None else text.decode(errors=errors) for text in texts], pa.string())


# --- before anything moves --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Doubt:
    """Something that values of a column may be refused or changed for, to be counted beforehand."""

    check: str
    """What kind of mistake it is."""
    what: str
    where: str
    """The condition that finds such rows, in Snowflake's SQL over the source table."""
    action: str = "reject"
    """What the load does about them."""
    policy: PolicyName | None = None
    other_actions: tuple[str, ...] = ()
    """What the policy could say instead."""

    @property
    def is_refused(self) -> bool:
        """Whether such a row is rejected."""
        return self.action == "reject"


_OTHER_ACTIONS: Mapping[PolicyName, tuple[str, ...]] = {
    "nul_characters": ("strip", "replace"),
    "too_long": ("truncate",),
    "out_of_range": ("null",),
    "nan": ("keep", "null"),
    "before_year_1": ("keep", "null"),
    "sub_microsecond": ("truncate",),
    "narrow": ("round", "truncate"),
}


def doubts(column: ColumnPlan, *, labels: Sequence[str] | None = None) -> Iterator[Doubt]:
    """What this column's values may be refused or changed for, as far as Snowflake can tell; ``labels`` of an enum.

    Nothing is doubted that the types of both sides rule out.
    """
    if column.source.nullable and not column.target.nullable:
        null = f"{quoted(column.source.name)} IS NULL"
        yield Doubt("nulls", "NULL, where the target column is NOT NULL", null)
    for policy, misfit in _judged_by_policy(column):
        action = getattr(column.policies, policy)
        if action != "keep":
            yield Doubt(policy, misfit.what, misfit.in_sql(column), action, policy, _OTHER_ACTIONS[policy])
    if column.source.type == "TEXT":
        for misfit in _unreadable(column, labels):
            yield Doubt("unreadable_text", misfit.what, misfit.in_sql(column))
    if column.source.type == "REAL" and column.narrowed:
        misfit = _too_big_once_narrowed(column)
        yield Doubt("out_of_range", misfit.what, misfit.in_sql(column))


def _too_big_once_narrowed(column: ColumnPlan) -> _Misfit:
    """A FLOAT beyond a numeric with digits, which only PostgreSQL converts; NaN has a place in any numeric."""
    precision, scale = numeric_digits(column.target.typmod)
    half = Decimal(5).scaleb(-scale - 1) if column.policies.narrow == "round" else Decimal(0)
    limit = f"{Decimal(10) ** (precision - scale) - half:f}"
    is_too_big = f"{{name}} <> 'NaN'::FLOAT AND ABS({{name}}) >= '{limit}'::FLOAT"
    return _Misfit(f"the value does not fit into {postgres_type(column.target)}", is_too_big)


def _judged_by_policy(column: ColumnPlan) -> Iterator[tuple[PolicyName, _Misfit]]:
    source, wire = column.source, column.wire
    if source.type == "TEXT":
        yield "nul_characters", _NUL
    if column.target.type == "jsonb" and wire == "string":
        yield "nul_characters", _Misfit(_NUL_IN_JSON.what, _JSON_NUL_IN_SQL)
    if (limit := longest_text(column)) is not None:
        yield "too_long", _longer_than(column, limit)
    if source.type == "FIXED" and (wire.startswith(("int", "decimal"))):
        digits = (38 if source.precision is None else source.precision) - (source.scale or 0) + column.narrowed
        if 10**digits > _limits(arrow_type(wire))[1]:
            yield "out_of_range", _out_of_range(column)
    if source.type == "REAL":
        yield "nan", _NOT_FINITE
        if wire == "float":
            yield "out_of_range", _TOO_BIG_FOR_FLOAT4
    if source.type == "DATE" or source.type.startswith("TIMESTAMP"):
        yield "before_year_1", _BEFORE_YEAR_1
    if column.cut:
        yield _lost(column)


_JSON_NUL_IN_SQL = "CONTAINS(REPLACE({value}, '\\\\\\\\', ''), '\\\\u0000')"
"""An escape that is not itself escaped: without the pairs of backslashes, what is left stands for itself."""


def _unreadable(column: ColumnPlan, labels: Sequence[str] | None) -> Iterator[_Misfit]:
    if column.target.type == "uuid":
        yield _NOT_A_UUID
    if column.target.type in ("json", "jsonb"):
        yield _Misfit("the text is not JSON", "{value} IS NOT NULL AND TRY_PARSE_JSON({value}) IS NULL")
    if column.target.kind == "enum" and labels is not None:
        listed = ", ".join("'" + label.replace("\\", "\\\\").replace("'", "''") + "'" for label in labels)
        condition = f"{{value}} NOT IN ({listed})" if listed else "{value} IS NOT NULL"
        yield _Misfit(f"the text is no label of {column.target.declared}", condition)
