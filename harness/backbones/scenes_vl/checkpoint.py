"""The bundled weights on disk: safetensors, with their checksum beside them."""

import hashlib
import json
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from harness.checkpoint import read_tensor
from harness.errors import UserError, nearest_file

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
WEIGHTS_FILE = "model.safetensors"
SCORES_FILE = "scores.json"
TOKENIZER_FILE = "tokenizer.json"
HEADS_PREFIX = "pretraining_heads."


def sha256(path: Path) -> str:
    """Returns the SHA-256 checksum of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_folder(weights: str | None) -> Path:
    """Return the folder of the weights that were asked for, or of the bundled ones.

    Raises:
        UserError: there is no such folder.
    """
    if weights is None:
        return WEIGHTS_FOLDER
    folder = Path(weights)
    if not folder.is_dir():
        raise UserError(
            f"--weights {weights}: there is no such folder.{nearest_file(folder)} Leave it out for "
            f"the bundled weights."
        )
    return folder


def read_weights(backbone: nn.Module, folder: Path) -> tuple[Path, str]:
    """Loads a backbone's weights after checking the file against its recorded checksum.

    Args:
        backbone: Takes the tensors; its parameters have the file's names.
        folder: Holds `model.safetensors`, `scores.json` and `tokenizer.json`.

    Returns:
        The weight file and its checksum.

    Raises:
        UserError: If a file is missing, the checksum differs, or the sizes do not fit.
    """
    path = folder / WEIGHTS_FILE
    for needed in (path, folder / SCORES_FILE, folder / TOKENIZER_FILE):
        if not needed.is_file():
            raise UserError(
                f"no weights for scenes_vl: {needed} is missing; "
                "`harness pretrain scenes_vl` makes it"
            )
    expected = json.loads((folder / SCORES_FILE).read_text())["sha256"]
    found = sha256(path)
    if found != expected:
        raise UserError(
            f"the weight file {path} is damaged: its sha256 should be {expected} but is {found}; "
            "restore the file, or make it again with `harness pretrain scenes_vl`"
        )
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if not name.startswith(HEADS_PREFIX)]  # noqa: SIM118
        tensors = {name: read_tensor(file, name) for name in names}
    try:
        backbone.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"the weights in {path} do not fit the configuration: {error}") from error
    return path, found


def read_projection(path: Path, stream: str) -> nn.Linear:
    """Returns a stream's projection into the space of contrastive pretraining, as a new layer.

    Args:
        path: The weight file, whose checksum `read_weights` has verified.
        stream: `image` or `text`.
    """
    prefix = f"{HEADS_PREFIX}{stream}_projection."
    with safe_open(path, framework="pt") as file:
        weight, bias = (read_tensor(file, prefix + name) for name in ("weight", "bias"))
    projection = nn.utils.skip_init(nn.Linear, *reversed(weight.shape))
    projection.load_state_dict({"weight": weight, "bias": bias})
    return projection


def read_heads(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of the heads of pretraining by their own names; none without heads.

    Args:
        path: The weight file, whose checksum `read_weights` has verified.
    """
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(HEADS_PREFIX)]  # noqa: SIM118
        return {name.removeprefix(HEADS_PREFIX): read_tensor(file, name) for name in names}
