"""What the connector is given to sign in: a key pair in any of its spellings, a token, or a password."""

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from snowmelt.config import SnowflakeConfig
from snowmelt.errors import ConfigError

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.+?)-----END \1-----", re.DOTALL)
_PEM_HEADERS = re.compile(r"\s*Proc-Type:\s*(\S+)\s+DEK-Info:\s*(\S+)\s+")
_HOW_TO_MAKE_ONE = "make one with: openssl genrsa 2048 | openssl pkcs8 -topk8 -nocrypt -out rsa_key.p8"


def credentials(config: SnowflakeConfig) -> dict[str, Any]:
    """The connector's parameters that prove who signs in: what the authenticator says, or else the first given.

    Without an authenticator a key pair comes before a token, and a token before a password.
    """
    if config.authenticator == "PROGRAMMATIC_ACCESS_TOKEN":
        return {"authenticator": config.authenticator, "token": _secret(getattr(config, config.sign_in))}
    match config.sign_in:
        case "private_key" | "rsa_key" | "private_key_path":
            return {"authenticator": "SNOWFLAKE_JWT", "private_key": private_key_der(config)}
        case "token":
            return {"authenticator": "oauth", "token": _secret(config.token)}
        case "password":
            return {"password": _secret(config.password)}


def private_key_der(config: SnowflakeConfig) -> bytes | None:
    """The config's RSA private key as unencrypted PKCS#8 DER; None where the config has no key pair.

    Read as PEM or DER, PKCS#1 or PKCS#8, encrypted or not. Text may be PEM as it is, PEM with ``\\n``
    written out or collapsed onto one line, as secret stores hand it on, base64 of DER or of a PEM file, or
    the path of a file that holds any of these.
    Raises ConfigError that names the key of the config and never what is in it.
    """
    if config.private_key is not None:
        origin, content = "private_key", _text_or_file("private_key", config.private_key.get_secret_value())
    elif config.rsa_key is not None:
        origin, content = "rsa_key", _text_or_file("rsa_key", config.rsa_key.get_secret_value())
    elif config.private_key_path is not None:
        origin, content = f"private_key_path {config.private_key_path}", _file_bytes(config.private_key_path)
    else:
        return None

    key = _load(content, _secret(config.private_key_passphrase), origin)
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(f"snowflake.{origin}: the key is not an RSA key; {_HOW_TO_MAKE_ONE}")
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def fingerprint(private_key: bytes) -> str:
    """Of the public half of a key as ``private_key_der`` gives it: what DESC USER shows as RSA_PUBLIC_KEY_FP."""
    public = load_der_private_key(private_key, password=None).public_key()
    digest = hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return f"SHA256:{base64.b64encode(digest).decode()}"


def _secret(value: Any) -> str | None:
    return None if value is None else str(value.get_secret_value())


_LONGEST_PATH = 4096
"""PATH_MAX of Linux: nothing longer names a file."""
_LOOKS_LIKE_A_PATH = re.compile(r"(?:[/~.]|[\w.-]+/).*|.*\.(?:pem|p8|pk8|der|key)", re.IGNORECASE)


def _text_or_file(key: str, value: str) -> bytes:
    """Return the key that a text is, or that the file at that path holds; a text that is a key is never a path."""
    content = _key_bytes(value)
    if content.startswith((b"-----BEGIN", b"\x30\x81", b"\x30\x82")):  # PEM, or the long SEQUENCE of a DER key
        return content
    path = value.strip().strip("\"'")
    if len(path) > _LONGEST_PATH or len(path.splitlines()) != 1 or "\0" in path or not _is_path(path):
        return content
    try:
        return _read(path)
    except (OSError, RuntimeError) as error:  # what may have been meant as a key is not shown
        raise ConfigError(
            f"snowflake.{key}: it is no key, and the file that it may name cannot be read: {_reason(error)}; give PEM, "
            f"base64 of DER, or the path of the private key file; {_HOW_TO_MAKE_ONE}"
        ) from None


def _is_path(text: str) -> bool:
    return _LOOKS_LIKE_A_PATH.fullmatch(text) is not None or Path(text).is_file()


def _file_bytes(path: str) -> bytes:
    try:
        return _read(path)
    except (OSError, RuntimeError, ValueError) as error:
        # A key that was pasted here is not shown: only what ends as names of such files do is taken for one.
        named = f"{path}: " if len(path) <= _LONGEST_PATH and _NAMES_A_KEY_FILE.fullmatch(path) else "the file: "
        raise ConfigError(
            f"snowflake.private_key_path: cannot read {named}{_reason(error)}; give the path of the private key file"
        ) from None


_NAMES_A_KEY_FILE = re.compile(r"[\w./~ -]+\.(?:pem|p8|pk8|der|key)", re.IGNORECASE)


def _reason(error: OSError | RuntimeError | ValueError) -> str:
    if isinstance(error, ValueError):
        return "that is no path"
    return getattr(error, "strerror", None) or "there is no home directory"


def _read(path: str) -> bytes:
    content = Path(path).expanduser().read_bytes()
    try:
        return _key_bytes(content.decode("ascii"))
    except UnicodeDecodeError:  # not text, so DER
        return content


def _key_bytes(text: str) -> bytes:
    """PEM in its canonical lines, or what base64 decodes to; anything else as it is."""
    text = text.replace("\\r", "").replace("\\n", "\n").strip().strip("\"'")
    if found := _PEM.search(text):
        return _canonical_pem(label=found[1], body=found[2])
    try:
        decoded = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return text.encode()
    return _key_bytes(decoded.decode("ascii")) if decoded.startswith(b"-----BEGIN") else decoded


def _canonical_pem(*, label: str, body: str) -> bytes:
    headers: list[str] = []
    if found := _PEM_HEADERS.match(body):  # PKCS#1 with a passphrase carries the cipher in two header lines
        headers = [f"Proc-Type: {found[1]}", f"DEK-Info: {found[2]}", ""]
        body = body[found.end() :]
    payload = "".join(body.split())
    lines = [payload[start : start + 64] for start in range(0, len(payload), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *headers, *lines, f"-----END {label}-----", ""]).encode()


def _load(content: bytes, passphrase: str | None, origin: str) -> PrivateKeyTypes:
    load = load_pem_private_key if content.startswith(b"-----BEGIN") else load_der_private_key
    password = passphrase.encode() if passphrase else None
    try:
        try:
            return load(content, password=password)
        except TypeError:
            if password is None:
                raise
            return load(content, password=None)  # the key needs no passphrase; one that is set does no harm
    except TypeError as error:
        raise ConfigError(
            f"snowflake.{origin}: the private key is encrypted; set private_key_passphrase "
            "or SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        # An encrypted DER key and a wrong passphrase give the same ValueError as rubbish does.
        remedy = "check private_key_passphrase, and " if password else ""
        raise ConfigError(
            f"snowflake.{origin}: cannot read the private key; {remedy}give PEM or base64 of DER, "
            f"PKCS#8 or PKCS#1; {_HOW_TO_MAKE_ONE}"
        ) from error
