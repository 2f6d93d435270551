"""The types a table was declared with, which DuckDB's own types cannot all carry."""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from sqlglot import exp

TEXT_LENGTH = 16_777_216
BINARY_LENGTH = 8_388_608
_TIMES = ("timestamp_ntz", "timestamp_ltz", "timestamp_tz", "time")
_SEMI_STRUCTURED = ("variant", "object", "array")
_FIXED_BY_WIDTH = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)


@dataclass(frozen=True)
class DeclaredType:
    """A column's type in the words of Snowflake's result metadata."""

    kind: str
    precision: int | None = None
    scale: int | None = None
    length: int | None = None

    def sql(self) -> str:
        """The type as DESCRIBE TABLE shows it."""
        if self.kind == "fixed":
            return f"NUMBER({self.precision},{self.scale})"
        if self.kind in _TIMES:
            return f"{self.kind.upper()}({self.scale})"
        if self.kind in ("text", "binary"):
            return f"{'VARCHAR' if self.kind == 'text' else 'BINARY'}({self.length})"
        return "FLOAT" if self.kind == "real" else self.kind.upper()

    def duckdb(self) -> str:
        """The DuckDB type that stores its values."""
        if self.kind == "fixed":
            return f"DECIMAL({stored_precision(self.precision or 38, self.scale or 0)}, {self.scale})"
        return _STORED_AS[self.kind]

    def accepts(self, other: "DeclaredType") -> bool:
        """Whether values that DuckDB calls ``other`` can be sent as this type."""
        if self.kind == "fixed" and other.kind == "fixed":
            return self.scale == other.scale
        return _STORED_AS[self.kind] == _STORED_AS[other.kind]

    def as_dict(self) -> dict[str, Any]:
        """JSON that ``DeclaredType(**…)`` reads."""
        return asdict(self)


MOST_DIGITS = 38


def stored_precision(precision: int, scale: int) -> int:
    """Return the digits with which DuckDB stores a number.

    One with as many digits as decimals gets one more: DuckDB would write 0.12 as .12, which Snowflake does not.
    """
    return min(MOST_DIGITS, max(precision, scale + 1))


_STORED_AS = {
    "fixed": "DECIMAL",
    "real": "DOUBLE",
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "time": "TIME",
    "timestamp_ntz": "TIMESTAMP",
    "timestamp_ltz": "TIMESTAMPTZ",
    "timestamp_tz": "TIMESTAMPTZ",
    "binary": "BLOB",
    "variant": "JSON",
    "object": "JSON",
    "array": "JSON",
    "geography": "VARCHAR",
    "geometry": "VARCHAR",
    "decfloat": "DECIMAL",
}

_KIND_OF_SNOWFLAKE = {
    "INT": "fixed", "BIGINT": "fixed", "SMALLINT": "fixed", "TINYINT": "fixed", "DECIMAL": "fixed",
    "DOUBLE": "real", "FLOAT": "real", "BOOLEAN": "boolean", "DATE": "date", "TIME": "time",
    "TEXT": "text", "VARCHAR": "text", "CHAR": "text", "NCHAR": "text", "NVARCHAR": "text",
    "BINARY": "binary", "VARBINARY": "binary",
    "TIMESTAMP": "timestamp_ntz", "TIMESTAMPNTZ": "timestamp_ntz", "DATETIME": "timestamp_ntz",
    "TIMESTAMPLTZ": "timestamp_ltz", "TIMESTAMPTZ": "timestamp_tz",
    "VARIANT": "variant", "OBJECT": "object", "ARRAY": "array", "GEOGRAPHY": "geography", "GEOMETRY": "geometry",
    "DECFLOAT": "decfloat",
}  # fmt: skip


