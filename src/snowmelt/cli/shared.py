"""What commands share: the config they are given, and the codes they exit with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snowmelt import disclosure, settings
from snowmelt.config import Config, SourceConfig
from snowmelt.errors import ConfigError
from snowmelt.models import Compatibility

if TYPE_CHECKING:
    from snowmelt.wiring import Wiring

EXIT_FAILED = 1
EXIT_DIFFERENT = 3
EXIT_UNFINISHED = 4


def show_values(asked: bool, *, as_json: bool = False) -> None:
    """Let this process show values of rows in place of their fingerprints, if that is asked for."""
    if asked and as_json:
        raise ConfigError(
            "--show-values is for people at a terminal, --json for programs; `snowmelt rejects export` gives them rows"
        )
    if asked:
        disclosure.remember_values()


def opened(config_path: str, source: str | None) -> tuple[Wiring, Config, SourceConfig]:
    """The config, whole, and its source of that name; not needed where there is but one."""
    wiring = wired(config_path)
    config = wiring.config()
    return wiring, config, config.source(source)


def wired(config_path: str, compatibility: Compatibility | None = None) -> Wiring:
    """What this process's environment says, with that config; connects to nothing."""
    from snowmelt.wiring import Wiring  # here: it brings every client, and `--help` comes without

    return Wiring(settings.load(config=config_path, compatibility=compatibility), settings.environment())
