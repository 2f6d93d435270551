"""Values of every type, as strategies."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from snowmelt.models import SourceColumn

Random = np.random.Generator


NULLS = 0.1


@dataclass(frozen=True)
class Made:
    """Values as Snowflake sends them, and how PostgreSQL would be given them by hand."""

    values: "pa.Array[Any]"
    texts: "pa.Array[Any]"


def with_nulls(random: Random, made: Made) -> Made:
    keep = pa.array(random.random(len(made.values)) >= NULLS)
    return Made(pc.if_else(keep, made.values, None), pc.if_else(keep, made.texts, None))


def mixed(random: Random, n: int, edges: Sequence[int], values: "np.ndarray[Any, Any]") -> list[int]:
    """Random numbers with edges strewn in."""
    chosen: list[int] = values.tolist()
    for place in random.integers(0, n, size=max(len(edges), n // 20)).tolist():
        chosen[place] = edges[int(random.integers(0, len(edges)))]
    for place, edge in enumerate(edges[:n]):
        chosen[place] = edge
    return chosen


def decimals(precision: int, scale: int) -> Callable[[Random, int], Made]:
    top = 10**precision - 1

    def make(random: Random, n: int) -> Made:
        parts = random.integers(0, 2**62, size=(3, n)).tolist()
        sizes = random.integers(1, precision, size=n, endpoint=True).tolist()
        signs = random.integers(0, 2, size=n).tolist()
        numbers = [
            (1 - 2 * sign) * ((a << 80 ^ b << 40 ^ c) % 10**size)
            for a, b, c, size, sign in zip(*parts, sizes, signs, strict=True)
        ]
        for place, edge in enumerate([top, -top, 0, 1, -1, 10 ** (precision - 1)][:n]):
            numbers[place] = edge
        raw = b"".join(number.to_bytes(16, "little", signed=True) for number in numbers)
        values: Any = pa.Array.from_buffers(pa.decimal128(38, scale), n, [None, pa.py_buffer(raw)])
        texts = [f"{Decimal((int(number < 0), tuple(map(int, str(abs(number)))), -scale)):f}" for number in numbers]
        return Made(values, pa.array(texts))

    return make


def written(values: "pa.Array[Any]") -> Made:
    return Made(values, pa.array([None if v is None else repr(v) for v in values.to_pylist()], pa.string()))


def doubles(random: Random, n: int) -> Made:
    """Any bits are a float, and those of the first rows are the awkward ones."""
    bits = random.integers(-(2**63), 2**63 - 1, size=n, dtype=np.int64).view(np.float64)
    numbers = np.where(random.random(n) < 0.5, bits, random.normal(size=n))
    for place, edge in enumerate([0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, 1.7976931348623157e308, 0.1][:n]):
        numbers[place] = edge
    return written(pa.array(numbers))


def finite_doubles(random: Random, n: int) -> Made:
    made = doubles(random, n)
    numbers = [float(value) for value in made.values.to_pylist() if value is not None]
    numbers = [value if math.isfinite(value) and value else 1.5 for value in numbers]
    shortest = [f"{Decimal(repr(value)).normalize():f}" for value in numbers]
    return Made(pa.array(numbers), pa.array(shortest))


def halves(random: Random, n: int) -> Made:
    """Numbers that six digits and a float4 both hold exactly."""
    return written(pa.array(random.integers(-99_999, 99_999, size=n) / 8))


def flags(random: Random, n: int) -> Made:
    values = pa.array(random.integers(0, 2, size=n).astype(bool))
    return Made(values, values.cast(pa.string()))


NASTY = (
    *(
        "",
        " ",
        "\\N",
        "NULL",
        "null",
        "\\.",
        "\\",
        "\\x41",
        "'",
        '"',
        '""',
        "\t",
        "\n",
        "\r\n",
        "a,b",
        "😀",
        "é",
        "e\u0301",
    ),
    *(
        "\u202e",
        "\ufeff",
        "\x01",
        "\x7f",
        "trailing  ",
        "  leading",
        "漢字",
        "\U0010ffff",
        "%s",
        "{}",
        "0x00",
        "ß",
        "İ",
    ),
)


def pool(random: Random, size: int = 600) -> list[str]:
    """Texts of any characters but NUL, which PostgreSQL cannot hold, and halves of surrogate pairs."""
    points = [*range(1, 0x250), *range(0x4E00, 0x4E40), *range(0x1F600, 0x1F640), 0xD7FF, 0xE000, 0xFFFF, 0x10FFFF]
    chosen = random.choice(points, size=(size, 12)).tolist()
    lengths = random.integers(0, 12, size=size, endpoint=True).tolist()
    return [*NASTY, *("".join(map(chr, row[:length])) for row, length in zip(chosen, lengths, strict=True))]


def joined(random: Random, n: int, longest: int | None = None) -> "pa.Array[Any]":
    texts = pa.array(pool(random))
    first, second = (texts.take(random.integers(0, len(texts), size=n)) for _ in range(2))
    values = pc.binary_join_element_wise(first, second, pa.array([""] * n))
    return values if longest is None else pc.utf8_slice_codeunits(values, 0, longest)


def texts(longest: int | None = None) -> Callable[[Random, int], Made]:
    def make(random: Random, n: int) -> Made:
        values = joined(random, n, longest)
        return Made(values, values)

    return make


def documents(random: Random, n: int) -> list[Any]:
    """JSON values of every shape, numbers beyond a float's digits among them."""
    names = pool(random, 200)
    leaves = [None, True, False, 0, -1, 10**30, 12345678901234567890, 0.5, 1e100, "", *names]
    picks = random.integers(0, len(leaves), size=(n, 3)).tolist()
    shapes = random.integers(0, 5, size=n).tolist()
    build: Sequence[Callable[[Any, Any, Any], Any]] = (
        lambda a, _b, _c: a,
        lambda a, b, c: [a, b, c],
        lambda a, b, c: {str(a): b, "nested": {"x": [c, None]}},
        lambda a, _b, _c: [[], {}, [a]],
        lambda a, b, c: {"": a, "é😀": [b, {"deep": [[c]]}]},
    )
    return [build[shape](*(leaves[i] for i in row)) for shape, row in zip(shapes, picks, strict=True)]


