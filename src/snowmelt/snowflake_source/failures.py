"""The connector's errors, turned into ours; the one place that knows their numbers."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from snowflake.connector.errors import Error

from snowmelt import disclosure
from snowmelt.errors import (
    AccessError,
    NoTimeTravelError,
    NotRunningError,
    NoWarehouseError,
    ResultGoneError,
    SnowmeltError,
    SourceValueError,
    StatementError,
    StatementRefusedError,
    TransientError,
)

_HTTP = 290_000
"""The connector's numbers for HTTP answers: this plus the status."""

_SESSION_GONE = frozenset({390_110, 390_111, 390_112, 390_113, 390_114, 390_115, 390_195})
_NETWORK = frozenset({250_001, 250_002, 250_003, 250_005, 251_011, 251_012, 252_010, 252_013})
_OAUTH_REFUSED = frozenset({390_303, 390_318})
"""An OAuth access token that is invalid, or has expired."""
_PROGRAMMATIC_REFUSED = frozenset({394_400, 394_401})
_KEY_REFUSED = "JWT token is invalid"
_IN_PROGRESS = frozenset({333_333, 333_334})
_RESULT_GONE = frozenset({709, 710})
_NO_TIME_TRAVEL = frozenset({707})
_NO_WAREHOUSE = frozenset({606, 666, 90_073, 390_913})
"""None is chosen or granted, a resource monitor has stopped it, a trial has ended."""
_STALE_VIEW = frozenset({2_037, 2_057})
_NOT_AUTHORISED = frozenset({2_003, 2_043, 3_001, 3_013, 3_030})


@dataclass(frozen=True)
class _Meaning:
    numbers: frozenset[int]
    kind: type[SnowmeltError]
    what: str
    remedy: str


_MEANINGS = (
    _Meaning(_SESSION_GONE, TransientError, "the Snowflake session has ended", "try again, in a new session"),
    _Meaning(
        _RESULT_GONE,
        ResultGoneError,
        "Snowflake no longer has this result",
        "the next plan scans the table again, or says why not",
    ),
    _Meaning(
        _NO_TIME_TRAVEL,
        NoTimeTravelError,
        "Snowflake does not know what the table held at that moment",
        "let its DATA_RETENTION_TIME_IN_DAYS outlast the run, or set chunking to one_scan; then start again",
    ),
    _Meaning(
        _NO_WAREHOUSE,
        NoWarehouseError,
        "Snowflake has no warehouse for this",
        "see that snowflake.warehouse is there, granted (USAGE) and within the quota of its resource monitor",
    ),
    _Meaning(
        _STALE_VIEW,
        StatementRefusedError,
        "the view no longer fits its tables",
        "create it again (CREATE OR REPLACE VIEW), then start again",
    ),
    _Meaning(
        _NOT_AUTHORISED,
        AccessError,
        "Snowflake refused",
        "check the names, and what is granted to the role",
    ),
    _Meaning(
        frozenset({604, 630}),
        StatementError,
        "Snowflake ended the statement",
        "if it ran out of time, raise snowflake.statement_timeout_seconds and the warehouse's own limit, or take a "
        "larger warehouse; else somebody cancelled it, or a resource monitor suspended its warehouse",
    ),
    _Meaning(frozenset({605}), NotRunningError, "Snowflake has nothing to end", "see what became of it"),
    _Meaning(frozenset({603, 625}), TransientError, "Snowflake failed internally", "try again"),
)

_CLASSES: tuple[tuple[str, type[StatementError]], ...] = (
    ("22", SourceValueError),  # data exceptions, such as a text that is no number
    ("42", StatementRefusedError),  # compilation
    ("0A", StatementRefusedError),
)
"""What classes of SQLSTATEs mean whose errors come back however often a statement is tried."""

_NUMBER_PREFIX = re.compile(r"^(?:\d{6} \([0-9A-Z]{5}\): |\d{6}: )+")
_URL_PARAMETERS = re.compile(r"(/[^\s?]*)\?\S+")


@contextmanager
def translated(*, statement: str | None = None, query_id: str | None = None) -> Iterator[None]:
    """Turn whatever the connector raises inside into one of our errors."""
    try:
        yield
    except (Error, OSError) as error:  # its HTTP client raises OSErrors
        raise translate(error, statement=statement, query_id=query_id) from error


