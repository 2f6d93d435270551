"""How much is going to be written, how long that may take, and what the answer has to be held against."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from snowmelt.findings import Finding, Place
from snowmelt.models import ColumnPlan, TablePlan

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
_UNPACKED = 3
"""How much larger rows are in PostgreSQL than in Snowflake, which packs them by columns."""


@dataclass(frozen=True)
class SourceFacts:
    """What Snowflake knows of a table without reading it."""

    rows: int | None
    size_bytes: int | None
    retention_days: int | None


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
    stored = (known.size_bytes or 0) * _UNPACKED if known else 0
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
            fate = "begins anew then, and would never end" if plan.when_result_is_gone != "stops" else "fails then"
            yield place.error(
                "duration",
                f"its load may take {hours}, and Snowflake keeps the result of a scan for 24: it {fate}",
                "cut it by ranges of a key, or take more threads",
                setting=place.key("chunking_columns"),
                mend=(place.line("chunking_columns", list(plan.key[:1]) or ["…"]),),
            )
        return
    days = known.retention_days if known else None
    if plan.is_frozen and days is not None and takes > timedelta(days=days):
        yield place.error(
            "time_travel",
            f"its load may take {hours}, and Snowflake remembers what it was for {days} days",
            "have it remembered for longer, or take more threads",
            setting=place.key("chunking_columns"),
            mend=(
                f"ALTER TABLE {plan.keys.table} SET DATA_RETENTION_TIME_IN_DAYS = {-(-takes // timedelta(days=1))};",
            ),
        )


def server_findings(expects: Sequence[Expected], *, max_wal_size_bytes: int) -> Iterator[Finding]:
    """What is to be held against the server's disk, which PostgreSQL cannot tell; nothing of small loads."""
    total = sum(each.size_bytes for each in expects)
    if total < WORTH_TELLING_BYTES:
        return
    size = f"{total / 1e9:,.1f} GB"
    yield Finding(
        severity="note",
        check="room",
        message=f"the tables will take about {size} without their indexes, and the log as much again in passing",
        advice="PostgreSQL cannot say how much room its disk has: look there, and at what archives the log",
        server="PostgreSQL",
    )
    if total > 20 * max_wal_size_bytes:
        yield Finding(
            severity="note",
            check="room",
            message=f"max_wal_size is {max_wal_size_bytes / 1e9:,.1f} GB: {size} make one checkpoint after the other",
            advice="raise it for the load",
            mend=(f"ALTER SYSTEM SET max_wal_size = '{max(4, total // 20 // 10**9)}GB';", "SELECT pg_reload_conf();"),
            server="PostgreSQL",
        )
