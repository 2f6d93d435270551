"""Collations that Snowflake compares texts by, which PostgreSQL does not share."""

import re
from collections.abc import Collection, Iterator, Mapping

from snowmelt.findings import Finding, Place

_COLLATED = re.compile(r"\bCOLLATE\s+'([^']+)'", re.IGNORECASE)


def findings(place: Place, declared: Mapping[str, str], *, key: Collection[str]) -> Iterator[Finding]:
    """Yield a warning for each key column whose declared type has a collation.

    Ranges of such a key stay whole, as Snowflake cuts and reads them by the same comparison. But it may call two keys
    equal that the target keeps apart, and then says that rows share a key.
    """
    for name in sorted(set(key) & declared.keys()):
        found = _COLLATED.search(declared[name])
        if found is None:
            continue
        text = (
            f'column "{name}": Snowflake compares it by the collation {found[1]}, PostgreSQL by that of the target, so '
            "keys that are equal on one side may differ on the other"
        )
        advice = f"read the table through a view with COLLATE({name}, '') AS {name}, which compares texts as they are"
        yield place.warning("collation", text, advice, column=name)
