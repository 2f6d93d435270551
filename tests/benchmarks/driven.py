"""A run taken by hand, action by action, for benches that measure one of them."""

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import mixed_table
from snowmelt.errors import DataError
from snowmelt.models import FinalizeResult, Location, PlanChunksResult, WorkItem

Invoke = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """A run whose chunks are planned and wait to be loaded."""

    run_id: str
    execution_id: str
    table: WorkItem
    """Every chunk in one work item."""

    def warm_up(self, invoke: Invoke) -> None:
        """Have a worker read its plans and sign in to both servers, and load nothing."""
        self.load(invoke, ())

    def load(self, invoke: Invoke, chunks: Sequence[int]) -> None:
        """Load these chunks in one invocation; DataError unless each is completed."""
        item = self.table.model_copy(update={"chunks": tuple(chunks)})
        told = invoke({"action": "process_chunk", "run_id": self.run_id, "item": item.model_dump(mode="json")})
        if told["completed"] != len(chunks):
            raise DataError(f"of {len(chunks)} chunks {told['completed']} were completed; run snowmelt status")

    def finish(self, invoke: Invoke) -> None:
        """Have it finalized; DataError when that does not complete it."""
        while True:
            event = {"action": "finalize", "run_id": self.run_id, "execution_id": self.execution_id}
            verdict = FinalizeResult.model_validate(invoke(event))
            if verdict.next == "done":
                break
            time.sleep(verdict.wait_seconds)
        if verdict.status != "completed":
            raise DataError(f"the run {verdict.status}: {verdict.message}")


def planned(invoke: Invoke, read: Callable[[Location], bytes]) -> Run:
    """A new run of the mixed table, validated and planned; ``read`` gives its manifest."""
    driver = {"execution_id": f"bench-{uuid.uuid4()}"}
    event = {"action": "validate_config", "source_name": mixed_table.SOURCE_NAME, "no_resume": True, **driver}
    run_id = str(invoke(event)["run_id"])
    number = 0
    while True:
        event = {"action": "plan_chunks", "run_id": run_id, "round": number, **driver}
        plan = PlanChunksResult.model_validate(invoke(event))
        if plan.manifest is not None:
            items = [WorkItem.model_validate(item) for item in json.loads(read(plan.manifest))]
            chunks = tuple(chunk for item in items for chunk in item.chunks)
            return Run(run_id, driver["execution_id"], items[0].model_copy(update={"chunks": chunks}))
        if plan.next == "finalize":
            raise DataError("the run has nothing to load")
        number = plan.round
        time.sleep(plan.wait_seconds)