def translate(error: Exception, *, statement: str | None = None, query_id: str | None = None) -> SnowmeltError:
    """What an error of the connector means in a session that had signed in."""
    subject = _subject(error, statement, query_id)
    number = _number_of(error)
    for meaning in _MEANINGS:
        if number in meaning.numbers:
            return meaning.kind(f"{meaning.what}: {text_of(error)}{subject}; {meaning.remedy}")
    if is_about_connection(error):
        return TransientError(f"lost touch with Snowflake: {text_of(error)}{subject}; try again")
    kind = next((kind for sign, kind in _CLASSES if _sqlstate_of(error).startswith(sign)), StatementError)
    return kind(f"Snowflake refused: {text_of(error)}{subject}")


def sign_in_failure(error: Exception, *, who: str, where: str, user: str = "", key: str | None = None) -> SnowmeltError:
    """What an error of the connector means before there was a session; ``key`` is a key pair's fingerprint."""
    number = _number_of(error)
    text = text_of(error)
    if type(error).__name__ == "ForbiddenError" or number in {_HTTP + 403, _HTTP + 404}:
        return AccessError(f"Snowflake at {where} has no account for {who}: {text}; check snowflake.account")
    if "certificate" in text.lower():
        return AccessError(f"cannot trust the certificate of {where}: {text}; check snowflake.host and the proxy")
    if is_about_connection(error):
        return TransientError(f"Snowflake at {where} did not answer the sign-in of {who}: {text}; try again")
    if key is not None and _KEY_REFUSED in text:
        return AccessError(
            f"Snowflake at {where} refused to sign in {who}: {text}; this key's fingerprint is {key}: where "
            f"`DESC USER {user}` shows another as RSA_PUBLIC_KEY_FP, name the private key of that one, or make this "
            f"one the user's by `ALTER USER {user} SET RSA_PUBLIC_KEY = '...'`; where it shows the same, set this "
            "machine's clock"
        )
    if number in _OAUTH_REFUSED:
        return AccessError(
            f"Snowflake at {where} refused to sign in {who}: {text}; give an access token that has not expired; or, "
            "where it is a programmatic access token, set snowflake.authenticator to PROGRAMMATIC_ACCESS_TOKEN"
        )
    if number in _PROGRAMMATIC_REFUSED:
        return AccessError(
            f"Snowflake at {where} refused to sign in {who}: {text}; `SHOW USER PROGRAMMATIC ACCESS TOKENS FOR USER "
            f"{user}` says whether it has expired or is disabled, ALTER USER … ROTATE PROGRAMMATIC ACCESS TOKEN gives "
            "another; and the user must be subject to a network policy that lets this machine in"
        )
    return AccessError(
        f"Snowflake at {where} refused to sign in {who}: {text}; check the user, the credentials, "
        "the roles granted to the user, and the account's network policy"
    )


def is_about_connection(error: Exception) -> bool:
    """Whether an error says nothing about the statement, only that Snowflake could not be asked."""
    number = _number_of(error)
    return (
        not isinstance(error, Error) or number in _SESSION_GONE or number in _NETWORK or _HTTP <= number < _HTTP + 1_000
    )


def is_result_gone(error: Exception) -> bool:
    """Whether Snowflake does not have the result, or does not know the statement."""
    return _number_of(error) in _RESULT_GONE


def is_in_progress(error: Exception) -> bool:
    """Whether the statement is still at work."""
    return _number_of(error) in _IN_PROGRESS


def is_not_authorised(error: Exception) -> bool:
    """Whether something is missing or hidden: Snowflake does not say which."""
    return _number_of(error) in _NOT_AUTHORISED


def text_of(error: Exception) -> str:
    """What the connector says, on one line, without numbers, parameters of signed URLs and values of rows."""
    text = _NUMBER_PREFIX.sub("", " ".join(str(getattr(error, "msg", None) or error).split()))
    text = disclosure.of_snowflake(_number_of(error), text)
    return _URL_PARAMETERS.sub(r"\1", text)[:400].removesuffix("Aborting").rstrip(" .;") or type(error).__name__


def _number_of(error: Exception) -> int:
    number = getattr(error, "errno", None)
    return number if isinstance(error, Error) and isinstance(number, int) else -1


def _sqlstate_of(error: Exception) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def _subject(error: Exception, statement: str | None, query_id: str | None) -> str:
    """Which query, and which statement, an error is about."""
    query_id = query_id or getattr(error, "sfqid", None)
    parts = [f"query {query_id}"] if query_id else []
    if statement is not None:
        parts.append(disclosure.statement_text(statement)[:200])
    return f" ({': '.join(parts)})" if parts else ""
