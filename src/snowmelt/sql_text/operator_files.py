"""The SQL that operators run by hand: the top-level folder ``sql/``, which a wheel has inside the package."""

import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

Server = Literal["PostgreSQL", "Snowflake"]

_IN_THE_WHEEL = "operator_sql"
"""Where ``force-include`` of pyproject.toml puts the folder."""
_FOR_SNOWFLAKE = frozenset({"count_source", "grants_snowflake"})
_INCLUDED = re.compile(r"^\\ir (\w+)\.sql$", re.MULTILINE)
"""How psql includes a file that lies beside the one it reads."""


@dataclass(frozen=True)
class OperatorFile:
    """A file by its name, without the ending, and what its first comment line says."""

    name: str
    server: Server
    purpose: str


def every_file() -> tuple[OperatorFile, ...]:
    """Return what there is, by name."""
    names = sorted(Path(each.name).stem for each in _folder().iterdir() if each.name.endswith(".sql"))
    return tuple(OperatorFile(name, server_of(name), _purpose(name)) for name in names)


def server_of(name: str) -> Server:
    """Return the server that the file is for."""
    return "Snowflake" if name in _FOR_SNOWFLAKE else "PostgreSQL"


def text(name: str) -> str:
    """Return a file that needs no other beside it, so that it may be piped: what it includes stands in it."""
    return _INCLUDED.sub(lambda found: text(found[1]), _read(name))


def _purpose(name: str) -> str:
    return _read(name).partition("\n")[0].removeprefix("--").strip()


def _read(name: str) -> str:
    return _folder().joinpath(f"{name}.sql").read_text(encoding="utf-8")


def _folder() -> Traversable:
    installed = files("snowmelt").joinpath(_IN_THE_WHEEL)
    return installed if installed.is_dir() else Path(__file__).parents[3] / "sql"  # a checkout has it there
