"""Show characters that a terminal would obey: names and values come from other people's databases.

C0 and C1 controls (escape sequences begin with one), the marks that turn or hide text (bidirectional, zero-width), line
separators and lone surrogates are written as Python spells them: ``\\x1b``, ``\\u202e``. What prints JSON for pipes
does not come here: JSON spells them by itself and stays exact.
"""

import re

_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, C1
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def shown(text: str) -> str:
    """Return the text with such characters spelt out; tab and newline stay."""
    return _OBEYED.sub(lambda found: _spelt(found[0]), text)


def on_one_line(text: str) -> str:
    """Return the text with tab and newline spelt out too, so that no value begins a line of its own."""
    return shown(text).replace("\n", "\\n").replace("\t", "\\t")


def _spelt(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
