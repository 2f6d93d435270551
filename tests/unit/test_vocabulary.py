"""Words that no data engineer would search for stay away: one word per thing, and it is the field's."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = ("src", "docs", "sql", "scripts", "statemachine", "lambda_layer", "events", "tests", ".ci")
NOT_OURS = ("fixtures", "predecessor", "__pycache__")
"""Earlier versions of the status schema, and another tool's files, keep their own words."""
WORDS = {
    r"mend(s|ed|ing)?": "fix",
    r"cur(e|es|ed|ing)": "remedy, what to do",
    r"anew": "again; restart, re-scan, merge again",
    r"(held|hold|holds|holding) (\w+ ){0,4}against": "compared with",
    r"(stay|stays|stayed|staying) out": "rejected",
    r"sift(s|ed|ing)?": "isolated",
    r"reckon(s|ed|ing)?": "compute, estimate",
    r"ow(e|es|ed|ing)": "to rebuild",
}
WAIVERS = {
    ("CHANGELOG.md", "anew"): "what a value was",
    ("CHANGELOG.md", "cure"): "what a key was",
    ("CHANGELOG.md", "mend"): "what a key was",
    ("CHANGELOG.md", "owed"): "what a key was",
    ("src/snowmelt/engine/status_schema.sql", "owed"): "the name that an index had, which is dropped by it",
    ("src/snowmelt/loading/indexes.py", "hold the table against"): "a lock that is in the way of a load",
}


def texts() -> Iterator[tuple[str, str]]:
    """Yield every file that is read by people or programs, by its place, with identifiers as separate words."""
    files = [file for place in PLACES for file in (ROOT / place).rglob("*") if file.is_file() and not file.is_symlink()]
    files += [file for file in ROOT.iterdir() if file.suffix in (".md", ".yaml", ".toml")]
    for file in files:
        parts = file.relative_to(ROOT).parts
        if file != Path(__file__) and file.suffix not in (".pem", ".png", ".pyc") and not set(parts) & set(NOT_OURS):
            yield "/".join(parts), file.read_text(encoding="utf-8")


def test_the_words_are_those_of_the_field() -> None:
    banned = re.compile(rf"(?<![a-z])({'|'.join(WORDS)})(?![a-z])", re.IGNORECASE)
    found = {(place, match[0].lower()) for place, text in texts() for match in banned.finditer(text)}
    assert found == set(WAIVERS)


def test_the_list_finds_what_it_is_for() -> None:
    banned = re.compile(rf"(?<![a-z])({'|'.join(WORDS)})(?![a-z])", re.IGNORECASE)
    for text in ("Mended", "what_cures_it", "begin anew", "held against its source", "rows that stay out", "owed_once"):
        assert banned.search(text), text
    for text in ("amended", "secure", "allowed", "procure", "showed", "shifted"):
        assert not banned.search(text), text
