"""Random tables of all types, what becomes of them in the source, and what a merge must make of that."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Value = tuple[str, str]
"""A literal in Snowflake's SQL, and the text that PostgreSQL's input function reads."""
NULL: Value = ("NULL", "")


@dataclass(frozen=True)
class Kind:
    """A pair of types, and values that are alike to PostgreSQL's ``=`` or its collations but not the same."""

    source: str
    target: str
    values: tuple[Value, ...]


def _texts(*texts: str) -> tuple[Value, ...]:
    return tuple(("'" + text.replace("\\", "\\\\").replace("'", "''") + "'", text) for text in texts)


def _parsed(target: str, *texts: str) -> Kind:
    return Kind("VARCHAR", target, _texts(*texts))


def _plain(source: str, target: str, *values: str) -> Kind:
    return Kind(source, target, tuple((f"{value}::{source}", value.strip("'")) for value in values))


_WORDS = ("Abc", "abc", "ABC", "a c", "a-c", "résumé", "resume", "Résumé", "Ünder", "z", "", "a\\b'\"", "a10", "a9")
KINDS = (
    _plain("NUMBER(4,0)", "smallint", "0", "-7", "9999"),
    _plain("NUMBER(9,0)", "integer", "0", "-7", "999999999"),
    _plain("NUMBER(18,0)", "bigint", "0", "-7", "123456789012345678"),
    _plain("NUMBER(12,2)", "numeric(12,2)", "0", "-7.50", "9999999999.99"),
    _plain("FLOAT", "float8", "0.1", "1e300", "-2.5"),
    _plain("FLOAT", "real", "0.5", "-2.5"),
    _plain("BOOLEAN", "boolean", "true", "false"),
    _parsed("text", *_WORDS),
    _parsed('text COLLATE "C"', *_WORDS),
    _parsed("varchar(20)", *_WORDS),
    _parsed("char(8)", "a", "a b", "Abc", "abc"),
    _plain("DATE", "date", "'2024-02-29'", "'0001-01-01'", "'9999-12-31'"),
    _plain("TIME(6)", "time", "'00:00:00'", "'23:59:59.999999'"),
    _plain("TIMESTAMP_NTZ(6)", "timestamp", "'2024-02-29 01:02:03.000004'", "'0001-01-01 00:00:00'"),
    Kind(
        "TIMESTAMP_TZ(6)",
        "timestamptz",
        (("'2024-01-01 12:00:00 +0300'::TIMESTAMP_TZ(6)", "2024-01-01 09:00:00+00"),),
    ),
    Kind("BINARY", "bytea", (("TO_BINARY('00FF5C', 'HEX')", "\\x00ff5c"), ("TO_BINARY('', 'HEX')", "\\x"))),
    _parsed("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"),
    _parsed("json", '{"a":1}', '{"a": 1}', "[1,2]", "null"),
    _parsed("jsonb", '{"a":1}', '{"a": 2}', "[1, 2]"),
    Kind("VARIANT", "jsonb", (("PARSE_JSON('{\"a\":1}')", '{"a":1}'), ("PARSE_JSON('[1,2]')", "[1,2]"))),
    _parsed("interval", "30 days", "1 mon", "24:00:00", "1 day"),
    _parsed("timetz", "12:00:00+00", "14:00:00+02"),
    _parsed("inet", "10.0.0.1", "10.0.0.1/24", "::1"),
    _parsed("macaddr", "08:00:2b:01:02:03"),
    _parsed("point", "(1,2)", "(1,3)"),
    _parsed("box", "(1,1),(0,0)", "(2,0.5),(0,0)"),
    _parsed("circle", "<(0,0),1>", "<(1,0),1>"),
    _parsed("bit(3)", "101", "010"),
    _parsed("varbit", "1", "10"),
    _parsed("tsvector", "'a':1 'b':2", "'a' 'b'"),
    _parsed("int4range", "[1,3)", "[1,4)", "empty"),
    _parsed("text[]", "{a,b}", "{A,b}", "{NULL}", "{}"),
    _parsed("numeric[]", "{1.0}", "{1.00}"),
    _parsed("float8[]", "{0}", "{-0}"),
    _parsed("mood", "sad", "glad"),
)
"""Types of columns on any server. A float and a real of -0 are apart from these: a literal of Snowflake is 0."""
ICU_KINDS = (
    _parsed("citext", *_WORDS),
    _parsed("xml", "<a/>", "<a></a>"),
    _parsed("text COLLATE same_case", *_WORDS),
    _parsed("text COLLATE same_accent", *_WORDS),
    _parsed("varchar(20) COLLATE numbers_in_order", *_WORDS),
)
"""With ICU, libxml and the extension citext."""


