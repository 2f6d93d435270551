"""A secret that is rotated while a process lives: the next sign-in takes what it holds now, on both sides."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from psycopg2 import sql

import left_behind
from snowmelt.errors import AccessError, ConfigError
from snowmelt.local.aws.moto_service import CREDENTIALS, REGION, MotoService
from snowmelt.local.postgres import LocalPostgres
from snowmelt.local.snowflake import LocalSnowflake
from snowmelt.local.snowflake.sign_in import User
from snowmelt.secret import SECRET_SECONDS, Secret
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring

OLD, NEW = f"{left_behind.MARK}-old", f"{left_behind.MARK}-new"
SECRET = "snowmelt/connections"
ROLE = "rotated"


class Rotating:
    """Both servers with a password of one user each, and the secret that holds them."""

    def __init__(self, postgres: LocalPostgres, snowflake: LocalSnowflake, folder: Path) -> None:
        self.postgres = postgres
        self.snowflake = snowflake
        self.folder = folder
        self.reads = 0
        self._client = boto3.client("secretsmanager")
        assert boto3.DEFAULT_SESSION is not None
        boto3.DEFAULT_SESSION.events.register("before-call.secrets-manager.GetSecretValue", self._count)
        self._client.create_secret(Name=SECRET, SecretString="{}")
        snowflake.create_schema("ROTATION", "PUBLIC")
        config = {
            "snowflake": {**_unset(snowflake.connection_parameters(password=None)), "user": ROLE},
            "postgres": {"host": postgres.host, "port": postgres.port, "user": ROLE, "sslmode": "disable"},
            "sources": [
                {
                    "source_name": "s",
                    "source_sf_database": "ROTATION",
                    "source_sf_schema": "PUBLIC",
                    "target_pg_database": "postgres",
                    "target_pg_schema": "public",
                    "tables": [{"source": "T"}],
                }
            ],
        }
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def _count(self, **_: object) -> None:
        self.reads += 1

    def servers_ask_for(self, password: str) -> None:
        """Change the passwords on both servers."""
        self.postgres.execute(sql.SQL("ALTER ROLE rotated PASSWORD {}").format(sql.Literal(password)))
        self.snowflake.put_user(User(name=ROLE.upper(), password=password))

    def secret_holds(self, password: str) -> None:
        """Change the secret."""
        values = {"POSTGRES_PASSWORD": password, "SNOWFLAKE_PASSWORD": password}
        self._client.put_secret_value(SecretId=SECRET, SecretString=json.dumps(values))

    def secret_is(self, text: str) -> None:
        """Make the secret that text, which need not be JSON."""
        self._client.put_secret_value(SecretId=SECRET, SecretString=text)

    def wiring(self) -> Wiring:
        """Return what a process builds once and keeps while it is warm."""
        settings = Settings(config=str(self.folder / "config.json"), store=str(self.folder), secret_id=SECRET)
        return Wiring(settings, {})


def _unset(parameters: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in parameters.items() if name != "password"}


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalPostgres]:
    with LocalPostgres(durable=False, password=left_behind.POSTGRES_PASSWORD) as server:
        server.execute("CREATE ROLE rotated LOGIN")
        yield server


@pytest.fixture
def rotating(
    guarded: LocalPostgres, snowflake: LocalSnowflake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rotating]:
    with MotoService() as moto:
        for name, value in {**CREDENTIALS, "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": moto.url}.items():
            monkeypatch.setenv(name, value)
        boto3.setup_default_session()
        yield Rotating(guarded, snowflake, tmp_path)
    boto3.DEFAULT_SESSION = None


def signs_in(wiring: Wiring, *, to: str) -> None:
    """Sign in as an action of a warm process does; the config was read before."""
    config = wiring.config()
    if to == "postgres":
        with wiring.target(config, "postgres", "test") as session:
            assert session.alive()
    else:
        with wiring.source(config, config.sources[0], None) as source:
            assert source.alive()


@pytest.mark.parametrize("side", ["postgres", "snowflake"])
def test_a_warm_process_signs_in_with_what_the_secret_holds_since(rotating: Rotating, side: str) -> None:
    rotating.servers_ask_for(OLD)
    rotating.secret_holds(OLD)
    wiring = rotating.wiring()
    signs_in(wiring, to=side)
    rotating.servers_ask_for(NEW)
    rotating.secret_holds(NEW)

    signs_in(wiring, to=side)

    assert rotating.reads == 2
    signs_in(wiring, to=side)
    assert rotating.reads == 2


@pytest.mark.parametrize("side", ["postgres", "snowflake"])
def test_a_secret_that_still_holds_what_was_refused_is_read_again_once_and_named(rotating: Rotating, side: str) -> None:
    rotating.servers_ask_for(NEW)
    rotating.secret_holds(OLD)
    wiring = rotating.wiring()

    with pytest.raises(AccessError, match=f"secret {SECRET} was read again and holds what was refused"):
        signs_in(wiring, to=side)

    assert rotating.reads == 2


def test_a_secret_is_read_again_after_some_minutes_and_used_on_where_it_cannot_be(
    rotating: Rotating, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rotating.secret_holds("first")
    now = 0.0
    secret = Secret(SECRET, clock=lambda: now)
    assert secret.values()["POSTGRES_PASSWORD"] == "first"
    rotating.secret_holds("second")
    assert secret.values()["POSTGRES_PASSWORD"] == "first"

    now += SECRET_SECONDS
    assert secret.values()["POSTGRES_PASSWORD"] == "second"

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    now += SECRET_SECONDS
    with caplog.at_level(logging.WARNING, logger="snowmelt.secret"):
        assert secret.values()["POSTGRES_PASSWORD"] == "second"
    assert "what was read before is used on" in caplog.text


def test_a_secret_that_cannot_be_read_when_a_sign_in_is_refused_is_named_beside_the_refusal(
    rotating: Rotating, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotating.servers_ask_for(NEW)
    rotating.secret_holds(OLD)
    wiring = rotating.wiring()
    wiring.config()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(AccessError, match=f"password authentication failed.*; and secret {SECRET} cannot be read"):
        signs_in(wiring, to="postgres")


def test_a_secret_that_is_nested_too_deep_is_refused_as_any_other_that_is_no_object_of_strings(
    rotating: Rotating,
) -> None:
    for levels in (5, 900, 20_000):
        rotating.secret_is(f'{{"POSTGRES_PASSWORD": {"[" * levels}{"]" * levels}}}')
        with pytest.raises(ConfigError, match="must hold a JSON object of strings"):
            Secret(SECRET).values()
