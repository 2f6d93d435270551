"""Which values travel from Snowflake into which PostgreSQL columns, and as what.

A pair of types is allowed because it stands in ``PAIRS``; every other pair is refused. That is a matter of
safety: binary COPY reads eight bytes as whatever the column is, so a wrong pair of the same width corrupts
silently, and a narrower column rounds or cuts without a word. Hence digits, fractions and lengths are
compared too. What does not arrive as it was is said in ``Match.lossy``; what depends on the values (a number
too big for an integer, a text too long) is checked value by value before it is sent.

Most pairs go straight into the target as binary COPY. What only PostgreSQL can convert goes through a staging
table, from which one statement casts all rows of a chunk; a table with such a column is staged as a whole.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from snowmelt.columns import narrowing
from snowmelt.columns.narrowing import Narrow, Narrowed
from snowmelt.models import ColumnPlan, NarrowPolicy, SourceColumn, TargetColumn

MICROSECOND_DIGITS = 6
"""Digits of a second that PostgreSQL keeps."""

FLOAT4_LIMIT = 3.4028235677973366e38
"""The lowest magnitude that rounds to infinity in 24 bits: half way between the greatest float4 and 2**128."""


def beyond_float4(value: str) -> str:
    """The condition, in Snowflake's SQL, on a finite FLOAT that is too big for float4; false for NaN."""
    return f"ABS({value}) >= {FLOAT4_LIMIT!r}::FLOAT AND ABS({value}) < 'inf'::FLOAT"


@dataclass(frozen=True)
class Match:
    """A column that can travel; ``lossy`` says what does not arrive as it was, None if all does."""

    plan: ColumnPlan
    lossy: str | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a column cannot travel, and what would let it."""

    reason: str


def match(source: SourceColumn, target: TargetColumn, *, narrow: NarrowPolicy = "reject") -> Match | Refusal:
    """How the source column's values get into the target column, or why they do not.

    ``narrow`` is what the config says about a pair that would lose digits.
    """
    rule = _RULES.get((source.type, _family(target)))
    way = rule(source, target) if rule else None
    if not isinstance(way, Way):
        narrowed = _narrowed(source, target, "round")
        if narrowed is None or narrow == "reject":
            why = f": {way}" if way else ""
            choice = ", or set value_policies.narrow to round or truncate" if narrowed else ""
            if narrowed is None and narrow != "reject" and _ROUNDS in str(way):
                why += f", and value_policies.narrow does it for no {source.type}"
            return Refusal(f"{_no_way(source, target)}{why}; {remedy(source)}{choice}")
        return _narrow_match(source, target, narrow)
    name = quoted(source.name)
    plan = ColumnPlan(
        source=source,
        target=target,
        select=way.select(name),
        wire=way.wire,
        cut=f"{name} <> {name}::{source.type}({MICROSECOND_DIGITS})" if way.is_cut else None,
        staged_as=way.staged_as,
        cast=way.cast(quoted(target.name), target.declared) if way.cast else None,
    )
    return Match(plan, way.lossy)


def _narrow_match(source: SourceColumn, target: TargetColumn, narrow: Narrow) -> Match:
    found = _narrowed(source, target, narrow)
    assert found is not None  # noqa: S101 - the caller has looked
    wire, narrowed = found
    plan = ColumnPlan(
        source=source,
        target=target,
        select=narrowed.select,
        wire=wire,
        cut=narrowed.cut,
        narrowed=True,
        staged_as=None if narrowed.cast is None else "float8" if wire == "double" else "text",
        cast=narrowed.cast,
    )
    return Match(plan, narrowed.lossy)


def allowed_pairs() -> frozenset[tuple[str, str]]:
    """Every pair of a Snowflake and a PostgreSQL type that can travel, if digits and lengths allow it.

    ``enum`` stands for every enum.
    """
    return frozenset(_RULES)


def quoted(name: str) -> str:
    """The name as an identifier of either SQL, exact in case and characters."""
    return '"' + name.replace('"', '""') + '"'


def _family(target: TargetColumn) -> str:
    return "enum" if target.kind == "enum" else target.type


# --- types in words -----------------------------------------------------------------------------------------

_SNOWFLAKE_WORDS = {"FIXED": "NUMBER", "REAL": "FLOAT", "TEXT": "VARCHAR"}
"""The types that Snowflake's DDL calls otherwise than its protocol."""


