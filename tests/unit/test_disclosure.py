"""Test what a text says of a row outside the database: names and places, fingerprints for values."""

import hashlib
import hmac
import re

import pytest

from snowmelt import disclosure
from snowmelt.disclosure import Disclosure, ServerError, of_postgres, of_snowflake, statement_text

SSN = "078-05-1120"
NO_RELATION = f'relation "{SSN}" does not exist'


def fingerprint(value: str) -> str:
    """Return a mark that ``filled_in`` replaces: the key is this process's own, and names of tests are not."""
    return f"<<{value}>>"


def filled_in(text: str) -> str:
    """Return the text with this process's fingerprints."""
    return re.sub("<<(.*?)>>", lambda found: disclosure.fingerprint(found[1]), text)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ServerError(
                "23505", 'duplicate key value violates unique constraint "p"', f"Key (ssn)=({SSN}) already exists."
            ),
            f'duplicate key value violates unique constraint "p" (Key (ssn)=({fingerprint(SSN)}) already exists.)',
        ),
        (
            ServerError(
                "23505", 'could not create unique index "p"', f"Key (lower(ssn), a)=({SSN}) is, 1) is duplicated."
            ),
            f'could not create unique index "p" (Key (lower(ssn), a)=({fingerprint(SSN + ") is, 1")}) is duplicated.)',
        ),
        (
            ServerError(
                "23503",
                'insert or update on table "a" violates foreign key constraint "f"',
                f'Key (ssn)=({SSN}) is not present in table "b".',
            ),
            (
                'insert or update on table "a" violates foreign key constraint "f" '
                f'(Key (ssn)=({fingerprint(SSN)}) is not present in table "b".)'
            ),
        ),
        (
            ServerError(
                "23P01",
                'conflicting key value violates exclusion constraint "x"',
                f"Key (ssn)=({SSN}) conflicts with existing key (ssn)=(1).",
            ),
            (
                'conflicting key value violates exclusion constraint "x" '
                f"(Key (ssn)=({fingerprint(SSN)}) conflicts with existing key (ssn)=({fingerprint('1')}).)"
            ),
        ),
        (
            ServerError("22P02", f'invalid input syntax for type integer: "{SSN}"'),
            f"invalid input syntax for type integer: {fingerprint(SSN)}",
        ),
        (
            ServerError("22P02", f'invalid input value for enum color: "{SSN}"'),
            f"invalid input value for enum color: {fingerprint(SSN)}",
        ),
        (
            ServerError("22003", f'value "{SSN}" is out of range for type integer'),
            f"value {fingerprint(SSN)} is out of range for type integer",
        ),
        (
            ServerError("22008", f'date/time field value out of range: "{SSN}"'),
            f"date/time field value out of range: {fingerprint(SSN)}",
        ),
        (
            ServerError("22021", 'invalid byte sequence for encoding "UTF8": 0xe1 0x30'),
            f'invalid byte sequence for encoding "UTF8": {fingerprint("0xe1 0x30")}',
        ),
        (
            ServerError("22P02", "invalid input syntax for type json", f'Token "{SSN}" is invalid.'),
            None,
        ),
        (
            ServerError(
                "22003",
                "numeric field overflow",
                "A field with precision 5, scale 2 must round to an absolute value less than 10^3.",
            ),
            (
                "numeric field overflow (A field with precision 5, scale 2 "
                "must round to an absolute value less than 10^3.)"
            ),
        ),
        (ServerError("P0001", f"no {SSN}"), f"a trigger or function of the target says {fingerprint(f'no {SSN}')}"),
        (
            ServerError("23514", f"new row for {SSN}", context="PL/pgSQL function f() line 2 at RAISE"),
            f"a trigger or function of the target says {fingerprint(f'new row for {SSN}')}",
        ),
        (
            ServerError("42501", f"hands off {SSN}", context="PL/pgSQL function f() line 2 at RAISE"),
            f"a trigger or function of the target says {fingerprint(f'hands off {SSN}')}",
        ),
        (
            ServerError("22P02", f"ungültige Eingabesyntax für Typ integer: »{SSN}«"),
            f"PostgreSQL says {fingerprint(f'ungültige Eingabesyntax für Typ integer: »{SSN}«')}",
        ),
        (
            ServerError("42P01", NO_RELATION, statement="INSERT INTO t SELECT c::regclass FROM s"),
            f"PostgreSQL says {fingerprint(NO_RELATION)}",
        ),
        (
            ServerError("42P01", 'relation "public.t" does not exist', statement="COPY t FROM STDIN"),
            'relation "public.t" does not exist',
        ),
        (ServerError("42501", "permission denied for table t"), "permission denied for table t"),
        (
            ServerError(
                "23502",
                'null value in column "a" of relation "t" violates not-null constraint',
                f"Failing row contains ({SSN}).",
            ),
            'null value in column "a" of relation "t" violates not-null constraint',
        ),
        (ServerError("23514", "check_violation", f"Partition key of the failing row contains (ssn) = ({SSN})."), None),
    ],
)
def test_an_error_of_postgres_keeps_its_names_and_loses_its_values(error: ServerError, said: str | None) -> None:
    told = of_postgres(error).with_detail
    assert SSN not in told
    assert said is None or told == filled_in(said)


