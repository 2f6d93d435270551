"""Secrets of AWS Secrets Manager that may be rotated while a process lives."""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from snowmelt.errors import AccessError, ConfigError

SECRET_SECONDS = 300.0
"""How long a value that was read is used; a function is kept warm for hours."""

_logger = logging.getLogger(__name__)


class Secret:
    """A JSON object of environment variables, as the secret was a few minutes ago at most."""

    def __init__(self, secret_id: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.secret_id = secret_id
        self._clock = clock
        self._lock = threading.Lock()
        self._values: Mapping[str, str] | None = None
        self._read_at = 0.0

    def values(self) -> Mapping[str, str]:
        """Return what it holds.

        AccessError when it cannot be read and was never read before; an older value is used otherwise, as what it
        signs in to may answer where Secrets Manager does not.
        """
        with self._lock:
            if self._values is None:
                self._read()
            elif self._clock() - self._read_at >= SECRET_SECONDS:
                try:
                    self._read()
                except (AccessError, ConfigError) as error:
                    self._read_at = self._clock()
                    _logger.warning(f"{error.message}; what was read before is used on")
            return self._values or {}

    def read_again(self) -> None:
        """Read it now, as what it held was refused; AccessError when it cannot be read."""
        with self._lock:
            self._read()

    def _read(self) -> None:
        self._values = _read(self.secret_id)
        self._read_at = self._clock()


class Secrets:
    """What several secrets hold together; a later one counts before an earlier one."""

    def __init__(self, *secret_ids: str | None) -> None:
        self._secrets = [Secret(each) for each in secret_ids if each]

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self._secrets)

    def refused_again(self) -> str:
        """Return, for a message, that what they hold was refused after they were read again."""
        named = " and ".join(f"secret {each.secret_id}" for each in self._secrets)
        was, holds = ("was", "holds") if len(self._secrets) == 1 else ("were", "hold")
        return f"{named} {was} read again and {holds} what was refused"

    def values(self) -> Mapping[str, str]:
        """Return what they hold; AccessError when one cannot be read."""
        return {name: value for each in self._secrets for name, value in each.values().items()}

    def read_again(self) -> None:
        """Read them now, as what they held was refused; AccessError when one cannot be read."""
        for each in self._secrets:
            each.read_again()


_OF_RDS = {
    "username": "POSTGRES_USER",
    "password": "POSTGRES_PASSWORD",
    "host": "POSTGRES_HOST",
    "port": "POSTGRES_PORT",
    "dbname": "POSTGRES_DATABASE",
}
"""What RDS and the rotation of Secrets Manager call the parts of a connection."""


def _as_variables(secret_id: str, held: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the parts of a connection as RDS calls them under our names too; ours count before its."""
    engine = str(held.get("engine") or "postgres")
    if "postgres" not in engine:
        raise ConfigError(f"secret {secret_id} is that of a server of {engine}; name the one of the PostgreSQL server")
    theirs = {ours: held[name] for name, ours in _OF_RDS.items() if held.get(name)}
    return {**theirs, **held}


def _read(secret_id: str) -> Mapping[str, str]:
    try:
        text = boto3.client("secretsmanager").get_secret_value(SecretId=secret_id)["SecretString"]
        held = json.loads(text)
    except (ClientError, BotoCoreError) as error:
        raise AccessError(
            f"secret {secret_id} cannot be read ({error}); check SNOWMELT_SECRET_ID, SNOWMELT_POSTGRES_SECRET_ID and "
            "the role's permission"
        ) from error
    except (KeyError, ValueError, RecursionError):  # the last where it is nested too deep
        held = None
    if isinstance(held, dict):  # RDS writes the port as a number
        held = {name: str(value) if type(value) is int else value for name, value in held.items()}
    if not isinstance(held, dict) or not all(isinstance(value, str) for value in held.values()):
        raise ConfigError(
            f'secret {secret_id} must hold a JSON object of strings, such as {{"SNOWFLAKE_PRIVATE_KEY": "…"}}'
        )
    return _as_variables(secret_id, held)
