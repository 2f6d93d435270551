"""The report as one HTML file: no script, no picture, no font from elsewhere; it prints to a clean PDF."""

import json
import re
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from snowmelt import wording
from snowmelt.reports import charts, words
from snowmelt.reports.report import Report

MOST_ROWS = 500
"""Of each list; ``report.json`` has them all."""


def prose(text: str) -> Markup:
    """A text, escaped, in which what stands between backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped beforehand


_FILTERS = (
    prose,
    wording.counted,
    words.dollars,
    words.duration,
    words.moment,
    words.number,
    words.price,
    words.quantity,
    words.size,
)


def page(report: Report) -> str:
    """The whole file. Whatever comes from a database or a config is escaped."""
    template = _environment().get_template("report.html")
    return template.render(
        report=report,
        most=MOST_ROWS,
        pace=charts.pace(report.pace),
        durations=charts.durations(report.durations),
        timeline=charts.timeline(report.tables, report.run.as_of),
        verdicts={each.table_id: each for each in report.verification},
        config=json.dumps(report.config, indent=2, ensure_ascii=False),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update({filter_.__name__: filter_ for filter_ in _FILTERS})
    return environment


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
