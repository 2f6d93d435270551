"""What the servers themselves stand in the way with: their limits, their clocks, their log."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from snowmelt.columns.type_pairs import quoted
from snowmelt.engine.connection_budget import FEWEST
from snowmelt.findings import Finding, Severity
from snowmelt.models import Value
from snowmelt.wording import counted

Server = Literal["PostgreSQL", "Snowflake"]

SESSIONS_BESIDE_WORKERS = 3
"""The driver's, the planner's, and someone's who looks."""
SHORTEST_LIMIT = timedelta(hours=1)
"""A limit on statements or transactions that is longer ends no chunk and few builds of an index."""
MOST_CLOCK_DIFFERENCE = timedelta(seconds=60)


class Slot(Value):
    """A replication slot that nobody reads."""

    name: str
    kept_bytes: int


class ServerFacts(Value):
    """What PostgreSQL says of itself, and of the role that loads."""

    role: str
    database: str
    encoding: str
    now: datetime
    max_connections: int
    reserved_connections: int
    connections: int
    role_limit: int
    """Connections that the role may have; -1 for no limit."""
    role_connections: int
    database_limit: int
    database_connections: int
    statement_timeout: int
    """Milliseconds; 0 for none."""
    transaction_timeout: int
    idle_in_transaction_session_timeout: int
    idle_session_timeout: int
    may_make_temporary: bool
    max_wal_size_bytes: int
    archive_fails: bool
    unread_slots: tuple[Slot, ...]
    without_privilege: tuple[tuple[str, str], ...]
    """Tables of the status schema with what the role may not do to them."""
    is_rds: bool = False
    """Whether it is RDS or Aurora: settings are those of a parameter group, and nobody is a superuser."""
    is_aurora: bool = False
    """Whether it is Aurora: temporary tables are on the instance's own disk, and there are no checkpoints."""
    may_use_status: bool = True
    status_schema: str = "migration_status"
    """Whether the role may use the status schema, if it is there."""

    @property
    def may_read_status(self) -> bool:
        """Whether the role may look at what runs have done, if anything."""
        return self.may_use_status and not any("SELECT" in privileges for _, privileges in self.without_privilege)


@dataclass(frozen=True)
class Moment:
    """What a server's clock said, between two moments of this machine's."""

    server: Server
    asked: datetime
    said: datetime
    answered: datetime

    @property
    def difference(self) -> timedelta:
        """How far the server is ahead, at least; zero where the time that the answer took may be all of it."""
        if self.said < self.asked:
            return self.said - self.asked
        return max(self.said - self.answered, timedelta())


def findings(
    facts: ServerFacts, *, parallel_threads: int, is_staged: bool, disables_indexes: bool
) -> Iterator[Finding]:
    """Everything about the server and the role."""
    yield from _connections(facts, parallel_threads + SESSIONS_BESIDE_WORKERS)
    yield from _privileges(facts, is_staged=is_staged)
    yield from _timeouts(facts, disables_indexes=disables_indexes)
    yield from _log(facts)
    if facts.encoding != "UTF8":
        yield _found(
            "warning",
            "encoding",
            f"database {facts.database} keeps its texts in {facts.encoding}, and a character that it lacks is refused",
            "make a database in UTF8",
            f"CREATE DATABASE {quoted(facts.database + '_utf8')} TEMPLATE template0 ENCODING 'UTF8';",
        )


def clocks(moments: Iterable[Moment]) -> Iterator[Finding]:
    """Clocks that differ from this machine's by more than anything explains."""
    for moment in moments:
        seconds = moment.difference.total_seconds()
        if abs(moment.difference) > MOST_CLOCK_DIFFERENCE:
            way = "ahead of" if seconds > 0 else "behind"
            yield _found(
                "warning",
                "clock",
                f"the clock of {moment.server} is {abs(seconds):.0f} s {way} this machine's: leases, snapshots and the "
                "age of results are judged by them",
                "set the clock that is wrong by NTP",
                server=moment.server,
            )


def refused(message: str) -> Finding:
    """A server that would not let a run keep its status."""
    return _found("error", "server", message)


def pooled() -> Finding:
    """Return that a pooler stands between, which keeps a session of the server for each of ours."""
    text = "a pooler stands before the server; it keeps a session for each client, as long as its pool has one to give"
    return _found("warning", "pooler", text, "connect past the pooler: name the server itself in postgres.host")


