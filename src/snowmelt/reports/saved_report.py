"""Make the report of a run from the status schema, the frozen plans and Snowflake's history, and keep it."""

import json
import logging
import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import ceil
from queue import Empty, Queue
from typing import NoReturn, TypeVar

from snowmelt import __version__, manifest_store
from snowmelt.deadline import Deadline
from snowmelt.errors import MissingError, SnowmeltError
from snowmelt.models import Location, RunPlan, TablePlan
from snowmelt.postgres.session import Session
from snowmelt.reports import page as pages
from snowmelt.reports import report as reports
from snowmelt.reports import run_facts, snowflake_history
from snowmelt.reports.facts import Facts, Run, SnowflakeUse, Versions, Workers
from snowmelt.reports.report import Report
from snowmelt.reports.run_facts import RunFacts
from snowmelt.wiring import RunResources

logger = logging.getLogger(__name__)

Found = TypeVar("Found")
SNOWFLAKE_SECONDS = 30.0
"""How long Snowflake is waited for at most, however silent it is."""
_KEPT_SECONDS = 5.0
"""What is kept for writing the report when other parts of it take long."""


@dataclass(frozen=True)
class Saved:
    """Where a report is kept."""

    json: Location
    page: Location


@dataclass
class _Known:
    """What can be found out, and a line for each thing that cannot."""

    missing: list[str] = field(default_factory=list)

    def ask(self, what: str, question: Callable[[], Found]) -> Found | None:
        """The answer, or None and a line that says why there is none."""
        try:
            return question()
        except SnowmeltError as error:
            self.missing.append(f"{what}: {error.message}")
            return None


def save(run: RunResources, session: Session, deadline: Deadline) -> Saved | None:
    """Keep the report of the run where its plans are, as JSON and as a page; None when it cannot be done.

    A report is no part of the verdict: what goes wrong here is logged, and the run is what it is.
    """
    try:
        made = make(run, session, deadline)
        return Saved(
            json=manifest_store.save_report(run.store, run.run_id, as_json(made)),
            page=manifest_store.save_report_page(run.store, run.run_id, pages.page(made)),
        )
    except SnowmeltError as error:
        logger.warning("the report could not be made", extra={"reason": error.message})
    except Exception:  # a defect of the report must not cost a run its verdict
        logger.exception("the report could not be made")
    return None


def as_json(report: Report) -> str:
    """What ``report.json`` holds."""
    return json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False)


def make(run: RunResources, session: Session, deadline: Deadline) -> Report:
    """The report of a run as it stands. What Snowflake or the store do not tell is named in it as not known."""
    known = _Known()
    found = run_facts.run(session, run.run_id)
    plan = known.ask("the frozen config", lambda: run.plan)
    return reports.build(_facts(run, session, deadline, found, plan, known))


def _facts(
    run: RunResources, session: Session, deadline: Deadline, found: RunFacts, plan: RunPlan | None, known: _Known
) -> Facts:
    listed = run_facts.listed(session, run.run_id)
    plans = {} if plan is None else _plans(run, plan, deadline, known)
    tables = run_facts.tables(session, found.run, plans)
    snowflake = known.ask("what Snowflake scanned", lambda: _history(run, found.run, deadline)) if plan else None
    return Facts(
        run=found.run,
        executions=listed.executions,
        tables=tables,
        pace=run_facts.pace(session, run.run_id),
        durations=run_facts.durations(session, run.run_id),
        rejects=listed.rejects,
        problems=listed.problems,
        verification=run_facts.verification(session, run.run_id),
        indexes=listed.indexes,
        snowflake=snowflake,
        workers=Workers(
            invocations=plan.max_concurrency if plan else 1,
            threads=plan.threads if plan else 1,
            memory_mb=run.memory_mb,
        ),
        config=plan.config if plan else {},
        versions=Versions(
            snowmelt=found.snowmelt_version,
            report_by=__version__,
            python=platform.python_version(),
            postgres=found.postgres_version,
            plan_format=found.plan_format,
        ),
        not_known=(*known.missing, *listed.left_out),
    )


def _plans(run: RunResources, plan: RunPlan, deadline: Deadline, known: _Known) -> dict[int, TablePlan]:
    """The frozen plan of each table, as long as there is time to fetch them."""
    plans: dict[int, TablePlan] = {}
    planned = [table_id for table_id in range(len(plan.tables)) if table_id not in plan.skipped]
    for done, table_id in enumerate(planned):
        if not deadline.allows(_KEPT_SECONDS):
            left = len(planned) - done
            known.missing.append(f"what was said of {left} tables before they were loaded: time ran out")
            break
        found = known.ask(f"the plan of table {plan.tables[table_id]}", partial(run.table, table_id))
        if found is not None:
            plans[table_id] = found
    return plans


def _history(run: RunResources, facts: Run, deadline: Deadline) -> SnowflakeUse:
    """What the run's statements used."""
    now = datetime.now(UTC)
    if not snowflake_history.is_kept(facts.started_at, now):
        raise MissingError("its history goes back seven days, and the run is older")
    seconds = min(SNOWFLAKE_SECONDS, deadline.remaining_seconds() - _KEPT_SECONDS)
    if seconds <= 0:
        raise MissingError("time ran out; `snowmelt report` asks again")
    asked = snowflake_history.statement(
        user=run.plan.snowflake_user,
        run_id=run.run_id,
        started_at=facts.started_at,
        ended_at=facts.completed_at or now,
    )

    def ask() -> SnowflakeUse:
        with run.source_aside(statement_seconds=ceil(seconds)) as snowflake:
            return snowflake_history.use(snowflake.aggregate(asked))

    return _within(seconds, ask)


def _within(seconds: float, ask: Callable[[], Found]) -> Found:
    """The answer if it comes in time; MissingError when it does not.

    A server that takes a call and stays silent is otherwise waited for by minutes.
    """
    answers: Queue[Callable[[], Found]] = Queue(1)

    def run() -> None:
        try:
            found = ask()
        except SnowmeltError as error:
            answers.put(partial(_fail, error))
        else:
            answers.put(lambda: found)

    threading.Thread(target=run, name="aside", daemon=True).start()
    try:
        return answers.get(timeout=seconds)()
    except Empty:
        raise MissingError(f"no answer within {seconds:.0f} s; `snowmelt report` asks again") from None


def _fail(error: SnowmeltError) -> NoReturn:
    raise error
