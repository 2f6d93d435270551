"""A secret of AWS Secrets Manager that may be rotated while a process lives."""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping

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


def _read(secret_id: str) -> Mapping[str, str]:
    try:
        text = boto3.client("secretsmanager").get_secret_value(SecretId=secret_id)["SecretString"]
        values = json.loads(text)
    except (ClientError, BotoCoreError) as error:
        raise AccessError(
            f"secret {secret_id} cannot be read ({error}); check SNOWMELT_SECRET_ID and the role's permission"
        ) from error
    except (KeyError, ValueError, RecursionError):  # the last where it is nested too deep
        values = None
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise ConfigError(
            f'secret {secret_id} must hold a JSON object of strings, such as {{"SNOWFLAKE_PRIVATE_KEY": "…"}}'
        )
    return values
