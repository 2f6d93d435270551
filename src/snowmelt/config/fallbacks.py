"""Where connection keys come from when the config leaves them out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from snowmelt.config.placeholders import FromEnvironment
from snowmelt.config.shape import SIGN_IN_KEYS
from snowmelt.errors import ConfigError

_KEYS: Mapping[str, tuple[str, ...]] = {
    "snowflake": (
        "account",
        "user",
        *SIGN_IN_KEYS,
        "authenticator",
        "private_key_passphrase",
        "role",
        "warehouse",
        "host",
        "port",
        "protocol",
    ),
    "postgres": ("host", "port", "user", "password", "iam_auth", "region", "sslmode", "sslrootcert"),
}


def variable(path: tuple[str | int, ...]) -> str | None:
    """The environment variable that stands in for a key: ``SNOWFLAKE_ACCOUNT`` for snowflake.account."""
    match path:
        case (str(section), str(key)) if key in _KEYS.get(section, ()):
            return f"{section}_{key}".upper()
        case _:
            return None


def with_fallbacks(tree: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The config with absent connection keys taken from the environment; an empty variable counts as unset.

    A config that names a way to sign in to Snowflake gets no other one from the environment, and no authenticator.
    """
    sections = {
        section: {**_found(section, given, environment), **given}
        for section, given in ((section, tree.get(section, {})) for section in _KEYS)
        if isinstance(given, dict)
    }
    return {**tree, **sections}


def _found(section: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    signs_in = section == "snowflake" and any(key in given for key in SIGN_IN_KEYS)
    keys = [key for key in _KEYS[section] if not (signs_in and key in (*SIGN_IN_KEYS, "authenticator"))]
    variables = {key: f"{section}_{key}".upper() for key in keys}
    return {key: FromEnvironment(environment[name], name) for key, name in variables.items() if environment.get(name)}


def read_dotenv(path: Path, environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment with what a ``.env`` file adds to it; without the file, the environment as it is.

    The real environment wins. Values are taken as they stand: nothing is expanded inside the file.
    """
    if not path.is_file():
        return environment
    try:
        added = dotenv_values(path, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}; write it as UTF-8 text") from error
    return {**{name: value for name, value in added.items() if value is not None}, **environment}
