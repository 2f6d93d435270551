"""A Snowflake account on one machine: the real connector on one side, fakesnow and DuckDB on the other."""

from snowmelt.local.snowflake.process import SANDBOX_USER, LocalSnowflake
from snowmelt.local.snowflake.sign_in import User

__all__ = ["SANDBOX_USER", "LocalSnowflake", "User"]
