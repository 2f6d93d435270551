"""Events whose keys are nested in others, as the predecessor's workflow sends them."""

from collections.abc import Mapping
from typing import Any

_IGNORED = ("resume_attempt_count",)
"""Keys that callers count their own tries by."""


def flattened(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the event with the keys of its ``input`` and ``defaults`` beside its own, which come first."""
    if not isinstance(event, Mapping):
        return event
    parts = [part for key in ("defaults", "input") if isinstance(part := event.get(key), Mapping)]
    nested = {key: value for part in parts for key, value in part.items() if value is not None}
    own = {k: v for k, v in event.items() if not (k in ("defaults", "input") and isinstance(v, Mapping | None))}
    given = {**nested, **{key: value for key, value in own.items() if value is not None}}
    return {key: value for key, value in given.items() if key not in _IGNORED}
