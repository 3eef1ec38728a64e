"""Pages from templates: everything that is filled in is escaped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number by which it is sorted, if it is one."""

    text: str
    value: float | None = None


def render(template: str, **content: Any) -> str:
    """Return the page of the template with this file name."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def _readable(value: Any) -> Any:
    """Replace what no page may hold, such as the signs that steer a terminal."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in value
    )
