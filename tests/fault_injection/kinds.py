"""What can go wrong, and at which moments; and the cases that a seed makes of it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fault_injection.modes import MODES, Mode
from fault_injection.pooler import Rules
from fault_injection.traps import CUTS, Moment, Way

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

# Statements of a run's phases, by their own text. An opened run has its driver written down.
PLAN = (
    r"^SELECT pg_try_advisory_lock\(.*snowmelt:run|"
    r"^UPDATE migration_status.run_tables SET status = 'scanning'|"
    r"^INSERT INTO migration_status.chunks|^TRUNCATE TABLE|^DROP INDEX|"
    r"^UPDATE migration_status.runs SET rounds"
)
LOAD = (
    r"^UPDATE migration_status.chunks .*lease_token = gen_random_uuid|^COPY |^copy d|"
    r"^UPDATE migration_status.chunks SET status = 'completed'"
)
INDEX = r"^SELECT migration_status.restore_index|^UPDATE migration_status.saved_indexes SET attempts"
VERIFY = r"^(UPDATE|INSERT INTO) migration_status.verification_results|^SELECT .* AS hashes FROM"
FINALIZE = (
    r"^ANALYZE|^UPDATE migration_status.run_tables SET status = 'completed'|"
    r"^UPDATE migration_status.runs SET status = CASE|^UPDATE migration_status.run_executions SET ended_at"
)

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


Excuse = Literal["nothing", "a start", "the run"]
"""What may say failed under a fault: nothing, since nothing is wrong; a start, which another one resumes; the run
itself, because of what must be put right first."""


class NotHereError(Exception):
    """This machine has not what a case needs."""


@dataclass(frozen=True)
class Condition:
    """What holds from before the first start on until it has ended.

    ``statements`` give the user's role or the target's database a setting, or a number of connections. ``threads`` is
    the config's ``parallel_threads``.
    """

    name: str
    statements: Sequence[str] = ()
    pooler: Rules | None = None
    threads: int = 2


USUAL = Condition("")


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
    excuses: Excuse = "a start"
    modes: Sequence[str] = ()
    """The ways to load that it can strike at; all without any."""
    conditions: Sequence[Condition] = (USUAL,)
    """Of which one holds."""
    refused_for: str = ""
    """The word with which the first start must be refused, before anything is touched."""

    def strikes_at(self, mode: Mode) -> bool:
        """Whether a migration of that mode has moments for it."""
        return not self.modes or mode.name in self.modes


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


def _taken_over(phase: str, moments: Sequence[tuple[str, int]], modes: Sequence[str] = ()) -> Kind:
    """Its process is stopped, its time passes, another start takes over, and then the first goes on."""
    name = f"the driver is stopped while it {phase}, and another takes over"
    return Kind(name, moments, _BOTH, drivers=_HERE, effect="take_over", modes=modes)


_TAKEN_OVER = (
    _taken_over("plans", ((PLAN, 5),)),
    _taken_over("loads", ((LOAD, 25),)),
    _taken_over("builds indexes", ((INDEX, 5),), ("reindexed", "merged_reindexed")),
    _taken_over("verifies", ((VERIFY, 6),)),
    _taken_over("finalizes", ((FINALIZE, 4),)),
)

_TIMEOUT = "250ms"
_OWNERS = ("ROLE {role}", "DATABASE {database}", "ROLE {role} IN DATABASE {database}")


def _timeout(setting: str) -> Kind:
    """A time-out that sessions bring with them; then something is slow, or someone holds the target's lock."""
    return Kind(
        f"{setting} is short",
        (*_STATEMENTS[:6], *_STATEMENTS[7:]),
        ("delay", "before"),
        effect="hold_lock",
        excuses="nothing",
        conditions=[
            Condition(
                " ".join(word for word in owner.split() if "{" not in word),
                (f"ALTER {owner} SET {setting} = '{_TIMEOUT}'",),
            )
            for owner in _OWNERS
        ],
    )


_TIMEOUTS = tuple(
    map(
        _timeout,
        (
            "idle_session_timeout",
            "statement_timeout",
            "idle_in_transaction_session_timeout",
            "lock_timeout",
            "transaction_timeout",
        ),
    )
)


def _limited(whose: str, fewest: int) -> Kind:
    return Kind(
        f"the {whose} has few connections",
        _STATEMENTS,
        ("delay",),
        excuses="nothing",
        conditions=[
            Condition(f"{most}", (f"ALTER {whose.upper()} {{{whose}}} CONNECTION LIMIT {most}",), threads=8)
            for most in range(fewest, fewest + 4)
        ],
    )


_LIMITS = (
    _limited("role", 4),
    _limited("database", 5),  # who looks at the target from outside counts too
)


def _pooled(name: str, rules: Sequence[Rules], *, excuses: Excuse = "nothing", refused_for: str = "") -> Kind:
    return Kind(
        f"a pooler {name}",
        _STATEMENTS,
        ("delay",),
        excuses=excuses,
        conditions=[Condition(f"{each.connections} connections", pooler=each) for each in rules],
        refused_for=refused_for,
    )


_POOLERS = (
    _pooled("lends connections for a session", [Rules("session", most) for most in (8, 12, 20)]),
    _pooled("has too few connections", [Rules("session", most) for most in (1, 2, 3)], excuses="a start"),
    _pooled(
        "lends connections for a transaction",
        [Rules("transaction", most) for most in (1, 3, 12)],
        excuses="a start",
        refused_for="pooler",
    ),
    _pooled(
        "knows no options",
        [Rules(lends, 12, takes_options=False) for lends in ("session", "transaction")],
        excuses="a start",
        refused_for="pooler",
    ),
)

