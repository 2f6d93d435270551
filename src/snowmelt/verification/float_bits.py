"""A float as the number that its bits are: each side writes floats in decimals of its own, and both hold the same bits.

PostgreSQL sends the bits. Snowflake has to compute them: it finds the exponent, and scales the value by powers of two,
which loses nothing. The number of a magnitude is ``(E + bias - 1) * 2**m + M``, where ``M`` counts the last places, the
leading bit included; that holds for subnormal numbers too, with the lowest ``E``. Zero has no sign here.
"""

from dataclasses import dataclass
from typing import Literal

from snowmelt.columns.type_pairs import quoted

Width = Literal["float4", "float8"]


@dataclass(frozen=True)
class _Layout:
    places: int
    lowest: int
    nan: int
    infinity: int


_LAYOUTS: dict[Width, _Layout] = {
    "float4": _Layout(places=23, lowest=-126, nan=0x7FC00000, infinity=0x7F800000),
    "float8": _Layout(places=52, lowest=-1022, nan=0x7FF8000000000000, infinity=0x7FF0000000000000),
}
_HALF = 1 << 26
"""A float's 52 places are taken in two parts of 26, which any conversion to a whole number keeps."""


def steps_in_snowflake(value: str, column: str, width: Width) -> tuple[tuple[str, str], ...]:
    """What is computed of each row beforehand, each from the one before: a name, quoted, and the SQL behind it."""
    size, guess, exponent = _names(column)
    lowest = _LAYOUTS[width].lowest
    scaled = f"{size} / POWER(2, {guess})"
    return (
        # Neither zero nor what is not finite has a logarithm.
        (size, f"IFF({value} IN (0, 'NaN'::FLOAT, 'inf'::FLOAT, '-inf'::FLOAT), NULL, ABS({value}))"),
        (guess, f"GREATEST(LEAST(FLOOR(LN({size}) / LN(2)), 1023), {lowest})"),
        # The logarithm may be off by one next to a power of two.
        (exponent, f"{guess} + IFF({scaled} >= 2, 1, IFF({scaled} < 1 AND {guess} > {lowest}, -1, 0))"),
    )


def in_snowflake(value: str, column: str, width: Width) -> str:
    """The text of the number that the bits of a FLOAT are, once it is rounded to the width; NULL for NULL."""
    layout = _LAYOUTS[width]
    size, _, exponent = _names(column)
    places = _rounded(size, exponent) if width == "float4" else _in_two_parts(size, exponent)
    number = f"({exponent} - {layout.lowest})::NUMBER(38, 0) * {1 << layout.places} + {places}"
    special = f"IFF({value} = 0, 0, IFF({value} = 'NaN'::FLOAT, {layout.nan}, {layout.infinity}))"
    # The sign multiplies, so that what is rounded to zero has none.
    signed = f"IFF({value} < 0, -1, 1) * COALESCE({number}, {special})"
    return f"IFF({value} IS NULL, NULL, TO_VARCHAR({signed}))"


def _names(column: str) -> tuple[str, str, str]:
    size, guess, exponent = (quoted(f"snowmelt {what} {column}") for what in ("size", "guess", "exponent"))
    return size, guess, exponent


def _in_two_parts(size: str, exponent: str) -> str:
    high = f"FLOOR({size} / POWER(2, {exponent}) * {_HALF})"
    low = f"(({size} / POWER(2, {exponent}) * {_HALF} - {high}) * {_HALF})"
    return f"{high}::NUMBER(38, 0) * {_HALF} + {low}::NUMBER(38, 0)"


def _rounded(size: str, exponent: str) -> str:
    """To the nearest place, and to the even one of two that are as near."""
    exact = f"({size} / POWER(2, {exponent} - 23))"
    rest = f"({exact} - FLOOR({exact}))"
    up = f"IFF({rest} > 0.5 OR ({rest} = 0.5 AND MOD(FLOOR({exact})::NUMBER(38, 0), 2) = 1), 1, 0)"
    return f"FLOOR({exact})::NUMBER(38, 0) + {up}"


def in_postgres(value: str, width: Width) -> str:
    """The same number in PostgreSQL, of any type that the width takes."""
    kind, bits = ("integer", 32) if width == "float4" else ("bigint", 64)
    sent = f"('x' || encode({width}send(abs({value}::{width})), 'hex'))::bit({bits})::{kind}"
    return f"CASE WHEN {value} = 'NaN' THEN {_LAYOUTS[width].nan} WHEN {value} < 0 THEN -{sent} ELSE {sent} END"
