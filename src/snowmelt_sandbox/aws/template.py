"""A CloudFormation template as plain values."""

from pathlib import Path
from typing import Any

import yaml

_KEPT = ("Ref", "Condition")
"""The short forms whose long form has no ``Fn::`` before its name."""


class _Loader(yaml.SafeLoader):
    """Reads short forms: ``!Ref X`` becomes ``{"Ref": "X"}``, ``!Sub X`` becomes ``{"Fn::Sub": "X"}``."""


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in _KEPT else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        return {name: value.split(".", 1) if suffix == "GetAtt" else value}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _short_form)


def read_template(file: Path) -> dict[str, Any]:
    """The template, every intrinsic function in its long form."""
    template: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    return template