KINDS: tuple[Kind, ...] = (
    Kind("COMMIT is sent, its answer never comes", ((COMMIT, 14),), ("cut unanswered", "cut sent", "cut half answer")),
    Kind("PostgreSQL is cut off", _STATEMENTS, CUTS),
    Kind("PostgreSQL is slow", _STATEMENTS, ("delay",), excuses="nothing"),
    Kind("PostgreSQL falls silent", _STATEMENTS, ("drop",)),
    Kind(
        "PostgreSQL's disk is full", _STATEMENTS[:6] + _STATEMENTS[7:], ("refuse",), codes=_DISK_FULL, excuses="the run"
    ),
    Kind("PostgreSQL has no connection left", ((CONNECT, 5),), ("refuse",), codes=_NO_CONNECTION),
    Kind("PostgreSQL refuses for now", _STATEMENTS[:6] + _STATEMENTS[7:], ("refuse",), codes=_PASSING),
    Kind("a backend is terminated", _STATEMENTS, _BOTH, effect="terminate_backend"),
    Kind("a statement is cancelled", _STATEMENTS, ("after", "before"), effect="cancel_backend"),
    Kind("a backend is killed", _STATEMENTS, _BOTH, effect="kill_backend"),
    Kind("PostgreSQL restarts at once", _STATEMENTS, _BOTH, effect="restart_postgres"),
    Kind("Snowflake is cut off", _REQUESTS, CUTS, side="snowflake"),
    Kind("Snowflake is slow", _REQUESTS, ("delay",), side="snowflake", excuses="nothing"),
    Kind("Snowflake falls silent", _REQUESTS, ("drop",), side="snowflake"),
    Kind("Snowflake refuses for now", _REQUESTS, ("refuse",), side="snowflake", codes=_HTTP),
    Kind("the result expires", _TARGETED, _BOTH, effect="expire_results"),
    Kind("the URLs expire", (*_TARGETED, (CONNECT, 4)), _BOTH, effect="expire_urls"),
    Kind("the URLs expire before a download", ((DOWNLOAD, 4),), _BOTH, side="snowflake", effect="expire_urls"),
    Kind("the result expires while it is read", ((DOWNLOAD, 4),), _BOTH, side="snowflake", effect="expire_results"),
    Kind("the worker is killed", _STATEMENTS, _BOTH, effect="kill_worker"),
    Kind("the worker is killed while it reads", _REQUESTS, _BOTH, side="snowflake", effect="kill_worker"),
    Kind("the worker is stopped for a while", _TARGETED, _BOTH, effect="stop_worker", excuses="nothing"),
    Kind("Ctrl-C", _STATEMENTS, _BOTH, drivers=_HERE, effect="interrupt"),
    Kind("the invocation times out", (*_TARGETED, *_STATEMENTS[7:]), _BOTH, drivers=_THERE, effect="time_out"),
    Kind("time is short", _TARGETED, ("delay",), drivers=_HERE, effect="short_invocation", excuses="nothing"),
    Kind("Lambda is throttled", _TARGETED, _BOTH, drivers=_THERE, effect="throttle", excuses="nothing"),
    Kind("the work item comes three times", _TARGETED, _BOTH, drivers=_THERE, effect="duplicate", excuses="nothing"),
    Kind("the lease ends under its worker", _TARGETED, _BOTH, effect="expire_lease"),
    Kind("the execution is stopped", _STATEMENTS, _BOTH, drivers=_THERE, effect="stop_execution"),
    Kind("a second start comes in between", _TARGETED, _BOTH, drivers=_HERE, effect="rival", excuses="nothing"),
    Kind("a column is renamed", _TARGETED, _BOTH, effect="rename_column", excuses="the run"),
    Kind("a column has another type", _TARGETED, _BOTH, effect="change_type", excuses="the run"),
    *_TAKEN_OVER,
    *_TIMEOUTS,
    *_LIMITS,
    *_POOLERS,
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
    condition: Condition = USUAL

    def __str__(self) -> str:
        name = f"{self.kind.name} ({self.condition.name})" if self.condition.name else self.kind.name
        return f"{name}: {self.way} at {self.moment}{f' with {self.code}' if self.code else ''}"


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

    @property
    def is_taken_over(self) -> bool:
        """Whether its driver is stopped until another start has taken over."""
        return any(strike.kind.effect == "take_over" for strike in self.strikes)

    @property
    def excuses(self) -> Excuse:
        """What may say failed."""
        excuses = {strike.kind.excuses for strike in self.strikes}
        return "the run" if "the run" in excuses else "a start" if "a start" in excuses else "nothing"

    @property
    def threads(self) -> int:
        """How many chunks are loaded at once, at most."""
        return max(strike.condition.threads for strike in self.strikes)

    @property
    def refused_for(self) -> str:
        """The word with which the first start must be refused."""
        return next((strike.kind.refused_for for strike in self.strikes if strike.kind.refused_for), "")


def pairs_of_all() -> list[tuple[Mode, Kind]]:
    """Each mode with each kind that can strike at it."""
    return [(mode, kind) for mode in MODES for kind in KINDS if kind.strikes_at(mode)]


def case(seed: int, number: int) -> Case:
    """The case of that number: the same for a seed, wherever and however often it is asked for.

    Every kind meets every mode once before one pair comes again; one case in five has a second fault.
    """
    pairs = pairs_of_all()
    random.Random(seed).shuffle(pairs)
    mode, kind = pairs[number % len(pairs)]
    chance = random.Random(f"{seed}/{number}")
    driver = chance.choice(kind.drivers)
    strikes = [_strike(kind, chance)]
    if chance.random() < SECOND_FAULTS:
        others = [
            other
            for other in KINDS
            if driver in other.drivers and other.name != kind.name and other.strikes_at(mode) and not other.refused_for
        ]
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
        condition=chance.choice(kind.conditions),
    )
