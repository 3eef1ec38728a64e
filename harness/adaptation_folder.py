"""The folder of a trained adaptation: where it lies, what it says, whether it is whole.

It holds ``config.json``, everything that determines the model and what its outputs mean, and
``tensors.safetensors``: the trained tensors and the method's own state, such as a quantiser's
codes. This module imports no torch.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.cards import BACKBONES, METHODS, TASKS
from harness.config import RunConfig
from harness.errors import UserError, did_you_mean
from harness.record import write_atomic

CONFIG_FILE = "config.json"
TENSORS_FILE = "tensors.safetensors"
FOLDER = "adaptation"  # of a run's artifacts
KEY_LENGTH = 16  # of a run's key, in the name of its folder of artifacts


@dataclass(frozen=True)
class SavedAdaptation:
    """What the folder of an adaptation says.

    Attributes:
        folder: where it lies.
        config: of the run that trained it.
        weights_hash: of the backbone's weights.
        task_state: what the task needs to say what an output means.
        tensors_sha256: of the file of tensors.
    """

    folder: Path
    config: RunConfig
    weights_hash: str
    task_state: Mapping[str, Any]
    tensors_sha256: str


def write_description(
    folder: Path, config: RunConfig, weights_hash: str, task_state: Mapping[str, Any]
) -> None:
    """Describe an adaptation whose tensors lie in ``folder`` already."""
    description = {
        "weights_hash": weights_hash,
        "tensors_sha256": _sha256(folder / TENSORS_FILE),
        "task": task_state,
        "run": config.resolved(),
    }
    write_atomic(folder / CONFIG_FILE, json.dumps(description, indent=1).encode())


def read_adaptation(folder: Path) -> SavedAdaptation:
    """Read the description of an adaptation, and check that its tensors are whole.

    Raises:
        UserError: a file is missing or damaged.
    """
    saved = _read_description(folder)
    path = folder / TENSORS_FILE
    try:
        found = _sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). {_COPY_AGAIN}") from None
    if found != saved.tensors_sha256:
        raise UserError(
            f"{path} is damaged: its sha256 should be {saved.tensors_sha256} but is {found}. "
            f"{_COPY_AGAIN}"
        )
    return saved


def find_adaptation(typed: str, output: Path) -> Path:
    """Return the folder of the adaptation that a user means.

    Args:
        typed: this folder, or a file in it; a run's folder of artifacts; an output folder that
            holds one adaptation; or the beginning of the key of a run in ``output``.
        output: an output folder.

    Raises:
        UserError: there is none, or there are several.
    """
    path = Path(typed)
    if path.exists():
        found = list(_adaptations(path))
    else:
        found = [run for run in _runs(output) if run.parent.name.startswith(typed[:KEY_LENGTH])]
    if len(found) == 1:
        return found[0]
    if found:
        lines = "".join(f"\n  {_headline(folder)}" for folder in found)
        raise UserError(f"'{typed}' stands for {len(found)} adaptations; name one of them:{lines}")
    there = list(_runs(output))
    if path.exists() or os.sep in typed:
        rule = f"holds no adaptation, which is a folder with {CONFIG_FILE} and {TENSORS_FILE}"
        choices = [str(folder) for folder in there]
    else:
        rule = f"is no folder, and no finished run in {output} has a key that begins so"
        choices = [folder.parent.name for folder in there]
    hint = did_you_mean(typed, choices) or f" There is none in {output}; `harness run` makes them."
    raise UserError(f"'{typed}' {rule}.{hint}")


def _adaptations(path: Path) -> Iterator[Path]:
    """Yield the adaptations that a path which exists may stand for."""
    if path.is_file() and path.name in (CONFIG_FILE, TENSORS_FILE):
        yield path.parent
    elif (path / CONFIG_FILE).is_file():
        yield path
    elif (path / FOLDER / CONFIG_FILE).is_file():
        yield path / FOLDER
    else:
        yield from _runs(path)


def _runs(output: Path) -> Iterator[Path]:
    """Yield the adaptations of all runs of an output folder."""
    for path in sorted((output / "artifacts").glob(f"*/{FOLDER}/{CONFIG_FILE}")):
        yield path.parent


def _headline(folder: Path) -> str:
    try:
        config = _read_description(folder).config
    except UserError:
        return f"{folder}: cannot be read"
    task = config.task
    return f"{folder}: {config.method.name} on {task.name} ({task.dataset}), seed {config.seed}"


def _read_description(folder: Path) -> SavedAdaptation:
    path = folder / CONFIG_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        return SavedAdaptation(
            folder,
            _restored(description["run"]),
            description["weights_hash"],
            description["task"],
            description["tensors_sha256"],
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = f"{field}: {first['msg']}"
    except KeyError as error:
        reason = f"it lacks {error}; those of an older harness must be trained again"
    except (OSError, ValueError, TypeError) as error:
        reason = str(error)
    raise UserError(f"{path} is no description of an adaptation ({reason}).")


def _restored(resolved: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that ``RunConfig.resolved`` gave."""
    parts = dict(resolved)
    for section, registry in (("method", METHODS), ("task", TASKS), ("backbone", BACKBONES)):
        part = dict(parts[section])
        part["config"] = registry.card(part["name"]).config(**part["config"])
        parts[section] = part
    return RunConfig(**parts)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_COPY_AGAIN = "Copy the folder again from where it was trained."
