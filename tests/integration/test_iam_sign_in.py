"""Sign-in to PostgreSQL by IAM: which token is sent, for whom, and when another one is made."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.auth
import psycopg2
import pytest

from snowmelt.config import PostgresConfig
from snowmelt.errors import AccessError, ConfigError, SnowmeltError
from snowmelt.postgres import iam
from snowmelt.postgres.session import Session
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from snowmelt_sandbox.postgres import LocalPostgres
from support import left_behind
from support.iam_server import IamServer
from support.tls import authority

REGION = "eu-central-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": f"{left_behind.MARK}-key"}


@pytest.fixture
def server(postgres: LocalPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IamServer]:
    for name, value in {**KEYS, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PGPASSWORD", raising=False)
    iam._client.cache_clear()
    keys = {"access_key": KEYS["AWS_ACCESS_KEY_ID"], "secret_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
    with IamServer(postgres.host, postgres.port, tmp_path, region=REGION, **keys) as running:
        yield running
    iam._client.cache_clear()


def section(server: IamServer, **changes: Any) -> dict[str, Any]:
    given = {"host": "localhost", "port": server.port, "user": "postgres", "iam_auth": True}
    return {**given, "sslmode": "verify-full", "sslrootcert": authority().root, **changes}


def connect(config: PostgresConfig) -> Session:
    return Session.connect(config, database="postgres", application_name="test")


def refused(config: PostgresConfig) -> SnowmeltError:
    with pytest.raises(SnowmeltError) as caught:
        connect(config).close()
    assert "\n" not in caught.value.message
    assert "X-Amz" not in caught.value.message
    return caught.value


def test_a_token_for_this_server_and_user_signs_in_and_no_password_does(server: IamServer) -> None:
    with connect(PostgresConfig.model_validate(section(server, password=left_behind.POSTGRES_PASSWORD))) as session:
        assert session.alive()

    assert server.refusals == []
    (token,) = server.tokens
    assert token.startswith(f"localhost:{server.port}/?Action=connect&DBUser=postgres&")


def test_each_connection_has_a_token_of_its_own_time_also_after_the_first_has_expired(
    server: IamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PostgresConfig.model_validate(section(server))
    with connect(config) as open_before:
        later = timedelta(minutes=16)
        server.now = lambda: datetime.now(UTC) + later
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: datetime.now(UTC) + later)

        with pytest.raises(psycopg2.OperationalError, match="PAM authentication failed"):
            psycopg2.connect(
                host="localhost", port=server.port, user="postgres", dbname="postgres", password=server.tokens[0]
            )
        assert server.refusals == ["it has expired"]
        with connect(config) as session:
            assert session.alive()
        assert open_before.alive()
    assert len(set(server.tokens)) == 2


@pytest.mark.parametrize(
    ("changes", "environment", "why"),
    [
        ({"user": "other"}, {}, None),  # the token is for whoever signs in
        ({"region": "us-east-1"}, {}, "/us-east-1/rds-db/"),
        ({}, {"AWS_SECRET_ACCESS_KEY": "another"}, "its signature is wrong"),
        ({}, {"AWS_ACCESS_KEY_ID": "AKIDOTHER"}, "it is of AKIDOTHER/"),
        ({"host": "127.0.0.1"}, {}, "it is for 127.0.0.1:"),
    ],
)
def test_a_token_that_is_not_taken_says_what_to_look_at(
    server: IamServer,
    postgres: LocalPostgres,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    environment: dict[str, str],
    why: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = PostgresConfig.model_validate(section(server, **changes))
    if why is None:
        assert 'role "other" does not exist' in refused(config).message
        assert server.refusals == []
        return

    error = refused(config)

    assert why in server.refusals[0]
    assert type(error) is AccessError
    for part in ("PAM authentication failed", "rds-db:connect", "PostgresDbUserArn", "endpoint of the server itself"):
        assert part in error.message


def test_the_region_of_the_config_counts_before_that_of_the_process(
    server: IamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    with connect(PostgresConfig.model_validate(section(server, region=REGION))) as session:
        assert session.alive()


def test_without_iam_auth_a_server_that_asks_for_a_token_says_how_to_give_one(server: IamServer) -> None:
    error = refused(PostgresConfig.model_validate(section(server, iam_auth=False, password="wrong")))
    assert "set postgres.iam_auth" in error.message


@pytest.mark.parametrize(
    ("missing", "kind", "says"),
    [
        (("AWS_REGION", "AWS_DEFAULT_REGION"), ConfigError, "set postgres.region or AWS_DEFAULT_REGION"),
        (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), AccessError, "give this process credentials of AWS"),
    ],
)
def test_what_a_token_cannot_be_signed_without_is_named(
    server: IamServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: tuple[str, ...],
    kind: type[SnowmeltError],
    says: str,
) -> None:
    for name in missing:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    error = refused(PostgresConfig.model_validate(section(server)))

    assert type(error) is kind
    assert says in error.message
    assert server.tokens == []


def test_a_deployment_signs_in_by_the_variable_that_its_stack_sets(server: IamServer, tmp_path: Path) -> None:
    table = {"source_name": "s", "source_sf_database": "D", "source_sf_schema": "S", "tables": [{"source": "T"}]}
    given = {name: value for name, value in section(server).items() if name != "iam_auth"}
    config = {
        "snowflake": {"account": "a", "user": "u", "password": left_behind.SNOWFLAKE_PASSWORD},
        "postgres": given,
        "sources": [{**table, "target_pg_database": "postgres", "target_pg_schema": "public"}],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    wiring = Wiring(Settings(config=str(tmp_path / "config.json"), store=str(tmp_path)), {"POSTGRES_IAM_AUTH": "true"})

    with wiring.target(wiring.config(), "postgres", "test") as session:
        assert session.alive()
    assert len(server.tokens) == 1
