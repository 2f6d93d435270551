"""A Snowflake account on one machine: the real connector on one side, fakesnow and DuckDB on the other."""

from snowmelt_sandbox.snowflake.account_parameters import HOSTILE
from snowmelt_sandbox.snowflake.process import SANDBOX_USER, LocalSnowflake
from snowmelt_sandbox.snowflake.sign_in import User

__all__ = ["HOSTILE", "SANDBOX_USER", "LocalSnowflake", "User"]
