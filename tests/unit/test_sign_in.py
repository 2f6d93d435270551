"""Every spelling of a key pair gives the same key, and what is no key is explained without showing it."""

import base64
import textwrap
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import SecretStr

from snowmelt.config import SnowflakeConfig
from snowmelt.errors import ConfigError
from snowmelt.snowflake_source import private_key_der
from snowmelt.snowflake_source.sign_in import credentials

PASSPHRASE = "h1dden correct horse"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EXPECTED = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

FORMATS = {
    "PKCS#8": (PrivateFormat.PKCS8, NoEncryption()),
    "PKCS#1": (PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    "PKCS#8 with a passphrase": (PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode())),
    "PKCS#1 with a passphrase": (
        PrivateFormat.TraditionalOpenSSL,
        BestAvailableEncryption(PASSPHRASE.encode()),
    ),
}


def as_it_is(pem: str) -> str:
    return pem


def with_written_out_newlines(pem: str) -> str:
    return pem.replace("\n", "\\n")


def with_windows_newlines(pem: str) -> str:
    return pem.replace("\n", "\r\n")


def with_written_out_windows_newlines(pem: str) -> str:
    return pem.replace("\n", "\\r\\n")


def on_one_line_with_blanks(pem: str) -> str:
    return " ".join(pem.split())


def in_quotes(pem: str) -> str:
    return f'"{pem.strip()}"'


def indented(pem: str) -> str:
    return textwrap.indent(pem, "    ")


def base64_of_the_file(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()


SPELLINGS = [
    as_it_is,
    with_written_out_newlines,
    with_windows_newlines,
    with_written_out_windows_newlines,
    on_one_line_with_blanks,
    in_quotes,
    indented,
    base64_of_the_file,
]


def config(**keys: Any) -> SnowflakeConfig:
    return SnowflakeConfig.model_validate({"account": "myorg-myaccount", "user": "loader"} | keys)


def pem_of(format_: PrivateFormat, encryption: KeySerializationEncryption) -> str:
    return KEY.private_bytes(Encoding.PEM, format_, encryption).decode()


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda spelling: spelling.__name__)
@pytest.mark.parametrize("kind", FORMATS)
def test_pem_text_is_read_however_it_was_passed_on(kind: str, spelling: Any) -> None:
    text = spelling(pem_of(*FORMATS[kind]))
    assert private_key_der(config(private_key=text, private_key_passphrase=PASSPHRASE)) == EXPECTED


def test_pkcs8_without_any_blank_between_its_lines_is_read() -> None:
    text = pem_of(*FORMATS["PKCS#8"]).replace("\n", "")
    assert private_key_der(config(private_key=text)) == EXPECTED


@pytest.mark.parametrize("kind", ["PKCS#8", "PKCS#1", "PKCS#8 with a passphrase"])
def test_base64_of_der_is_read(kind: str) -> None:
    der = KEY.private_bytes(Encoding.DER, *FORMATS[kind])
    wrapped = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 76))
    assert private_key_der(config(private_key=wrapped, private_key_passphrase=PASSPHRASE)) == EXPECTED


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("kind", ["PKCS#8", "PKCS#1", "PKCS#8 with a passphrase"])
def test_a_file_is_read_as_pem_or_der(tmp_path: Path, kind: str, encoding: Encoding) -> None:
    file = tmp_path / "rsa_key.p8"
    file.write_bytes(KEY.private_bytes(encoding, *FORMATS[kind]))
    assert private_key_der(config(private_key_path=str(file), private_key_passphrase=PASSPHRASE)) == EXPECTED