def _connections(facts: ServerFacts, needed: int) -> Iterator[Finding]:
    most = facts.max_connections - facts.reserved_connections
    raised = parameter_group("max_connections", facts.max_connections + needed, at_once=False)
    if not facts.is_rds:
        raised = f"ALTER SYSTEM SET max_connections = {facts.max_connections + needed};"
    limits = [(most, facts.connections, "the server", raised)]
    if facts.role_limit >= 0:
        alter = f"ALTER ROLE {quoted(facts.role)} CONNECTION LIMIT {needed};"
        limits.append((facts.role_limit, facts.role_connections, f"role {facts.role}", alter))
    if facts.database_limit >= 0:
        alter = f"ALTER DATABASE {quoted(facts.database)} CONNECTION LIMIT {facts.database_connections + needed};"
        limits.append((facts.database_limit, facts.database_connections, f"database {facts.database}", alter))
    for limit, used, whose, raised in limits:
        workers = max(1, limit - used - SESSIONS_BESIDE_WORKERS)
        lower = (f"parallel_threads: {workers}", raised)
        gives = f"gives {limit} altogether" if limit < needed else f"has {limit - used} left of {limit}"
        if limit < FEWEST:
            text = f"a run needs at least {FEWEST} connections and {whose} {gives}"
            yield _found("error", "connections", text, "raise the limit", raised)
        elif limit - used < needed:
            text = (
                f"the run would take {needed} connections and {whose} {gives}: {counted(workers, 'chunk')} instead of "
                f"{needed - SESSIONS_BESIDE_WORKERS} {'is' if workers == 1 else 'are'} loaded at once"
            )
            yield _found("warning", "connections", text, "lower parallel_threads, or raise the limit", *lower)


def _privileges(facts: ServerFacts, *, is_staged: bool) -> Iterator[Finding]:
    role = quoted(facts.role)
    if is_staged and not facts.may_make_temporary:
        grant = f"GRANT TEMPORARY ON DATABASE {quoted(facts.database)} TO {role};"
        text = f"role {facts.role} may not make temporary tables, where rows are converted and merged"
        yield _found("error", "temporary", text, "GRANT TEMPORARY", grant)
    if not facts.may_use_status:
        text = f"role {facts.role} may not use the schema {facts.status_schema}"
        grants = (
            f"GRANT USAGE ON SCHEMA {facts.status_schema} TO {role};",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {facts.status_schema} TO {role};",
        )
        yield _found("error", "status_privileges", text, "GRANT what it needs", *grants)
    elif facts.without_privilege:
        lacking = "; ".join(f"{privileges} on {table}" for table, privileges in facts.without_privilege)
        yield _found(
            "error",
            "status_privileges",
            f"role {facts.role} lacks privileges in the schema {facts.status_schema}: {lacking}",
            "GRANT them",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {facts.status_schema} TO {role};",
        )


def _timeouts(facts: ServerFacts, *, disables_indexes: bool) -> Iterator[Finding]:
    what = {
        "statement_timeout": "ends a statement" + (", such as the build of an index" if disables_indexes else ""),
        "transaction_timeout": "ends a transaction, which a chunk is",
        "idle_in_transaction_session_timeout": "ends a transaction that waits for rows",
        "idle_session_timeout": "ends a session that waits for its next chunk",
    }
    for name, does in what.items():
        limit = timedelta(milliseconds=getattr(facts, name))
        if timedelta() < limit < SHORTEST_LIMIT:
            yield _found(
                "note",
                "timeouts",
                f"{name} of role {facts.role} is {limit.total_seconds():g} s, which {does}: each session of a run "
                "lifts it for itself",
                "where a pooler or a hook of the server sets it again, lift it for this role",
                f"ALTER ROLE {quoted(facts.role)} IN DATABASE {quoted(facts.database)} SET {name} = 0;",
            )


def _log(facts: ServerFacts) -> Iterator[Finding]:
    for slot in facts.unread_slots:
        literal = "'" + slot.name.replace("'", "''") + "'"
        yield _found(
            "warning",
            "slots",
            f"nobody reads replication slot {slot.name}, for which the server keeps all of its log "
            f"({slot.kept_bytes / 1e6:,.0f} MB so far): a load may fill the disk",
            "have it read, or drop it",
            f"SELECT pg_drop_replication_slot({literal});",
        )
    if facts.archive_fails:
        text = "the latest try to archive the log failed, so the server keeps all of it: a load may fill the disk"
        by_aws = "AWS archives the log of this server: see the events of the instance, and ask AWS's support"
        advice = by_aws if facts.is_rds else "see pg_stat_archiver and fix archive_command"
        yield _found("warning", "archiving", text, advice)


def parameter_group(name: str, value: object, *, at_once: bool) -> str:
    """Return the command that sets a parameter of a server of RDS, where ALTER SYSTEM is for AWS alone.

    GROUP is a parameter group of the user's own, as the default ones cannot be changed.
    """
    method = "immediate" if at_once else "pending-reboot"
    parameters = f"ParameterName={name},ParameterValue={value},ApplyMethod={method}"
    return f"aws rds modify-db-parameter-group --db-parameter-group-name GROUP --parameters {parameters}"


def _found(
    severity: Severity, check: str, message: str, advice: str = "", *fix: str, server: Server = "PostgreSQL"
) -> Finding:
    return Finding(severity=severity, check=check, message=message, advice=advice, fix=fix, server=server)
