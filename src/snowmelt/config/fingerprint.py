"""The part of the config that shapes a run: what it is, whether it changed, and what changed."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from snowmelt.config.shape import Config, SourceConfig, TableConfig

_GLOBAL = ("parallel_threads", "threads_per_invocation", "lambda_timeout_buffer_seconds")


def frozen(config: Config, source: SourceConfig, tables: Sequence[TableConfig]) -> dict[str, Any]:
    """What the run of those tables depends on, as JSON, with every default filled in and without any secret.

    Global settings that tables inherit appear in the tables; names appear as the databases know them. How a
    server is signed in to, how long a run stays resumable, how long rejected rows are kept, and how a run is verified,
    shape no run.
    """
    return {
        "snowflake": config.snowflake.model_dump(include={"account", "user", "role", "warehouse"}),
        "postgres": config.postgres.model_dump(include={"host", "port", "user"}),
        **{name: getattr(config, name) for name in _GLOBAL},
        "source": {
            "source_name": source.source_name,
            "source_sf_database": source.snowflake_database,
            "source_sf_schema": source.snowflake_schema,
            "target_pg_database": source.postgres_database,
            "target_pg_schema": source.postgres_schema,
            **({"target_search_path": list(source.code_path)} if source.code_path else {}),
        },
        "tables": {table.source: _table(config.with_defaults(table)) for table in tables},
    }


def _table(table: TableConfig) -> dict[str, Any]:
    return {
        **table.model_dump(mode="json", exclude={"enabled", "source", "verification"}),
        "target": table.postgres_name,
    }


def config_hash(part: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of a frozen config.

    The order of keys and of tables does not count, because both are keys of objects here; the order of
    columns in a list does, because it shapes the chunks.
    """
    canonical = json.dumps(part, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """List what changed between frozen configs, sorted: ``tables.FLIGHTS.batch_size: 500000 -> 1000000``.

    Which tables a start chooses is no change of the config: only those of both are compared.
    """
    both = old["tables"].keys() & new["tables"].keys()
    one, other = (
        {**part, "tables": {name: table for name, table in part["tables"].items() if name in both}}
        for part in (old, new)
    )
    return tuple(sorted(_changes(one, other, _without_settings(both), "")))


def _without_settings(tables: Iterable[str]) -> Mapping[str, Any]:
    """Return what is frozen of a config that says nothing: the defaults of keys that earlier versions did not have."""
    defaults = {name: field.get_default(call_default_factory=True) for name, field in Config.model_fields.items()}
    table = _table(Config.model_construct(**defaults).with_defaults(TableConfig(source="T")))
    whole = {name: defaults[name] for name in _GLOBAL}
    return {**whole, "tables": dict.fromkeys(tables, table)}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], unset: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key in old.keys() | new.keys():
        path = f"{prefix}{key}"
        if key not in new:
            yield f"{path}: removed"
        elif key not in old:
            # The run was begun by a version without the key, which did what the key's default says.
            if new[key] is not None and new[key] != unset.get(key):
                yield f"{path}: added"
        elif isinstance(old[key], Mapping) and isinstance(new[key], Mapping):
            known = unset.get(key)
            yield from _changes(old[key], new[key], known if isinstance(known, Mapping) else {}, f"{path}.")
        elif old[key] != new[key]:
            yield f"{path}: {json.dumps(old[key])} -> {json.dumps(new[key])}"
