"""Numbers, times and reasons as people read them."""

from datetime import datetime

UNKNOWN = "\u2013"
_BYTES = ("bytes", "kB", "MB", "GB", "TB", "PB")


def number(value: float | None) -> str:
    """``1,234,567``; a dash for what is not known."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """``1.2 GB``, by thousands."""
    if value is None:
        return UNKNOWN
    power = 0
    while value >= 999.5 and power < len(_BYTES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:,.0f} {_BYTES[power]}" if power == 0 or value >= 99.95 else f"{value:,.1f} {_BYTES[power]}"


def duration(seconds: float | None) -> str:
    """``350 ms``, ``4.2 s``, ``3 min 5 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for length, unit, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= length:
            rest = whole % length // below
            return f"{whole // length} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def rate(value: float | None) -> str:
    """``27,431 rows/s``; a dash for what is not known."""
    return UNKNOWN if value is None else f"{value:,.0f} rows/s"


def moment(value: datetime | None) -> str:
    """``2026-11-21 12:54:28``, in UTC."""
    return UNKNOWN if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def dollars(value: float | None) -> str:
    """``$0.0042``: cents where there are some, else as many digits as say something."""
    if value is None:
        return "not known"
    if value >= 0.1 or value == 0:
        return f"${value:,.2f}"
    return f"${value:.4f}" if value >= 0.0001 else "under $0.0001"


def price(value: float) -> str:
    """``$0.0000166667``, all of its digits."""
    return f"${value:.2f}" if value >= 0.01 else f"${value:.10f}".rstrip("0")


def quantity(value: float | None) -> str:
    """``1,234`` or ``0.0031``: three digits that say something."""
    if value is None:
        return "not known"
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:,.3g}"


def joined(words: list[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
