"""One text for a value on both sides: in Snowflake's SQL, and as a field of PostgreSQL's ``ROW(…)::text``.

A row's text is the one that PostgreSQL writes of a record, the cheapest text of a whole row that there is: fields
between commas, nothing for NULL, ``""`` for the empty text, and quotes, doubled within, around whatever could be taken
for something else. Snowflake is made to write the same. A form is exact where equal values have equal texts on both
sides. Where that cannot be had (PostgreSQL spells a value in its own way), it is likely: then hashes that differ
condemn nothing, and the values themselves are compared, by PostgreSQL.

Snowflake's forms are of the value as the load's statement reads it, changed as the column's policies change it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from snowmelt.columns.type_pairs import beyond_float4, longest_text, numeric_digits
from snowmelt.models import ColumnPlan
from snowmelt.sql_text.literals import constant
from snowmelt.verification import float_bits


@dataclass(frozen=True)
class Form:
    """How a value is written, given what reads it on each side."""

    source: str
    """Snowflake's SQL for the field, quoted as PostgreSQL would; NULL for NULL."""
    target: str
    """PostgreSQL's SQL for the field."""
    is_exact: bool = True
    steps: tuple[tuple[str, str], ...] = ()
    """Columns that Snowflake computes beforehand, each from the one before: names, quoted, and their SQL."""


def form(column: ColumnPlan, name: str) -> Form:
    """The column's form; ``name`` reads it on both sides: it is called as in the target."""
    value, target = _after_policies(column, name), column.target.type
    if target == "jsonb":
        return Form(_json_parts_in_snowflake(column, value), _json_parts(name), is_exact=False)
    if column.target.kind == "array":
        return Form(_field(_array_text(value)), f"translate({name}::text, '\" ', '')", is_exact=False)
    return _FORMS[column.wire.partition("(")[0].partition("[")[0]](column, value, name)


def exact_in_postgres(column: ColumnPlan, name: str) -> str:
    """PostgreSQL's SQL for a field that is the same for equal values, where both sides are PostgreSQL's."""
    match column.target.type:
        case "float4" | "float8":
            return float_bits.in_postgres(name, column.target.type)
        case "numeric" if column.target.typmod < 0:
            return f"trim_scale({name})"
        case "bpchar":
            return f"{name}::text"
        case _:
            return name


# --- numbers ----------------------------------------------------------------------------------------------------------


def _number(column: ColumnPlan, value: str, name: str) -> Form:
    text, scale = f"TO_VARCHAR({value})", column.source.scale or 0
    if column.target.type != "numeric":
        return Form(text, name)
    if column.target.typmod < 0:
        return Form(f"RTRIM(RTRIM({text}, '0'), '.')" if scale else text, f"trim_scale({name})")
    zeros = numeric_digits(column.target.typmod)[1] - scale
    if zeros > 0:
        text += f" || '{'' if scale else '.'}{'0' * zeros}'"
    return Form(text, name)


def _float(column: ColumnPlan, value: str, name: str) -> Form:
    if column.narrowed and column.cast:
        return _decimal_of_float(column, value, name)
    width: float_bits.Width = "float4" if column.wire == "float" else "float8"
    return Form(
        float_bits.in_snowflake(value, column.target.name, width),
        float_bits.in_postgres(name, width),
        steps=float_bits.steps_in_snowflake(value, column.target.name, width),
    )


def _decimal_of_float(column: ColumnPlan, value: str, name: str) -> Form:
    """Likely, as Snowflake rounds the binary number, and PostgreSQL the shortest decimal that names it."""
    precision, scale = numeric_digits(column.target.typmod)
    function = "ROUND" if column.policies.narrow == "round" else "TRUNC"
    fits = f"ABS({value}) < 1e{precision - scale}::FLOAT"  # false for NaN and infinities, and so no error
    fitted = f"TO_VARCHAR(IFF({fits}, {function}({value}, {scale}), 0)::NUMBER(38,{scale}))"
    return Form(f"IFF({fits}, {fitted}, {value}::VARCHAR)", name, is_exact=False)


# --- times ------------------------------------------------------------------------------------------------------------


