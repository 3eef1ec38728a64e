"""A trained adaptation: a small folder from which the adapted model is built again.

The backbone's weights are not in it; they are found as they were when it was trained, and their
hash is compared. Neither is the dataset, which an adapted model does not need. What the folder
holds is in ``harness.adaptation_folder``.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.adaptation_folder import (
    CONFIG_FILE,
    TENSORS_FILE,
    SavedAdaptation,
    read_adaptation,
    write_description,
)
from harness.cards import BACKBONES, METHODS, TASKS
from harness.checkpoint import load_tensors, save_tensors
from harness.config import RunConfig
from harness.errors import UserError
from harness.model import AdaptedModel, build_model, build_task, pick_device
from harness.registry import Registry
from tasks.base import Task

log = logging.getLogger(__name__)


def save_adaptation(
    folder: Path,
    config: RunConfig,
    weights_hash: str,
    task_state: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> Path:
    """Write an adaptation.

    Args:
        folder: where; made if needed.
        config: of the run.
        weights_hash: of the backbone's weights.
        task_state: what ``Task.state`` returned.
        tensors: what ``AdaptedModel.fitted_tensors`` returned.

    Returns:
        The file that holds the tensors.
    """
    save_tensors(folder / TENSORS_FILE, tensors, {})
    write_description(folder, config, weights_hash, task_state)
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
    saved = read_adaptation(folder)
    task = restore_task(saved)
    return restore_model(saved, task, weights=weights, device=pick_device(device)), task


def restore_task(saved: SavedAdaptation) -> Task:
    """Return the task that an adaptation was trained on; its data are not looked for.

    Raises:
        UserError: the description lacks what the task needs.
    """
    task = build_task(saved.config)
    try:
        task.load_state(saved.task_state)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{saved.folder / CONFIG_FILE} is no description of an adaptation to task "
            f"'{saved.config.task.name}' ({error})."
        ) from None
    return task


def restore_model(
    saved: SavedAdaptation, task: Task, *, weights: str | None, device: torch.device
) -> AdaptedModel:
    """Build the adapted model again, in evaluation mode; see ``load_adaptation``.

    A method, task or backbone whose numbers have changed since is a warning in the log.

    Raises:
        UserError: the backbone's weights are missing, or other ones.
    """
    config = saved.config
    _warn_of_revisions(saved)
    if weights is not None:
        moved = config.backbone.model_copy(update={"weights": weights})
        config = config.model_copy(update={"backbone": moved})
    with torch.random.fork_rng(devices=[]):
        built = build_model(config, task, device)
    if built.weights_hash != saved.weights_hash:
        raise UserError(
            f"{saved.folder} was trained on backbone weights with hash {saved.weights_hash[:16]}; "
            f"those of {config.backbone.weights or 'the installed package'} have "
            f"{built.weights_hash[:16]}. Name the right ones with --weights, in Python weights=..."
        )
    tensors, _ = load_tensors(saved.folder / TENSORS_FILE)
    built.model.load_fitted(tensors)
    return built.model.eval()


def _warn_of_revisions(saved: SavedAdaptation) -> None:
    registries: tuple[Registry[Any], ...] = (METHODS, TASKS, BACKBONES)
    parts = (saved.config.method, saved.config.task, saved.config.backbone)
    for registry, part in zip(registries, parts, strict=True):
        revision = registry.card(part.name).revision
        if revision != part.revision:
            log.warning(
                f"{saved.folder} was trained with revision {part.revision} of {registry.kind} "
                f"'{part.name}'; this is revision {revision}, whose numbers differ."
            )
