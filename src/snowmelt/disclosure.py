"""Decide what of a row may leave the database: names, places and counts, and never a value.

Logs, e-mail, an execution's cause, the status schema's error texts, the dashboard and reports are read by more people
than the tables are. A message that would quote a value of a row has ``[value 5c2f09ab17]`` in its place: a fingerprint,
ten hexadecimal digits of an HMAC-SHA256. The same value has the same fingerprint, so messages can be compared, and
whoever has the key can look for a value he suspects; nobody else can tell a value from it.

The key is the installation's own (``migration_status.fingerprint_key``), which the loading role reads and watchers do
not. A process that has not read it yet uses a random key of its own.

Texts of servers are masked by what is known to be harmless, not by what is known to be harmful: an unknown text, one in
another language, one that code of the target's owner raised, is a fingerprint as a whole.
"""

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from snowmelt.sql_text.lexer import without_literals

KEY_BYTES = 32
_DIGITS = 10
_FINGERPRINT = re.compile(rf"\[value ([0-9a-f]{{{_DIGITS}}})\]")
_MOST_REMEMBERED = 100_000


class Disclosure:
    """One process's key, and, where a person asked to see values, the values behind its fingerprints."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._has_installation_key = False
        self._values: OrderedDict[str, str] | None = None

    @property
    def has_installation_key(self) -> bool:
        """Whether fingerprints can be compared with those of other processes."""
        return self._has_installation_key

    def adopt_key(self, key: bytes) -> None:
        """Use the installation's key from now on."""
        self._key, self._has_installation_key = key, True

    def fingerprint(self, value: object) -> str:
        """What stands for the value in a text that leaves the database."""
        text = str(value)
        digits = hmac.new(self._key, text.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()[:_DIGITS]
        if self._values is not None:
            self._values[digits] = text
            while len(self._values) > _MOST_REMEMBERED:
                self._values.popitem(last=False)
        return f"[value {digits}]"

    def remember_values(self) -> None:
        """Keep values from now on, so that ``revealed`` can show them: for a person at a terminal only."""
        self._values = OrderedDict()

    def revealed(self, text: str) -> str:
        """The text with the values that this process knows in place of their fingerprints."""
        values = self._values
        if not values:
            return text
        return _FINGERPRINT.sub(lambda found: values.get(found[1], found[0]), text)


_process = Disclosure(secrets.token_bytes(KEY_BYTES))

# A message is built deep inside pure functions: what they quote goes through these, whatever process they are in.
fingerprint = _process.fingerprint
adopt_key = _process.adopt_key
remember_values = _process.remember_values
revealed = _process.revealed


def has_installation_key() -> bool:
    """Whether this process has read the installation's key."""
    return _process.has_installation_key


def example(row: Mapping[str, object]) -> str:
    """Return a row's key as messages name it: the columns, and fingerprints of their values."""
    return ", ".join(f"{name}={'NULL' if value is None else fingerprint(value)}" for name, value in row.items())


def examples(rows: Iterable[Mapping[str, object]]) -> str:
    """Return several keys as messages name them."""
    return "; ".join(example(row) for row in rows)


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ServerError:
    """An error as PostgreSQL reports it."""

    sqlstate: str
    primary: str
    detail: str = ""
    context: str = ""
    statement: str = ""
    """What the session had sent."""
    has_position: bool = False
    """The error is about a place in the statement's own text."""


@dataclass(frozen=True)
class ServerText:
    """What may be told of it, each part on one line; detail and context may be empty."""

    primary: str
    detail: str = ""
    context: str = ""

    @property
    def with_detail(self) -> str:
        """What happened, with the detail."""
        return f"{self.primary} ({self.detail})" if self.detail else self.primary


def of_postgres(error: ServerError) -> ServerText:
    """Return what may be told of an error of PostgreSQL."""
    if error.sqlstate.startswith(_OWN_CLASS) and _OWN_CODE.match(error.context):
        return ServerText(primary=_one_line(error.primary))
    return ServerText(
        primary=_one_line(_primary(error)),
        detail=_one_line(_detail(error)),
        context=_one_line(_context(error.context)),
    )


def quoted(reason: str) -> tuple[str, ...]:
    """List what a reason in full may have a fingerprint of: its quotations, the values of its keys, all of it."""
    parts = (found for pattern in _QUOTATIONS for found in pattern.findall(reason))
    return (reason, reason.partition(" (")[0], *parts)


_QUOTATIONS = (re.compile(r'(?s)"(.*)"'), re.compile(r'"([^"]*)"'), re.compile(r"(?s)\)=\((.*?)\)(?: |\.|$)"))

_OWN_CLASS = "SM"
"""Class of the SQLSTATEs that the status schema's own code raises; its texts name roles and relations, and say all."""
_OWN_CODE = re.compile(r"PL/pgSQL function (?:inline_code_block|migration_status\.\w+\([\w\s,.]*\)) line \d+ at RAISE$")

ROW_IN_DETAIL = ("23502", "23514", "44000")
"""SQLSTATEs whose detail is nothing but the whole row: no fingerprint of it says anything, and it is kept elsewhere."""

_KEY = re.compile(
    r"(?s)Key (?P<names>\(.+?\))=\((?P<values>.*)\)(?P<rest> (?:already exists"
    r"|is duplicated"
    r'|is not present in table ".*?"'
    r'|is still referenced from table ".*?"'
    r"|conflicts with key (?P<other_names>\(.+?\))=\((?P<other_values>.*)\)"
    r"|conflicts with existing key (?P<there_names>\(.+?\))=\((?P<there_values>.*)\)))\.?"
)
_PLAIN_DETAILS = re.compile(
    r"A field with precision \d+, scale -?\d+ must round to an absolute value less than [0-9^]+\."
    r"|A field with precision \d+, scale -?\d+ cannot hold an infinite value\."
    r"|Process \d+ waits for \w+ on [^\"]*; blocked by process \d+\."
    r"|There are \d+ dead tuples\."
)


def _detail(error: ServerError) -> str:
    text = error.detail
    if not text or error.sqlstate in ROW_IN_DETAIL:
        return ""
    if error.sqlstate == "40P01":  # its second line and those after it quote statements
        text = text.splitlines()[0]
    if not _is_data(error) and not _runs_code(error.context):
        return text
    if (key := _KEY.fullmatch(text)) is not None:
        return _masked_key(key)
    return text if _PLAIN_DETAILS.fullmatch(text) else fingerprint(text)


def _masked_key(key: "re.Match[str]") -> str:
    """Return the key's columns and who conflicts with what, with fingerprints for the values."""
    rest = key["rest"]
    for names, values, verb in (
        (key["other_names"], key["other_values"], " conflicts with key "),
        (key["there_names"], key["there_values"], " conflicts with existing key "),
    ):
        if values is not None:
            rest = f"{verb}{names}=({fingerprint(values)})"
    return f"Key {key['names']}=({fingerprint(key['values'])}){rest}."


_NAME = r'"(?:[^"]|"")*"'
_OF_CONSTRAINTS = re.compile(
    rf"duplicate key value violates unique constraint {_NAME}"
    rf"|conflicting key value violates exclusion constraint {_NAME}"
    rf"|insert or update on table {_NAME} violates foreign key constraint {_NAME}"
    rf"|update or delete on table {_NAME} violates foreign key constraint {_NAME} on table {_NAME}"
    rf"|null value in column {_NAME}(?: of relation {_NAME})? violates not-null constraint"
    rf"|column {_NAME} (?:of (?:relation|table) {_NAME} )?contains null values"
    rf"|new row for relation {_NAME} violates (?:check constraint {_NAME}|partition constraint)"
    rf"|(?:check|partition) constraint (?:{_NAME} )?of (?:relation|table) {_NAME} is violated by some row"
    rf"|no partition of relation {_NAME} found for row"
    rf"|value for domain (?:\S+|{_NAME}) violates check constraint {_NAME}"
    rf"|domain (?:\S+|{_NAME}) does not allow null values"
    rf"|could not create (?:unique index|exclusion constraint) {_NAME}"
)
_TYPE = r"[\w .\[\]()\",]+?"
_OF_VALUES = re.compile(
    rf"(?P<a>invalid input syntax for type {_TYPE}: ).+"
    rf"|(?P<b>invalid input value for enum {_TYPE}: ).+"
    rf"|(?P<c>value ).+(?P<c_rest> is out of range for type [\w ]+)"
    r"|(?P<d>invalid (?:cidr|inet|macaddr) value: ).+"
    rf"|(?P<e>malformed (?:array|record|range|multirange) literal: ).+"
    r'|(?P<f>invalid byte sequence for encoding "\w+": ).+'
    r"|(?P<g>(?:date/time field value|timestamp|date|interval field value|time zone displacement) out of range: ).+"
    r"|(?P<h>time zone ).+(?P<h_rest> not recognized)",
    re.DOTALL,
)
_PLAIN_VALUES = re.compile(
    r"value too long for type (?:character|character varying|bit varying)\(\d+\)"
    r"|bit string length \d+ does not match type bit\(\d+\)"
    r"|(?:smallint|integer|bigint|numeric|money|cidr|date|timestamp|interval|value) out of range(?: for timestamp)?"
    r"|numeric field overflow|value overflows numeric format|division by zero"
    r"|value out of range: (?:overflow|underflow)"
    r"|range lower bound must be less than or equal to range upper bound"
    r"|(?:insufficient data left in message|incorrect binary data format)"
    r"|unsupported Unicode escape sequence|invalid memory alloc request size \d+"
    r"|cannot (?:convert|cast) [\w ]+|time field value out of range"
)
_DATA_CLASSES = ("22", "23", "2F", "38", "39", "44", "P0", "XX")
"""Classes of SQLSTATEs whose texts may quote a value: of data, constraints, functions, and a server's own faults."""
_MOVES_ROWS = re.compile(r"\s*(INSERT|UPDATE|MERGE|WITH|SELECT)\b", re.IGNORECASE)
_NAMES_FROM_VALUES = ("42P01", "42704", "42883", "42725", "3F000", "42602", "42601", "0A000")
"""What a cast to a type of names (regclass, regtype …) says, quoting the value."""


def _is_data(error: ServerError) -> bool:
    return error.sqlstate.startswith(_DATA_CLASSES) or (
        error.sqlstate in _NAMES_FROM_VALUES
        and not error.has_position
        and (_PLACE.match(error.context) is not None or _MOVES_ROWS.match(error.statement) is not None)
    )


def _primary(error: ServerError) -> str:
    text = error.primary or "refused"
    runs_code = _runs_code(error.context)
    if not _is_data(error) and not runs_code:
        return text
    if (_OF_CONSTRAINTS.fullmatch(text) and error.sqlstate.startswith("23")) or _PLAIN_VALUES.fullmatch(text):
        return text
    if (quoting := _OF_VALUES.fullmatch(text)) is not None:
        before = next(found for name, found in quoting.groupdict().items() if found and not name.endswith("_rest"))
        after = next((found for name, found in quoting.groupdict().items() if found and name.endswith("_rest")), "")
        return f"{before}{fingerprint(_bare(text[len(before) : len(text) - len(after)]))}{after}"
    what = "a trigger or function of the target says" if runs_code or error.sqlstate == "P0001" else "PostgreSQL says"
    return f"{what} {fingerprint(text)}"


def _bare(quoted: str) -> str:
    """Return the value without the quotation marks around it, so that its fingerprint is the value's own."""
    return quoted[1:-1] if len(quoted) > 1 and quoted[0] == quoted[-1] == '"' else quoted


_PLACE = re.compile(r"COPY (?:[^\n]*?), line \d+(?:, column [^\n]*?)?(?=$|\n|: )")
_CODE = re.compile(
    r"^\w[\w/ ]* function (?:[\w.]+|\"[^\"]*\")(?:\([\w\s,.\[\]]*\))?(?: line \d+ at [\w ]+)?", re.MULTILINE
)
_OWN_CHECKS = re.compile(r'^SQL statement "SELECT 1 FROM ONLY ', re.MULTILINE)


def _context(text: str) -> str:
    """Return the place: the line and column of a COPY, the function that raised it; no value that stands beside it."""
    place = _PLACE.match(text)
    if place is not None:
        return place[0]
    code = _CODE.search(text)
    return code[0] if code is not None else ""


def _runs_code(context: str) -> bool:
    """Return whether code of the target's owner was at work: a trigger, a function, a CHECK that calls one."""
    remaining = [line for line in context.splitlines() if not line.startswith("COPY ") and not _OWN_CHECKS.match(line)]
    return any(_CODE.match(line) or line.startswith("SQL ") for line in remaining)


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- Snowflake --------------------------------------------------------------------------------------------------------

_SNOWFLAKE_DATA_ERRORS = range(100_000, 101_000)
"""Numbers of what Snowflake says while a statement runs over rows."""
_QUOTED = re.compile(r"'.*'|\".*\"", re.DOTALL)
_AFTER_VALUE = re.compile(r"(?i)((?<!\[)\bvalue:? )(?!['\"]|is |in |of )([^\s,;]+)")
_WORDS_ONLY = re.compile(r"[A-Za-z ,.:;()-]+")


def of_snowflake(number: int, text: str) -> str:
    """Return what may be told of an error of Snowflake's: of one about a row's value, no value."""
    if number not in _SNOWFLAKE_DATA_ERRORS or _WORDS_ONLY.fullmatch(text):
        return text
    masked = _QUOTED.sub(lambda found: f"'{fingerprint(found[0][1:-1])}'", text)
    masked = _AFTER_VALUE.sub(lambda found: f"{found[1]}{fingerprint(found[2])}", masked)
    return fingerprint(text) if masked == text else masked


def statement_text(statement: str) -> str:
    """Return a statement without its literals: bounds of key ranges are values of rows."""
    return _one_line(without_literals(statement))
