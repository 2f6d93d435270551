"""The config: one JSON file, checked as a whole before anything moves.

Text becomes a tree, placeholders and the environment fill it, ``shape`` says what fits, ``checks`` what does
not go together, and ``problems`` words all that is wrong for one error.
"""

from snowmelt.config.compatibility import NOTE as COMPATIBILITY_NOTE
from snowmelt.config.fallbacks import read_dotenv
from snowmelt.config.fingerprint import config_hash, differences, frozen
from snowmelt.config.parsing import load
from snowmelt.config.schema import json_schema
from snowmelt.config.shape import Config, PostgresConfig, SnowflakeConfig, SourceConfig, TableConfig, ValuePolicies
from snowmelt.config.values import age, with_unit

__all__ = [
    "COMPATIBILITY_NOTE",
    "Config",
    "PostgresConfig",
    "SnowflakeConfig",
    "SourceConfig",
    "TableConfig",
    "ValuePolicies",
    "age",
    "config_hash",
    "differences",
    "frozen",
    "json_schema",
    "load",
    "read_dotenv",
    "with_unit",
]