@dataclass(frozen=True)
class KeyKind:
    """How a key is made of a number, in any of its spellings, all of which are one to the target."""

    source: str
    target: str
    spell: Callable[[int, random.Random], str]


def _in_some_case(text: str, chance: random.Random) -> str:
    return "".join(chance.choice((c.upper(), c.lower())) for c in text)


def _word(number: int, chance: random.Random) -> str:
    return _in_some_case(f"key {number} x", chance)


KEYS = (
    KeyKind("NUMBER(9,0)", "integer", lambda number, _: str(number)),
    KeyKind("VARCHAR", "text", lambda number, _: f"Key{number:02}"),
    KeyKind("VARCHAR", 'text COLLATE "C"', lambda number, _: f"{'kK'[number % 2]}ey{number // 2}"),
    KeyKind("VARCHAR", "uuid", lambda number, chance: _in_some_case(f"00000000-0000-0000-00ab-{number:012}", chance)),
)
ICU_KEYS = (
    KeyKind("VARCHAR", "citext", _word),
    KeyKind("VARCHAR", "text COLLATE same_case", _word),
    KeyKind("VARCHAR", "text COLLATE same_accent", lambda n, chance: f"r{chance.choice('eé')}sum{n}"),
)


@dataclass(frozen=True)
class MarkKind:
    """A watermark that grows with a number; ``never``: one that no change can have had."""

    source: str
    target: str
    at: Callable[[int], str]
    never: str | None = None


def _letters(number: int) -> str:
    """Texts whose order by bytes is that of the numbers, and whose order in a dictionary is not."""
    return f"{'BZaz'[number // 50]}{number % 50:02}"


MARKS = (
    MarkKind("TIMESTAMP_NTZ(6)", "timestamp", lambda n: f"2024-01-01 00:00:00.{n:06}", "9999-12-31 00:00:00"),
    MarkKind("DATE", "date", lambda n: f"2024-{1 + n // 28:02}-{1 + n % 28:02}", "9999-12-31"),
    MarkKind("NUMBER(9,0)", "integer", str),
    MarkKind("VARCHAR", "text", _letters),
)
MOST = 199
"""The highest number that every kind of watermark can show."""


@dataclass
class Row:
    """A row of the source; ``mark`` is the number behind the watermark, -1 beyond the clock, None for NULL."""

    key: str
    mark: int | None
    values: tuple[Value, ...]


