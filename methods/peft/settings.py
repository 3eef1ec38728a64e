"""peft's own configuration of a type, from a user's settings, checked against its fields."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, get_type_hints

import peft
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.errors import ConfigError, did_you_mean
from methods.peft import PeftConfig

CHOSEN_BY_TARGETS = frozenset(
    {
        "exclude_modules",
        "feedforward_modules",
        "layers_pattern",
        "layers_to_transform",
        "target_modules",
        "target_parameters",
    }
)
OUT_OF_REACH = frozenset({"bias", "modules_to_save", "trainable_token_indices", "use_asa"})
"""What trains outside of the blocks, or acts in a loop of the library's own."""


def config_class(kind: str) -> type[peft.PeftConfig]:
    """Return peft's configuration class of a type."""
    return PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind.upper())]


def setting_names(kind: str) -> list[str]:
    """Return the fields of a type's configuration that a user may set."""
    taken = {field.name for field in fields(peft.PeftConfig)}
    taken |= CHOSEN_BY_TARGETS | OUT_OF_REACH
    return [f.name for f in fields(config_class(kind)) if f.init and f.name not in taken]


def checked(config: PeftConfig, section: str, problems: list[str]) -> Mapping[str, Any]:
    """Return a user's settings in the types that peft declares.

    Args:
        config: the method's configuration.
        section: what its fields are of, as a user writes it.
        problems: takes one sentence for each setting that is wrong.
    """
    names = setting_names(config.type)
    hints = get_type_hints(config_class(config.type))
    values: dict[str, Any] = {}
    for name, value in config.settings.items():
        typed = f"{section}.settings.{name}"
        if name in CHOSEN_BY_TARGETS:
            problems.append(f"{typed}: {section}.targets says which layers change.")
        elif name not in names:
            hint = did_you_mean(name, names)
            problems.append(f"Unknown field '{typed}' of peft's {config.type}.{hint}")
        else:
            try:
                values[name] = _adapter(hints[name]).validate_python(value)
            except ValidationError as error:
                messages = dict.fromkeys(item["msg"] for item in error.errors())
                problems.append(f"{typed}={value}: {', or '.join(messages)}.")
    if not problems:
        try:
            config_class(config.type)(**values)
        except ValueError as error:
            problems.append(f"{section}.settings={config.settings}: {error}")
    return values


def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))


def library_config(
    config: PeftConfig, targets: Sequence[str], feed_forward: Sequence[str]
) -> peft.PeftConfig:
    """Return peft's configuration for some layers.

    Args:
        config: the method's configuration.
        targets: endings of the names of the layers that change.
        feed_forward: those of them that a type which asks for it scales at their input.

    Raises:
        ConfigError: a setting is unknown or its value is wrong.
    """
    problems: list[str] = []
    values = dict(checked(config, "method", problems))
    if problems:
        raise ConfigError(problems)
    kind = config_class(config.type)
    if "feedforward_modules" in {field.name for field in fields(kind)}:
        values["feedforward_modules"] = list(feed_forward)
    return kind(target_modules=list(targets), **values)
