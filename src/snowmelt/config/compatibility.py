"""Configs of the tool that Snowmelt replaces, read as the people meant them who wrote them.

Such a config says ``compatibility: predecessor``, or is known by ``rsa_key``, a key that only it has. What differs: a
bare ``resume_max_age`` counts hours, digits that a target column lacks are rounded, as an assignment does, and a table
that a check refuses does not keep the others from being loaded.
"""

from collections.abc import Mapping
from typing import Any

from snowmelt.config.values import in_hours

NOTE = (
    "the config is read as the predecessor's (compatibility, or rsa_key): values with more digits than their columns "
    "are rounded and counted, a resume_max_age without a unit counts hours, and tables that a check refuses are skipped"
)


def implied(document: Mapping[str, Any], given: str | None) -> str | None:
    """Return whose files a config is to be read as: as the caller says, as it says itself, or as its keys tell."""
    section = document.get("snowflake")
    has_key = isinstance(section, Mapping) and bool(section.get("rsa_key"))
    return given or document.get("compatibility") or ("predecessor" if has_key else None)


def adapted(tree: dict[str, Any], compatibility: str | None) -> dict[str, Any]:
    """Return the config in our words: what it means, and what it leaves out."""
    if compatibility != "predecessor":
        return tree
    policies = tree.get("value_policies", {})
    if isinstance(policies, Mapping):
        policies = {"narrow": "round", **policies}
    age = {"resume_max_age": in_hours(tree["resume_max_age"])} if "resume_max_age" in tree else {}
    skips = {"skip_failing_tables": tree.get("skip_failing_tables", True)}
    return {**tree, **age, **skips, "compatibility": compatibility, "value_policies": policies}
