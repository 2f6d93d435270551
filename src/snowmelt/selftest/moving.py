"""Two tables, moved and verified by the code that the commands run."""

import os
import secrets
import socket

from snowmelt import runner
from snowmelt.selftest import privileges, scratch, text_forms
from snowmelt.selftest.assumption import BrokenError, Step, expect
from snowmelt.selftest.bench import EVERY_TYPE, MANY_ROWS, Bench
from snowmelt.selftest.statements import ROWS
from snowmelt.verification import command as actions
from snowmelt.verification.source_rows import Asked
from snowmelt.wiring import Wiring


def steps(wiring: Wiring, needs: tuple[str, ...]) -> tuple[Step, ...]:
    """Return the checks on PostgreSQL, and the moves, which ``needs`` must not have failed for."""

    def move(_: Bench) -> None:
        name = f"selftest:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        outcome = runner.migrate({}, wiring, execution_id=name)
        if outcome.status != "completed":
            raise BrokenError(outcome.message)

    def verify(_: Bench) -> None:
        config = wiring.config()
        found = actions.verify(wiring, config, config.source(), Asked(mode="checksums"))
        for table in found.tables:
            if table.verdict != "equal":
                raise BrokenError(f"{table.table}: {table.verdict}: {table.reason or 'see `snowmelt verify`'}")

    return (
        Step("postgres-grants-suffice", privileges.loading),
        Step("tables-are-moved", move, needs),
        Step("tables-are-verified", verify, ("tables-are-moved",)),
        Step("values-are-the-same", _same_values, ("tables-are-moved",)),
    )


def _same_values(bench: Bench) -> None:
    """Compare what was moved with what PostgreSQL itself makes of its own literals of the same values."""
    moved, literals = bench.target(EVERY_TYPE), bench.target(text_forms.FILLED)
    expect(scratch.differing_rows(bench.session, moved, literals), 0, "rows that differ from PostgreSQL's own")
    expect(scratch.rows(bench.session, bench.target(MANY_ROWS)), ROWS, "rows of the larger table")