def snowflake_type(column: SourceColumn) -> str:
    """The column's type as Snowflake's DDL writes it."""
    match column.type:
        case "FIXED":
            return f"NUMBER({_precision(column)},{_scale(column)})"
        case "TEXT":
            return "VARCHAR" if column.length is None else f"VARCHAR({column.length})"
        case "TIME" | "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ":
            return f"{column.type}({_fraction_digits(column)})"
        case _:
            return _SNOWFLAKE_WORDS.get(column.type, column.type)


def postgres_type(column: TargetColumn) -> str:
    """The column's type with what its typmod says: ``numeric(10,2)``, ``char(20)``, ``timestamp(0)``."""
    name = f"domain {column.domain} over {column.type}" if column.domain else column.type
    if column.typmod < 0:
        return name
    match column.type:
        case "numeric":
            precision, scale = numeric_digits(column.typmod)
            return f"{name}({precision},{scale})"
        case "varchar" | "bpchar":
            return f"{name.replace('bpchar', 'char')}({column.typmod - _VARLENA_HEADER})"
        case "time" | "timetz" | "timestamp" | "timestamptz":
            return f"{name}({column.typmod})"
        case _:
            return name


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


def as_declared(source: SourceColumn, declared: str | None) -> SourceColumn:
    """Return the column with the type that its table declares, where the connector does not know that type.

    It takes every type it does not know, such as DECFLOAT, for a NUMBER.
    """
    base = (declared or "").partition("(")[0].strip().upper()
    if not base or source.type not in ("FIXED", "UNKNOWN") or base in _NUMBERS:
        return source
    return source.model_copy(update={"type": base, "precision": None, "scale": None})


_NUMBERS = ("NUMBER", "DECIMAL", "NUMERIC", "INT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT", "BYTEINT", "FIXED")


def remedy(source: SourceColumn) -> str:
    """What to do about a column that does not fit: another type in PostgreSQL, or a view in Snowflake."""
    view = "read the table through a Snowflake view that converts it"
    fitting = fitting_type(source)
    return f"make the target column {fitting}, or {view}" if fitting else view


def _precision(column: SourceColumn) -> int:
    return 38 if column.precision is None else column.precision


def _scale(column: SourceColumn) -> int:
    return column.scale or 0


def _fraction_digits(column: SourceColumn) -> int:
    return 9 if column.scale is None else column.scale


def _no_way(source: SourceColumn, target: TargetColumn) -> str:
    return f"{snowflake_type(source)} does not go into {postgres_type(target)}"


def fitting_type(source: SourceColumn) -> str | None:
    """The PostgreSQL type that takes every value of the column."""
    if source.type == "FIXED":
        return f"numeric({_precision(source)},{_scale(source)})"
    return {
        "REAL": "float8",
        "DECFLOAT": "numeric",
        "TEXT": "text",
        "BOOLEAN": "boolean",
        "VARIANT": "jsonb",
        "OBJECT": "jsonb",
        "ARRAY": "jsonb",
        "MAP": "jsonb",
        "VECTOR": "jsonb",
        "GEOGRAPHY": "jsonb",
        "GEOMETRY": "jsonb",
        "BINARY": "bytea",
        "DATE": "date",
        "TIME": "time",
        "TIMESTAMP_NTZ": "timestamp",
        "TIMESTAMP_LTZ": "timestamptz",
        "TIMESTAMP_TZ": "timestamptz",
    }.get(source.type)


def best_type(source: SourceColumn) -> str | None:
    """The PostgreSQL type for a column that is yet to be made: the fitting one, but integers for whole numbers."""
    if source.type == "FIXED" and not _scale(source) and _precision(source) <= _BIGINT_DIGITS:
        return "smallint" if _precision(source) <= 4 else "integer" if _precision(source) <= 9 else "bigint"
    return fitting_type(source)


_BIGINT_DIGITS = 18
"""All numbers of so many digits are bigints."""


