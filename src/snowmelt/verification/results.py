"""What verifications have found, and how far one is that takes several invocations."""

from dataclasses import dataclass

from snowmelt.postgres.session import Row, Session
from snowmelt.rejected_rows.row_json import RowText, parsed
from snowmelt.sql_text import queries
from snowmelt.verification.comparing import Tally
from snowmelt.verification.verdicts import Mode, TableVerdict

ALL_SUMMED = -1


@dataclass(frozen=True)
class Begun:
    """A verification that is under way."""

    source_query_id: str | None
    """The statement by which Snowflake sums its rows."""
    next_block: int
    """Of the target; the blocks before it are in ``summed``."""
    summed: Tally
    tries: int
    """Invocations that have begun what one must finish."""


def begin(session: Session, run_id: str, table_id: int, mode: Mode) -> Begun:
    """Begin the verification of a table, or go on with the one that was begun."""
    (row,) = session.rows(queries.query("begin_verification"), run_id=run_id, table_id=table_id, mode=mode)
    return Begun(
        source_query_id=row["source_query_id"],
        next_block=row["next_block"],
        summed=Tally.of(row["summed_rows"], int(row["summed_hashes"])),
        tries=row["tries"],
    )


def save_sums(session: Session, run_id: str, table_id: int, next_block: int, summed: Tally) -> None:
    """Remember the sums of the target's first blocks."""
    session.run(
        queries.query("save_sums"),
        run_id=run_id,
        table_id=table_id,
        next_block=next_block,
        rows=summed.rows,
        hashes=summed.hashes,
    )


def save_source_query(session: Session, run_id: str, table_id: int, query_id: str) -> None:
    """Remember the statement by which Snowflake sums its rows."""
    session.run(queries.query("save_source_query"), run_id=run_id, table_id=table_id, query_id=query_id)


def count_try(session: Session, run_id: str, table_id: int) -> int:
    """Note that an invocation begins what it must finish; how many have."""
    (row,) = session.rows(queries.query("count_try"), run_id=run_id, table_id=table_id)
    return int(row["tries"])


def save_verdict(session: Session, run_id: str, table_id: int, verdict: TableVerdict) -> None:
    """Keep what was found in place of what was found before."""
    kept = (
        "mode",
        "verdict",
        "reason",
        "source_rows",
        "target_rows",
        "missing",
        "extra",
        "changed",
        "kept_newer",
        "seconds",
    )
    values = {name: getattr(verdict, name) for name in kept}
    if verdict.advice:
        values["reason"] = f"{verdict.reason}; {verdict.advice}"
    session.run(queries.query("save_verdict"), run_id=run_id, table_id=table_id, **values)


def rejected_rows(session: Session, run_id: str, table_id: int, *, limit: int) -> list[RowText]:
    """Return the rows that were rejected of a table, as they are kept."""
    rows = session.rows(queries.query("rejected_contents"), run_id=run_id, table_id=table_id, limit=limit)
    return [parsed(bytes(row["row_content"])) for row in rows]


def verdicts(session: Session, run_id: str) -> list[Row]:
    """What was found of each table of a run that was verified."""
    return session.rows(queries.query("verdicts_of_run"), run_id=run_id)