@dataclass
class ModelTable:
    """A source table, and beside it what its target must hold."""

    name: str
    key: KeyKind
    mark: MarkKind | None
    columns: tuple[Kind, ...]
    insert_only: bool
    is_limited: bool
    source: dict[int, Row] = field(default_factory=dict)
    expected: dict[int, Row] = field(default_factory=dict)
    stored: int | None = None
    next_key: int = 0
    clock: int = 0

    @classmethod
    def chosen(cls, name: str, chance: random.Random, kinds: Sequence[Kind], keys: Sequence[KeyKind]) -> "ModelTable":
        """Choose how the table is made and merged."""
        mark = chance.choice((*MARKS, *MARKS, None))
        return cls(
            name=name,
            key=chance.choice(keys),
            mark=mark,
            columns=tuple(kinds),
            insert_only=chance.random() < 0.2,
            is_limited=mark is not None and mark.never is not None and chance.random() < 0.6,
        )

    @property
    def settings(self) -> dict[str, object]:
        """The config's for this table."""
        watermark = {"source_watermark": "M", "watermark_overlap": "0s"} if self.mark else {}
        limit = {"watermark_limit": "now"} if self.is_limited else {}
        return {"uniqueness_columns": ["K"], "insert_only_mode": self.insert_only, **watermark, **limit}

    # --- the source ---

    def change(self, chance: random.Random, *, changes: int) -> None:
        """Insert, update, respell, delete: what writers to the source do, some of it out of order."""
        for _ in range(changes):
            known = list(self.source)
            if not known or chance.random() < 0.35:
                number, self.next_key = self.next_key, self.next_key + 1
            else:
                number = chance.choice(known)
                if chance.random() < 0.1:
                    del self.source[number]
                    continue
            self.source[number] = Row(
                self.key.spell(number, chance),
                self._new_mark(chance),
                tuple(NULL if chance.random() < 0.15 else chance.choice(kind.values) for kind in self.columns),
            )

    def _new_mark(self, chance: random.Random) -> int | None:
        roll = chance.random()
        if roll < 0.1:
            return None
        if roll < 0.2 and self.is_limited:
            return -1
        if roll < 0.4:
            return chance.randint(max(0, self.clock - 3), self.clock)  # late, or at the very same moment
        self.clock = min(MOST, self.clock + 1)
        return self.clock

    # --- what a run makes of it ---

    def run(self) -> None:
        """Do to ``expected`` what a run must do to the target."""
        is_first = not self.expected
        marks = [row.mark for row in self.source.values() if row.mark is not None and row.mark >= 0]
        high = max(marks, default=None)
        low = None if is_first or self.mark is None else self.stored
        for number, row in self.source.items():
            mark = _age(row)
            if self.mark is not None and mark is not None and (high is None or (low is not None and mark < low)):
                continue
            there = self.expected.get(number)
            if there is None or (not self.insert_only and self._may_replace(row, there)):
                self.expected[number] = row
        if high is not None:
            self.stored = high if self.stored is None else max(high, self.stored)

    def _may_replace(self, row: Row, there: Row) -> bool:
        new, old = _age(row), _age(there)
        return self.mark is None or new is None or old is None or new >= old

    # --- SQL ---

    def source_ddl(self, table: str) -> str:
        """Make the table in Snowflake."""
        return f"CREATE OR REPLACE TABLE {table} ({self._ddl(lambda kind: kind.source)})"

    def source_rows(self, table: str) -> str:
        """Fill it."""
        rows = (
            ", ".join(
                [
                    f"'{row.key}'::{self.key.source}",
                    *([f"{_quoted(self._mark_text(row))}::{self.mark.source}"] if self.mark else []),
                    *(literal for literal, _ in row.values),
                ]
            )
            for row in self.source.values()
        )
        return f"INSERT INTO {table} SELECT " + " UNION ALL SELECT ".join(rows)

    def target_ddl(self, name: str) -> str:
        """Make a table of the target's shape."""
        return f"CREATE TABLE {name} ({self._ddl(lambda kind: kind.target)}, PRIMARY KEY (k))"

    def expected_rows(self) -> list[tuple[str | None, ...]]:
        """What the target must hold, as texts that PostgreSQL reads."""
        return [
            (
                row.key,
                *([self._mark_text(row)] if self.mark else []),
                *(None if value is NULL else value[1] for value in row.values),
            )
            for row in self.expected.values()
        ]

    def _mark_text(self, row: Row) -> str | None:
        if self.mark is None or row.mark is None:
            return None
        return self.mark.never if row.mark < 0 else self.mark.at(row.mark)

    def _ddl(self, side: Callable[["Kind | KeyKind | MarkKind"], str]) -> str:
        mark = [f"M {side(self.mark)}"] if self.mark else []
        return ", ".join([f"K {side(self.key)}", *mark, *(f"C{i} {side(kind)}" for i, kind in enumerate(self.columns))])


def _age(row: Row) -> int | None:
    """The number behind the watermark, where it says something of the row's age."""
    return None if row.mark is None or row.mark < 0 else row.mark


def _quoted(text: str | None) -> str:
    return "NULL" if text is None else f"'{text}'"
