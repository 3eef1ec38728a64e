"""Building a configuration, and saying in sentences what is wrong with it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from harness.errors import did_you_mean
from harness.registry import Config


def validate(
    section: str, config: type[Config], values: Mapping[str, Any], problems: list[str]
) -> Config | None:
    """Build ``config`` and turn pydantic's errors into sentences that quote what was typed.

    Args:
        section: what the fields are of, as a user writes it.
        config: the class.
        values: by field.
        problems: takes the sentences.

    Returns:
        The configuration; None where something is wrong with it.
    """
    try:
        built = config(**values)
    except ValidationError as error:
        problems += _sentences(section, config, values, error.errors())
        return None
    found = list(built.problems(section))
    problems += found
    return None if found else built


def field_problems(section: str, config: type[Config], values: Mapping[str, Any]) -> list[str]:
    """Say which values are of another type than their field or outside its bounds.

    What a class checks itself is not asked: it may depend on the fields beside.

    Args:
        section: what the fields are of, as a user writes it.
        config: the class; every other field has its default.
        values: by field.
    """
    try:
        config(**values)
    except ValidationError as error:
        items = [item for item in error.errors() if item["type"] != "value_error"]
        return list(_sentences(section, config, values, items))
    return []


def _sentences(
    section: str, config: type[Config], values: Any, items: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield one sentence for each field that pydantic finds wrong."""
    by_field: dict[str, list[Mapping[str, Any]]] = {}
    for item in items:
        by_field.setdefault(str(next(iter(item["loc"]), "")), []).append(item)
    for field, found in by_field.items():
        info = config.model_fields.get(field)
        inner = info.annotation if info else None
        if isinstance(inner, type) and issubclass(inner, Config):
            deeper = [{**item, "loc": item["loc"][1:]} for item in found]
            yield from _sentences(f"{section}.{field}", inner, values.get(field), deeper)
        else:
            yield _sentence(section, config, values, field, found)


def _sentence(
    section: str,
    config: type[Config],
    values: Any,
    field: str,
    items: Sequence[Mapping[str, Any]],
) -> str:
    """Say what is wrong with one field; a union's members each have an item of their own."""
    if items[0]["type"] == "extra_forbidden":
        return f"Unknown field '{section}.{field}'.{did_you_mean(field, config.model_fields)}"
    messages = [item["msg"].removeprefix("Value error, ").rstrip(".") for item in items]
    if not field:
        return f"{section}: {', '.join(messages)}."
    typed = values.get(field, items[0]["input"]) if isinstance(values, Mapping) else values
    info = config.model_fields.get(field)
    literal = any(item["type"] == "literal_error" for item in items)
    choices = _choices(info.annotation) if info and literal else []
    hint = did_you_mean(str(typed), choices) if choices else ""
    return f"{section}.{field}={typed}: {', or '.join(dict.fromkeys(messages))}.{hint}"


def _choices(annotation: Any) -> list[str]:
    """Return the values that a Literal lists, alone or in a union."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]
