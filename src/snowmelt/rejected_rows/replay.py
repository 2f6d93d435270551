"""Rejected rows, for people: export them as lines of JSON, and load them after a fix."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from pydantic import Field, ValidationError

from snowmelt.config import Config, SourceConfig
from snowmelt.engine import status_store
from snowmelt.errors import ConfigError, HeldError, MissingError
from snowmelt.models import Value
from snowmelt.postgres.session import Session
from snowmelt.rejected_rows import expired_rows, store
from snowmelt.rejected_rows.expired_rows import ExpiredRows
from snowmelt.rejected_rows.store import RejectedRow, Replayed
from snowmelt.wiring import Wiring


class ReplayedTable(Value):
    """What became of a table's refused rows."""

    table: str
    replayed: int
    refused: int
    reasons: tuple[str, ...] = ()
    expired: int = 0
    """Rows that are not kept any more, and so were not loaded."""


@dataclass(frozen=True)
class Listing:
    """The rejected rows of a run that are kept, and how many of each table are not any more."""

    rows: tuple[RejectedRow, ...]
    expired: tuple[ExpiredRows, ...]


class _Line(Value, extra="ignore"):
    """A line of an export, its values possibly fixed; what it says beside is for people."""

    table: str
    chunk_id: int
    row_number: int
    values: dict[str, str | None] = Field(min_length=1)


@contextmanager
def _connected(wiring: Wiring, config: Config, source: SourceConfig) -> Iterator[Session]:
    with wiring.target(config, source.postgres_database, "snowmelt rejects") as session:
        status_store.require_installed(session)
        yield session


def listed(
    wiring: Wiring, config: Config, source: SourceConfig, *, run_id: str | None, table: str | None = None
) -> Listing:
    """Return the rejected rows of a run, of the latest run unless one is named; of one table, or of all."""
    with _connected(wiring, config, source) as session:
        run_id = _run(session, source, run_id)
        return Listing(tuple(store.read(session, run_id, table)), expired_rows.read(session, run_id, table=table))


def exported(rows: Iterable[RejectedRow]) -> Iterator[str]:
    """Yield a line of JSON for each row, which ``replay`` reads."""
    for row in rows:
        yield json.dumps(asdict(row))


def replay(
    wiring: Wiring,
    config: Config,
    source: SourceConfig,
    *,
    run_id: str | None,
    table: str | None = None,
    lines: Sequence[str] | None = None,
) -> tuple[ReplayedTable, ...]:
    """Load refused rows once more, as they are kept or as the lines have them; what became of each table's.

    Every chunk's rows are a transaction. HeldError while the run is on, or when another has loaded the target since.
    """
    with _connected(wiring, config, source) as session:
        run_id = _run(session, source, run_id)
        status = status_store.read_run(session, run_id).status
        if status not in ("completed_with_rejects", "failed"):
            raise HeldError(f"run {run_id} is {status}; only rows of an ended run can be replayed")
        rows = tuple(store.read(session, run_id, table))
        if lines is not None:
            rows = _fixed(rows, lines, expired=expired_rows.read(session, run_id, table=table))
        resources = wiring.open_run(run_id)
        tally: defaultdict[int, Replayed] = defaultdict(Replayed)
        names = {row.table_id: row.table for row in rows}
        plans = {table_id: store.present_plan(session, resources.table(table_id)) for table_id in names}
        for (table_id, chunk_id), values in store.by_chunk(rows).items():
            tally[table_id] += store.replay(session, run_id, plans[table_id], chunk_id, values)
        expired = {each.table: each for each in expired_rows.read(session, run_id, table=table)}
        replayed = tuple(
            ReplayedTable(
                table=names[table_id],
                replayed=done.replayed,
                refused=done.refused,
                reasons=store.rejection_reasons(session, run_id, table_id),
                expired=expired.pop(names[table_id]).rows if names[table_id] in expired else 0,
            )
            for table_id, done in tally.items()
        )
        return replayed + tuple(
            ReplayedTable(table=each.table, replayed=0, refused=0, reasons=(str(each),), expired=each.rows)
            for each in expired.values()
        )


def _run(session: Session, source: SourceConfig, run_id: str | None) -> str:
    if run_id is not None:
        return status_store.read_run(session, run_id).run_id
    rows = status_store.list_runs(session, source_name=source.source_name, limit=1)
    if not rows:
        raise MissingError(f"source {source.source_name} has no run yet")
    return str(rows[0]["run_id"])


def _fixed(
    rows: Sequence[RejectedRow], lines: Sequence[str], *, expired: Sequence[ExpiredRows]
) -> tuple[RejectedRow, ...]:
    """The rows that the lines name, with the lines' values; ConfigError for a line that names none."""
    there = {(row.table, row.chunk_id, row.row_number): row for row in rows}
    fixed = []
    for number, text in enumerate(lines, 1):
        try:
            line = _Line.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join((f"line {number}", *(str(part) for part in problem["loc"])))
            raise ConfigError(f"{place}: {problem['msg']}") from None
        row = there.get((line.table, line.chunk_id, line.row_number))
        if row is None:
            raise ConfigError(
                f"line {number}: row {line.row_number} of chunk {line.chunk_id} of table {line.table} is not among the "
                f"rejected rows of the run{''.join(f'; {each}' for each in expired if each.table == line.table)}"
            )
        fixed.append(replace(row, values=line.values))
    return tuple(fixed)
