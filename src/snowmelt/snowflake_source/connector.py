"""Imports Snowflake's connector without pandas, which it takes in wherever that is installed.

That costs half a second of every start and 50 MB of every worker, and nothing here uses it.
"""

import sys

_NOT_NEEDED = "pandas"

if _NOT_NEEDED in sys.modules:
    import snowflake.connector
else:
    sys.modules[_NOT_NEEDED] = None  # type: ignore[assignment]  # an import of it fails, as where it is not installed
    try:
        import snowflake.connector
    finally:
        del sys.modules[_NOT_NEEDED]

__all__ = ["snowflake"]