# --- ways ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """How a column travels."""

    wire: str
    """Arrow type of its values."""
    select: Callable[[str], str] = str
    """What reads them in Snowflake, given the quoted name."""
    lossy: str | None = None
    is_cut: bool = False
    """Whether digits below the microsecond are cut off."""
    staged_as: str | None = None
    cast: Callable[[str, str], str] | None = None
    """What converts a staged value in PostgreSQL, given the quoted name and the target's type."""


Rule = Callable[[SourceColumn, TargetColumn], Way | str]
"""Gives the way for one pair of types, or what is wrong with this pair of lengths and digits."""


def _always(way: Way) -> Rule:
    return lambda _source, _target: way


def _whole(wire: str) -> Rule:
    def rule(source: SourceColumn, target: TargetColumn) -> Way | str:
        if _scale(source) > 0:
            return f"{target.type} has no digits after the point"
        return Way(wire)

    return rule


def _numeric(source: SourceColumn, target: TargetColumn) -> Way | str:
    as_it_is = Way(f"decimal128({_precision(source)}, {_scale(source)})")
    if target.typmod < 0:
        return as_it_is
    precision, scale = numeric_digits(target.typmod)
    if scale < _scale(source):
        return f"{_scale(source)} digits after the point would be rounded to {scale}"
    if precision > _DECIMAL_DIGITS:
        return as_it_is  # PostgreSQL adds zeros, and raises where a value has too many digits before the point
    return Way(f"decimal128({precision}, {scale})")


_DECIMAL_DIGITS = 38
"""What Arrow's decimal128 and Snowflake's NUMBER hold."""


def _float(wire: str, digits: int) -> Rule:
    def rule(source: SourceColumn, target: TargetColumn) -> Way | str:
        if _precision(source) > digits:
            return f"{target.type} keeps {digits} digits of {_precision(source)}"
        return Way(wire, select=lambda name: f"{name}::FLOAT")  # Snowflake rounds correctly, Arrow's cast does not

    return rule


def _clock(wire: str, *, select: Callable[[str], str] = str, lossy: str | None = None) -> Rule:
    def rule(source: SourceColumn, target: TargetColumn) -> Way | str:
        digits = _fraction_digits(source)
        kept = MICROSECOND_DIGITS if target.typmod < 0 else target.typmod
        if digits > kept and kept < MICROSECOND_DIGITS:
            return f"{digits} digits of a second would be rounded to {kept}"
        losses = (lossy, NO_NANOSECONDS if digits > kept else None)
        return Way(wire, select, " and ".join(loss for loss in losses if loss) or None, is_cut=digits > kept)

    return rule


def _timetz(source: SourceColumn, target: TargetColumn) -> Way | str:
    way = _clock("time64[us]", lossy=_NO_ZONE)(source, target)
    if isinstance(way, str):
        return way
    return replace(way, staged_as="time", cast=lambda name, kind: f"({name}::text || '+00')::{kind}")


def _shortest_decimal(_source: SourceColumn, target: TargetColumn) -> Way | str:
    if target.typmod >= 0:
        return f"PostgreSQL {_ROUNDS} it without a word"
    return Way("double", lossy=_SHORTEST, staged_as="float8", cast=lambda name, kind: f"{name}::text::{kind}")


def _from_text(*, select: Callable[[str], str] = str, lossy: str | None = None) -> Rule:
    """A value that Snowflake writes as text and PostgreSQL reads with the type's own input function."""

    def rule(_source: SourceColumn, target: TargetColumn) -> Way | str:
        if target.typmod >= 0 and target.type.removesuffix("[]") in _ROUNDING:
            return f"PostgreSQL {_ROUNDS} it without a word"
        return Way("string", select, lossy, staged_as="text", cast=lambda name, kind: f"{name}::{kind}")

    return rule


_ROUNDS = "would round"
_ROUNDING = ("numeric", "interval", "time", "timetz", "timestamp", "timestamptz")
"""Types whose typmod is no check: a value with more digits is rounded to fit."""


