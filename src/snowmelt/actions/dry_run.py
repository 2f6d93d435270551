"""Say exactly what a run would do: chunks, statements, modes, truncations, index drops, warnings. Touches no data."""

from collections.abc import Mapping

from snowmelt.engine import connection_count
from snowmelt.engine.connection_budget import budget
from snowmelt.loading import indexes
from snowmelt.models import DryRunPlan, DryRunSkipped, DryRunTable, TablePlan
from snowmelt.planning import composite, statement
from snowmelt.planning.source_facts import SourceFacts
from snowmelt.postgres.session import Session
from snowmelt.preflight.servers import SESSIONS_BESIDE_WORKERS
from snowmelt.preflight.table_plans import TablePlans
from snowmelt.snowflake_source import SnowflakeSource
from snowmelt.sql_text.lexer import without_literals


def dry_run(
    planned: TablePlans,
    snowflake: SnowflakeSource,
    session: Session,
    *,
    message: str,
    parallel_threads: int,
) -> DryRunPlan:
    """What the plans come to. Snowflake is asked for counts and histograms, the target for what is there."""
    plans = planned.loaded
    names = {plan.table_id: plan.source for plan in plans}
    droppable = indexes.read(session, {p.target: [p.key] if p.key else [] for p in plans if p.disable_index})
    forecasts = []
    for plan in plans:
        rows, chunks, statements = _forecast(plan, snowflake)
        dropped = tuple(i.name for i in droppable.get(plan.target, ()) if i.stays_because is None)
        forecasts.append(
            DryRunTable(
                table=plan.source,
                target=str(plan.target),
                strategy=plan.strategy,
                load_mode=plan.load_mode,
                rows=rows,
                chunks=chunks,
                staged_columns=tuple(f"{c.target.name}: {c.cast}" for c in plan.columns if c.cast),
                truncates=plan.truncate_onstart,
                on_duplicate_keys=plan.on_duplicate_keys,
                drops_indexes=dropped,
                drops_foreign_keys=plan.dropped_keys,
                loads_after=tuple(names[i] for i in plan.loads_after),
                when_result_is_gone=plan.when_result_is_gone,
                statements=statements,
                warnings=(*plan.warnings, *_filtered(plan), *_unclustered(plan, chunks, planned.source_facts)),
            )
        )
    limits = connection_count.limits(session)
    reason = budget(limits, parallel_threads).reason
    return DryRunPlan(
        message=message,
        tables=tuple(forecasts),
        skipped=tuple(
            DryRunSkipped(table=t.source, target=str(t.target), problems=t.problems) for t in planned.skipped
        ),
        connections_needed=parallel_threads + SESSIONS_BESIDE_WORKERS,
        connections_free=min(limit.free for limit in limits),
        warnings=(reason,) if reason else (),
    )


def _forecast(plan: TablePlan, snowflake: SnowflakeSource) -> tuple[int, int, tuple[str, ...]]:
    """Rows, chunks, and the statements that Snowflake would be asked, the first of each kind."""
    if plan.keys is None:
        ((rows,),) = snowflake.aggregate(statement.count(plan))
        return int(rows), -(-int(rows) // plan.batch_size), (statement.shown_of_chunk(plan),)
    spec = plan.keys
    first = composite.first_query(spec)
    histogram = composite.read_histogram(spec, snowflake.aggregate(first))
    second = composite.second_query(spec, histogram)
    pieces = composite.read_pieces(spec, snowflake.aggregate(second)) if second else ()
    ranges = composite.plan(spec, histogram, pieces)
    looked = [without_literals(first) if plan.watermark else first, *([without_literals(second)] if second else [])]
    asked = [*looked, *(statement.shown_of_chunk(plan, r) for r in ranges[:1])]
    return histogram.rows, len(ranges), tuple(asked)


def _filtered(plan: TablePlan) -> tuple[str, ...]:
    """Say what becomes of rows that leave a filter, where rows of an earlier run stay."""
    has_filter = len(plan.conditions) > (1 if plan.watermark else 0)
    if not has_filter or plan.truncate_onstart:
        return ()
    text = (
        f"table {plan.source}: a row that once met source_filter and no longer does stays in {plan.target} as it was, "
        "and verification takes it for one that only the target has; delete such rows there, or set truncate_onstart"
    )
    return (text,)


def _unclustered(plan: TablePlan, chunks: int, known: Mapping[str, SourceFacts]) -> tuple[str, ...]:
    """A warning where every chunk would have to scan the whole table."""
    if plan.keys is None or chunks < 2:
        return ()
    first = plan.keys.columns[0].name
    keys = [(each.clustering_key or "").casefold() for name, each in known.items() if name in plan.reads_from]
    if any(first.casefold() in key for key in keys):
        return ()
    text = (
        f"table {plan.source}: it is not declared to be clustered by {first}, so each of its {chunks} chunks may scan "
        "all of it; chunking one_scan would scan it once"
    )
    return (text,)
