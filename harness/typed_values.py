"""Values as users type them: ``--set SECTION.FIELD=VALUE``, and a file of sections in YAML."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError

Scalar = None | bool | int | float | str


class _Loader(yaml.SafeLoader):
    """Reads YAML safely, and only ``true`` and ``false`` as such: ``off`` is a word here."""


_BOOLEAN = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile("^(?:true|True|false|False)$"), list("tTfF"))


def parse_value(text: str) -> Any:
    """Read a value as YAML does, and ``1e-3`` as the number that people mean.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    value = yaml.load(text, _Loader)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def read_overrides(overrides: Sequence[str], problems: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield ``section.field`` and the value of every override; report those that have none."""
    for text in overrides:
        path, equals, raw = text.partition("=")
        if not equals:
            problems.append(f"'--set {text}' has no '='; write for instance --set method.bits=4.")
            continue
        try:
            yield path.strip(), parse_value(raw)
        except yaml.YAMLError:
            problems.append(f"'--set {text}': the value '{raw}' is not valid YAML.")


def read_yaml(path: Path) -> Any:
    """Read a file of YAML, safely, with ``off`` as a word.

    Raises:
        UserError: it cannot be read, or is no YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}.") from None


def read_file(path: Path, problems: list[str]) -> list[tuple[str, Any]]:
    """Read ``{section: {field: value}}`` and return ``section.field`` pairs."""
    try:
        content = read_yaml(path)
    except UserError as error:
        problems.append(f"--config: {error}")
        return []
    if not isinstance(content, Mapping) or not all(
        isinstance(fields, Mapping) for fields in content.values()
    ):
        problems.append(
            f"--config {path} must hold sections with fields, for instance 'train: {{lr: 0.001}}'."
        )
        return []
    return [
        (f"{section}.{field}", parse_value(value) if isinstance(value, str) else value)
        for section, fields in content.items()
        for field, value in fields.items()
    ]


def typed(value: Scalar) -> str:
    """Return a value as it would be typed behind ``--set``."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