def _from_json_array(select: Callable[[str], str], lossy: str) -> Rule:
    def rule(_source: SourceColumn, target: TargetColumn) -> Way | str:
        if target.typmod >= 0 and target.type.removesuffix("[]") in _ROUNDING:
            return f"PostgreSQL {_ROUNDS} its elements without a word"
        return Way("string", select, lossy, staged_as="text", cast=_array_of_json)

    return rule


def _array_of_json(name: str, kind: str) -> str:
    if kind in ("json[]", "jsonb[]"):  # elements that are arrays themselves are no further dimension
        elements = (
            f"SELECT NULLIF(e, 'null') FROM jsonb_array_elements({name}::jsonb) WITH ORDINALITY AS j (e, n) ORDER BY n"  # noqa: S608
        )
        return f"CASE WHEN {name}::jsonb <> 'null' THEN ARRAY({elements})::{kind} END"
    # Names are quoted, the type is written by the server itself.
    return f"(SELECT r.a FROM jsonb_to_record(jsonb_build_object('a', {name}::jsonb)) AS r (a {kind}))"  # noqa: S608


def _utc(name: str) -> str:
    return f"CONVERT_TIMEZONE('UTC', {name})::TIMESTAMP_NTZ"


def _midnight(name: str) -> str:
    return f"{name}::TIMESTAMP_NTZ"


def _json(name: str) -> str:
    return f"TO_JSON({name})"


def _json_of_structured(name: str) -> str:
    return f"TO_JSON({name}::VARIANT)"  # TO_JSON takes what a structured type becomes by this cast


def _json_of_vector(name: str) -> str:
    return f"TO_JSON({name}::ARRAY)"


def _geojson(name: str) -> str:
    return f"TO_JSON(ST_ASGEOJSON({name}))"


def _wkt(name: str) -> str:
    return f"ST_ASWKT({name})"


def _wkb(name: str) -> str:
    return f"ST_ASWKB({name})"


def _ewkb_digits(name: str) -> str:
    return f"TO_VARCHAR(ST_ASEWKB({name}), 'HEX')"


# --- ways that lose digits ------------------------------------------------------------------------------------


def _narrowed(source: SourceColumn, target: TargetColumn, narrow: Narrow) -> tuple[str, Narrowed] | None:
    """What the wire carries and how the value is made to fit; None for a pair that no policy lets travel."""
    if target.type in ("numeric", "int2", "int4", "int8", "float4", "float8"):
        return _narrowed_number(source, target, narrow)
    return _narrowed_time(source, target, narrow)


def _narrowed_number(source: SourceColumn, target: TargetColumn, narrow: Narrow) -> tuple[str, Narrowed] | None:
    name = quoted(source.name)
    precision, scale = numeric_digits(target.typmod) if target.type == "numeric" else (0, 0)
    match source.type, target.type:
        case "FIXED", ("float4" | "float8") as kind:
            wire, digits = ("float", 6) if kind == "float4" else ("double", 15)
            return wire, narrowing.number_as_float(name, scale=_scale(source), kind=kind, digits=digits)
        case "FIXED", "numeric" if scale >= 0:
            wire = f"decimal128({min(precision, _DECIMAL_DIGITS)}, {scale})"
            return wire, narrowing.number(name, scale=scale, narrow=narrow)
        case "FIXED", ("int2" | "int4" | "int8") as kind:
            return f"int{8 * int(kind[-1])}", narrowing.number(name, scale=0, narrow=narrow)
        case "REAL", "numeric" if scale >= 0:
            staged, declared = quoted(target.name), target.declared
            return "double", narrowing.float_as_decimal(name, staged, kind=declared, scale=scale, narrow=narrow)
    return None


def _narrowed_time(source: SourceColumn, target: TargetColumn, narrow: Narrow) -> tuple[str, Narrowed] | None:
    has_zone = source.type in ("TIMESTAMP_LTZ", "TIMESTAMP_TZ")
    name = _utc(quoted(source.name)) if has_zone else quoted(source.name)
    is_timestamp = has_zone or source.type == "TIMESTAMP_NTZ"
    if is_timestamp and target.type == "date":
        return "date32[day]", narrowing.day(name, zone=", the date is that in UTC" if has_zone else "")
    if target.typmod >= 0 and (
        target.type in ("timestamp", "timestamptz") if is_timestamp else source.type == target.type.upper() == "TIME"
    ):
        kind = "TIME" if source.type == "TIME" else "TIMESTAMP_NTZ"
        return _CLOCK_WIRES[target.type], narrowing.moment(name, kind=kind, digits=target.typmod, narrow=narrow)
    return None


