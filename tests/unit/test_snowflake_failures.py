"""The connector's errors in our words: one line, the right kind, what to do, and no signed URL."""

import pytest
from snowflake.connector.errors import (
    DatabaseError,
    Error,
    ForbiddenError,
    HttpError,
    OperationalError,
    ProgrammingError,
)

from snowmelt.errors import (
    AccessError,
    NoTimeTravelError,
    NoWarehouseError,
    ResultGoneError,
    SnowmeltError,
    SourceValueError,
    StatementError,
    StatementRefusedError,
    TransientError,
)
from snowmelt.snowflake_source.failures import sign_in_failure, translate

SIGNED_URL = "https://bucket.s3.amazonaws.com/results/01b/data_0?X-Amz-Signature=deadbeef&X-Amz-Expires=21599"

IN_A_SESSION = [
    (390111, TransientError, "the Snowflake session has ended"),
    (390114, TransientError, "in a new session"),
    (250003, TransientError, "lost touch with Snowflake"),
    (290503, TransientError, "lost touch with Snowflake"),
    (1003, StatementRefusedError, "Snowflake refused"),
    (904, StatementRefusedError, "Snowflake refused"),
    (2003, AccessError, "what is granted to the role"),
    (3001, AccessError, "what is granted to the role"),
    (606, NoWarehouseError, "see that snowflake.warehouse is there"),
    (90073, NoWarehouseError, "within the quota of its resource monitor"),
    (390913, NoWarehouseError, "see that snowflake.warehouse is there"),
    (2057, StatementRefusedError, "CREATE OR REPLACE VIEW"),
    (707, NoTimeTravelError, "let its DATA_RETENTION_TIME_IN_DAYS outlast the run"),
    (630, StatementError, "raise snowflake.statement_timeout_seconds"),
    (604, StatementError, "a resource monitor suspended its warehouse"),
    (603, TransientError, "try again"),
    (709, ResultGoneError, "scans the table again"),
    (710, ResultGoneError, "scans the table again"),
]


@pytest.mark.parametrize(("number", "kind", "said"), IN_A_SESSION)
def test_an_error_in_a_session_is_of_the_kind_that_says_what_to_do(
    number: int, kind: type[SnowmeltError], said: str
) -> None:
    error = ProgrammingError(msg="first line\nsecond line", errno=number, sqlstate="42000", sfqid="01b-02")
    verdict = translate(error, statement=f"select\n  1 {'x' * 300}")
    assert type(verdict) is kind
    assert said in verdict.message
    assert "first line second line (query 01b-02: select ? xxx" in verdict.message
    assert len(verdict.message) < 500
    assert str(number) not in verdict.message


def test_a_value_that_snowflake_cannot_convert_is_the_sources_and_no_attempt_of_the_same_run_helps() -> None:
    error = ProgrammingError(msg="Numeric value 'x' is not recognized", errno=100038, sqlstate="22018", sfqid="01b-02")

    verdict = translate(error)

    assert type(verdict) is SourceValueError
    assert verdict.is_final


@pytest.mark.parametrize(
    "error",
    [
        HttpError(msg=f"403 Forbidden: get {SIGNED_URL}", errno=290403),
        OSError(f"Max retries exceeded with url: {SIGNED_URL} (Caused by timeout)"),
    ],
)
def test_a_failed_download_shows_no_signed_url(error: Exception) -> None:
    verdict = translate(error, query_id="01b")
    assert type(verdict) is TransientError
    assert "data_0" in verdict.message
    assert "Signature" not in verdict.message


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            DatabaseError(msg="Failed to connect to DB: h:443, Incorrect username or password", errno=390100),
            AccessError,
            "refused to sign in user loader",
        ),
        (ForbiddenError(msg="Verify the account name", errno=250001), AccessError, "check snowflake.account"),
        (HttpError(msg="404 Not Found", errno=290404), AccessError, "check snowflake.account"),
        (
            OperationalError(msg="Could not connect after 2 attempt(s)", errno=250001),
            TransientError,
            "try again",
        ),
        (OperationalError(msg="bad certificate", errno=250003), AccessError, "cannot trust the certificate"),
    ],
)
def test_a_sign_in_that_fails_names_who_and_where(error: Error, kind: type[SnowmeltError], said: str) -> None:
    verdict = sign_in_failure(error, who="user loader", where="h:443")
    assert type(verdict) is kind
    assert said in verdict.message
    assert "h:443" in verdict.message
