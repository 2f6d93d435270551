"""``snowmelt status --watch``: a run on a terminal, or a line now and then in a pipe, until it is over."""

import time
from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from snowmelt.cli import console
from snowmelt.errors import SnowmeltError
from snowmelt.monitoring.reconnecting import Lookout, Scene
from snowmelt.monitoring.snapshot import RunOverview, TableOverview

TERMINAL_SECONDS = 1.0
PIPE_SECONDS = 5.0
_REST = 3
"""As long as a look takes, the server is let alone so many times: watching must not weigh on what is watched."""
_STYLES = {"completed": "green", "failed": "red", "abandoned": "red", "loading": "cyan", "scanning": "cyan"}


def follow(lookout: Lookout, run_id: str | None, *, as_json: bool) -> RunOverview | None:
    """Show the run until it is over, and it as it was then; None when the source has no run yet.

    The first look fails as any command does; a server that goes away later is waited for.
    """
    scene = lookout.scene(run_id)
    if scene.run is None:
        if as_json:
            console.show_json(None)
        else:
            console.out.print("no run yet")
        return None
    if as_json:
        return _follow(lookout, scene, _show_json, each_seconds=PIPE_SECONDS)
    if not console.out.is_terminal:
        return _follow(lookout, scene, _show_line, each_seconds=PIPE_SECONDS)
    with Live(console=console.out, auto_refresh=False, vertical_overflow="ellipsis") as live:

        def show(scene: Scene, trouble: str | None) -> None:
            live.update(screen(scene, trouble, height=console.out.height), refresh=True)

        return _follow(lookout, scene, show, each_seconds=TERMINAL_SECONDS)


def _follow(
    lookout: Lookout, scene: Scene, show: Callable[[Scene, str | None], None], *, each_seconds: float
) -> RunOverview | None:
    show(scene, None)
    took = 0.0
    while scene.run is not None and scene.run.status == "running":
        time.sleep(max(each_seconds, _REST * took))
        began = time.monotonic()
        try:
            scene, trouble = lookout.scene(scene.run.run_id), None
        except SnowmeltError as error:  # whatever it is, the next look may fare better
            trouble = error.message
        took = time.monotonic() - began
        show(scene, trouble)
    return scene.run


def _show_json(scene: Scene, trouble: str | None) -> None:
    run = scene.run.model_dump(mode="json", exclude={"speed"}) if scene.run else None
    console.show_json(
        {"run": run, "errors": [group.model_dump(mode="json") for group in scene.errors], "trouble": trouble}
    )


def _show_line(scene: Scene, trouble: str | None) -> None:
    run = scene.run
    if trouble or run is None:
        console.out.print(f"trouble: {trouble}", markup=False)
        return
    says = f"; it {run.pulse.state}: {run.pulse.says}" if run.pulse else ""
    console.out.print(
        f"{run.seen_at:%H:%M:%S} {run.share:.0%}, {run.rows:,} rows, {_rate(run.rows_per_second)}, "
        f"{_run_left(run)} left, {run.workers_total} at work; {run.verdict}{says}",
        markup=False,
    )


def screen(scene: Scene, trouble: str | None, *, height: int = 50) -> RenderableType:
    """What a terminal shows; where it is too low for every table, those that are over give way."""
    run = scene.run
    if run is None:
        return Text("no run yet")
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(console.text_of(f"run {run.run_id}"), style="bold"),
        Text(console.text_of(run.verdict), style=_STYLES.get(run.status, "")),
    )
    parts: list[RenderableType] = [head]
    if run.pulse:
        style = {"moves": "green", "waits": "yellow"}.get(run.pulse.state, "bold red")
        parts.append(Text.assemble("it ", (run.pulse.state, style), console.text_of(f": {run.pulse.says}")))
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        ProgressBar(total=1.0, completed=run.share, width=40),
        f"{run.share:.0%}",
        f"{run.rows:,} rows",
        _rate(run.rows_per_second),
        f"{_run_left(run)} left" if run.status == "running" else _time(run.seconds),
        f"{run.workers_total} at work",
    )
    parts += [bar, Text("")]
    if trouble:
        parts.append(Text(console.text_of(f"as it was at {run.seen_at:%H:%M:%S}: {trouble}"), style="bold red"))
    parts.append(_tables(run.tables, room=max(5, height - 10 - len(scene.errors))))
    open_errors = [group for group in scene.errors if not group.is_over]
    parts += [
        Text(console.text_of(f"{g.code}: {g.count:,} {g.what}{'s' * (g.count > 1)}, such as {g.example}"), style="red")
        for g in open_errors[:5]
    ]
    return Group(*parts)


def _tables(tables: tuple[TableOverview, ...], *, room: int) -> RenderableType:
    shown = list(tables)
    if len(shown) > room:
        shown.sort(
            key=lambda t: (t.status not in ("failed", "loading", "scanning", "finalizing"), t.status, t.table_id)
        )
        shown = sorted(shown[:room], key=lambda t: t.table_id)
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("table", no_wrap=True, overflow="ellipsis", max_width=40)
    for name in ("status", ""):
        grid.add_column(name)
    for name in ("", "rows", "of", "chunks", "rows/s", "left"):
        grid.add_column(name, justify="right")
    for t in shown:
        grid.add_row(
            Text(console.text_of(t.table)),
            Text(t.status, style=_STYLES.get(t.status, "dim")),
            ProgressBar(total=1.0, completed=t.share, width=16),
            f"{t.share:.0%}",
            f"{t.rows:,}",
            "?" if t.source_rows is None else f"{t.source_rows:,}",
            f"{t.completed}/{t.chunks}",
            "" if t.rows_per_second is None else f"{t.rows_per_second:,.0f}",
            _left(t.seconds_left) if t.status == "loading" else "",
        )
    hidden = len(tables) - len(shown)
    return Group(grid, Text(f"and {hidden} more", style="dim")) if hidden else grid


def _rate(rows_per_second: float | None) -> str:
    return "? rows/s" if rows_per_second is None else f"{rows_per_second:,.0f} rows/s"


def _run_left(run: RunOverview) -> str:
    at_least = "at least " if run.tables_uncounted and run.seconds_left is not None else ""
    return at_least + _left(run.seconds_left)


def _left(seconds: float | None) -> str:
    return "?" if seconds is None else _time(seconds)


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    return f"{minutes} min {whole % 60:02} s" if hours < 1 else f"{hours} h {minutes % 60:02} min"
