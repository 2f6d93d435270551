"""What there is to say of a table's watermarks before a run: rows without one, values that no change can have had."""

from collections.abc import Iterator

from snowmelt import disclosure
from snowmelt.config import TableConfig
from snowmelt.findings import Finding, Place
from snowmelt.models import WatermarkPlan
from snowmelt.planning import watermarks
from snowmelt.planning.watermarks import Found, Kind
from snowmelt.wording import counted

_STORED = "table watermarks of the status schema"
_shown = disclosure.fingerprint
"""How a watermark is shown: it is a value of a row."""


def of_source(place: Place, table: TableConfig, bounds: WatermarkPlan, found: Found) -> Iterator[Finding]:
    """Yield what the source's watermarks come to."""
    if found.null_rows:
        text = f"{found.null_rows} rows have no {bounds.source}"
        advice = "they are read by every run, as nothing tells whether they changed"
        yield place.warning("watermark", text, advice, setting=place.key("source_watermark"))
    if found.beyond_rows and not table.truncate_onstart:
        yield _beyond_the_clock(place, bounds, found)
    if (
        found.highest is not None
        and not table.truncate_onstart
        and watermarks.looks_like_a_sentinel(bounds.kind, found.highest)
    ):
        text = (
            f"the highest {bounds.source} is {_shown(found.highest)}, which looks like a value that means no end; once "
            "it is stored, no row with a lower one is read by any run"
        )
        advice = "correct such rows, exclude them by source_filter, or name a column that grows with every change"
        yield place.warning("watermark", text, advice, setting=place.key("source_watermark"))
    if bounds.low is not None and bounds.high is not None and watermarks.is_after(bounds.kind, bounds.low, bounds.high):
        text = (
            f"rows are read from {bounds.source} {_shown(bounds.low)} on, which is above the highest there is, "
            f"{_shown(bounds.high)}, so only rows that every run reads are read"
        )
        advice = f"if the source went back to an earlier state, delete the table's row in {_STORED}: all rows are read"
        yield place.warning("watermark", text, advice, setting=place.key("source_watermark"))


def _beyond_the_clock(place: Place, bounds: WatermarkPlan, found: Found) -> Finding:
    rows = counted(found.beyond_rows, "row has", "rows have")
    text = f"{rows} a {bounds.source} beyond the clock, up to {_shown(found.highest)}"
    if bounds.limit is not None:
        advice = "every run reads them, and they do not move the stored watermark"
        return place.warning("watermark", text, advice, setting=place.key("watermark_limit"))
    return place.warning(
        "watermark",
        f"{text}; once that is stored, no row with an earlier one is read by any run",
        "set watermark_limit to now, which has every run read such rows, or correct them",
        setting=place.key("watermark_limit"),
        fix=(place.line("watermark_limit", "now"),),
    )


def no_value(place: Place, kind: Kind, text: str, *, is_stored: bool, target: str) -> Finding:
    """What to say of a watermark to go on from that is none of its kind."""
    if is_stored:
        where = f"the watermark of {place.target} in {_STORED} is {_shown(text)}"
        advice = "correct its row there, or delete it: all rows are read then"
        return place.error("watermark", f"{where}, which is no {kind}", advice, setting=place.key("source_watermark"))
    where = f"the highest {target} of {place.target} is {_shown(text)}"
    advice = "name another target_watermark, or leave watermark_from_target out: all rows are read then"
    return place.error("watermark", f"{where}, which is no {kind}", advice, setting=place.key("watermark_from_target"))


def stored_beyond_the_clock(place: Place, stored: str, *, is_limited: bool) -> Finding:
    """What to say of a stored watermark that no row of today can pass."""
    where = f"the watermark of {place.target} in {_STORED} is {_shown(stored)}, which is beyond the clock"
    if is_limited:
        text, advice = f"{where}, so all rows are read", "nothing to do: this run stores another"
        return place.warning("watermark", text, advice, setting=place.key("watermark_limit"))
    return place.warning(
        "watermark",
        f"{where}: rows with an earlier one are not read",
        "set watermark_limit to now: all rows are read once, and from then on what is newer",
        setting=place.key("watermark_limit"),
        fix=(place.line("watermark_limit", "now"),),
    )


def no_clock(place: Place, table: TableConfig, kind: Kind) -> Finding:
    """What to say of a limit by the clock for a watermark that is no time."""
    return place.error(
        "watermark",
        f"watermark_limit {table.watermark_limit} needs a date or a time, and {table.source_watermark} is a {kind}",
        "set it to none, and exclude rows whose watermark is no change by source_filter",
        setting=place.key("watermark_limit"),
        fix=(place.line("watermark_limit", "none"),),
    )
