"""What a run costs: measured work times list prices. An estimate, with everything it rests on beside it."""

from dataclasses import dataclass

from snowmelt.engine import work_items
from snowmelt.models import Value
from snowmelt.reports.facts import Execution, SnowflakeUse, Table, Warehouse, Workers

ASSUMED_MEMORY_MB = 1769
"""Memory with which AWS Lambda gives a whole processor, and what the template asks for."""
SECONDS_PER_ACTION = 5.0
ACTIONS_BESIDE_ROUNDS = 4
SECONDS_PER_COLD_START = 1.5
TRANSITIONS_PER_ITEM = 3
"""An iteration of the Map is started, enters its one state, and ends."""
TRANSITIONS_PER_ROUND = 6
TRANSITIONS_BESIDE_ROUNDS = 10
PUTS_BESIDE_TABLES = 5
LEAST_WAREHOUSE_SECONDS = 60.0
"""What Snowflake charges whenever a warehouse wakes up."""

CREDITS_PER_HOUR = {
    "X-SMALL": 1,
    "SMALL": 2,
    "MEDIUM": 4,
    "LARGE": 8,
    "X-LARGE": 16,
    "2X-LARGE": 32,
    "3X-LARGE": 64,
    "4X-LARGE": 128,
    "5X-LARGE": 256,
    "6X-LARGE": 512,
}
"""Of a standard warehouse by its size."""


@dataclass(frozen=True)
class Prices:
    """List prices in US dollars: us-east-1, x86, the first tier; free allowances are left out."""

    lambda_gb_second: float = 0.0000166667
    lambda_request: float = 0.20 / 1_000_000
    state_transition: float = 0.025 / 1_000
    s3_put: float = 0.005 / 1_000
    snowflake_credit: float = 3.00
    """Enterprise Edition on demand; 2.00 for Standard, 4.00 for Business Critical."""


class CostItem(Value):
    """One line of the bill."""

    what: str
    quantity: float | None
    """None where it is not known, and so not in the total."""
    unit: str
    price_usd: float
    """Of one unit."""
    usd: float | None
    source: str
    """Where the price is published."""
    how: str
    """How the quantity was come by."""


class Cost(Value):
    """What the run comes to."""

    items: tuple[CostItem, ...]
    total_usd: float
    """Of the items whose quantity is known."""
    is_hypothetical: bool
    """Whether no execution on AWS had a part in the run: then AWS's share is what it would have cost there."""
    is_complete: bool
    """Whether the quantity of every item is known."""
    left_out: tuple[str, ...] = (
        "the target database",
        "log lines",
        "traffic between regions or through a NAT gateway",
        "Snowflake's storage and cloud services",
        "a warehouse that idles until it is suspended, or that others use at the same time",
        "free allowances and discounts",
    )


def estimate(
    tables: tuple[Table, ...],
    executions: tuple[Execution, ...],
    workers: Workers,
    snowflake: SnowflakeUse | None,
    *,
    rounds: int,
    prices: Prices | None = None,
) -> Cost:
    """What a run costs. Pure: measured work in, dollars out.

    Seconds of workers are those of completed chunks, from claim to mark, divided by the threads that shared an
    invocation; attempts that failed are not among them. Work items are counted as the planner makes them.
    """
    prices = prices or Prices()
    retries = sum(table.retries for table in tables)
    items = retries + work_items.count(
        [table.chunks_completed for table in tables], workers=workers.invocations, threads=workers.threads
    )
    actions = rounds + ACTIONS_BESIDE_ROUNDS
    seconds = (
        sum(table.total_seconds for table in tables) / workers.threads
        + min(items, workers.invocations) * SECONDS_PER_COLD_START
        + actions * SECONDS_PER_ACTION
    )
    memory_mb = workers.memory_mb or ASSUMED_MEMORY_MB
    memory = f"{memory_mb:,} MB" if workers.memory_mb else f"{memory_mb:,} MB, the template's default"
    lines = (
        _item(
            "AWS Lambda, compute",
            seconds * memory_mb / 1024,
            "GB-s",
            prices.lambda_gb_second,
            source="aws.amazon.com/lambda/pricing",
            how=f"seconds of completed chunks, {SECONDS_PER_ACTION:g} s for each other action, at {memory}",
        ),
        _item(
            "AWS Lambda, requests",
            items + actions,
            "requests",
            prices.lambda_request,
            source="aws.amazon.com/lambda/pricing",
            how="work items as they are planned, and the other actions",
        ),
        _item(
            "AWS Step Functions",
            items * TRANSITIONS_PER_ITEM + rounds * TRANSITIONS_PER_ROUND + TRANSITIONS_BESIDE_ROUNDS,
            "transitions",
            prices.state_transition,
            source="aws.amazon.com/step-functions/pricing",
            how=f"{TRANSITIONS_PER_ITEM} for each work item, {TRANSITIONS_PER_ROUND} for each round",
        ),
        _item(
            "Amazon S3",
            2 * len(tables) + rounds + PUTS_BESIDE_TABLES,
            "puts",
            prices.s3_put,
            source="aws.amazon.com/s3/pricing",
            how="plans, row counts, manifests, this report",
        ),
        _snowflake(snowflake, prices),
    )
    return Cost(
        items=lines,
        total_usd=sum(line.usd or 0.0 for line in lines),
        is_hypothetical=all(each.is_local for each in executions),
        is_complete=all(line.usd is not None for line in lines),
    )


def _item(what: str, quantity: float | None, unit: str, price_usd: float, *, source: str, how: str) -> CostItem:
    return CostItem(
        what=what,
        quantity=quantity,
        unit=unit,
        price_usd=price_usd,
        usd=None if quantity is None else quantity * price_usd,
        source=source,
        how=how,
    )


def _snowflake(use: SnowflakeUse | None, prices: Prices) -> CostItem:
    used, how = _credits(use)
    source = "Snowflake's Service Consumption Table, Enterprise Edition, on demand, AWS us-east-1"
    return _item("Snowflake, warehouse", used, "credits", prices.snowflake_credit, source=source, how=how)


def _credits(use: SnowflakeUse | None) -> tuple[float | None, str]:
    if use is None:
        return None, "what Snowflake's history says of the run is not known"
    at_work = [each for each in use.warehouses if each.name]  # what needs no warehouse costs no credits
    unknown = [each.name for each in at_work if each.size.upper() not in CREDITS_PER_HOUR]
    if unknown:
        return None, f"the size of warehouse {', '.join(unknown)} is not known"
    said = ", ".join(f"{each.name} ({each.size}) for {_charged_seconds(each):,.0f} s" for each in at_work)
    used = sum(CREDITS_PER_HOUR[each.size.upper()] * _charged_seconds(each) / 3600 for each in at_work)
    return used, f"{said or 'no warehouse'}; each at least {LEAST_WAREHOUSE_SECONDS:g} s"


def _charged_seconds(warehouse: Warehouse) -> float:
    return max(LEAST_WAREHOUSE_SECONDS, warehouse.busy_seconds)
