"""The environment, read once at cold start; nothing else looks at ``os.environ``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from dotenv import load_dotenv
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from snowmelt.errors import ConfigError
from snowmelt.models import Compatibility


class Settings(BaseSettings):
    """Where this deployment keeps things. Each field is an environment variable ``SNOWMELT_…``."""

    model_config = SettingsConfigDict(env_prefix="SNOWMELT_", frozen=True, extra="ignore")

    config: str = "config.json"
    """The config file: a path, or ``s3://bucket/key``."""
    store: str = ".snowmelt"
    """Where manifests, plans and reports go: ``s3://bucket[/prefix]``, or a folder on this machine."""
    secret_id: str | None = None
    """A Secrets Manager secret: a JSON object of environment variables that fill what the environment lacks."""
    postgres_secret_id: str | None = None
    """A second secret of that kind, for PostgreSQL alone, such as RDS manages; it counts before the first."""
    sslrootcert: str | None = None
    """What PostgreSQL's certificate is checked by where the config says that it is, and by nothing else: ``rds``, …"""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    compatibility: Compatibility | None = None
    """Whose files the config is read as, before what it says itself."""


def load(*, config: str | None = None, compatibility: Compatibility | None = None) -> Settings:
    """The settings, with what is given before the environment's; ConfigError names every variable that is wrong."""
    given: dict[str, Any] = {"config": config, "compatibility": compatibility}
    try:
        return Settings(**{key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = [f"SNOWMELT_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_url=False)]
    raise ConfigError("the environment is not right", wrong)


def environment() -> Mapping[str, str]:
    """The process's environment, for placeholders and connection fall-backs."""
    return dict(os.environ)


def add_env_file(path: Path) -> None:
    """Add what a ``.env`` file says to this process's environment, which wins; ConfigError when it cannot be read."""
    try:
        with path.open(encoding="utf-8") as lines:
            load_dotenv(stream=lines, override=False, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"--env-file {path} cannot be read: {reason}; name a file of lines such as NAME=value"
        ) from None