@pytest.mark.parametrize("key", ["private_key", "rsa_key"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_key_or_the_path_of_its_file_is_read_from_either_name(tmp_path: Path, key: str, spelling: Any) -> None:
    file = tmp_path / "rsa_key.p8"
    file.write_text(spelling(pem_of(*FORMATS["PKCS#8"])))
    for given in (spelling(pem_of(*FORMATS["PKCS#8"])), str(file), f" '{file}'\n"):
        assert credentials(config(**{key: given})) == {"authenticator": "SNOWFLAKE_JWT", "private_key": EXPECTED}


def test_a_path_that_is_relative_or_in_the_home_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(pem_of(*FORMATS["PKCS#8"]))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert {private_key_der(config(rsa_key=path)) for path in ("key", "./key", "~/key")} == {EXPECTED}


@pytest.mark.parametrize("path", ["/run/secrets/h1dden.p8", "keys/h1dden", "h1dden.pem"])
def test_a_path_of_no_file_is_told_without_what_was_given(path: str) -> None:
    said = explanation(rsa_key=path)
    assert "snowflake.rsa_key: it is no key, and the file that it may name cannot be read: No such file" in said


def test_a_passphrase_that_the_key_does_not_need_does_no_harm() -> None:
    text = pem_of(*FORMATS["PKCS#8"])
    assert private_key_der(config(private_key=text, private_key_passphrase="superfluous")) == EXPECTED


def test_a_config_with_a_password_has_no_key() -> None:
    assert private_key_der(config(password="h1dden-hunter2")) is None


def test_a_key_pair_comes_before_a_token_and_a_token_before_a_password() -> None:
    text = pem_of(*FORMATS["PKCS#8"])
    both = {"token": "h1dden-t0ken", "password": "h1dden-hunter2"}
    assert credentials(config(private_key=text, **both)) == {
        "authenticator": "SNOWFLAKE_JWT",
        "private_key": EXPECTED,
    }
    assert credentials(config(**both)) == {"authenticator": "oauth", "token": "h1dden-t0ken"}


@pytest.mark.parametrize(
    ("authenticator", "signs_in_with"),
    [
        ("programmatic_access_token", {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": "h1dden-t0ken"}),
        ("OAUTH", {"authenticator": "oauth", "token": "h1dden-t0ken"}),
        ("snowflake", {"password": "h1dden-pw"}),
        ("Snowflake_JWT", {"authenticator": "SNOWFLAKE_JWT", "private_key": EXPECTED}),
    ],
)
def test_the_authenticator_says_which_of_several_credentials_signs_in(
    authenticator: str, signs_in_with: dict[str, Any]
) -> None:
    given = {"token": "h1dden-t0ken", "password": "h1dden-pw", "private_key": pem_of(*FORMATS["PKCS#8"])}
    assert credentials(config(**given, authenticator=authenticator)) == signs_in_with


def test_a_programmatic_access_token_may_stand_where_a_password_does() -> None:
    given = {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "password": "h1dden-t0ken"}
    expected = {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": "h1dden-t0ken"}
    assert credentials(config(**given)) == expected


def test_an_authenticator_without_what_it_signs_in_with_is_refused() -> None:
    with pytest.raises(ConfigError, match="PROGRAMMATIC_ACCESS_TOKEN needs token or password; set it"):
        credentials(config(authenticator="PROGRAMMATIC_ACCESS_TOKEN", private_key_path="/k.p8"))
    assert credentials(config(password="h1dden-hunter2")) == {"password": "h1dden-hunter2"}


def explanation(**keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        private_key_der(config(**keys))
    for value in keys.values():
        assert str(value) not in caught.value.message.replace(str(keys.get("private_key_path")), "")
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("kind", ["PKCS#8 with a passphrase", "PKCS#1 with a passphrase"])
def test_an_encrypted_key_asks_for_its_passphrase(kind: str) -> None:
    assert "is encrypted; set private_key_passphrase" in explanation(private_key=pem_of(*FORMATS[kind]))


@pytest.mark.parametrize("kind", ["PKCS#8 with a passphrase", "PKCS#1 with a passphrase"])
def test_a_wrong_passphrase_is_named_as_the_suspect(kind: str) -> None:
    said = explanation(private_key=pem_of(*FORMATS[kind]), private_key_passphrase="wrong battery")
    assert "check private_key_passphrase" in said


@pytest.mark.parametrize("rubbish", ["not a key at all", "AAAA", "-----BEGIN PRIVATE KEY-----", "schlüssel"])
def test_what_is_no_key_is_refused(rubbish: str) -> None:
    assert "snowflake.private_key: cannot read the private key" in explanation(private_key=rubbish)


def test_a_damaged_key_is_refused() -> None:
    assert "cannot read the private key" in explanation(private_key=pem_of(*FORMATS["PKCS#8"])[:-200])


def test_a_key_of_another_kind_is_refused() -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert "not an RSA key; make one with: openssl" in explanation(private_key=pem.decode())


def test_a_public_key_is_refused() -> None:
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert "cannot read the private key" in explanation(private_key=pem)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "absent.p8")
    said = explanation(private_key_path=path)
    assert f"cannot read {path}: No such file or directory" in said


@pytest.mark.parametrize("form", ["PKCS#8", "PKCS#1"])
def test_a_key_that_was_pasted_where_its_path_belongs_is_not_shown(form: str) -> None:
    pem = pem_of(*FORMATS[form])
    body = "".join(line for line in pem.splitlines() if "-----" not in line)
    collapsed = pem.replace("\n", "\\n"), pem.replace("\n", " ")
    for pasted in (pem, *collapsed, body, body[:200], f"{body[:60]}\0", f"/{body[:90]}"):
        said = explanation(private_key_path=pasted)
        assert "snowflake.private_key_path: cannot read the file: " in said
        assert body[5:20] not in said


def test_a_folder_is_not_a_key_file(tmp_path: Path) -> None:
    assert "Is a directory" in explanation(private_key_path=str(tmp_path))


def test_secrets_do_not_show_in_the_config() -> None:
    shown = repr(config(private_key=pem_of(*FORMATS["PKCS#8"]), password=SecretStr("h1dden-hunter2")))
    assert "h1dden-hunter2" not in shown
    assert "MII" not in shown
