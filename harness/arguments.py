"""Arguments of the Python API, held against their annotations."""

from collections.abc import Collection, Mapping, Sequence
from numbers import Integral
from os import PathLike
from types import NoneType
from typing import Any, get_args, get_origin

from harness.errors import ConfigError

_WORDS: Mapping[Any, str] = {
    str: "a text",
    PathLike[str]: "a path",
    int: "a whole number",
    bool: "True or False",
    Mapping[str, Any]: "a mapping such as {'method.bits': 4}",
    Collection[str]: "a list of texts",
    Collection[int]: "a list of whole numbers",
    NoneType: "None",
}
"""How messages name what an argument may be."""


def check_types(arguments: Mapping[str, tuple[Any, Any]]) -> None:
    """Raise ConfigError with every argument that is not of one of its types."""
    problems = []
    for name, (value, annotation) in arguments.items():
        kinds = get_args(annotation) if annotation not in _WORDS else (annotation,)
        if not any(_is(value, kind) for kind in kinds):
            problems.append(f"{name}={value!r}: write {_or([_WORDS[kind] for kind in kinds])}.")
    if problems:
        raise ConfigError(problems)


def _is(value: Any, kind: Any) -> bool:
    """Return whether a value is of a type of ``_WORDS``; numpy's whole numbers are, too."""
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if get_origin(kind) is Collection:
        of_kind = isinstance(value, Collection) and not isinstance(value, str)
        return of_kind and all(_is(one, get_args(kind)[0]) for one in value)
    return isinstance(value, get_origin(kind) or kind)


def _or(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
