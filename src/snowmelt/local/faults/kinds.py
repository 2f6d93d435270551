"""What can go wrong, and at which moments; and the cases that a seed makes of it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from snowmelt.local.faults.modes import MODES, Mode
from snowmelt.local.faults.traps import CUTS, Moment, Way

Driver = Literal["command", "state machine"]
SECOND_FAULTS = 0.2
"""The part of the cases that has two."""

# Statements of a migration, by what their text holds; any message to a server, among them.
COMMIT = r"^COMMIT$"
CLAIM = r"lease_token = gen_random_uuid"
MARK = r"SET status = 'completed', completed_at"
COPY = r"^COPY "
COPY_DATA = r"^copy data$"
COPY_DONE = r"^copy done$"
MERGE = r"\bON CONFLICT\b.*\bDO (UPDATE|NOTHING)|INSERT INTO .* SELECT"
CONNECT = r"^connect$"
TRUNCATE = r"TRUNCATE"
CHANGES = r"INSERT INTO|UPDATE |TRUNCATE|DROP INDEX|CREATE |ANALYZE|COMMIT|COPY|copy d|setval|restore"
ANY = r"."
DOWNLOAD = r"^GET /local/batches"
LOGIN = r"login-request"
QUERY = r"query-request"

_STATEMENTS: tuple[tuple[str, int], ...] = (
    (COMMIT, 14),
    (CLAIM, 5),
    (MARK, 5),
    (COPY, 5),
    (COPY_DATA, 5),
    (COPY_DONE, 5),
    (CONNECT, 4),
    (CHANGES, 60),
    (ANY, 110),
)
"""What to strike at, and how many of those a small migration has at least, about."""
_REQUESTS: tuple[tuple[str, int], ...] = ((ANY, 25), (DOWNLOAD, 4), (LOGIN, 3), (QUERY, 12))
_TARGETED = ((COMMIT, 12), (CLAIM, 5), (MARK, 5), (COPY, 5), (COPY_DATA, 5), (COPY_DONE, 5))


@dataclass(frozen=True)
class Kind:
    """A kind of fault: where it strikes, how, and who may drive the migration it strikes at."""

    name: str
    moments: Sequence[tuple[str, int]]
    ways: Sequence[Way]
    side: Literal["postgres", "snowflake"] = "postgres"
    drivers: Sequence[Driver] = ("command", "command", "state machine")
    effect: str = ""
    """What else happens, by the name of a method of ``Effects``."""
    codes: Sequence[tuple[str, str]] = ()
    """For refusals: SQLSTATE or HTTP status, and text."""


_DISK_FULL = (("53100", "could not extend file: No space left on device"),)
_NO_CONNECTION = (("53300", "sorry, too many clients already"),)
_PASSING = (
    ("40001", "could not serialize access due to concurrent update"),
    ("40P01", "deadlock detected"),
    ("55P03", "canceling statement due to lock timeout"),
    ("57014", "canceling statement due to statement timeout"),
    ("25006", "cannot execute in a read-only transaction"),
)
_HTTP = (("503", "Service Unavailable"), ("429", "Too Many Requests"), ("500", "Internal Server Error"))
_BOTH: tuple[Way, ...] = ("before", "after")
_HERE: tuple[Driver, ...] = ("command",)
_THERE: tuple[Driver, ...] = ("state machine",)

KINDS: tuple[Kind, ...] = (
    Kind("COMMIT is sent, its answer never comes", ((COMMIT, 14),), ("cut unanswered", "cut sent", "cut half answer")),
    Kind("PostgreSQL is cut off", _STATEMENTS, CUTS),
    Kind("PostgreSQL is slow", _STATEMENTS, ("delay",)),
    Kind("PostgreSQL falls silent", _STATEMENTS, ("drop",)),
    Kind("PostgreSQL's disk is full", _STATEMENTS[:6] + _STATEMENTS[7:], ("refuse",), codes=_DISK_FULL),
    Kind("PostgreSQL has no connection left", ((CONNECT, 5),), ("refuse",), codes=_NO_CONNECTION),
    Kind("PostgreSQL refuses for now", _STATEMENTS[:6] + _STATEMENTS[7:], ("refuse",), codes=_PASSING),
    Kind("a backend is terminated", _STATEMENTS, _BOTH, effect="terminate_backend"),
    Kind("a statement is cancelled", _STATEMENTS, ("after", "before"), effect="cancel_backend"),
    Kind("a backend is killed", _STATEMENTS, _BOTH, effect="kill_backend"),
    Kind("PostgreSQL restarts at once", _STATEMENTS, _BOTH, effect="restart_postgres"),
    Kind("Snowflake is cut off", _REQUESTS, CUTS, side="snowflake"),
    Kind("Snowflake is slow", _REQUESTS, ("delay",), side="snowflake"),
    Kind("Snowflake falls silent", _REQUESTS, ("drop",), side="snowflake"),
    Kind("Snowflake refuses for now", _REQUESTS, ("refuse",), side="snowflake", codes=_HTTP),
    Kind("the result expires", _TARGETED, _BOTH, effect="expire_results"),
    Kind("the URLs expire", (*_TARGETED, (CONNECT, 4)), _BOTH, effect="expire_urls"),
    Kind("the URLs expire before a download", ((DOWNLOAD, 4),), _BOTH, side="snowflake", effect="expire_urls"),
    Kind("the result expires while it is read", ((DOWNLOAD, 4),), _BOTH, side="snowflake", effect="expire_results"),
    Kind("the worker is killed", _STATEMENTS, _BOTH, effect="kill_worker"),
    Kind("the worker is killed while it reads", _REQUESTS, _BOTH, side="snowflake", effect="kill_worker"),
    Kind("the worker is stopped for a while", _TARGETED, _BOTH, effect="stop_worker"),
    Kind("Ctrl-C", _STATEMENTS, _BOTH, drivers=_HERE, effect="interrupt"),
    Kind("the invocation times out", (*_TARGETED, *_STATEMENTS[7:]), _BOTH, drivers=_THERE, effect="time_out"),
    Kind("time is short", _TARGETED, ("delay",), drivers=_HERE, effect="short_invocation"),
    Kind("Lambda is throttled", _TARGETED, _BOTH, drivers=_THERE, effect="throttle"),
    Kind("the work item comes three times", _TARGETED, _BOTH, drivers=_THERE, effect="duplicate"),
    Kind("the lease ends under its worker", _TARGETED, _BOTH, effect="expire_lease"),
    Kind("the execution is stopped", _STATEMENTS, _BOTH, drivers=_THERE, effect="stop_execution"),
    Kind("a second start comes in between", _TARGETED, _BOTH, drivers=_HERE, effect="rival"),
    Kind("a column is renamed", _TARGETED, _BOTH, effect="rename_column"),
    Kind("a column has another type", _TARGETED, _BOTH, effect="change_type"),
)


@dataclass(frozen=True)
class Strike:
    """A fault of that kind, at that moment."""

    kind: Kind
    moment: Moment
    way: Way
    seconds: float
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind.name}: {self.way} at {self.moment}{f' with {self.code}' if self.code else ''}"


@dataclass(frozen=True)
class Case:
    """A migration, and what strikes at its first start."""

    number: int
    mode: Mode
    driver: Driver
    strikes: tuple[Strike, ...]

    def __str__(self) -> str:
        return f"case {self.number}: {self.mode.name} by {self.driver}: {'; and '.join(map(str, self.strikes))}"

    @property
    def is_short(self) -> bool:
        """Whether invocations are too short for their work."""
        return any(strike.kind.effect == "short_invocation" for strike in self.strikes)


def case(seed: int, number: int) -> Case:
    """The case of that number: the same for a seed, wherever and however often it is asked for.

    Every kind meets every mode once before one pair comes again; one case in five has a second fault.
    """
    pairs = [(mode, kind) for mode in MODES for kind in KINDS]
    random.Random(seed).shuffle(pairs)  # noqa: S311 - to be repeated, not to be secret
    mode, kind = pairs[number % len(pairs)]
    chance = random.Random(f"{seed}/{number}")  # noqa: S311
    driver = chance.choice(kind.drivers)
    strikes = [_strike(kind, chance)]
    if chance.random() < SECOND_FAULTS:
        others = [other for other in KINDS if driver in other.drivers and other.name != kind.name]
        strikes.append(_strike(chance.choice(others), chance))
    return Case(number, mode, driver, tuple(strikes))


def _strike(kind: Kind, chance: random.Random) -> Strike:
    matching, most = chance.choice(kind.moments)
    code, message = chance.choice(kind.codes) if kind.codes else ("", "")
    return Strike(
        kind=kind,
        moment=Moment(kind.side, matching, chance.randint(1, most)),
        way=chance.choice(kind.ways),
        seconds=round(chance.uniform(0.1, 1.5), 2),
        code=code,
        message=message,
    )
