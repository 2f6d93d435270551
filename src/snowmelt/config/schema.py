"""The config's JSON Schema, for editors that complete and check while one types."""

from typing import Any

from snowmelt.config.shape import Config

_PLACEHOLDER = {"type": "string", "pattern": r"\$\{"}

_ANNOTATIONS = {"default", "description", "title"}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the config as written: placeholders may stand, connection keys may be absent."""
    schema = Config.model_json_schema()
    parts = [schema, *schema["$defs"].values()]
    for part in parts:
        part["properties"] = {key: _or_placeholder(value) for key, value in part["properties"].items()}
    for section in ("SnowflakeConfig", "PostgresConfig"):
        del schema["$defs"][section]["required"]
    schema["required"] = ["sources"]
    schema["properties"]["$schema"] = {"type": "string", "description": "Where this schema is."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Snowmelt config"}


def _or_placeholder(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("type") in {"integer", "number", "boolean"} or "enum" in value:
        about = {key: item for key, item in value.items() if key in _ANNOTATIONS}
        rule = {key: item for key, item in value.items() if key not in _ANNOTATIONS}
        return {**about, "anyOf": [rule, _PLACEHOLDER]}
    if "anyOf" in value:
        return {**value, "anyOf": [*value["anyOf"], _PLACEHOLDER]}
    return value
