"""What DuckDB says about a statement, in Snowflake's words: number, SQLSTATE and text."""

import re

import duckdb
import snowflake.connector.errors
from sqlglot.errors import SqlglotError


class SqlError(Exception):
    """An error of a statement, as Snowflake answers it."""

    def __init__(self, errno: int, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.errno = errno
        self.sqlstate = sqlstate
        self.message = message

    @property
    def code(self) -> str:
        """The number in the six digits of Snowflake's responses."""
        return f"{self.errno:06d}"


def no_such_object(name: str, kind: str = "Object") -> SqlError:
    """The one answer for what is missing and for what the role may not see."""
    return SqlError(2003, "42S02", f"SQL compilation error:\n{kind} '{name}' does not exist or not authorized.")


def invalid_identifier(name: str) -> SqlError:
    """A column that the tables of the statement do not have."""
    return SqlError(904, "42000", f"SQL compilation error: error line 1 at position 0\ninvalid identifier '{name}'")


def stale_view(name: str, *, declared: int, produced: int) -> SqlError:
    """A view whose tables have gained or lost columns since it was created."""
    return SqlError(
        2057,
        "42601",
        f"SQL compilation error:\nView definition for '{name}' declared {declared} column(s), but view query produces "
        f"{produced} column(s).",
    )


def no_warehouse() -> SqlError:
    """The session's warehouse was dropped, or was never there."""
    return SqlError(
        606,
        "57P03",
        "No active warehouse selected in the current session.  Select an active warehouse with the 'use warehouse' "
        "command.",
    )


def out_of_quota(warehouse: str) -> SqlError:
    """The warehouse's resource monitor has suspended it."""
    return SqlError(
        90073,
        "22000",
        f"Warehouse '{warehouse}' cannot be resumed because resource monitor 'RM' has exceeded its quota.",
    )


def canceled() -> SqlError:
    """The statement was aborted by its user."""
    return SqlError(604, "57014", "SQL execution canceled")


def timed_out(seconds: float) -> SqlError:
    """The statement ran into STATEMENT_TIMEOUT_IN_SECONDS."""
    return SqlError(
        630,
        "57014",
        f"Statement reached its statement or warehouse timeout of {seconds:g} second(s) and was canceled.",
    )


_NOT_THERE = "'{}' does not exist or not authorized."
_NO_COLUMN = "error line 1 at position 0\ninvalid identifier '{}'"
_PATTERNS: tuple[tuple[str, int, str, str], ...] = (
    (r'because schema "([^"]+)" does not exist', 2003, "02000", f"Schema {_NOT_THERE}"),
    (r'Schema with name "?([^"!]+?)"? does not exist', 2003, "02000", f"Schema {_NOT_THERE}"),
    (r'Catalog "([^"]+)" does not exist', 2003, "02000", f"Database {_NOT_THERE}"),
    (
        r'No catalog \+ schema named "([^"]+)"',
        2043,
        "02000",
        "Object does not exist, or operation cannot be performed.",
    ),
    (r'(?:Table|View) with name "?([^"!]+?)"? does not exist', 2003, "42S02", f"Object {_NOT_THERE}"),
    (r'Function with name "?([^"!]+?)"? does not exist', 2140, "42601", "Unknown function {}"),
    (r'with name "([^"]+)" already exists', 2002, "42710", "Object '{}' already exists."),
    (r'Referenced (?:column|table) "([^"]+)" not found', 904, "42000", _NO_COLUMN),
    (r'does not have a column (?:named|with name) "([^"]+)"', 904, "42000", _NO_COLUMN),
)


def of_engine(error: Exception) -> SqlError:
    """Snowflake's error for whatever the engine raised; the engine's own error where it was only wrapped."""
    cause = error.__cause__ if isinstance(error, snowflake.connector.errors.Error) else None
    if isinstance(cause, duckdb.Error):
        return of_engine(cause)
    if isinstance(error, SqlError):
        return error
    if isinstance(error, snowflake.connector.errors.Error):
        message = error.raw_msg or error.msg or str(error)
        if error.errno == 1003 and not message.startswith("SQL compilation error"):
            message = f"SQL compilation error:\nsyntax error: {message}"
        return SqlError(error.errno or 1003, error.sqlstate or "42000", message)
    text = str(error)
    for pattern, errno, sqlstate, message in _PATTERNS:
        if found := re.search(pattern, text):
            name = found[1].upper() if errno == 2140 else found[1]
            return SqlError(errno, sqlstate, f"SQL compilation error:\n{message.format(name)}")
    return _of_class(error, text.splitlines()[0] if text else type(error).__name__)


def _of_class(error: Exception, text: str) -> SqlError:
    if isinstance(error, duckdb.InterruptException):
        return canceled()
    for kinds, errno, sqlstate, prefix in _CLASSES:
        if isinstance(error, kinds):
            return SqlError(errno, sqlstate, prefix + text)
    return SqlError(603, "XX000", f"SQL execution internal error:\n{type(error).__name__}: {text}")


_CLASSES: tuple[tuple[tuple[type[Exception], ...], int, str, str], ...] = (
    ((duckdb.ConversionException,), 100038, "22018", ""),
    ((duckdb.OutOfRangeException,), 100039, "22003", ""),
    ((duckdb.ConstraintException,), 100072, "22000", ""),
    ((duckdb.TransactionException,), 625, "57014", "Statement has been aborted by a concurrent transaction: "),
    ((duckdb.ParserException, duckdb.BinderException, SqlglotError), 1003, "42000", "SQL compilation error:\n"),
    ((NotImplementedError, duckdb.NotImplementedException), 2, "0A000", "Unsupported feature: "),
)
