"""Dates and times of any year, written as text: Python's own end with the year 9999, those of both databases do not.

Years count astronomically: the year before 1 is 0, in which PostgreSQL writes 1 BC.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

_TEXT = re.compile(
    r"(?P<year>-?\d{1,6})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?:[ T](?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?(?:\+00(?::?00)?|Z)?)?"
    r"(?P<bc> BC)?"
)
_NANOSECONDS_PER_DAY = 86_400 * 10**9
_YEARS = 400
"""The calendar repeats itself after so many years, which are so many days."""
_DAYS = 146_097
_EARLIEST_IN_POSTGRES, _LATEST_IN_POSTGRES = -4712, 294_276
"""Years that both its dates and its timestamps hold."""


@dataclass(frozen=True, order=True)
class Moment:
    """A point in time without a zone, in any year."""

    cycle: int
    """Which 400 years; ``day`` is the day within those that begin with the year 2000."""
    day: date
    nanosecond: int = 0
    """Of the day."""

    @property
    def year(self) -> int:
        """The year, which is 0 or less before the year 1."""
        return self.day.year + self.cycle * _YEARS

    def minus(self, span: timedelta) -> "Moment":
        """Return the moment that is earlier by so much."""
        nanoseconds = self.nanosecond - span // timedelta(microseconds=1) * 1000
        days = self.day.toordinal() + self.cycle * _DAYS + nanoseconds // _NANOSECONDS_PER_DAY
        first = date(2000, 1, 1).toordinal()
        cycle, day = divmod(days - first, _DAYS)
        return Moment(cycle, date.fromordinal(first + day), nanoseconds % _NANOSECONDS_PER_DAY)

    def day_text(self, year: int | None = None) -> str:
        """Write the day, with another ``year`` in place of its own where one is given."""
        year = self.year if year is None else year
        return f"{'-' if year < 0 else ''}{abs(year):04}-{self.day:%m-%d}"

    def time_text(self, digits: int = 9) -> str:
        """Write the time of day with so many digits of a second; what is below them is cut off."""
        seconds, rest = divmod(self.nanosecond, 10**9)
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{f'{rest:09}'[:digits]}"

    def in_postgres(self, *, is_date: bool) -> str:
        """Write it as PostgreSQL reads it, with six digits of a second; what no type of it holds is infinite."""
        if self.year > _LATEST_IN_POSTGRES:
            return "infinity"
        if self.year < _EARLIEST_IN_POSTGRES:
            return "-infinity"
        era = " BC" if self.year < 1 else ""
        day = self.day_text(1 - self.year if era else None)
        return f"{day}{era}" if is_date else f"{day} {self.time_text(6)}{era}"


def parse(text: str) -> Moment:
    """Read what Snowflake, PostgreSQL or this module has written; ValueError when it is no such text."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no date, and no date with a time of day in UTC")
    year = 1 - int(found["year"]) if found["bc"] else int(found["year"])
    cycle = (year - 2000) // _YEARS
    day = date(year - cycle * _YEARS, int(found["month"]), int(found["day"]))
    if found["hour"] is None:
        return Moment(cycle, day)
    hour, minute, second = (int(found[part]) for part in ("hour", "minute", "second"))
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{text!r} has no such time of day")
    fraction = int(f"{found['fraction'] or '':0<9}")
    return Moment(cycle, day, (hour * 3600 + minute * 60 + second) * 10**9 + fraction)


def of_clock(moment: datetime) -> Moment:
    """Return what a clock shows, in UTC."""
    return parse(f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}")
