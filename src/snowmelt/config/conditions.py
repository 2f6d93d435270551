"""Whether a condition in Snowflake's SQL stays within the brackets that it is put in.

It is the one text of a config that reaches a server as SQL. It may be any expression. It may not end the statement,
close a bracket that it did not open, or leave a text, a name or a comment open: these would swallow what comes after.
"""

import re

_TOKEN = re.compile(
    r"""
      (?P<skipped>  '(?:[^'\\]|''|\\.)*'        # a text
                  | "(?:[^"]|"")*"              # a name
                  | \$\$.*?\$\$                 # a text between dollars
                  | (?:--|//)[^\n]*             # a comment to the end of its line
                  | /\*.*?\*/ )                 # a comment
    | (?P<open>'|"|\$\$|/\*)                    # what begins one of these and is never ended
    | (?P<bracket>[()])
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
_CALLED = {"'": "a text", '"': "a name", "$$": "a text", "/*": "a comment"}


def require_closed(condition: str) -> str:
    """The condition, as it is; ValueError when it reaches beyond itself."""
    depth = 0
    for token in _TOKEN.finditer(condition):
        if token["open"]:
            raise ValueError(f"leaves {_CALLED[token['open']]} open that begins with {token['open']}")
        if token["end"]:
            raise ValueError("holds a semicolon, which would end the statement; it is one condition")
        if token["bracket"]:
            depth += 1 if token["bracket"] == "(" else -1
        if depth < 0:
            raise ValueError("closes a bracket that it did not open")
    if depth:
        raise ValueError("leaves a bracket open")
    if "\0" in condition:
        raise ValueError("holds a NUL character")
    return condition