# --- the table ----------------------------------------------------------------------------------------------

_TIMESTAMP, _TIMESTAMP_UTC = "timestamp[us]", "timestamp[us, tz=UTC]"
_CLOCK_WIRES = {"time": "time64[us]", "timestamp": _TIMESTAMP, "timestamptz": _TIMESTAMP_UTC}
NO_NANOSECONDS = "digits of a second below the microsecond are cut off"
_NO_OFFSET = "the moment is kept, the UTC offset it was written with is not"
_NO_ZONE = "it names no time zone and is taken as UTC"
_IN_UTC = "the moment is written in UTC"
_NO_BLANKS = "blanks at the end of a value mean nothing in this type"
_NO_SPELLING = "the JSON value is kept, its spelling (blanks, order of keys, repeated keys) is not"
_OWN_SPELLING = "the value is kept, in PostgreSQL's own spelling"
_NO_JSON_NULL = "elements keep their values, JSON null becomes NULL"
_FEWER_DIGITS = "a value is rounded to the 24 bits that float4 has"
_SHORTEST = "the shortest decimal that names the float is stored"
_FIFTEEN = "a value is rounded to the 53 bits that float8 has"
SIXTEEN_DIGITS = "floating-point numbers in it are written with 16 significant digits, of the 17 that name each of them"
_UNSTRUCTURED = "the shape that GeoJSON describes is kept"

