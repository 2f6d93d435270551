"""Single values of the config: their types, bounds and spellings."""

import ipaddress
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Literal, TypeGuard

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    Strict,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from snowmelt.config import conditions, names
from snowmelt.config.placeholders import FromEnvironment


def _spells(value: object, pattern: str) -> TypeGuard[FromEnvironment]:
    return isinstance(value, FromEnvironment) and re.fullmatch(pattern, value) is not None


def _whole_number(value: object) -> object:
    return int(value) if _spells(value, r"-?\d{1,18}") else value


def _number(value: object) -> object:
    return float(value) if _spells(value, r"-?\d{1,18}(\.\d+)?") else value


def _flag(value: object) -> object:
    return value.lower() == "true" if _spells(value, r"(?i)true|false") else value


_SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def _duration(value: object) -> object:
    match value:
        case bool():  # which pydantic would take for a number
            return None
        case str() if spelt := re.fullmatch(r"(\d{1,8}(?:\.\d{1,9})?)\s*([smhdw]?)", value.strip().lower()):
            return timedelta(seconds=float(spelt[1]) * _SECONDS_PER_UNIT[spelt[2] or "s"])
        case _:
            return value


def lacks_unit(value: object) -> bool:
    """Return whether it is a number, written as one or as text, that does not say what it counts."""
    if isinstance(value, str):
        return re.fullmatch(r"\s*\d+(\.\d+)?\s*", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def with_unit(value: object) -> object:
    """Return it as it is; ValueError when it lacks a unit: seconds, hours and days have been taken for each other."""
    if lacks_unit(value):
        raise ValueError(f"needs a unit, as in {value}h or {value}d")
    return value


def in_hours(value: object) -> object:
    """Return it with the unit of hours where it has none."""
    return f"{str(value).strip()}h" if lacks_unit(value) else value


def age(value: object) -> timedelta:
    """Return how old a run may be, of a number of hours or a duration with its unit; ValueError for anything else."""
    try:
        return _not_negative(TypeAdapter(timedelta).validate_python(_duration(in_hours(value))))
    except ValidationError:
        raise ValueError("must be a number of hours, or a duration such as 7d, 12h or P7D") from None


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError("must not be negative")
    return value


def _at_least_a_day(value: timedelta) -> timedelta:
    if value < timedelta(days=1):
        raise ValueError("must be at least 1d, so that somebody can look at the rows of a run that ended at night")
    return value


def _checked_by(check: Callable[[str], str]) -> AfterValidator:
    def unchanged(value: str) -> str:  # errors and messages show a name as it was written
        check(value)
        return value

    return AfterValidator(unchanged)


def _host(value: str) -> str:
    if "://" in value or "@" in value:
        raise ValueError("must be a host name or an address, not a URL")
    return value


def _schema_name(value: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", value) or value.startswith("pg_"):
        raise ValueError("must have lower-case letters, digits and underscores only, and not begin with a digit or pg_")
    if _RESERVED.fullmatch(value):
        raise ValueError("must be a name that SQL has no other use for, such as migration_status")
    return value


_RESERVED = re.compile(
    r"all|analyse|analyze|and|any|array|as|asc|asymmetric|authorization|binary|both|case|cast|check|collate|"
    r"collation|column|concurrently|constraint|create|cross|current_catalog|current_date|current_role|"
    r"current_schema|current_time|current_timestamp|current_user|default|deferrable|desc|distinct|do|else|end|"
    r"except|false|fetch|for|foreign|freeze|from|full|grant|group|having|ilike|in|information_schema|initially|"
    r"inner|intersect|into|is|isnull|join|lateral|leading|left|like|limit|localtime|localtimestamp|natural|not|"
    r"notnull|null|offset|on|only|or|order|outer|overlaps|placing|primary|public|references|returning|right|"
    r"select|session_user|similar|some|symmetric|system_user|table|tablesample|then|to|trailing|true|union|"
    r"unique|user|using|variadic|verbose|when|where|window|with"
)
"""Words that PostgreSQL takes for a name only in quotes, and schemas that everybody has."""

Count = Annotated[int, Strict(), Field(ge=1), BeforeValidator(_whole_number)]
NoneOrMore = Annotated[int, Strict(), Field(ge=0), BeforeValidator(_whole_number)]
Threads = Annotated[int, Strict(), Field(ge=1, le=1000), BeforeValidator(_whole_number)]
Port = Annotated[int, Strict(), Field(ge=1, le=65535), BeforeValidator(_whole_number)]
Seconds = Annotated[float, Strict(), BeforeValidator(_number)]
Share = Annotated[float, Strict(), Field(ge=0, le=1), BeforeValidator(_number)]
Flag = Annotated[bool, Strict(), BeforeValidator(_flag)]
Text = Annotated[str, Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]
Host = Annotated[Text, AfterValidator(_host)]
SchemaName = Annotated[Text, AfterValidator(_schema_name)]
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    AfterValidator(_not_negative),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0}]}),
]
Age = Annotated[
    timedelta,
    BeforeValidator(lambda value: _duration(with_unit(value))),
    AfterValidator(_not_negative),
    WithJsonSchema({"type": "string"}),
]
Retention = Annotated[Age, AfterValidator(_at_least_a_day)]
SnowflakeName = Annotated[Text, _checked_by(names.in_snowflake)]
PostgresName = Annotated[Text, _checked_by(names.in_postgres)]
Condition = Annotated[Text, _checked_by(conditions.require_closed)]

Chunking = Literal["auto", "one_scan", "key_range"]
KeyType = Literal["int", "bigint", "uuid", "varchar", "date", "timestamp"]
Authenticator = Annotated[
    Literal["SNOWFLAKE", "SNOWFLAKE_JWT", "OAUTH", "PROGRAMMATIC_ACCESS_TOKEN"],
    BeforeValidator(lambda value: value.strip().upper() if isinstance(value, str) else value),
]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


def default_sslmode(host: str | None) -> SslMode:
    """Encrypt and check the certificate, unless the server is on this machine."""
    return "prefer" if host is not None and is_this_machine(host) else "verify-full"


def is_this_machine(host: str) -> bool:
    """Return whether a host, or each of a list of hosts as libpq takes it, can be nothing but this machine."""
    return all(map(_is_loopback, host.split(",")))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def protocol_for(protocol: str, host: str | None) -> str:
    """Return the protocol; ValueError where it would send credentials and rows over a network in the clear."""
    if protocol == "http" and not (host is not None and is_this_machine(host)):
        raise ValueError(
            "http sends credentials and rows in the clear, so it is for a stand-in on this machine alone: set host to "
            "127.0.0.1 or localhost, or leave protocol out"
        )
    return protocol
