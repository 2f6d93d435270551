"""A secret that is rotated while a process lives: the next sign-in takes what it holds now, on both sides."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from psycopg2 import sql

from snowmelt.aws.secret import SECRET_SECONDS, Secret
from snowmelt.errors import AccessError, ConfigError
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from snowmelt_sandbox.aws.moto_service import CREDENTIALS, REGION, MotoService
from snowmelt_sandbox.postgres import LocalPostgres
from snowmelt_sandbox.snowflake import LocalSnowflake
from snowmelt_sandbox.snowflake.sign_in import User
from support import left_behind

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

    def snowflake_asks_for(
        self, *, oauth: str | None = None, programmatic: str | None = None, expired: str | None = None
    ) -> None:
        """Change the token that the user of Snowflake signs in with, and the one that was valid before."""
        gone = (expired,) if expired else ()
        user = User(ROLE.upper(), oauth_token=oauth, programmatic_access_token=programmatic, expired_oauth_tokens=gone)
        self.snowflake.put_user(user)

    def second_secret_is(self, name: str, **held: object) -> None:
        """Make or change a secret as RDS manages it."""
        text = json.dumps(held)
        try:
            self._client.put_secret_value(SecretId=name, SecretString=text)
        except self._client.exceptions.ResourceNotFoundException:
            self._client.create_secret(Name=name, SecretString=text)

    def secret_holds(self, password: str) -> None:
        """Change the secret."""
        values = {"POSTGRES_PASSWORD": password, "SNOWFLAKE_PASSWORD": password}
        self._client.put_secret_value(SecretId=SECRET, SecretString=json.dumps(values))

    def secret_is(self, text: str) -> None:
        """Make the secret that text, which need not be JSON."""
        self._client.put_secret_value(SecretId=SECRET, SecretString=text)

    def wiring(self, *, second: str | None = None) -> Wiring:
        """Return what a process builds once and keeps while it is warm."""
        config, store = str(self.folder / "config.json"), str(self.folder)
        return Wiring(Settings(config=config, store=store, secret_id=SECRET, postgres_secret_id=second), {})

    def config_lacks(self, *keys: str) -> None:
        """Leave keys of the config's postgres section to the environment."""
        path = self.folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["postgres"] = {key: value for key, value in config["postgres"].items() if key not in keys}
        path.write_text(json.dumps(config), encoding="utf-8")


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
    with caplog.at_level(logging.WARNING, logger="snowmelt.aws.secret"):
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


TOKENS = {
    "OAuth": ("oauth", {"SNOWFLAKE_TOKEN": ""}),
    "a programmatic access token": (
        "programmatic",
        {"SNOWFLAKE_TOKEN": "", "SNOWFLAKE_AUTHENTICATOR": "PROGRAMMATIC_ACCESS_TOKEN"},
    ),
    "one as the password": ("programmatic", {"SNOWFLAKE_PASSWORD": ""}),
}


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_that_is_refused_is_replaced_by_the_one_that_the_secret_holds_since(
    rotating: Rotating, kind: str
) -> None:
    credential, variables = TOKENS[kind]

    def secret_holds(token: str) -> None:
        rotating.secret_is(json.dumps({name: value or token for name, value in variables.items()}))

    rotating.snowflake_asks_for(**{credential: OLD})
    secret_holds(OLD)
    wiring = rotating.wiring()
    signs_in(wiring, to="snowflake")
    rotating.snowflake_asks_for(**{credential: NEW})
    secret_holds(NEW)

    signs_in(wiring, to="snowflake")

    assert rotating.reads == 2


def test_an_oauth_token_that_has_expired_is_replaced_as_one_that_is_invalid(rotating: Rotating) -> None:
    rotating.snowflake_asks_for(oauth=OLD)
    rotating.secret_is(json.dumps({"SNOWFLAKE_TOKEN": OLD}))
    wiring = rotating.wiring()
    signs_in(wiring, to="snowflake")
    rotating.snowflake_asks_for(oauth=NEW, expired=OLD)

    with pytest.raises(AccessError, match=r"OAuth access token expired.*give an access token that has not expired"):
        signs_in(wiring, to="snowflake")
    rotating.secret_is(json.dumps({"SNOWFLAKE_TOKEN": NEW}))
    signs_in(wiring, to="snowflake")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (TOKENS["OAuth"][1], "where it is a programmatic access token, set snowflake.authenticator"),
        (TOKENS["a programmatic access token"][1], "SHOW USER PROGRAMMATIC ACCESS TOKENS FOR USER rotated"),
    ],
)
def test_a_token_that_stays_refused_says_what_to_look_at(
    rotating: Rotating, variables: dict[str, str], says: str
) -> None:
    rotating.snowflake_asks_for(programmatic=NEW)
    rotating.secret_is(json.dumps({name: value or OLD for name, value in variables.items()}))

    with pytest.raises(AccessError) as caught:
        signs_in(rotating.wiring(), to="snowflake")

    assert says in caught.value.message
    assert f"secret {SECRET} was read again and holds what was refused" in caught.value.message


def test_a_secret_that_rds_manages_signs_in_to_postgresql_and_is_followed_when_it_rotates(rotating: Rotating) -> None:
    def rotates_to(password: str) -> None:
        rotating.servers_ask_for(password)
        server = {"engine": "postgres", "host": rotating.postgres.host, "port": rotating.postgres.port}
        rotating.second_secret_is("rds!db-1", username=ROLE, password=password, dbname="postgres", **server)

    rotating.config_lacks("host", "port", "user")
    rotating.secret_is(json.dumps({"SNOWFLAKE_PASSWORD": OLD, "POSTGRES_PASSWORD": "of another server"}))
    rotates_to(OLD)
    wiring = rotating.wiring(second="rds!db-1")
    signs_in(wiring, to="postgres")
    assert wiring.environment["POSTGRES_DATABASE"] == "postgres"
    rotates_to(NEW)

    signs_in(wiring, to="postgres")

    rotating.servers_ask_for("a third")
    with pytest.raises(AccessError, match=f"secret {SECRET} and secret rds!db-1 were read again and hold what was"):
        signs_in(wiring, to="postgres")


def test_one_secret_may_hold_both_and_our_names_count_before_those_of_rds(rotating: Rotating) -> None:
    held = {"username": ROLE, "password": "of rds", "port": 1, "POSTGRES_PASSWORD": OLD, "engine": "aurora-postgresql"}
    rotating.secret_is(json.dumps(held))

    variables = Secret(SECRET).values()

    assert (variables["POSTGRES_USER"], variables["POSTGRES_PORT"], variables["POSTGRES_PASSWORD"]) == (ROLE, "1", OLD)
    assert "POSTGRES_HOST" not in variables


@pytest.mark.parametrize("wrong", [{"port": True}, {"port": 1.5}, {"username": None}, {"tags": ["x"]}])
def test_a_secret_that_holds_anything_but_texts_and_whole_numbers_is_refused(
    rotating: Rotating, wrong: dict[str, object]
) -> None:
    rotating.secret_is(json.dumps({"password": OLD, **wrong}))
    with pytest.raises(ConfigError, match="must hold a JSON object of strings"):
        Secret(SECRET).values()


def test_a_secret_of_another_kind_of_server_is_told(rotating: Rotating) -> None:
    rotating.secret_is(json.dumps({"username": "u", "password": OLD, "engine": "mysql"}))
    with pytest.raises(ConfigError, match=f"secret {SECRET} is that of a server of mysql; name the one of the Postgre"):
        Secret(SECRET).values()
