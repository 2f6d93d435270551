"""The environment, read once at cold start; nothing else looks at ``os.environ``."""

import os
from collections.abc import Mapping

from pydantic import Field, ValidationError
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
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")


def load(**given: str) -> Settings:
    """The settings, ``given`` ones before those of the environment; ConfigError names the variables that are wrong."""
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = [f"SNOWMELT_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
    raise ConfigError("the environment is not right", wrong)


def environment() -> Mapping[str, str]:
    """The process's environment, for placeholders and connection fall-backs."""
    return dict(os.environ)
