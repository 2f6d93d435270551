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


_PATTERNS: tuple[tuple[str, int, str, str], ...] = (
    (r'because schema "([^"]+)" does not exist', 2003, "02000", "Schema '{}' does not exist or not authorized."),
    (r'Schema with name "?([^"!]+?)"? does not exist', 2003, "02000", "Schema '{}' does not exist or not authorized."),
    (r'Catalog "([^"]+)" does not exist', 2003, "02000", "Database '{}' does not exist or not authorized."),
    (r'No catalog \+ schema named "([^"]+)"', 2043, "02000", "Object does not exist, or operation cannot be performed."),
    (r'(?:Table|View) with name "?([^"!]+?)"? does not exist', 2003, "42S02", "Object '{}' does not exist or not authorized."),
    (r'Function with name "?([^"!]+?)"? does not exist', 2140, "42601", "Unknown function {}"),
    (r'with name "([^"]+)" already exists', 2002, "42710", "Object '{}' already exists."),
    (r'Referenced (?:column|table) "([^"]+)" not found', 904, "42000", "error line 1 at position 0\ninvalid identifier '{}'"),
    (r'does not have a column named "([^"]+)"', 904, "42000", "error line 1 at position 0\ninvalid identifier '{}'"),
    (r'does not have a column with name "([^"]+)"', 904, "42000", "error line 1 at position 0\ninvalid identifier '{}'"),
)  # fmt: skip


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
    if isinstance(error, duckdb.ConversionException):
        return SqlError(100038, "22018", text)
    if isinstance(error, duckdb.OutOfRangeException):
        return SqlError(100039, "22003", text)
    if isinstance(error, duckdb.ConstraintException):
        return SqlError(100072, "22000", text)
    if isinstance(error, duckdb.TransactionException):
        return SqlError(625, "57014", f"Statement has been aborted by a concurrent transaction: {text}")
    if isinstance(error, duckdb.ParserException | duckdb.BinderException | SqlglotError):
        return SqlError(1003, "42000", f"SQL compilation error:\n{text}")
    if isinstance(error, NotImplementedError | duckdb.NotImplementedException):
        return SqlError(2, "0A000", f"Unsupported feature '{text}'.")
    return SqlError(603, "XX000", f"SQL execution internal error:\n{type(error).__name__}: {text}")
