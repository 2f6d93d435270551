"""The environment, read once at cold start; nothing else looks at ``os.environ``."""

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from snowmelt.errors import ConfigError


class Settings(BaseSettings):
    """Where this deployment keeps things. Each field is an environment variable ``SNOWMELT_…``."""

    model_config = SettingsConfigDict(env_prefix="SNOWMELT_", frozen=True, extra="ignore")

    config: str = "config.json"
    """The config file: a path, or ``s3://bucket/key``."""
    store: str = ".snowmelt"
    """Where manifests, plans and reports go: ``s3://bucket[/prefix]``, or a folder on this machine."""
    secret_id: str | None = None
    """A Secrets Manager secret: a JSON object of environment variables that fill what the environment lacks."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


def load(*, config: str | None = None) -> Settings:
    """The settings, with that config before the environment's; ConfigError names every variable that is wrong."""
    try:
        return Settings() if config is None else Settings(config=config)
    except ValidationError as error:
        wrong = [f"SNOWMELT_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_url=False)]
    raise ConfigError("the environment is not right", wrong)


def environment() -> Mapping[str, str]:
    """The process's environment, for placeholders and connection fall-backs."""
    return dict(os.environ)
