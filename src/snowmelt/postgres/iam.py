"""Sign-in to RDS and Aurora as an IAM identity: a token, signed on this machine, in place of a password."""

import threading
from functools import lru_cache
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from snowmelt.config import PostgresConfig
from snowmelt.errors import AccessError, ConfigError

_signing = threading.Lock()


def token(config: PostgresConfig) -> str:
    """Return a token for one connection, good for a quarter of an hour: a new one is made for each.

    It names host, port and user, so the server takes it for those alone. AccessError where this process has no
    credentials of AWS, ConfigError where nobody says which region the server is in.
    """
    try:
        with _signing:  # credentials may be renewed by it, and clients are made one at a time
            signed: str = _client(config.region).generate_db_auth_token(
                DBHostname=config.host, Port=config.port, DBUsername=config.user
            )
    except NoRegionError as error:
        raise ConfigError(
            "postgres.iam_auth: no region is known; set postgres.region or AWS_DEFAULT_REGION to that of the server"
        ) from error
    except (BotoCoreError, ClientError) as error:
        raise AccessError(
            f"postgres.iam_auth: no token can be signed ({error}); give this process credentials of AWS, whose "
            f"identity is allowed rds-db:connect as {config.user}"
        ) from error
    return signed


@lru_cache(maxsize=4)
def _client(region: str | None) -> Any:
    return botocore.session.get_session().create_client("rds", region_name=region)
