"""``snowmelt preflight``: whatever could stand in the way of a run, before it starts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from snowmelt.cli import console
from snowmelt.cli.options import AsJson, ConfigPath, SourceName, Tables, listed
from snowmelt.cli.shared import EXIT_DIFFERENT, opened
from snowmelt.findings import Finding

if TYPE_CHECKING:
    from snowmelt.preflight.checks import Preflight

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def preflight(
    config_path: ConfigPath = "config.json", source: SourceName = None, tables: Tables = None, as_json: AsJson = False
) -> None:
    """Look at both sides for whatever could stand in the way of a run; exit code 3 if something does."""
    from snowmelt.preflight import checks as actions

    console.set_up_logging("WARNING", as_json=as_json)
    found = actions.preflight(*opened(config_path, source), listed(tables))
    if as_json:
        console.show_json(as_plain(found))
    else:
        _show(found)
    if not found.go:
        raise typer.Exit(EXIT_DIFFERENT)


def as_plain(found: Preflight) -> dict[str, object]:
    """The result as ``--json`` prints it."""
    return {
        "go": found.go,
        "verdict": found.verdict,
        "source_name": found.source_name,
        "errors": found.errors,
        "warnings": found.warnings,
        "tables": [table.model_dump(mode="json") for table in found.tables],
        "findings": [_plain(finding) for finding in found.findings],
    }


def _plain(finding: Finding) -> dict[str, object]:
    fields = finding.model_dump(mode="json", exclude={"target", "server"})
    return {**fields, "place": finding.place, "target": finding.target and str(finding.target)}


def _show(found: Preflight) -> None:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("table", "target", "read by", "loaded by"):
        grid.add_column(name)
    for name in ("rows", "takes about", "errors", "warnings"):
        grid.add_column(name, justify="right")
    for t in found.tables:
        own = [f.severity for f in found.findings if f.table == t.table]
        grid.add_row(
            *(Text(console.text_of(cell)) for cell in (t.table, t.target, t.strategy or "?", t.load_mode or "?")),
            "?" if t.rows is None else f"{t.rows:,}",
            "?" if t.expected_bytes is None else decimal(t.expected_bytes),
            str(own.count("error")),
            str(own.count("warning")),
        )
    console.out.print(grid)
    for table, findings in groupby(found.findings, key=lambda f: f.table):
        console.out.print(Text(f"\n{console.text_of('servers' if table is None else f'table {table}')}", style="bold"))
        _show_findings(findings)
    console.out.print(Text(f"\n{console.text_of(found.verdict)}", style="bold"))


def _show_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        console.out.print(
            Text(finding.severity, style=_STYLES[finding.severity]),
            Text(console.text_of(f"[{finding.check}] {finding.place}: {finding.brief}")),
        )
        if finding.advice:
            console.out.print(Text(console.text_of(f"    {finding.advice}")))
        for line in finding.fix:
            console.out.print(Text(console.text_of(f"    > {line}")))