def _date(_column: ColumnPlan, value: str, name: str) -> Form:
    return Form(_moment(value, "YYYY-MM-DD", ""), name)


def _time(column: ColumnPlan, value: str, name: str) -> Form:
    if column.wire == "time64[us]":
        zone = " || '+00'" if column.target.type == "timetz" else ""
        return Form(_without_zeros(f"TO_VARCHAR({value}, 'HH24:MI:SS.FF6')") + zone, name)
    zone = "+00" if column.target.type == "timestamptz" else ""
    moment = _moment(value, "YYYY-MM-DD HH24:MI:SS.FF6", zone, is_quoted=True)
    return Form(f"""'"' || {moment} || '"'""", name)


def _moment(value: str, pattern: str, zone: str, *, is_quoted: bool = False) -> str:
    """A date or a time with one, years before 1 as PostgreSQL writes them."""

    def written(text: str) -> str:
        return (_without_zeros(text) if "FF6" in pattern else text) + (f" || '{zone}'" if zone else "")

    plain = written(f"TO_VARCHAR({value}, '{pattern}')")
    rest = f"TO_VARCHAR({value}, '{pattern.removeprefix('YYYY')}')"
    quote = "" if is_quoted else "'\"' || "  # the blank before BC makes the field a quoted one
    early = (
        f"{quote}LPAD(TO_VARCHAR(1 - YEAR({value})), 4, '0') || {written(rest)} || ' BC{'' if is_quoted else chr(34)}'"
    )
    return f"IFF(YEAR({value}) < 1, {early}, {plain})"


def _without_zeros(text: str) -> str:
    return f"RTRIM(RTRIM({text}, '0'), '.')"


# --- texts ------------------------------------------------------------------------------------------------------------

_EXACT_TEXTS = ("text", "varchar", "json")


def _text(column: ColumnPlan, value: str, name: str) -> Form:
    target = column.target.type
    if target == "bpchar":
        return Form(_field(f"RTRIM({value}, ' ')"), f"{name}::text")
    if target == "uuid":
        digits = f"REPLACE(LOWER({value}), '-', '')"
        parts = " || '-' || ".join(
            f"SUBSTR({digits}, {at}, {count})" for at, count in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
        )
        return Form(parts, name)
    if target == "numeric":
        return Form(value, f"trim_scale({name})", is_exact=False)
    exact = target in _EXACT_TEXTS or column.target.kind == "enum"
    return Form(_field(value), name, is_exact=exact)


_SPECIAL = '"\\(), \t\n\v\f\r'
"""What makes PostgreSQL quote a field of a record."""


def _field(text: str) -> str:
    """The text as PostgreSQL writes it into a record."""
    is_plain = f"LENGTH(TRANSLATE({text}, {constant('0' + _SPECIAL)}, '0')) = LENGTH({text}) AND {text} <> ''"
    return f"IFF({is_plain}, {text}, {_quoted(text)})"


def _quoted(text: str) -> str:
    return rf"""'"' || REPLACE(REPLACE({text}, '\\', '\\\\'), '"', '""') || '"'"""


def _array_text(value: str) -> str:
    return f"""REPLACE(TRANSLATE({value}, '[]" ', '{{}}'), 'null', 'NULL')"""


def _json_parts_in_snowflake(column: ColumnPlan, value: str) -> str:
    """A JSON's keys and values in the order of their text: each side has an order of keys of its own."""
    if column.source.type == "TEXT":
        value = f"COALESCE(TO_JSON(TRY_PARSE_JSON({value})), {value})"
    tight = f"""REPLACE(REPLACE({value}, '": ', '":'), ', ', ',')"""
    parts = f"ARRAY_SORT(ARRAY_DISTINCT(SPLIT(TRANSLATE({tight}, '{{}}[]', ',,,,'), ',')))"
    return _quoted(f"(',' || LTRIM(ARRAY_TO_STRING({parts}, ','), ','))")


def _json_parts(name: str) -> str:
    """The same in PostgreSQL: the lexemes of a tsvector are distinct and sorted.

    A query of its own for each value would sort them too, but not in parallel workers, and five times slower. A lexeme
    of more than 2 kB is an error (``TOO_LONG_FOR_FORMS``).
    """
    tight = f"""replace(replace({name}::text, '": ', '":'), ', ', ',')"""
    parts = f"array_remove(string_to_array(translate({tight}, '{{}}[]', ',,,,'), ','), '')"
    return f"',' || array_to_string(tsvector_to_array(array_to_tsvector({parts})), ',')"


