"""The function, but that it has its results cut into batches as large as Snowflake ever makes them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from snowmelt import actions, settings
from snowmelt.deadline import Deadline
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.wiring import RunResources, Wiring

BATCH_MB = 160


class _Run(RunResources):
    @contextmanager
    def source(self) -> Iterator[SnowflakeSource]:
        with super().source() as snowflake:
            snowflake.aggregate(f"ALTER SESSION SET CLIENT_RESULT_CHUNK_SIZE = {BATCH_MB}")
            yield snowflake


class _Wiring(Wiring):
    def open_run(self, run_id: str) -> RunResources:
        return _Run(self, run_id)


@cache
def _wiring() -> Wiring:
    return _Wiring(settings.load(), settings.environment())


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """The result of the action the event names."""
    return actions.run(event, _wiring(), Deadline.of_invocation(context))
