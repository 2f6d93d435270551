"""Whether a condition in Snowflake's SQL stays within the brackets that it is put in.

It is the one text of a config that reaches a server as SQL. It may be any expression, and never more than that.
"""

from snowmelt.sql_text.lexer import bracketed


def require_closed(condition: str) -> str:
    """Return the condition, as it is; ValueError when it reaches beyond itself."""
    bracketed(condition)
    return condition
