"""A trained adaptation: a small folder from which the adapted model is built again.

It holds ``config.json``, everything that determines the model, and ``tensors.safetensors``: the
trained tensors and the method's own state, such as a quantiser's codes. The backbone's weights are
not in it; they are found as they were when it was trained, and their hash is compared.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.cards import BACKBONES, METHODS, TASKS
from harness.checkpoint import load_tensors, save_tensors
from harness.config import RunConfig
from harness.errors import UserError
from harness.model import AdaptedModel, build_model, build_task, pick_device
from harness.record import write_atomic
from tasks.base import Task

CONFIG_FILE = "config.json"
TENSORS_FILE = "tensors.safetensors"


def save_adaptation(
    folder: Path, config: RunConfig, weights_hash: str, tensors: Mapping[str, Tensor]
) -> Path:
    """Write an adaptation.

    Args:
        folder: where; made if needed.
        config: of the run.
        weights_hash: of the backbone's weights.
        tensors: what ``AdaptedModel.fitted_tensors`` returned.

    Returns:
        The file that holds the tensors.
    """
    description = {"weights_hash": weights_hash, "run": config.resolved()}
    save_tensors(folder / TENSORS_FILE, tensors, {})
    write_atomic(folder / CONFIG_FILE, json.dumps(description, indent=1).encode())
    return folder / TENSORS_FILE


def load_adaptation(
    folder: Path, *, weights: str | None = None, device: str = "auto"
) -> tuple[AdaptedModel, Task]:
    """Build the adapted model again, in evaluation mode.

    Args:
        folder: what ``save_adaptation`` wrote.
        weights: where the backbone's weights are now; None for where they were.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:INDEX``.

    Returns:
        The model, whose outputs are those of the run's best epoch, and its task, which says what
        an output means.

    Raises:
        UserError: a file is missing or damaged, or the backbone's weights are other ones.
    """
    path = folder / CONFIG_FILE
    try:
        description = json.loads(path.read_text())
        config = _restored(description["run"])
        expected = description["weights_hash"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is no description of an adaptation ({error}).") from None
    if weights is not None:
        moved = config.backbone.model_copy(update={"weights": weights})
        config = config.model_copy(update={"backbone": moved})
    task = build_task(config)
    with torch.random.fork_rng(devices=[]):
        built = build_model(config, task, pick_device(device))
    if built.weights_hash != expected:
        raise UserError(
            f"{folder} was trained on backbone weights with hash {expected[:16]}; those found have "
            f"{built.weights_hash[:16]}. Name the right ones with weights=..."
        )
    tensors, _ = load_tensors(folder / TENSORS_FILE)
    built.model.load_fitted(tensors)
    return built.model.eval(), task


def _restored(resolved: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that ``RunConfig.resolved`` gave."""
    parts = dict(resolved)
    for section, registry in (("method", METHODS), ("task", TASKS), ("backbone", BACKBONES)):
        part = dict(parts[section])
        part["config"] = registry.card(part["name"]).config(**part["config"])
        parts[section] = part
    return RunConfig(**parts)
