"""The connections that the user's config and environment say, and a source of the self-test's own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snowmelt.columns.type_pairs import quoted
from snowmelt.config import Config
from snowmelt.errors import ConfigError
from snowmelt.models import Compatibility
from snowmelt.selftest.bench import EVERY_TYPE, MANY_ROWS
from snowmelt.settings import Settings
from snowmelt.wiring import Wiring, config_text

DEFAULT_CONFIG = "config.json"
_KEPT = ("snowflake", "postgres", "compatibility")
"""What of the user's config is about connections."""


@dataclass(frozen=True)
class Places:
    """Where the self-test makes its tables."""

    token: str
    snowflake_database: str
    """Exact, as all names here."""
    snowflake_schema: str
    makes_snowflake_schema: bool
    postgres_database: str
    postgres_schema: str
    makes_postgres_schema: bool

    @property
    def source_name(self) -> str:
        """What its run is of."""
        return f"snowmelt_selftest_{self.token}"

    @property
    def status_schema(self) -> str | None:
        """The status schema that is made for it; None where the one of the config is used."""
        return f"snowmelt_selftest_{self.token}_status" if self.makes_postgres_schema else None


@dataclass(frozen=True)
class Request:
    """What the user asked for; what is None is chosen."""

    source: str | None = None
    snowflake_database: str | None = None
    snowflake_schema: str | None = None
    postgres_database: str | None = None
    postgres_schema: str | None = None
    role: str | None = None


def places(wiring: Wiring, where: str, request: Request, token: str) -> Places:
    """Return where tables are made: where the request says, else beside the tables of the config's source."""
    chosen = (request.snowflake_database, request.postgres_database)
    if None in chosen and has_config(where):
        source = wiring.config().source(request.source)
        chosen = (chosen[0] or source.snowflake_database, chosen[1] or source.postgres_database)
    snowflake_database, postgres_database = chosen
    if snowflake_database is None or postgres_database is None:
        raise ConfigError(
            f"there is no config {where} that says in which databases tables may be made; name them by "
            "--snowflake-database and --postgres-database, or a config by --config"
        )
    return Places(
        token,
        snowflake_database,
        request.snowflake_schema or f"SNOWMELT_SELFTEST_{token.upper()}",
        request.snowflake_schema is None,
        postgres_database,
        request.postgres_schema or f"snowmelt_selftest_{token}",
        request.postgres_schema is None,
    )


def has_config(where: str) -> bool:
    """Return whether there is a config to read; one that is named must be there."""
    return where != DEFAULT_CONFIG or Path(where).exists()


class OwnSource(Wiring):
    """Builds the clients of the user's config, whose sources give way to one of the self-test's."""

    def __init__(self, settings: Settings, environment: Mapping[str, str], given: Places, *, role: str | None) -> None:
        super().__init__(settings, environment)
        self._where = settings.config
        self._places = given
        self._role = role

    def config(self, compatibility: Compatibility | None = None) -> Config:
        """The connections as they are now, and the source of the self-test's."""
        tree: dict[str, Any] = {}
        if has_config(self._where):
            whole = json.loads(config_text(self._where))
            tree = {key: whole[key] for key in _KEPT if key in whole}
        snowflake, postgres = dict(tree.get("snowflake") or {}), dict(tree.get("postgres") or {})
        if self._role is not None:
            snowflake["role"] = self._role
        if self._places.status_schema is not None:
            postgres["status_schema"] = self._places.status_schema
        tree |= {"snowflake": snowflake, "postgres": postgres, "sources": [_source(self._places)]}
        tree |= {"batch_size": 1_000, "parallel_threads": 2, "lambda_timeout_buffer_seconds": 2}
        return self.loaded(json.dumps(tree), compatibility)


def _source(given: Places) -> dict[str, Any]:
    return {
        "source_name": given.source_name,
        "source_sf_database": quoted(given.snowflake_database),
        "source_sf_schema": quoted(given.snowflake_schema),
        "target_pg_database": quoted(given.postgres_database),
        "target_pg_schema": quoted(given.postgres_schema),
        "tables": [
            {"source": f"{name}_{given.token}".upper(), "target": f"{name}_{given.token}".lower()}
            for name in (EVERY_TYPE, MANY_ROWS)
        ],
    }
