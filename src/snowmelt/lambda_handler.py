"""The Lambda's way in: parse, dispatch, return."""

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from snowmelt import actions, settings
from snowmelt.aws import metrics
from snowmelt.deadline import Deadline
from snowmelt.errors import SnowmeltError
from snowmelt.runner import whole_runs
from snowmelt.wiring import Wiring

logger = Logger(service="snowmelt", level=settings.load().log_level)
"""Every logger of the package is its child, and so writes the same one JSON line per event."""


@cache
def _wiring() -> Wiring:
    """What this execution environment builds once and keeps while it is warm."""
    return Wiring(settings.load(), settings.environment())


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """The result of the action the event names, as plain JSON.

    An error leaves as one of the classes of ``snowmelt.errors``, its message one line.
    """
    logger.clear_state()
    keys = _log_keys(event, context)
    logger.append_keys(**keys)
    began = time.monotonic()
    result: dict[str, Any] = {}
    failure: SnowmeltError | None = None
    try:
        result = _result(event, context)
    except SnowmeltError as error:
        logger.error(error.message, extra={"error_code": error.code})
        failure = error
    finally:
        action = keys.get("action")
        if action in actions.ACTIONS:  # what someone made up would be a metric of its own
            seconds = time.monotonic() - began
            metrics.emit(str(action), result, seconds=seconds, function=context.function_name, keys=keys)
    if failure is None:
        return result
    # Raised again: a person is to read the message, not the way it took through the code.
    raise failure.with_traceback(None) from None


def _result(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    deadline = Deadline.of_invocation(context)
    if isinstance(event, Mapping) and whole_runs.is_asked_by(event):
        return whole_runs.answer(event, _wiring(), deadline, request_id=context.aws_request_id)
    return actions.run(event, _wiring(), deadline)


def _log_keys(event: Mapping[str, Any], context: LambdaContext) -> dict[str, object]:
    if not isinstance(event, Mapping):
        return {"request_id": context.aws_request_id}
    item = event.get("item")
    keys = {
        "action": event.get("action") or "migrate",
        "run_id": event.get("run_id"),
        "source_name": event.get("source_name"),
        "table": item.get("table") if isinstance(item, Mapping) else None,
        "request_id": context.aws_request_id,
    }
    # What else somebody sends for an id is told by the error, and not written into every line of the log.
    return {key: value for key, value in keys.items() if isinstance(value, str)}
