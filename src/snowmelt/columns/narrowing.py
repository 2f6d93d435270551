"""Conversions that lose digits, for columns whose ``narrow`` policy asks for them.

Without the policy such a pair of types is refused. With it the value is converted as an assignment in PostgreSQL would
do it, or cut off, in the statement that reads the table wherever Snowflake can say it, so that whoever looks at the
column there (the load, a search for duplicates of a key, a verification) sees the value that is stored.
"""

from dataclasses import dataclass
from typing import Literal

from snowmelt.wording import counted

Narrow = Literal["round", "truncate"]


@dataclass(frozen=True)
class Narrowed:
    """How a value is made to fit, and what is said of it."""

    lossy: str
    select: str
    """What reads the value, in Snowflake's SQL."""
    cut: str | None = None
    """The condition on a value that changes, in Snowflake's SQL; None where it is seen on the way."""
    cast: str | None = None
    """What converts the staged value in PostgreSQL."""


def number(name: str, *, scale: int, narrow: Narrow) -> Narrowed:
    """A NUMBER with fewer digits after the point; halves are rounded away from zero on both sides."""
    function = "ROUND" if narrow == "round" else "TRUNC"
    fitted = f"{function}({name}, {scale})::NUMBER(38,{scale})"
    done = "rounded to" if narrow == "round" else "cut off after"
    return Narrowed(f"a value is {done} {counted(scale, 'digit')} after the point", fitted, f"{name} <> {fitted}")


def number_as_float(name: str, *, scale: int, kind: str, digits: int) -> Narrowed:
    """A NUMBER as the nearest binary number."""
    there_and_back = f"{name}::FLOAT::NUMBER(38,{scale})"
    limit = f"ABS({name}) >= 1{'0' * (37 - scale)}"  # on the way back the greatest would not fit
    return Narrowed(
        f"a value with more than {digits} digits may be rounded to what {kind} holds",
        f"{name}::FLOAT",
        f"IFF({limit}, TRUE, {name} <> {there_and_back})",
    )


def float_as_decimal(name: str, staged: str, *, kind: str, scale: int, narrow: Narrow) -> Narrowed:
    """A FLOAT, by the shortest decimal that names it, with so many digits after the point; only PostgreSQL says it."""
    text, done = f"{staged}::text::numeric", "rounded to" if narrow == "round" else "cut off after"
    fitted = text if narrow == "round" else f"trunc({text}, {scale})"
    lossy = f"the shortest decimal that names a value is {done} {counted(scale, 'digit')} after the point"
    return Narrowed(lossy, name, cast=f"({fitted})::{kind}")


def moment(name: str, *, kind: str, digits: int, narrow: Narrow) -> Narrowed:
    """A time of day or a timestamp with fewer digits of a second; ``name`` reads it without a zone."""
    half = f"DATEADD('nanosecond', {5 * 10 ** (8 - digits)}, {name})" if narrow == "round" else name
    done = "rounded to" if narrow == "round" else "cut off after"
    fitted = f"{half}::{kind}({digits})"
    return Narrowed(f"a value is {done} {counted(digits, 'digit')} of a second", fitted, f"{name} <> {fitted}")


def day(name: str, *, zone: str) -> Narrowed:
    """The date of a timestamp; ``name`` reads it without a zone."""
    return Narrowed(f"the time of day is cut off{zone}", f"{name}::DATE", f"{name} <> {name}::DATE::TIMESTAMP_NTZ")
