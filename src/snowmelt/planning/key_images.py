"""Say in Snowflake's SQL what PostgreSQL will compare: the image of a key's value once it is stored.

Two values that differ in Snowflake may be one key in PostgreSQL: ``'a'`` and ``'a '`` in ``char(5)``, a UUID in two
spellings, moments that differ below the microsecond. An image is an expression over the source table, and two rows with
the same images have one key in the target. NULL stands for a value that cannot repeat a key: NULL itself, one whose row
is rejected, and one that a policy turns into NULL.

What only PostgreSQL can compare (``citext`` beyond ASCII, collations that are not deterministic, networks, ``jsonb``)
has an image that never calls two keys one which are not, but may miss some that are: ``only_postgres_compares``.
"""

import string

from snowmelt.columns.batch_conversion import doubts
from snowmelt.columns.type_pairs import longest_text, numeric_digits
from snowmelt.models import ColumnPlan
from snowmelt.sql_text import literals

_EXACT = (
    *("text", "varchar", "bpchar", "uuid", "bytea", "bool", "bit", "varbit", "macaddr", "macaddr8"),
    *("int2", "int4", "int8", "numeric", "float4", "float8"),
    *("date", "time", "timetz", "timestamp", "timestamptz"),
)
"""Types whose comparison can be said; other types are compared by what their own input function makes of a text."""


def only_postgres_compares(column: ColumnPlan) -> bool:
    """Whether two values may be one key in the target although their images differ."""
    target = column.target
    is_written_freely = target.type == "timetz" and column.source.type == "TEXT"
    return target.folds or is_written_freely or not (target.kind == "enum" or target.type in _EXACT)


def key_image(column: ColumnPlan) -> str:
    """The expression, over the source table, by which two values are one key in the target."""
    image = _stored(column)
    absent = [d.where for d in doubts(column) if d.check != "nulls" and (d.is_refused or d.action == "null")]
    return f"IFF({' OR '.join(f'({where})' for where in absent)}, NULL, {image})" if absent else image


def is_rejected(column: ColumnPlan) -> str:
    """The condition of values whose row is rejected, as far as Snowflake can tell; nothing where none is."""
    return " OR ".join(f"({doubt.where})" for doubt in doubts(column) if doubt.is_refused)


def null_and_value(column: ColumnPlan) -> tuple[str, str]:
    """Two expressions, neither ever NULL, which are alike where two values are, and where both are NULL."""
    image = key_image(column)
    return f"IFF({image} IS NULL, 1, 0)", f"COALESCE({image}, {_any_value(column)})"


def _any_value(column: ColumnPlan) -> str:
    match column.wire:
        case "string":
            return "''"
        case "binary":
            return "TO_BINARY('00', 'HEX')"
        case "bool":
            return "FALSE"
        case "date32[day]":
            return literals.EPOCH_DATE
        case wire if wire.startswith("time64"):
            return f"{literals.MIDNIGHT}::TIME(6)"
        case wire if wire.startswith("timestamp"):
            return f"{literals.EPOCH}::TIMESTAMP_NTZ(6)"
        case _:
            return "0"


def _stored(column: ColumnPlan) -> str:
    source, target = column.source.type, column.target.type
    if target == "float4":
        return _in_24_bits(column.select)
    if target == "float8":
        return f"({column.select} + 0)"  # -0 and 0 are one key
    if column.narrowed:
        scale = numeric_digits(column.target.typmod)[1] if column.cast else None
        return column.select if scale is None else f"ROUND({column.select}, {scale})"
    if column.cut:
        kind = "TIMESTAMP_NTZ" if source in ("TIMESTAMP_LTZ", "TIMESTAMP_TZ") else source
        return f"{column.select}::{kind}(6)"
    if column.wire != "string":
        return column.select
    return _text(column)


def stored_text(column: ColumnPlan) -> str:
    """The text that is sent for a value: with what the column's policies change."""
    text = column.select
    if column.source.type == "TEXT" and (policy := column.policies.nul_characters) != "reject":
        substitute = "''" if policy == "strip" else "CHR(65533)"
        text = f"REPLACE({text}, CHR(0), {substitute})"
    if (limit := longest_text(column)) is not None and column.policies.too_long == "truncate":
        text = f"LEFT({text}, {limit})"
    return text


def _text(column: ColumnPlan) -> str:
    text = stored_text(column)
    match column.target.type:
        case "bpchar":
            return f"RTRIM({text}, ' ')"
        case "uuid":
            return f"LOWER(REPLACE({text}, '-', ''))"
        case "macaddr" | "macaddr8":
            return f"LOWER(REPLACE(REPLACE(REPLACE({text}, ':', ''), '-', ''), '.', ''))"
        case "citext.citext":
            return f"TRANSLATE({text}, '{string.ascii_uppercase}', '{string.ascii_lowercase}')"
        case "inet" | "cidr":
            return (
                f"IFF(CONTAINS({text}, ':'), REGEXP_REPLACE(LOWER({text}), '/128$', ''), "
                f"REGEXP_REPLACE({text}, '/32$', ''))"
            )
        case _:
            return text


def _in_24_bits(value: str) -> str:
    """The float4 that is nearest, the even one of two that are as near, as a FLOAT."""
    value = f"({value} + 0)"
    size = f"IFF({value} IN (0, 'NaN'::FLOAT, 'inf'::FLOAT, '-inf'::FLOAT), NULL, ABS({value}))"
    # A logarithm that is off by one next to a power of two does no harm: both grids hold that power.
    unit = f"POWER(2, GREATEST(FLOOR(LN({size}) / LN(2)), -126) - 23)"
    places = f"({size} / {unit})"
    rest = f"({places} - FLOOR({places}))"
    is_odd = f"FLOOR({places}) - 2 * FLOOR(FLOOR({places}) / 2) = 1"
    rounded = f"(FLOOR({places}) + IFF({rest} > 0.5 OR ({rest} = 0.5 AND {is_odd}), 1, 0)) * {unit}"
    return f"COALESCE(IFF({value} < 0, -1, 1) * {rounded} + 0, {value})"
