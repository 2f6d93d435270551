"""Whether PostgreSQL is who it says, by which authorities, and what is said where it cannot be known."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snowmelt.config import PostgresConfig
from snowmelt.errors import AccessError, ConfigError, SnowmeltError, UnreachableError
from snowmelt.postgres.roots import file_of
from snowmelt.postgres.session import Session
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring
from snowmelt_sandbox.postgres import LocalPostgres
from support import left_behind
from support.tls import TlsServer, authority

ROOT = authority().root


@pytest.fixture
def encrypted(postgres: LocalPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
    monkeypatch.setenv("HOME", str(tmp_path))  # libpq looks there for authorities
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    with TlsServer(postgres.host, postgres.port, tmp_path) as server:
        yield server


def connect(server: TlsServer, **changes: Any) -> Session:
    given = {"host": "localhost", "port": server.port, "user": "postgres", "sslmode": "verify-full", **changes}
    config = PostgresConfig.model_validate(given)
    return Session.connect(config, database="postgres", application_name="test")


def refused(server: TlsServer, **changes: Any) -> SnowmeltError:
    with pytest.raises(SnowmeltError) as caught:
        connect(server, **changes).close()
    assert "\n" not in caught.value.message
    return caught.value


SPELLINGS: dict[str, Callable[[Path], str]] = {
    "the path of a file": lambda folder: str(folder / "root.pem"),
    "PEM text": lambda _: ROOT,
    "PEM text with line ends written out": lambda _: ROOT.replace("\n", "\\n"),
    "PEM text on one line": lambda _: " ".join(ROOT.split()),
    "PEM text of several, with remarks": lambda _: f"# another\n{authority('Another').root}\n# ours\n{ROOT}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_server_of_a_private_authority_is_verified_by_its_root(
    encrypted: TlsServer, tmp_path: Path, spelling: str
) -> None:
    (tmp_path / "root.pem").write_text(ROOT)
    with connect(encrypted, sslrootcert=SPELLINGS[spelling](tmp_path)) as session:
        assert session.alive()
    assert encrypted.encrypted == 1


def test_the_file_of_a_pem_text_is_for_its_owner_alone_and_written_once() -> None:
    path = file_of(ROOT)
    assert path is not None
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert file_of(ROOT.replace("\n", "\\n")) == path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        # libpq calls it a file that "does not exist", as it does a database that is not there.
        ({}, 'set postgres.sslrootcert or POSTGRES_SSLROOTCERT: "rds" for RDS and Aurora'),
        ({"sslrootcert": "/no/such.pem"}, 'set postgres.sslrootcert or POSTGRES_SSLROOTCERT: "rds" for RDS'),
        ({"sslrootcert": "/dev/null"}, "set postgres.sslrootcert or POSTGRES_SSLROOTCERT: "),
        ({"sslrootcert": "rds"}, "is of an authority that is not among those that are trusted"),
        ({"sslrootcert": "rds", "sslmode": "verify-ca"}, "the PEM text of the authority of another server"),
        ({"sslrootcert": authority("Another").root}, "where it is set so, the authority is newer: give its PEM"),
        ({"sslrootcert": "system", "sslmode": "require"}, "set postgres.sslmode to verify-full"),
        ({"sslmode": "disable"}, "as RDS does (rds.force_ssl), set postgres.sslmode to verify-full"),
    ],
)
def test_a_server_that_cannot_be_verified_says_what_is_to_be_set(
    encrypted: TlsServer, changes: dict[str, Any], says: str
) -> None:
    error = refused(encrypted, **changes)
    assert type(error) is AccessError
    assert says in error.message
    assert "target_pg_database" not in error.message


def test_a_certificate_of_another_name_says_to_name_the_endpoint(postgres: LocalPostgres, tmp_path: Path) -> None:
    endpoint = authority(host="db.example.rds.amazonaws.com")
    with TlsServer(postgres.host, postgres.port, tmp_path, endpoint) as server:
        error = refused(server, sslrootcert=endpoint.root)
        assert type(error) is AccessError
        assert "set postgres.host to a name that the certificate has: the endpoint that RDS gives" in (error.message)
        with connect(server, sslrootcert=endpoint.root, sslmode="verify-ca") as session:
            assert session.alive()


def test_a_server_without_encryption_says_so(postgres: LocalPostgres, tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="turn ssl on at the server"):
        Session.connect(
            PostgresConfig(
                host=postgres.host, port=postgres.port, user="postgres", sslmode="verify-full", sslrootcert="rds"
            ),
            database="postgres",
            application_name="test",
        )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ROOT.replace("CERTIFICATE", "PUBLIC KEY"), "its PEM text holds no certificate"),
        (ROOT + ROOT.replace("M", "N"), "certificate 2 of its PEM text cannot be read"),
    ],
)
def test_pem_text_that_is_none_is_refused_without_being_shown(encrypted: TlsServer, text: str, says: str) -> None:
    error = refused(encrypted, sslrootcert=text)
    assert type(error) is ConfigError
    assert f"postgres.sslrootcert: {says}" in error.message
    assert ROOT.split()[3] not in error.message


def test_the_default_of_a_deployment_is_for_servers_that_are_verified_alone() -> None:
    def used(**given: Any) -> str | None:
        config = PostgresConfig.model_validate({"host": "db.example.com", "user": "u", **given})
        return config.trusting("rds").sslrootcert

    assert used() == "rds"
    assert used(sslmode="verify-ca") == "rds"
    assert used(sslrootcert="/mine.pem") == "/mine.pem"
    assert [used(sslmode=mode) for mode in ("disable", "allow", "prefer", "require")] == [None] * 4


def test_a_connection_that_breaks_off_while_it_is_encrypted_is_no_matter_of_certificates(
    encrypted: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encrypted, "serve_encrypted", lambda client: client.unwrap())
    assert type(refused(encrypted, sslrootcert=ROOT)) is UnreachableError


@pytest.mark.parametrize(
    ("variables", "is_reached"),
    [
        ({}, False),  # of the roots of RDS, which are the default
        ({"POSTGRES_SSLROOTCERT": ROOT}, True),
        ({"PGSSLROOTCERT": "root.pem"}, True),
    ],
)
def test_a_deployment_s_default_is_taken_where_nobody_names_an_authority(
    encrypted: TlsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    *,
    is_reached: bool,
) -> None:
    (tmp_path / "root.pem").write_text(ROOT)
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    table = {"source_name": "s", "source_sf_database": "D", "source_sf_schema": "S", "tables": [{"source": "T"}]}
    config = {
        "snowflake": {"account": "a", "user": "u", "password": left_behind.SNOWFLAKE_PASSWORD},
        "postgres": {"host": "localhost", "port": encrypted.port, "user": "postgres", "sslmode": "verify-full"},
        "sources": [{**table, "target_pg_database": "postgres", "target_pg_schema": "public"}],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = Settings(config=str(tmp_path / "config.json"), store=str(tmp_path), sslrootcert="rds")
    wiring = Wiring(settings, os.environ)

    if is_reached:
        with wiring.target(wiring.config(), "postgres", "test") as session:
            assert session.alive()
    else:
        with pytest.raises(AccessError, match="certificate verify failed"):
            wiring.connect_target(wiring.config(), "postgres", "test")
