"""The bars that ``snowmelt migrate`` shows on a terminal while it is at work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from snowmelt.cli import console
from snowmelt.errors import SnowmeltError
from snowmelt.monitoring.monitor import Monitor, TableProgress

REFRESH_SECONDS = 0.5


@contextmanager
def live_progress(monitor: Monitor, run_id: str) -> Iterator[None]:
    """Show the run's tables on stderr while the block lasts; nothing where stderr is not a terminal."""
    if not console.err.is_terminal:
        yield
        return
    stop = threading.Event()
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>4.0f} %", markup=False),
        _RowsColumn(),
        TimeRemainingColumn(compact=True),
        console=console.err,
        refresh_per_second=4,
        transient=True,
    ) as bars:
        thread = threading.Thread(target=_refresh, args=(monitor, run_id, bars, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=5)


class _RowsColumn(ProgressColumn):
    """Rows so far, and rows per second."""

    def render(self, task: Task) -> Text:
        speed = f"{task.speed:,.0f} rows/s" if task.speed else task.fields.get("note", "")
        return Text(f"{int(task.completed):>13,} rows  {speed:>16}")


def _refresh(monitor: Monitor, run_id: str, bars: Progress, stop: threading.Event) -> None:
    """Progress is a courtesy: when the server goes away, the bars stand still and the run goes on."""
    tasks: dict[str, TaskID] = {}
    while not stop.wait(REFRESH_SECONDS):
        try:
            tables = monitor.tables(run_id)
        except SnowmeltError:
            return
        for table in tables:
            if table.table not in tasks:
                tasks[table.table] = bars.add_task(table.table, total=None, note="")
            bars.update(tasks[table.table], total=table.source_rows, completed=table.rows, note=_note(table))


def _note(table: TableProgress) -> str:
    return {"pending": "waiting", "scanning": "Snowflake scans", "completed": "done"}.get(table.status, table.status)
