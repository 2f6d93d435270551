"""Names as the config writes them, and as the databases know them.

A plain name folds to the database's own case; a name written in double quotes is exact, and inside it ``""``
stands for one quote. So ``flights`` is ``FLIGHTS`` in Snowflake and ``flights`` in PostgreSQL, while
``"Flights"`` is ``Flights`` in both.
"""

from string import ascii_lowercase, ascii_uppercase

POSTGRES_NAME_BYTES = 63
"""PostgreSQL cuts longer identifiers silently, so that two of them may become one."""

SNOWFLAKE_NAME_CHARACTERS = 255

# Both servers fold ASCII letters only.
_UPPER = str.maketrans(ascii_lowercase, ascii_uppercase)
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def in_snowflake(written: str) -> str:
    """The exact identifier in Snowflake; ValueError, saying what to do, for what is no name."""
    exact = _exact(written, _UPPER)
    if len(exact) > SNOWFLAKE_NAME_CHARACTERS:
        raise ValueError(f"must not be longer than {SNOWFLAKE_NAME_CHARACTERS} characters")
    return exact


def in_postgres(written: str) -> str:
    """The exact identifier in PostgreSQL; ValueError, saying what to do, for what is no name."""
    exact = _exact(written, _LOWER)
    if len(exact.encode()) > POSTGRES_NAME_BYTES:
        raise ValueError(f"must not be longer than {POSTGRES_NAME_BYTES} bytes in PostgreSQL")
    return exact


def default_target(source: str) -> str:
    """The PostgreSQL table for a Snowflake table whose target is not named: the same name in lower case."""
    return in_postgres(quoted(in_snowflake(source).translate(_LOWER)))


def quoted(exact: str) -> str:
    """How the config writes an exact name."""
    return '"' + exact.replace('"', '""') + '"'


def _exact(written: str, fold: dict[int, int]) -> str:
    if not written.strip():
        raise ValueError("must not be empty")
    if "\0" in written:
        raise ValueError("must not hold a NUL character")
    if written != written.strip():
        raise ValueError("must not begin or end with a space")
    if '"' in written:
        return _unquoted(written)
    if "." in written:
        raise ValueError('must be one name without a dot; a name that holds one is written "\\"a.b\\""')
    return written.translate(fold)


def _unquoted(written: str) -> str:
    inner = written[1:-1]
    wholly_quoted = len(written) > 2 and written[0] == written[-1] == '"'
    if not wholly_quoted or '"' in inner.replace('""', ""):
        raise ValueError('must be plain or wholly in double quotes, with "" for a quote inside')
    return inner.replace('""', '"')