def of_snowflake(data_type: exp.DataType) -> DeclaredType | None:
    """The type that a piece of Snowflake SQL names, or None where this stand-in has no such type."""
    kind = _KIND_OF_SNOWFLAKE.get(data_type.this.name)
    if kind is None:
        return None
    sizes = [int(p.name) for p in data_type.expressions if isinstance(p, exp.DataTypeParam) and p.name.isdigit()]
    if kind == "fixed":
        return DeclaredType(kind, precision=sizes[0] if sizes else 38, scale=sizes[1] if len(sizes) > 1 else 0)
    if kind in _TIMES:
        return DeclaredType(kind, precision=0, scale=sizes[0] if sizes else 9)
    if kind == "text":
        single = data_type.this.name in ("CHAR", "NCHAR")
        return DeclaredType(kind, length=sizes[0] if sizes else 1 if single else TEXT_LENGTH)
    if kind == "binary":
        return DeclaredType(kind, length=sizes[0] if sizes else BINARY_LENGTH)
    if kind == "decfloat":  # so that a client that does not know the type takes it for a whole number
        return DeclaredType(kind, precision=38, scale=0)
    return DeclaredType(kind)


def of_duckdb(type_name: str) -> DeclaredType:
    """What Snowflake would call a value of that DuckDB type."""
    name = type_name.upper()
    if decimal := re.fullmatch(r"DECIMAL\((\d+), ?(\d+)\)", name):
        return DeclaredType("fixed", precision=int(decimal[1]), scale=int(decimal[2]))
    if name.endswith("[]"):
        return DeclaredType("variant")
    return next((declared for pattern, declared in _OF_DUCKDB if re.match(pattern, name)), _TEXT)


_TEXT = DeclaredType("text", length=TEXT_LENGTH)
_BINARY = DeclaredType("binary", length=BINARY_LENGTH)
_WHOLE = DeclaredType("fixed", precision=38, scale=0)
_REAL = DeclaredType("real")
_NTZ = DeclaredType("timestamp_ntz", precision=0, scale=9)
_TZ = DeclaredType("timestamp_tz", precision=0, scale=9)
_TIME = DeclaredType("time", precision=0, scale=9)

_OF_DUCKDB: tuple[tuple[str, DeclaredType], ...] = (
    (r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)$", _WHOLE),
    (r"DOUBLE$|FLOAT$", _REAL),
    (r"TIMESTAMP WITH TIME ZONE$|TIMESTAMPTZ$", _TZ),
    (r"TIMESTAMP", _NTZ),
    (r"TIME", _TIME),
    (r"BOOLEAN$", DeclaredType("boolean")),
    (r"DATE$", DeclaredType("date")),
    (r"BLOB$", _BINARY),
    (r"JSON$|STRUCT|MAP", DeclaredType("variant")),
)


def of_arrow(data_type: Any) -> DeclaredType:
    """What Snowflake would call a value of that Arrow type."""
    if pa.types.is_decimal(data_type):
        return DeclaredType("fixed", precision=data_type.precision, scale=data_type.scale)
    if pa.types.is_timestamp(data_type):
        return _TZ if data_type.tz else _NTZ
    return next((declared for matches, declared in _OF_ARROW if matches(data_type)), _TEXT)


_OF_ARROW: tuple[tuple[Callable[[Any], bool], DeclaredType], ...] = (
    (pa.types.is_integer, _WHOLE),
    (pa.types.is_floating, _REAL),
    (pa.types.is_time, _TIME),
    (pa.types.is_boolean, DeclaredType("boolean")),
    (pa.types.is_date, DeclaredType("date")),
    (pa.types.is_binary, _BINARY),
)


@dataclass(frozen=True)
class Column:
    """A column of a table or of a result."""

    name: str
    type: DeclaredType
    nullable: bool = True

    def rowtype(self) -> dict[str, Any]:
        """The column as Snowflake's responses describe it."""
        kind = self.type.kind
        length = TEXT_LENGTH if kind in _SEMI_STRUCTURED else self.type.length
        return {
            "name": self.name,
            "database": "",
            "schema": "",
            "table": "",
            "nullable": self.nullable,
            "type": kind,
            "byteLength": min(length * 4, TEXT_LENGTH) if kind == "text" and length else length,
            "length": length if kind in ("text", "binary") else None,
            "scale": self.type.scale,
            "precision": self.type.precision,
            "collation": None,
        }
