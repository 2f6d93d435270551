"""How much is going to be written, how long that may take, and what the answer is to be compared with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from snowmelt.findings import Finding, Place
from snowmelt.models import ColumnPlan, TablePlan
from snowmelt.planning.source_facts import UNPACKED, SourceFacts
from snowmelt.preflight.servers import ServerFacts, parameter_group
from snowmelt.wording import counted

ROWS_PER_SECOND = 20_000
BYTES_PER_SECOND = 10_000_000
"""What one thread brings in at the least; scripts/bench end-to-end measures more."""
RESULT_LIVES = timedelta(hours=24)
WORTH_TELLING_BYTES = 1 << 30
_ROW_BYTES = 28
"""What PostgreSQL keeps of each row beside its values."""
_WIDTHS: Mapping[str, int] = {
    "bool": 1,
    "int2": 2,
    "int4": 4,
    "float4": 4,
    "date": 4,
    "int8": 8,
    "float8": 8,
    "time": 8,
    "timestamp": 8,
    "timestamptz": 8,
    "uuid": 16,
    "numeric": 10,
}
_OTHER_WIDTH = 24
"""What is guessed of a text, a JSON value and the like."""


@dataclass(frozen=True)
class Expected:
    """What a table comes to."""

    rows: int
    size_bytes: int

    def duration(self, threads: int) -> timedelta:
        """How long its load takes at the most, as far as anyone can tell."""
        seconds = max(self.rows / ROWS_PER_SECOND, self.size_bytes / BYTES_PER_SECOND) / max(1, threads)
        return timedelta(seconds=seconds)


def expected(rows: int, columns: Sequence[ColumnPlan], known: SourceFacts | None) -> Expected:
    """Rows and bytes in the target, without its indexes: a guess, from types and from what Snowflake stores."""
    width = _ROW_BYTES + sum(_WIDTHS.get(column.target.type, _OTHER_WIDTH) for column in columns)
    stored = (known.size_bytes or 0) * UNPACKED if known else 0
    if known and known.rows and known.rows > rows:  # a filter, or only what is newer
        stored = stored * rows // known.rows
    return Expected(rows, max(rows * width, stored))


def table_findings(
    place: Place, plan: TablePlan, expects: Expected, known: SourceFacts | None, *, threads: int
) -> Iterator[Finding]:
    """Whether what Snowflake keeps outlives the load."""
    takes = expects.duration(threads)
    hours = f"{takes.total_seconds() / 3600:,.0f} hours"
    if plan.keys is None:
        if takes > RESULT_LIVES:
            fate = "restarts then, and would never end" if plan.when_result_is_gone != "stops" else "fails then"
            yield place.error(
                "duration",
                f"its load may take {hours}, and Snowflake keeps the result of a scan for 24: it {fate}",
                "cut it by ranges of a key, or take more threads",
                setting=place.key("chunking_columns"),
                fix=(place.line("chunking_columns", list(plan.key[:1]) or ["…"]),),
            )
        return
    days = known.retention_days if known else None
    if plan.is_frozen and days is not None and takes > timedelta(days=days):
        yield place.error(
            "time_travel",
            f"its load may take {hours}, and Snowflake remembers what it was for {days} days",
            "have it remembered for longer, or take more threads",
            setting=place.key("chunking_columns"),
            fix=(f"ALTER TABLE {plan.keys.table} SET DATA_RETENTION_TIME_IN_DAYS = {-(-takes // timedelta(days=1))};",),
        )


@dataclass(frozen=True)
class Staging:
    """What a table puts into temporary tables while it is loaded."""

    table: str
    rows: int
    """Of one chunk."""
    row_bytes: int
    threads: int

    @property
    def chunk_bytes(self) -> int:
        """How much one thread has at a time: each has a chunk in a temporary table of its own."""
        return self.rows * self.row_bytes


def staging(plan: TablePlan, expects: Expected, *, threads: int) -> Staging | None:
    """Return what a table puts into temporary tables; None where it is loaded directly, or has no rows."""
    if not plan.is_staged or not expects.rows:
        return None
    rows = min(plan.batch_size, expects.rows)
    threads = min(threads, -(-expects.rows // rows))
    return Staging(plan.source, rows, max(1, expects.size_bytes // expects.rows), threads)


def server_findings(
    expects: Sequence[Expected], facts: ServerFacts, stagings: Sequence[Staging] = (), *, threads: int = 1
) -> Iterator[Finding]:
    """Return what to compare with the server's disk, which PostgreSQL does not tell; nothing of small loads.

    On Aurora, also what temporary tables take of the instance's own disk, be it little.
    """
    if facts.is_aurora and stagings:
        yield _local_storage(stagings, threads)
    total = sum(each.size_bytes for each in expects)
    if total < WORTH_TELLING_BYTES:
        return
    size = f"{total / 1e9:,.1f} GB"
    log = "" if facts.is_aurora else ", and the log as much again in passing"
    yield _note(f"the tables will take about {size} without their indexes{log}", _look_at_the_disk(facts))
    if total > 20 * facts.max_wal_size_bytes and not facts.is_aurora:
        wanted = max(4, total // 20 // 10**9)
        raised: tuple[str, ...] = (f"ALTER SYSTEM SET max_wal_size = '{wanted}GB';", "SELECT pg_reload_conf();")
        if facts.is_rds:
            raised = (parameter_group("max_wal_size", wanted * 1024, at_once=True),)  # in MB
        checkpoints = f"{size} make one checkpoint after the other"
        yield _note(
            f"max_wal_size is {facts.max_wal_size_bytes / 1e9:,.1f} GB: {checkpoints}", "raise it for the load", *raised
        )


def _local_storage(stagings: Sequence[Staging], threads: int) -> Finding:
    largest_first = sorted(stagings, key=lambda each: each.chunk_bytes, reverse=True)
    total, left = 0, threads
    for each in largest_first:
        total += each.chunk_bytes * min(each.threads, left)
        left -= min(each.threads, left)
    largest = largest_first[0]
    return _note(
        f"up to {total / 1e9:,.1f} GB are in temporary tables at a time (of table {largest.table}, chunks of "
        f"{largest.rows:,} rows of {largest.row_bytes:,} bytes in {counted(min(largest.threads, threads), 'thread')}), "
        "which Aurora keeps, with what sorts spill, on the local storage of the instance: it does not grow",
        "compare that with FreeLocalStorage of the instance in CloudWatch; lower batch_size or parallel_threads, or "
        "take a larger instance class",
    )


def _look_at_the_disk(facts: ServerFacts) -> str:
    if facts.is_aurora:
        return "the storage of an Aurora cluster grows by itself, and is paid for"
    if facts.is_rds:
        return (
            "PostgreSQL cannot say how much room its disk has: look at FreeStorageSpace of the instance in CloudWatch, "
            "or turn on storage autoscaling"
        )
    return "PostgreSQL cannot say how much room its disk has: look there, and at what archives the log"


def _note(message: str, advice: str, *proposed: str) -> Finding:
    return Finding(severity="note", check="room", message=message, advice=advice, fix=proposed, server="PostgreSQL")
