"""``snowmelt dashboard`` and ``snowmelt status --watch``: stay with a run and see how it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from snowmelt.cli import console
from snowmelt.cli.options import ConfigPath, SourceName
from snowmelt.cli.shared import EXIT_FAILED, opened
from snowmelt.errors import ConfigError

if TYPE_CHECKING:
    from snowmelt.monitoring.reconnecting import Lookout


def dashboard(
    config_path: ConfigPath = "config.json",
    source: SourceName = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="A free one unless given.")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the URL, and open no browser.")] = False,
) -> None:
    """Serve a page to this machine that shows how runs go on, until Ctrl-C."""
    console.set_up_logging("WARNING", as_json=False)
    try:
        from snowmelt.monitoring.dashboard import server
    except ModuleNotFoundError as error:
        missing = (error.name or "more").partition(".")[0]
        raise ConfigError(f"the dashboard needs {missing}; in the checkout: pip install '.[dashboard]'") from error
    with _lookout(config_path, source) as lookout:
        lookout.scene()  # what cannot be reached now is said here, not on a page
        server.serve(lookout, port=port, on_url=lambda url: _announce(url, no_open=no_open))


def _announce(url: str, *, no_open: bool) -> None:
    console.out.print(url, markup=False, soft_wrap=True)
    console.err.print("only this machine can see it, and only by this URL; Ctrl-C ends it")
    if not no_open:
        typer.launch(url)


def watch_status(config_path: str, source: str | None, *, run_id: str | None, as_json: bool) -> None:
    """Show a run until it is over; exit code 1 when it has failed."""
    from snowmelt.cli import status_screen

    console.set_up_logging("WARNING", as_json=as_json)
    with _lookout(config_path, source) as lookout:
        try:
            run = status_screen.follow(lookout, run_id, as_json=as_json)
        except KeyboardInterrupt as interrupt:
            raise typer.Exit from interrupt  # only the watching ends
    if run is not None and run.status == "failed":
        raise typer.Exit(EXIT_FAILED)


def _lookout(config_path: str, source: str | None) -> Lookout:
    from snowmelt.monitoring.reconnecting import Lookout

    return Lookout(*opened(config_path, source))