@pytest.mark.parametrize(
    ("context", "place"),
    [
        (f'COPY people, line 3, column ssn: "{SSN}"', "COPY people, line 3, column ssn"),
        (f'COPY people, line 3: "{SSN}"', "COPY people, line 3"),
        ("COPY people, line 3, column ssn", "COPY people, line 3, column ssn"),
        (
            f"PL/pgSQL function f(text) line 3 at RAISE\nSQL statement \"SELECT '{SSN}'\"",
            "PL/pgSQL function f(text) line 3 at RAISE",
        ),
        (
            f"SQL statement \"SELECT '{SSN}'\"\nPL/pgSQL function f() line 3 at EXECUTE",
            "PL/pgSQL function f() line 3 at EXECUTE",
        ),
        (f"JSON data, line 1: {SSN}", ""),
        (f"unnamed portal parameter $1 = '{SSN}'", ""),
    ],
)
def test_the_place_of_an_error_ends_where_the_value_begins(context: str, place: str) -> None:
    assert of_postgres(ServerError("22P02", "division by zero", context=context)).context == place


@pytest.mark.parametrize(
    ("number", "text", "said"),
    [
        (100_038, f"Numeric value '{SSN}' is not recognized", f"Numeric value '{fingerprint(SSN)}' is not recognized"),
        (100_132, f"Number out of representable range: type FIXED, value {SSN}", None),
        (100_071, f"Failed to cast variant value {SSN} to DATE", None),
        (100_069, f"Error parsing JSON: pos 4 {SSN}", None),
        (100_051, "Division by zero", "Division by zero"),
        (2_003, "Object 'A.B.C' does not exist or not authorized", "Object 'A.B.C' does not exist or not authorized"),
    ],
)
def test_an_error_of_snowflake_about_a_value_has_no_value(number: int, text: str, said: str | None) -> None:
    assert SSN not in of_snowflake(number, text)
    assert said is None or of_snowflake(number, text) == filled_in(said)


def test_a_statement_is_told_without_its_literals() -> None:
    statement = (
        f"""SELECT "a'1", t2.b FROM "S"."T"\n WHERE k >= 4711 AND s = 'it''s {SSN}' AND x = $$ {SSN} $$ AND y < 1.5e3"""
    )
    assert statement_text(statement) == """SELECT "a'1", t2.b FROM "S"."T" WHERE k >= ? AND s = ? AND x = ? AND y < ?"""


def test_fingerprints_are_an_hmac_under_the_key_that_was_adopted() -> None:
    one, other = Disclosure(b"1" * 32), Disclosure(b"2" * 32)
    digest = hmac.new(b"1" * 32, SSN.encode(), hashlib.sha256).hexdigest()
    assert one.fingerprint(SSN) == f"[value {digest[:10]}]"
    assert other.fingerprint(SSN) != one.fingerprint(SSN)
    other.adopt_key(b"1" * 32)
    assert other.fingerprint(SSN) == one.fingerprint(SSN)


def test_values_are_revealed_only_where_they_were_to_be_remembered() -> None:
    process = Disclosure(b"1" * 32)
    text = f"Key (ssn)=({process.fingerprint(SSN)})"
    assert process.revealed(text) == text
    process.remember_values()
    assert process.revealed(f"Key (ssn)=({process.fingerprint(SSN)})") == f"Key (ssn)=({SSN})"


def test_a_value_that_is_not_text_has_a_fingerprint_too() -> None:
    for value in (1, None, "\udcff", b"\xff", "", "a\nb"):
        assert re.fullmatch(r"\[value [0-9a-f]{10}\]", disclosure.fingerprint(value))