def json_texts(random: Random, n: int) -> Made:
    values = pa.array(
        [json.dumps(value, ensure_ascii=place % 2 == 0) for place, value in enumerate(documents(random, n))]
    )
    return Made(values, values)


def uuids(random: Random, n: int) -> Made:
    digits = random.bytes(16 * n).hex()
    plain = [digits[32 * i : 32 * i + 32] for i in range(n)]
    hyphens = [f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}" for t in plain]
    written_as = [hyphens, [t.upper() for t in hyphens], plain] if random.random() < 0.5 else [hyphens]
    return Made(pa.array([written_as[i % len(written_as)][i] for i in range(n)]), pa.array(hyphens))


def binaries(random: Random, n: int) -> Made:
    raw = random.bytes(20 * n)
    values = [
        raw[20 * i : 20 * i + length] for i, length in enumerate(random.integers(0, 20, n, endpoint=True).tolist())
    ]
    values[:3] = [b"", b"\0", bytes(range(256))][:n]
    return Made(pa.array(values), pa.array(["\\x" + value.hex() for value in values]))


FIRST_DAY, LAST_DAY = -719_162, 2_932_896  # 0001-01-01, 9999-12-31


DAY_MICROSECONDS = 86_400_000_000


def days(random: Random, n: int) -> Made:
    edges = [FIRST_DAY, LAST_DAY, 0, -1, 11_016]
    values = pa.array(mixed(random, n, edges, random.integers(FIRST_DAY, LAST_DAY, n)), pa.int32()).cast(pa.date32())
    return Made(values, values.cast(pa.string()))


def moments(unit: int = 1) -> Callable[[Random, int], Made]:
    """Moments of any year that are whole multiples of so many microseconds."""
    first, last = FIRST_DAY * DAY_MICROSECONDS, (LAST_DAY + 1) * DAY_MICROSECONDS - 1

    def make(random: Random, n: int) -> Made:
        gap = 1_711_850_400_000_000  # 2024-03-31 02:00, which Berlin's clocks leap over
        chosen = mixed(random, n, [first, last, 0, -1, gap, gap + 1], random.integers(first, last, n))
        values = pa.array([moment // unit * unit for moment in chosen], pa.int64()).cast(pa.timestamp("us"))
        return Made(values, values.cast(pa.string()))

    return make


def source(kind: str, **options: Any) -> SourceColumn:
    return SourceColumn(name="C", type=kind, **options)


def number(precision: int, scale: int = 0) -> SourceColumn:
    return source("FIXED", precision=precision, scale=scale)