JSON_TARGETS = ("json", "jsonb", "text", "varchar")
ELEMENTS = (
    *("bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "uuid"),
    *("date", "time", "timestamp", "timestamptz", "json", "jsonb"),
)
"""Types of an array whose elements JSON spells as PostgreSQL reads them."""
ARRAYS = tuple(f"{element}[]" for element in ELEMENTS)
NUMBER_ARRAYS = ("float4[]", "float8[]", "numeric[]", "int2[]", "int4[]", "int8[]")
PARSED_EXACTLY = ("bit", "varbit", "xml", "citext.citext")
PARSED = (
    *("inet", "cidr", "macaddr", "macaddr8", "interval", "timetz", "pg_lsn", "tsvector", "tsquery", "jsonpath"),
    *("point", "line", "lseg", "box", "path", "polygon", "circle"),
    *("int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange"),
    *("int4multirange", "int8multirange", "nummultirange", "datemultirange", "tsmultirange", "tstzmultirange"),
    *ARRAYS,
    *("hstore.hstore", "ltree.ltree", "cube.cube", "vector.vector", "vector.halfvec", "vector.sparsevec"),
    *("postgis.geometry", "postgis.geography"),
)
"""Types that Snowflake does not have, so that their values are there as text."""


@dataclass(frozen=True)
class Pair:
    """A line of the table: these types go into those, by one rule."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    rule: Rule
    converted: Literal["", "Snowflake", "Snowmelt", "PostgreSQL"] = ""
    """Who turns the one into the other; nobody where the value is the same in both."""
    note: str = ""


PAIRS = (
    Pair(("FIXED",), ("int2",), _whole("int16"), note="no digits after the point; too big is out of range"),
    Pair(("FIXED",), ("int4",), _whole("int32"), note="the same"),
    Pair(("FIXED",), ("int8",), _whole("int64"), note="the same"),
    Pair(("FIXED",), ("numeric",), _numeric, note="the scale is at least the source's; too big is out of range"),
    Pair(("FIXED",), ("float4",), _float("float", digits=6), "Snowflake", "up to 6 digits"),
    Pair(("FIXED",), ("float8",), _float("double", digits=15), "Snowflake", "up to 15 digits"),
    Pair(("REAL",), ("float8",), _always(Way("double")), note="NaN, infinities and -0 included"),
    Pair(("REAL",), ("float4",), _always(Way("float", lossy=_FEWER_DIGITS)), "Snowmelt", f"lossy: {_FEWER_DIGITS}"),
    Pair(
        ("REAL",),
        ("numeric",),
        _shortest_decimal,
        "PostgreSQL",
        f"lossy: {_SHORTEST}; only numeric without digits",
    ),
    Pair(
        ("DECFLOAT",),
        ("numeric",),
        _from_text(select=lambda name: f"TO_VARCHAR({name})"),
        "PostgreSQL",
        "only numeric without digits",
    ),
    Pair(
        ("DECFLOAT",),
        ("float8",),
        _always(Way("double", lambda name: f"{name}::FLOAT", _FIFTEEN)),
        "Snowflake",
        f"lossy: {_FIFTEEN}",
    ),
    Pair(("BOOLEAN",), ("bool",), _always(Way("bool"))),
    Pair(("TEXT",), ("text", "varchar"), _always(Way("string")), note="longer than varchar(n) is too long"),
    Pair(("TEXT",), ("bpchar",), _always(Way("string", lossy=_NO_BLANKS)), note=f"lossy: {_NO_BLANKS}"),
    Pair(("TEXT",), ("json",), _always(Way("string")), note="invalid JSON is refused"),
    Pair(("TEXT",), ("jsonb",), _always(Way("string", lossy=_NO_SPELLING)), note=f"lossy: {_NO_SPELLING}"),
    Pair(("TEXT",), ("uuid",), _always(Way("string")), "Snowmelt", "32 hexadecimal digits, with or without hyphens"),
    Pair(("TEXT",), ("enum",), _always(Way("string")), note="a text that is no label of the enum is refused"),
    Pair(("TEXT",), PARSED_EXACTLY, _from_text(), "PostgreSQL"),
    Pair(("TEXT",), PARSED, _from_text(lossy=_OWN_SPELLING), "PostgreSQL", f"lossy: {_OWN_SPELLING}"),
    Pair(
        ("VARIANT",),
        JSON_TARGETS,
        _always(Way("string", _json, SIXTEEN_DIGITS)),
        "Snowflake",
        f"as JSON; lossy: {SIXTEEN_DIGITS}",
    ),
    Pair(
        ("OBJECT", "ARRAY", "MAP"),
        JSON_TARGETS,
        _always(Way("string", _json_of_structured, SIXTEEN_DIGITS)),
        "Snowflake",
        f"as JSON; lossy: {SIXTEEN_DIGITS}",
    ),
    Pair(
        ("ARRAY",),
        ARRAYS,
        _from_json_array(_json_of_structured, _NO_JSON_NULL),
        "PostgreSQL",
        f"lossy: {_NO_JSON_NULL}",
    ),
    Pair(("VECTOR",), JSON_TARGETS, _always(Way("string", _json_of_vector)), "Snowflake", "as JSON"),
    Pair(
        ("VECTOR",), NUMBER_ARRAYS, _from_json_array(_json_of_vector, _NO_JSON_NULL), "PostgreSQL", "as JSON, then cast"
    ),
    Pair(("VECTOR",), ("vector.vector",), _from_text(select=_json_of_vector), "PostgreSQL", "as JSON, then cast"),
    Pair(("BINARY",), ("bytea",), _always(Way("binary"))),
    Pair(("GEOGRAPHY", "GEOMETRY"), ("postgis.geometry",), _from_text(select=_ewkb_digits), "PostgreSQL", "as EWKB"),
    Pair(("GEOGRAPHY",), ("postgis.geography",), _from_text(select=_ewkb_digits), "PostgreSQL", "as EWKB"),
    Pair(
        ("GEOGRAPHY", "GEOMETRY"),
        ("json", "jsonb"),
        _always(Way("string", _geojson, _UNSTRUCTURED)),
        "Snowflake",
        f"lossy: {_UNSTRUCTURED}",
    ),
    Pair(("GEOGRAPHY", "GEOMETRY"), ("text", "varchar"), _always(Way("string", _wkt)), "Snowflake", "as WKT"),
    Pair(("GEOGRAPHY", "GEOMETRY"), ("bytea",), _always(Way("binary", _wkb)), "Snowflake", "as WKB"),
    Pair(("DATE",), ("date",), _always(Way("date32[day]"))),
    Pair(("DATE",), ("timestamp",), _always(Way(_TIMESTAMP, _midnight)), "Snowflake", "midnight"),
    Pair(
        ("DATE",),
        ("timestamptz",),
        _always(Way(_TIMESTAMP_UTC, _midnight, _NO_ZONE)),
        "Snowflake",
        f"lossy: midnight, {_NO_ZONE}",
    ),
    Pair(("TIME",), ("time",), _clock("time64[us]"), note="digits below the microsecond are cut off"),
    Pair(("TIME",), ("timetz",), _timetz, "PostgreSQL", f"lossy: {_NO_ZONE}"),
    Pair(("TIMESTAMP_NTZ",), ("timestamp",), _clock(_TIMESTAMP), note="digits below the microsecond are cut off"),
    Pair(("TIMESTAMP_NTZ",), ("timestamptz",), _clock(_TIMESTAMP_UTC, lossy=_NO_ZONE), note=f"lossy: {_NO_ZONE}"),
    Pair(("TIMESTAMP_LTZ",), ("timestamptz",), _clock(_TIMESTAMP_UTC, select=_utc), "Snowflake", "the moment"),
    Pair(
        ("TIMESTAMP_LTZ",),
        ("timestamp",),
        _clock(_TIMESTAMP, select=_utc, lossy=_IN_UTC),
        "Snowflake",
        f"lossy: {_IN_UTC}",
    ),
    Pair(
        ("TIMESTAMP_TZ",),
        ("timestamptz",),
        _clock(_TIMESTAMP_UTC, select=_utc, lossy=_NO_OFFSET),
        "Snowflake",
        f"lossy: {_NO_OFFSET}",
    ),
    Pair(
        ("TIMESTAMP_TZ",),
        ("timestamp",),
        _clock(_TIMESTAMP, select=_utc, lossy=f"{_IN_UTC} and {_NO_OFFSET}"),
        "Snowflake",
        f"lossy: {_IN_UTC} and {_NO_OFFSET}",
    ),
)

_RULES: Mapping[tuple[str, str], Rule] = {
    (source, target): pair.rule for pair in PAIRS for source in pair.sources for target in pair.targets
}


def page() -> str:
    """The table as a page of the documentation."""
    lines = [
        f"| {_in_words(pair.sources, _SNOWFLAKE_WORDS)} | {_in_words(pair.targets)} | {pair.converted} | {pair.note} |"
        for pair in PAIRS
    ]
    head = ("| Snowflake | PostgreSQL | converted by | |", "|---|---|---|---|")
    return "\n".join((_PAGE, *head, *lines)) + "\n"


def _in_words(types: Sequence[str], words: Mapping[str, str] | None = None) -> str:
    return ", ".join(f"`{(words or {}).get(each, each)}`" for each in types)


_PAGE = """
# Types

Which Snowflake types go into which PostgreSQL columns. A pair that is not in the table is refused before the first row
moves: `snowmelt migrate --dry-run` names the column and what would let it travel. So is a target that would round or
cut without a word, such as `NUMBER(10,4)` into `numeric(10,2)`, or `TIMESTAMP_NTZ(9)` into `timestamp(3)`, unless the
policy [`narrow`](configuration.md#values-that-do-not-fit) asks for it; with it a timestamp goes into a `date` too. What
is lossy is said before a run, and where single values are changed they are counted.

A domain is loaded as the type beneath it, and PostgreSQL checks its constraints; `enum` stands for every enum; of an
extension's type the extension comes first (`citext.citext`). Columns that are generated, or whose identity is always
generated, are left to PostgreSQL. What becomes of a value that does not fit is up to
[value_policies](configuration.md#values-that-do-not-fit).

*Converted by* says where a value changes its form: by **Snowflake** in the statement that reads the table, by
**Snowmelt** on the way, or by **PostgreSQL**, from a staging table, by one statement per chunk. Where it says nothing,
the value is the same on both sides and goes straight into the table as binary COPY. A table with a column that
PostgreSQL converts is staged as a whole, which takes longer; a dry run shows it.
""".removeprefix("\n")
