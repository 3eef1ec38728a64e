"""What every card of every registry must say."""

from typing import Any

from harness.cards import MethodCard
from harness.registry import Card, Config, Registry


def check_card(registry: Registry[Any], name: str) -> Card:
    """Check the card registered as ``name`` and return it.

    Raises:
        AssertionError: a text is missing, a preset is invalid, or the implementation is not what
            the registry asks for.
    """
    card: Card = registry.card(name)
    for text in (card.summary, card.source):
        assert text, f"{name}: summary and source must say something"
        assert "\n" not in text, f"{name}: one line each"
    assert issubclass(card.config, Config)
    assert card.config.model_config.get("frozen"), f"{name}: configurations are frozen"
    assert card.config.model_config.get("extra") == "forbid", f"{name}: configurations are closed"
    for field, info in card.config.model_fields.items():
        assert info.description, f"{name}: field '{field}' has no description"
        assert not info.is_required(), f"{name}: field '{field}' has no default"
    for preset, values in card.presets.items():
        beside = card.settings.get(preset) if isinstance(card, MethodCard) else None
        assert values or beside, f"{name}@{preset} changes nothing"
        card.config(**values)
    registry.load(name)
    return card
