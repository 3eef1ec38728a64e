"""Trainable parameters of a method on a backbone, counted without weights."""

from typing import Any

import torch

from harness.cards import BACKBONES, METHODS, PUBLISHED, published_setting
from harness.compatibility import incompatibilities, missing_method_package
from harness.config import method_values
from harness.errors import ConfigError
from harness.model import AdaptedModel, Built, count
from harness.record import Params


def count_parameters(method: str, backbone: str) -> Params:
    """Count the method and the head of the backbone's paper task, on the meta device.

    Args:
        method: ``name`` or ``name@preset``.
        backbone: a backbone's name.

    Raises:
        UserError: a name is unknown, or the backbone cannot carry the method.
    """
    chosen, carrier = METHODS.choose(method), BACKBONES.choose(backbone)
    problems: list[str] = []
    values = method_values(chosen, carrier, problems)
    problems += incompatibilities(chosen, None, carrier)
    problems += missing_method_package(chosen)
    if problems:
        raise ConfigError(problems)
    with torch.device("meta"):
        model = BACKBONES.load(carrier.card.name).build(
            carrier.card.config(**carrier.values), device="meta"
        )
        size = count(model.parameters())
        config = chosen.card.config(**values)
        adapted = METHODS.load(chosen.card.name)(config, model, model.paper_reads)
        head = model.paper_head(adapted.embedded)
    return Built(AdaptedModel(adapted, head), size, "").params()


def compare_counts(method: str, backbone: str) -> list[dict[str, Any]]:
    """Count the method's setting, and its published one beside it where there is one.

    Args:
        method: ``name`` or ``name@preset``.
        backbone: a backbone's name.

    Returns:
        One JSON-ready row a setting: its name, what it trains in all and by part, percentage and
        denominator, and for the published setting the figure as printed and a note.

    Raises:
        UserError: as ``count_parameters``.
    """
    chosen, carrier = METHODS.choose(method), BACKBONES.choose(backbone)
    rows = [{"setting": method, **_row(method, backbone)}]
    setting = published_setting(chosen.card, carrier)
    if setting is not None:
        name = f"{chosen.card.name}@{PUBLISHED}"
        if name != method:
            rows.append({"setting": name, **_row(name, backbone)})
        rows[-1] |= {"published": setting.trainable, "note": setting.note}
    return rows


def _row(method: str, backbone: str) -> dict[str, Any]:
    counted = count_parameters(method, backbone).model_dump(mode="json")
    return {"backbone": backbone, **counted}
