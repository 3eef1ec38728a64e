"""Whether the packages that are installed beside this one are its own."""

import importlib.util
from pathlib import Path

from harness.errors import UserError


def check_own_packages() -> None:
    """Refuse to go on where a user's file hides one of harness's own packages.

    Raises:
        UserError: ``import tasks``, for instance, would find another file.
    """
    root = Path(__file__).resolve().parent.parent
    for name in ("methods", "tasks", "reports"):
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
        if origin is None or Path(origin).resolve().parent.parent != root:
            raise UserError(
                f"{origin or 'Another folder'} hides the package '{name}' of harness in {root}. "
                "Rename it, or call the installed command `harness` instead of python -m harness."
            )
