"""The state machine's loop on one machine: plan, load in threads, plan again, finalize."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from snowmelt import actions, manifest_store
from snowmelt.deadline import Deadline
from snowmelt.engine import status_store
from snowmelt.errors import OutOfTimeError, SnowmeltError, TransientError
from snowmelt.models import DryRunPlan, FinalizeResult, Location, PlanChunksResult, ValidateConfigResult
from snowmelt.wiring import Wiring, with_buffer

logger = logging.getLogger(__name__)

_LONG_AFTER = 1e9
_LAST_ATTEMPT = stop_after_attempt(6)
INVOCATION_SECONDS = 900.0
"""What each action is given, as on AWS: a lease must end while someone is still there to see it."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended on this machine."""

    run_id: str
    resumed: bool
    message: str
    warnings: tuple[str, ...]
    status: str
    rounds: int
    report: Location | None
    page: Location | None


def migrate(
    start: Mapping[str, Any],
    wiring: Wiring,
    *,
    execution_id: str,
    on_run: Callable[[ValidateConfigResult], None] = lambda _: None,
    invocation_seconds: float = INVOCATION_SECONDS,
    within: Deadline | None = None,
) -> Outcome:
    """Take a run from its start to its verdict, with the same events the state machine sends.

    ``start`` is what StartExecution would be given. ``on_run`` is told the run as soon as it is open. ``within`` is the
    end of the invocation that all of it happens in. SnowmeltError when the run cannot be opened or no longer moves,
    OutOfTimeError when the invocation ends before the run: the same start resumes it.
    """
    config = wiring.config(start.get("compatibility"))
    database = config.source(start.get("source_name")).postgres_database
    kept = within and with_buffer(within, config.lambda_timeout_buffer_seconds, config.compatibility)
    loop = _Loop(wiring, execution_id, invocation_seconds, kept)
    with wiring.target(config, database, "snowmelt driver") as session, wiring.driven_by(session):
        event = {**start, "action": "validate_config", **loop.driver}
        run = ValidateConfigResult.model_validate(loop.invoke(event))
        on_run(run)
        plan = loop.until_loaded(run.run_id)
        verdict = loop.until_final(run.run_id)
    return Outcome(
        run_id=run.run_id,
        resumed=run.resumed,
        message=verdict.message,
        warnings=run.warnings,
        status=verdict.status,
        rounds=plan.round,
        report=verdict.report,
        page=verdict.page,
    )


def ended(run_id: str, wiring: Wiring, *, execution_id: str) -> FinalizeResult | None:
    """Return how a run has ended, None while it has not or when another start closed it."""
    with wiring.open_run(run_id).target() as session:
        if status_store.read_run(session, run_id).status in ("running", "abandoned"):
            return None
    event = {"action": "finalize", "run_id": run_id, "execution_id": execution_id}
    verdict = FinalizeResult.model_validate(_Loop(wiring, execution_id, INVOCATION_SECONDS, None).invoke(event))
    return verdict if verdict.next == "done" else None


def foresee(start: Mapping[str, Any], wiring: Wiring, *, execution_id: str) -> tuple[str, DryRunPlan | None]:
    """What the start would do, in a sentence and in full; no plan where it would resume a run that has one."""
    loop = _Loop(wiring, execution_id, INVOCATION_SECONDS, None)
    event = {**start, "action": "validate_config", "dry_run": True, **loop.driver}
    result = ValidateConfigResult.model_validate(loop.invoke(event))
    plan = None if result.plan is None else manifest_store.load_dry_run(wiring.store, result.plan)
    return result.message, plan


class _Loop:
    def __init__(self, wiring: Wiring, execution_id: str, invocation_seconds: float, within: Deadline | None) -> None:
        self._wiring = wiring
        self._seconds = invocation_seconds
        self._within = within
        self._stopped = threading.Event()
        self.driver = {"execution_id": execution_id}

    def until_loaded(self, run_id: str) -> PlanChunksResult:
        number = 0
        while True:
            event = {"action": "plan_chunks", "run_id": run_id, "round": number, **self.driver}
            plan = PlanChunksResult.model_validate(self.invoke(event))
            number = plan.round
            if plan.next == "finalize":
                return plan
            self._wait(0)
            is_out_of_time = plan.manifest is not None and self._map(run_id, plan.manifest, plan.max_concurrency)
            self._wait(float("inf") if is_out_of_time else plan.wait_seconds)

    def until_final(self, run_id: str) -> FinalizeResult:
        while True:
            event = {"action": "finalize", "run_id": run_id, **self.driver}
            verdict = FinalizeResult.model_validate(self.invoke(event))
            if verdict.next == "done":
                return verdict
            self._wait(verdict.wait_seconds)

    def _wait(self, seconds: float) -> None:
        if self._is_over(seconds):
            raise OutOfTimeError("this invocation's time is nearly over; the same start resumes the run")
        time.sleep(seconds)

    def _is_over(self, seconds: float = 0.0) -> bool:
        return self._within is not None and not self._within.allows(seconds)

    def _deadline(self) -> Deadline:
        if self._within is None:
            return Deadline.after(self._seconds, clock=self._clock)
        return replace(self._within, clock=self._clock)

    def invoke(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The action's result, tried again as the state machine does when the failure is one that passes."""
        for attempt in Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait_random_exponential(multiplier=1, max=60),
            stop=lambda state: _LAST_ATTEMPT(state) or self._is_over(),
            before_sleep=_log_retry,
            reraise=True,
        ):
            with attempt:
                return actions.run(event, self._wiring, self._deadline())
        raise AssertionError("Retrying returns or raises")

    def _clock(self) -> float:
        """Time as the workers see it: once the loop is stopped, every deadline has passed."""
        return time.monotonic() + (_LONG_AFTER if self._stopped.is_set() else 0.0)

    def _map(self, run_id: str, manifest: Location, workers: int) -> bool:
        """Process every item of the manifest; like the Map, tolerate whatever becomes of each.

        True when all that came of it are chunks that did not fit in what is left of this invocation.
        """
        items = manifest_store.load_manifest(manifest, self._wiring.store)
        with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="worker") as pool:
            events = [{"action": "process_chunk", "run_id": run_id, "item": i.model_dump()} for i in items]
            futures = [pool.submit(self._process, event) for event in events]
            try:
                results = _await_all(futures)
            except BaseException:
                # Ctrl-C, or a defect: workers hand back what they have begun, as they do when their time is over.
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
                raise
        moved = sum(result["completed"] + result["failed"] for result in results)
        return self._within is not None and not moved and any(result["released"] for result in results)

    def _process(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if self._stopped.is_set():
            return None
        try:
            return self.invoke(event)
        except SnowmeltError as error:
            logger.error(error.message, extra={"run_id": event["run_id"], "error_code": error.code})
            return None


def _await_all(futures: Iterable[Future[Mapping[str, Any] | None]]) -> list[Mapping[str, Any]]:
    """Wait for all, or for the first that raises, and return the results that there are."""
    done, _ = wait(list(futures), return_when=FIRST_EXCEPTION)
    return [result for future in done if (result := future.result()) is not None]


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("trying again: %s", error)
