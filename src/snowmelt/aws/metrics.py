"""What an invocation counted and how long it took, as CloudWatch reads it out of the log.

Few, and by action only: each metric costs money for each value of its dimensions, so runs and tables are keys of the
line, for queries, and no dimensions.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

NAMESPACE = "Snowmelt"
COUNTED = {
    "rows": "RowsLoaded",
    "rejected": "RowsRejected",
    "completed": "ChunksCompleted",
    "released": "ChunksReleased",
    "failed": "ChunksFailed",
}
"""What a work item's result says, by the name of its metric; what is skipped, others have done and counted."""
TIMED = {"load_seconds": "LoadSeconds", "snowflake_seconds": "SnowflakeSeconds"}


def emit(action: str, result: Mapping[str, Any], *, seconds: float, function: str, keys: Mapping[str, object]) -> None:
    """Write one line for CloudWatch; ``result`` is empty when the action has failed.

    The line has the same keys as every other line of the log, so that queries need not leave it out.
    """
    metrics = EphemeralMetrics(namespace=NAMESPACE, service=function)
    metrics.add_dimension("action", action)
    metrics.add_metric("ActionSeconds", MetricUnit.Seconds, seconds)
    if action == "process_chunk":
        for name, metric in COUNTED.items():
            if name in result:
                metrics.add_metric(metric, MetricUnit.Count, result[name])
        for name, metric in TIMED.items():
            if name in result:
                metrics.add_metric(metric, MetricUnit.Seconds, result[name])
    said = {"level": "INFO", "message": "invocation measured", "timestamp": datetime.now(UTC).isoformat(), **keys}
    for key, value in said.items():
        if key not in ("action", "service"):
            metrics.add_metadata(key, value)
    metrics.flush_metrics()