TOO_LONG_FOR_FORMS = "SQLSTATE 54000"
"""What an error of PostgreSQL's says that met a value too long for its form."""


def _flag(_column: ColumnPlan, value: str, name: str) -> Form:
    return Form(f"CASE WHEN {value} THEN 't' WHEN NOT {value} THEN 'f' END", name)


def _bytes(_column: ColumnPlan, value: str, name: str) -> Form:
    return Form(rf"""'"\\\\x' || LOWER(HEX_ENCODE({value})) || '"'""", name)


_FORMS: Mapping[str, Callable[[ColumnPlan, str, str], Form]] = {
    **dict.fromkeys(("int16", "int32", "int64", "decimal128"), _number),
    **dict.fromkeys(("double", "float"), _float),
    **dict.fromkeys(("time64", "timestamp"), _time),
    "bool": _flag,
    "binary": _bytes,
    "date32": _date,
    "string": _text,
}
"""By the type in which values are sent."""


# --- policies ---------------------------------------------------------------------------------------------------------


def _after_policies(column: ColumnPlan, name: str) -> str:
    """What reads the value as it was sent: changed where the policies have values changed."""
    policies, value = column.policies, name
    if column.wire == "string":
        if policies.nul_characters != "reject":
            value = f"REPLACE({value}, CHR(0), {constant(chr(0xFFFD) if policies.nul_characters == 'replace' else '')})"
        limit = longest_text(column)
        return f"LEFT({value}, {limit})" if limit is not None and policies.too_long == "truncate" else value
    conditions = []
    if column.wire in ("double", "float") and policies.nan == "null":
        conditions.append(f"{value} IN ('NaN'::FLOAT, 'inf'::FLOAT, '-inf'::FLOAT)")
    if policies.out_of_range == "null" and (limit_of := _limit(column)):
        conditions.append(limit_of.format(value=value))
    if policies.before_year_1 == "null" and column.wire.startswith(("date", "timestamp")):
        conditions.append(f"YEAR({value}) < 1")
    return f"IFF({' OR '.join(conditions)}, NULL, {value})" if conditions else value


def _limit(column: ColumnPlan) -> str | None:
    """The condition on a number that is too big for the target, if one can be."""
    if column.wire == "float":
        return beyond_float4("{value}")
    if column.wire.startswith("int"):
        bits = int(column.wire.removeprefix("int"))
        return f"{{value}} < {-(2 ** (bits - 1))} OR {{value}} >= {2 ** (bits - 1)}"
    if column.wire.startswith("decimal128"):
        precision, scale = map(int, column.wire.removeprefix("decimal128(").rstrip(")").split(", "))
        digits = precision - scale
        return f"ABS({{value}}) >= 1{'0' * digits}" if digits < 38 else None
    return None


# --- rows -------------------------------------------------------------------------------------------------------------


def record_in_snowflake(fields: Sequence[str]) -> str:
    """The text of a row, of its fields in Snowflake's SQL."""
    parts = [
        ", ',', ".join(f"COALESCE({field}, '')" for field in fields[start : start + FIELDS_AT_ONCE])
        for start in range(0, len(fields), FIELDS_AT_ONCE)
    ]
    texts = parts[0] if len(parts) == 1 else ", ',', ".join(f"CONCAT({part})" for part in parts)
    return f"CONCAT('(', {texts}, ')')"


FIELDS_AT_ONCE = 100
"""Of a row's text; no function is given thousands of arguments."""


def hash_in_snowflake(fields: Sequence[str]) -> str:
    """The lower 64 bits of the MD5 of a row's text, as a number without a sign."""
    return f"MD5_NUMBER_LOWER64({record_in_snowflake(fields)})"


def hash_in_postgres(fields: Sequence[str]) -> str:
    """The same 64 bits, as a bigint."""
    return f"('x' || substr(md5(ROW({', '.join(fields)})::text), 17))::bit(64)::bigint"
