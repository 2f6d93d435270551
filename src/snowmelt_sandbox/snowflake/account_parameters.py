"""What an account has for the parameters that its sessions do not set, and what these do to a statement."""

import re
from typing import Any

from sqlglot import exp

from snowmelt_sandbox.snowflake.errors import SqlError

HOSTILE = {
    "ROWS_PER_RESULTSET": 3,
    "QUOTED_IDENTIFIERS_IGNORE_CASE": True,
    "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "JSON",
    "DATE_INPUT_FORMAT": "DD/MM/YYYY",
    "TIME_INPUT_FORMAT": "HH12:MI AM",
    "TIMESTAMP_INPUT_FORMAT": "DD/MM/YYYY HH24:MI",
    "TIMEZONE": "Asia/Kolkata",
    "AUTOCOMMIT": False,
    "STATEMENT_TIMEOUT_IN_SECONDS": 1,
    "CLIENT_RESULT_CHUNK_SIZE": 160,
}
"""Defaults that accounts have, each of which changes what a careless client reads."""
USUAL: dict[str, Any] = {
    "ROWS_PER_RESULTSET": 0,
    "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
    "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "ARROW",
    "DATE_INPUT_FORMAT": "AUTO",
    "TIME_INPUT_FORMAT": "AUTO",
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
    "TIMEZONE": "UTC",
    "AUTOCOMMIT": True,
    "STATEMENT_TIMEOUT_IN_SECONDS": 172_800,
}
"""What the same parameters are where nobody has set them; the zone is this stand-in's."""

_PATTERNS = {"YYYY": r"\d{4}", "MM": r"\d\d", "DD": r"\d\d", "HH24": r"\d\d", "HH12": r"\d\d", "MI": r"\d\d",
             "SS": r"\d\d", "AM": "[AP]M"}  # fmt: skip
_PART = re.compile("|".join(_PATTERNS))


def fold_quoted_names(statement: Any) -> None:
    """Read quoted names in upper case, as QUOTED_IDENTIFIERS_IGNORE_CASE has it."""
    for name in statement.find_all(exp.Identifier):
        if name.quoted:
            name.set("this", name.name.upper())


def read_literals(statement: Any, formats: dict[str, str | None]) -> None:
    """Read texts that are cast to a date or a time by the format that the session has for it; refuse others.

    ``formats`` are by the beginning of the type's name; none, or AUTO, takes whatever Snowflake recognises.
    """
    for cast in statement.find_all(exp.Cast):
        wanted = next((f for kind, f in formats.items() if cast.to.this.name.startswith(kind)), None)
        if wanted is None or wanted.upper() == "AUTO" or not isinstance(cast.this, exp.Literal):
            continue
        pattern = _PART.sub(lambda part: f"(?P<{part[0]}>{_PATTERNS[part[0]]})", re.escape(wanted.upper()))
        found = re.fullmatch(pattern, cast.this.name.upper())
        if found is None:
            kind = cast.to.this.name.capitalize()
            raise SqlError(100040, "22007", f"{kind} '{cast.this.name}' is not recognized")
        cast.set("this", exp.Literal.string(_iso(found.groupdict())))


def _iso(parts: dict[str, str]) -> str:
    day = "-".join(parts[part] for part in ("YYYY", "MM", "DD") if part in parts)
    hour = parts.get("HH24") or parts.get("HH12")
    if hour is None:
        return day
    half = f" {parts['AM']}" if "AM" in parts else ""
    return f"{day} {hour}:{parts.get('MI', '00')}:{parts.get('SS', '00')}{half}".strip()


def read_formats(statement: Any) -> None:
    """Make casts of ``TO_DATE`` and its like where the format is the one that DuckDB's casts read."""
    for node in list(statement.find_all(exp.TsOrDsToDate, exp.TsOrDsToTime, exp.StrToTime)):
        pattern = node.args.get("format")
        known = _ISO.get(_FRACTION.sub("", pattern.name)) if isinstance(pattern, exp.Literal) else None
        if known is not None:
            kind: Any = node.args.get("target_type") or known
            node.replace(exp.Paren(this=exp.cast(node.this.copy(), kind)))


_FRACTION = re.compile(r"\.%f(_\w+)?")
_ISO = {
    "%Y-%m-%d": "DATE",
    "%H:%M:%S": "TIME",
    "%Y-%m-%d %H:%M:%S": "TIMESTAMP",
    "%Y-%m-%d %H:%M:%S %z": "TIMESTAMPTZ",
}
