"""Snowflake, as far as it is read: sign in, describe, run one scan, read its result by slices."""

from snowmelt.snowflake_source.scan import ScanDone, ScanFailed, ScanGone, ScanResult, ScanRunning, ScanState
from snowmelt.snowflake_source.session import Identity, SnowflakeSource
from snowmelt.snowflake_source.sign_in import private_key_der

__all__ = [
    "Identity",
    "ScanDone",
    "ScanFailed",
    "ScanGone",
    "ScanResult",
    "ScanRunning",
    "ScanState",
    "SnowflakeSource",
    "private_key_der",
]
