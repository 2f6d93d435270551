"""A Snowflake account on one machine: the real connector on one side, fakesnow and DuckDB on the other."""

from snowmelt.local.snowflake.account_parameters import HOSTILE
from snowmelt.local.snowflake.process import SANDBOX_USER, LocalSnowflake
from snowmelt.local.snowflake.sign_in import User

__all__ = ["HOSTILE", "SANDBOX_USER", "LocalSnowflake", "User"]
