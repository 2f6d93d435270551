"""What a self-test found, as a file that can be attached to a bug report: no secrets, no names of the account."""

import json
import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from snowmelt import __version__
from snowmelt.config import Config
from snowmelt.selftest.assumption import Result
from snowmelt.selftest.connections import Places

_PACKAGES = ("snowflake-connector-python", "pyarrow", "psycopg2-binary", "pgpq")
_SHORTEST = 3
"""Names shorter than that would be found within other words."""


@dataclass(frozen=True)
class Report:
    """The results, and what they were found on."""

    results: tuple[Result, ...]
    versions: Mapping[str, str]
    seconds: float
    stopped: bool = False
    left_behind: tuple[str, ...] = ()
    """Statements that drop what could not be dropped."""

    @property
    def summary(self) -> dict[str, int]:
        """How many checks have passed, failed, and were skipped."""
        counted = Counter(result.verdict for result in self.results)
        return {"passed": counted["pass"], "failed": counted["fail"], "skipped": counted["skipped"]}

    def as_json(self) -> str:
        """The file's content."""
        return (
            json.dumps(
                {
                    "versions": dict(self.versions),
                    "seconds": round(self.seconds, 1),
                    "stopped": self.stopped,
                    "left_behind": len(self.left_behind),
                    "checks": [asdict(replace(each, seconds=round(each.seconds, 2))) for each in self.results],
                    **self.summary,
                },
                indent=2,
                ensure_ascii=False,
            )
            + "\n"
        )


def versions(servers: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of what took part."""
    found = {"snowmelt": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {**found, **servers}


class Redaction:
    """Puts the words of the config in place of the names that only the user's account has."""

    def __init__(self, config: Config, places: Places) -> None:
        snowflake, postgres = config.snowflake, config.postgres
        named = {
            "snowflake.account": snowflake.account,
            "snowflake.user": snowflake.user,
            "snowflake.host": snowflake.host,
            "snowflake.role": snowflake.role,
            "snowflake.warehouse": snowflake.warehouse,
            "postgres.host": postgres.host,
            "postgres.user": postgres.user,
            "snowflake database": places.snowflake_database,
            "snowflake schema": places.snowflake_schema,
            "postgres database": places.postgres_database,
            "postgres schema": places.postgres_schema,
        }
        found = ((name, str(value)) for name, value in named.items() if value and len(str(value)) >= _SHORTEST)
        self._names: Sequence[tuple[str, str]] = sorted(found, key=lambda each: -len(each[1]))

    def of(self, text: str) -> str:
        """Return the text without those names."""
        for name, value in self._names:
            text = re.sub(
                rf"(?<![A-Za-z0-9_]){re.escape(value)}(?![A-Za-z0-9_])", f"<{name}>", text, flags=re.IGNORECASE
            )
        return text
