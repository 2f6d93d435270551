"""A table with a column for each way in which PostgreSQL or the encoder can refuse a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Kind:
    """A column, a value that goes in, one that does not, and what is said of it."""

    source: str
    arrow: pa.DataType
    target: str
    good: Any
    bad: Any
    reason: str
    policies: tuple[tuple[str, str], ...] = ()


KINDS = {
    "LONG": Kind("VARCHAR", pa.string(), "varchar(5)", "fives", "longer", "longer than varchar(5) holds"),
    "PADDED": Kind("VARCHAR", pa.string(), "char(2)", "ab", "abc", "longer than char(2) holds"),
    "NUL": Kind("VARCHAR", pa.string(), "text", "a", "a\0b", "NUL character"),
    "NUL_JSON": Kind("VARIANT", pa.string(), "jsonb", '"a"', r'"a\u0000b"', "NUL character"),
    "SMALL": Kind("NUMBER(9,0)", pa.int32(), "smallint", 1, 32768, "does not fit into int2"),
    "WHOLE": Kind("NUMBER(18,0)", pa.int64(), "integer", 1, 2**31, "does not fit into int4"),
    "MONEY": Kind("NUMBER(12,2)", pa.decimal128(12, 2), "numeric(5,2)", 1, 1000, "does not fit into numeric(5,2)"),
    "RATIO": Kind("FLOAT", pa.float64(), "real", 0.5, 1e300, "does not fit into float4"),
    "FINITE": Kind("FLOAT", pa.float64(), "float8", 0.5, float("nan"), "NaN", (("nan", "reject"),)),
    "ANCIENT": Kind("DATE", pa.date32(), "date", 1, -800_000, "before the year 1", (("before_year_1", "reject"),)),
    "IDENTITY": Kind("VARCHAR", pa.string(), "uuid", "0" * 32, "no uuid", "not a UUID"),
    "NEEDED": Kind("VARCHAR", pa.string(), "text NOT NULL", "a", None, "null value in column"),
    "CHECKED": Kind("NUMBER(9,0)", pa.int32(), "integer CHECK (checked < 10)", 1, 10, "check constraint"),
    "PARENT": Kind("NUMBER(9,0)", pa.int32(), "integer REFERENCES parents", 1, 2, "foreign key constraint"),
    "POSITIVE": Kind("NUMBER(9,0)", pa.int32(), "positive", 1, -1, "value for domain public.positive"),
    "COLOUR": Kind("VARCHAR", pa.string(), "colour", "red", "mauve", "invalid input value for enum"),
    "ADDRESS": Kind("VARCHAR", pa.string(), "inet", "10.0.0.1", "10.0.0", "invalid input syntax for type inet"),
    "SPAN": Kind("VARCHAR", pa.string(), "int4range", "[1,2)", "[2,1)", "range lower bound must be less"),
    "LENGTH": Kind("VARCHAR", pa.string(), "interval", "1 day", "a while", "invalid input syntax for type interval"),
    "NO_TRIGGER": Kind("VARCHAR", pa.string(), "text", "a", "shout", "no shouting"),
}

DDL = """
    CREATE TABLE parents (id integer PRIMARY KEY);
    INSERT INTO parents VALUES (1);
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
    CREATE TYPE colour AS ENUM ('red', 'green');
    CREATE FUNCTION no_shouting() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.no_trigger = 'shout' THEN RAISE EXCEPTION 'no shouting'; END IF;
        RETURN NEW;
    END $$;
"""
_TRIGGER = "CREATE TRIGGER quiet BEFORE INSERT ON kinds FOR EACH ROW EXECUTE FUNCTION no_shouting();"


def rows(count: int, bad: Mapping[int, str], names: Sequence[str] = tuple(KINDS)) -> pa.Table:
    """Rows numbered by ``ID`` that go in, but for those of ``bad``: each is refused for the kind that it names."""
    columns: dict[str, Any] = {"ID": pa.array(range(count), pa.int64())}
    for name in names:
        columns[name] = _column(KINDS[name], count, sorted(row for row, of_kind in bad.items() if of_kind == name))
    return pa.table(columns)


def _column(kind: Kind, count: int, bad: Sequence[int]) -> Any:
    """Good values but for those rows; the types of single values are too many to be told apart."""
    values: Any = pa.array([_exact(kind, kind.good), _exact(kind, kind.bad)], kind.arrow)
    is_bad: Any = pc.is_in(pa.array(range(count)), pa.array(bad, pa.int64()))
    return values.take(is_bad.cast(pa.int8()))


def _exact(kind: Kind, value: Any) -> Any:
    return Decimal(value) if pa.types.is_decimal(kind.arrow) else value


def source_types(names: Sequence[str] = tuple(KINDS)) -> dict[str, str]:
    """The columns in Snowflake."""
    return {"ID": "NUMBER(18,0)", **{name: KINDS[name].source for name in names}}


def target_ddl(names: Sequence[str] = tuple(KINDS)) -> str:
    """Statements that make the empty target ``kinds``, and what its columns need."""
    columns = ", ".join(f"{name.lower()} {KINDS[name].target}" for name in names)
    return f"{DDL} CREATE TABLE kinds (id bigint PRIMARY KEY, {columns}); {_TRIGGER * ('NO_TRIGGER' in names)}"


def column_policies(names: Sequence[str] = tuple(KINDS)) -> dict[str, dict[str, str]]:
    """The config's, without which some of the bad values would be taken."""
    return {name: dict(KINDS[name].policies) for name in names if KINDS[name].policies}
