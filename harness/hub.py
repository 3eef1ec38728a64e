"""Files of a hub's repositories, at one pinned revision.

The library's own rules hold: what was fetched before is not fetched again, and ``HF_HUB_OFFLINE=1``
fetches nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UserError

HUB = "hub:"


@dataclass(frozen=True)
class Pinned:
    """A repository at a revision, written OWNER/NAME@REVISION."""

    name: str
    revision: str

    @classmethod
    def read(cls, text: str) -> "Pinned | None":
        """Return what a text names, None where it is not written so."""
        name, _, revision = text.partition("@")
        return cls(name, revision) if name.count("/") == 1 and all((name, revision)) else None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}"


def fetch(
    pinned: Pinned, kind: Literal["model", "dataset"], option: str, files: Sequence[str] = ()
) -> Path:
    """Return the local folder of a repository.

    Args:
        pinned: the repository and its revision.
        kind: of repository.
        option: how the user named it, for messages.
        files: which files are needed; empty for all.

    Raises:
        UserError: it is neither here nor to be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            pinned.name,
            repo_type=kind,
            revision=pinned.revision,
            allow_patterns=list(files) or None,
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        wanted = " and ".join(files) or "all files"
        raise UserError(
            f"{option}: cannot be fetched here ({type(error).__name__}). Fetch {wanted} of "
            f"'{pinned.name}' at revision {pinned.revision} on a machine that reaches the hub, and "
            f"give their folder: {option.split()[0]} FOLDER."
        ) from None
    return Path(folder)


def pinned_data(data_dir: Path | None) -> Pinned | None:
    """Return the dataset's repository that ``--data-dir hub:OWNER/NAME@REVISION`` names, or None.

    Raises:
        UserError: what stands behind ``hub:`` is not written so.
    """
    if data_dir is None or not str(data_dir).startswith(HUB):
        return None
    pinned = Pinned.read(str(data_dir).removeprefix(HUB))
    if pinned is None:
        raise UserError(
            f"--data-dir {data_dir}: a hub's dataset is written {HUB}OWNER/NAME@REVISION, with the "
            f"commit that you mean."
        )
    return pinned


def data_folder(data_dir: Path | None) -> Path | None:
    """Return the local folder of ``--data-dir``, fetching it from a hub where it names one.

    Raises:
        UserError: see ``pinned_data`` and ``fetch``.
    """
    pinned = pinned_data(data_dir)
    return data_dir if pinned is None else fetch(pinned, "dataset", f"--data-dir {data_dir}")
