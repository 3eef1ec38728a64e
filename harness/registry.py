"""One registry for methods, tasks and backbones: being there is the registration.

An entry is a folder of two files: ``__init__.py`` holds ``CARD`` (pydantic only, no torch) and
one code file holds the implementation. Other distributions add entries through entry points,
whose value is the name of such a package.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import UserError, did_you_mean


class Config(BaseModel):
    """Base of every configuration: closed and immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def variant(self) -> str | None:
        """The preset that the values must amount to; None where they may be any."""
        return None

    def problems(self, section: str) -> Iterable[str]:  # noqa: ARG002
        """Say in sentences what is wrong beyond each field's own type.

        Asked once, before anything is loaded; may import what the check needs.

        Args:
            section: what the fields are of, as a user writes it.
        """
        return ()


class Card(BaseModel):
    """What an entry of a registry says about itself, without importing anything heavy.

    Attributes:
        name: the registered name.
        summary: one line.
        source: paper or origin, with the year.
        revision: raised by every numerical change; part of a run's key.
        config: the entry's closed configuration class.
        presets: named variants, ``name@preset``: values that replace the config's defaults.
        aliases: other names for some of them: ``{"t5-base": "base"}`` makes ``t5-base`` stand for
            ``t5@base`` wherever a name may stand.
        refused: names that one may expect among the aliases, with the reason why each is none.
        implementation: ``"package.module:Class"``, imported only when needed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str
    summary: str
    source: str
    revision: int = Field(default=1, ge=1)
    config: type[Config]
    presets: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    aliases: Mapping[str, str] = Field(default_factory=dict)
    refused: Mapping[str, str] = Field(default_factory=dict)
    implementation: str

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """What may stand behind ``@`` in ``name@variant``."""
        return self.presets


C = TypeVar("C", bound=Card)


@dataclass(frozen=True)
class Choice(Generic[C]):
    """A resolved ``name@preset``."""

    card: C
    preset: str | None

    @property
    def values(self) -> Mapping[str, Any]:
        """The preset's values, empty without a preset."""
        return self.card.variants[self.preset] if self.preset else {}

    @property
    def alias(self) -> str | None:
        """The alias that stands for this choice, None where there is none."""
        return next((a for a, preset in self.card.aliases.items() if preset == self.preset), None)

    @property
    def label(self) -> str:
        """The alias that stands for this choice, else ``name@preset`` or ``name``."""
        name = f"{self.card.name}@{self.preset}" if self.preset else self.card.name
        return self.alias or name


class Registry(Generic[C]):
    """Finds cards by name in a package's folders and in entry points.

    Args:
        kind: singular noun for messages, for instance ``"method"``.
        package: package whose folders are entries.
        group: entry-point group for entries of other distributions.
        card_type: class that every card must be an instance of.
        code_file: file that makes a folder an entry, for instance ``"model.py"``.
        base: ``"module:Class"`` that every implementation must derive from.
    """

    def __init__(
        self, kind: str, package: str, group: str, card_type: type[C], code_file: str, base: str
    ) -> None:
        self.kind = kind
        self.package = package
        self.group = group
        self.card_type = card_type
        self.code_file = code_file
        self.base = base

    @cached_property
    def _modules(self) -> dict[str, str]:
        """Names of the packages that hold the cards, by entry name."""
        found: dict[str, str] = {}
        for name, module in self._sources():
            if name in found:
                raise UserError(
                    f"Two {self.kind}s are registered as '{name}': {found[name]} and {module}. "
                    f"Names must be unique; rename one."
                )
            found[name] = module
        return dict(sorted(found.items()))

    def _sources(self) -> Iterator[tuple[str, str]]:
        root = importlib.import_module(self.package)
        for info in pkgutil.iter_modules(root.__path__):
            folders = (Path(path) / info.name for path in root.__path__)
            if info.ispkg and any((folder / self.code_file).is_file() for folder in folders):
                yield info.name, f"{self.package}.{info.name}"
        for point in entry_points(group=self.group):
            yield point.name, point.value

    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        return list(self._modules)

    @cached_property
    def aliases(self) -> dict[str, str]:
        """``name@preset`` by alias, for all cards."""
        found: dict[str, str] = {}
        for name in self._modules:
            for alias, preset in self.card(name).aliases.items():
                if alias in found or alias in self._modules:
                    raise UserError(
                        f"Two {self.kind}s are called '{alias}', one of them an alias of "
                        f"'{name}@{preset}'. Names must be unique; rename one."
                    )
                found[alias] = f"{name}@{preset}"
        return found

    @cached_property
    def refused(self) -> dict[str, str]:
        """Why a name that one may expect stands for nothing, for all cards."""
        return {
            name: f"{self.kind.capitalize()} '{name}' cannot be used: {reason}. "
            f"Choose one of {', '.join(card.aliases)}."
            for card in map(self.card, self._modules)
            for name, reason in card.refused.items()
        }

    def __contains__(self, name: object) -> bool:
        return name in self._modules or name in self.aliases

    def card(self, name: str) -> C:
        """Return the card registered as ``name``.

        Raises:
            UserError: nothing has that name, or what has it is not a valid entry.
        """
        if name not in self._modules:
            if name in self.refused:
                raise UserError(self.refused[name])
            known = [*self._modules, *self.aliases]
            raise UserError(f"Unknown {self.kind} '{name}'.{did_you_mean(name, known)}")
        module = importlib.import_module(self._modules[name])
        card = getattr(module, "CARD", None)
        if not isinstance(card, self.card_type):
            raise UserError(
                f"{self.kind.capitalize()} '{name}' ({self._modules[name]}) must define CARD, "
                f"an instance of {self.card_type.__name__}; found {type(card).__name__}."
            )
        if card.name != name:
            raise UserError(
                f"{self.kind.capitalize()} '{name}' names itself '{card.name}' in its CARD; "
                f"folder and card must agree."
            )
        return card

    def choose(self, text: str) -> Choice[C]:
        """Resolve ``name``, ``name@preset`` or an alias.

        Raises:
            UserError: the name or the preset is unknown.
        """
        if "@" not in text and text not in self._modules:
            text = self.aliases.get(text, text)
        name, _, preset = text.partition("@")
        card = self.card(name)
        if "@" in text and preset not in card.variants:
            known = did_you_mean(preset, card.variants) or f" '{name}' has no presets."
            raise UserError(f"Unknown preset '{preset}' of {self.kind} '{name}'.{known}")
        return Choice(card, preset or None)

    def load(self, name: str) -> type[Any]:
        """Import and return the implementation class of ``name``.

        Raises:
            UserError: the implementation does not derive from the registry's base class.
        """
        implementation = import_attribute(self.card(name).implementation)
        base = import_attribute(self.base)
        if not (isinstance(implementation, type) and issubclass(implementation, base)):
            raise UserError(
                f"{self.kind.capitalize()} '{name}': {self.card(name).implementation} must be a "
                f"subclass of {self.base}."
            )
        return implementation


def import_attribute(path: str) -> Any:
    """Return the object named by ``"package.module:attribute"``."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def unknown(registry: Registry[Any], text: str) -> list[str]:
    """Return what is wrong with a ``name`` or ``name@preset``: one sentence, or nothing."""
    try:
        registry.choose(text)
    except UserError as error:
        return [str(error)]
    return []
