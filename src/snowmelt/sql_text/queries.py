"""SQL that never varies, by name: each block of a ``.sql`` file begins with ``-- name: …`` and says what it is for."""

import re
from functools import cache
from importlib.resources import files
from typing import NewType

Query = NewType("Query", str)
"""SQL text that came from one of these files, and from nowhere else."""

_FILES = (
    "engine/runs.sql",
    "engine/leases.sql",
    "postgres/catalog.sql",
    "loading/indexes.sql",
    "rejected_rows/rejected_rows.sql",
    "reports/report.sql",
    "verification/verification.sql",
    "preflight/preflight.sql",
    "monitoring/snapshot.sql",
)
"""Each lies in the room of what it is about."""
STATUS_SCHEMA = "migration_status"
"""What the files call the status schema."""
_SCHEMA = re.compile(rf"\b{STATUS_SCHEMA}\b")
_BLOCK = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def text(file: str) -> Query:
    """Return a whole file, such as ``engine/status_schema.sql``."""
    return Query(files("snowmelt").joinpath(file).read_text(encoding="utf-8"))


@cache
def in_schema(statement: Query, schema: str) -> Query:
    """Return the statement for a status schema of that name, which needs no quotes, as the config sees to."""
    return statement if schema == STATUS_SCHEMA else Query(_SCHEMA.sub(schema, statement))


@cache
def do_block(file: str, tag: str) -> Query:
    """Return the DO statement of a file whose body stands between dollars of that tag; KeyError when there is none."""
    found = re.search(rf"^DO \${tag}\$\n.*?^\${tag}\$;", text(file), re.MULTILINE | re.DOTALL)
    if found is None:
        raise KeyError(f"{file} has no block {tag}")
    return Query(found[0])


@cache
def _blocks() -> dict[str, Query]:
    blocks: dict[str, Query] = {}
    for file in _FILES:
        parts = _BLOCK.split(text(file))[1:]
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if name in blocks:
                raise ValueError(f"two queries are called {name}")
            blocks[name] = Query(body.strip())
    return blocks


def query(name: str) -> Query:
    """The query of that name; KeyError when there is none."""
    return _blocks()[name]


def names() -> tuple[str, ...]:
    """Every query there is."""
    return tuple(_blocks())
