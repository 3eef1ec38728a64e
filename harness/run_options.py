"""What a run is told that does not change its outcome. This module imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from harness.errors import UserError, did_you_mean
from harness.record import Record

Rerun = Literal["never", "failed", "always"]


@dataclass(frozen=True)
class RunOptions:
    """Where a run's files go, what it says, and what becomes of an earlier outcome.

    Attributes:
        output: folder of records, artifacts, features and ``mlflow.db``.
        tracking_uri: MLflow's; None for the database in ``output``, ``"off"`` for none.
        verbosity: -1 quiet, 0 normal, 1 with tracebacks.
        rerun: which runs that have ended before are made again: none, those that did not end
            well, or all, from the beginning. Interrupted ones always go on.
        open_test: whether the test split is scored; a run that tunes has validation alone.
    """

    output: Path = Path("runs")
    tracking_uri: str | None = None
    verbosity: int = 0
    rerun: Rerun = "failed"
    open_test: bool = True


def check_rerun(text: str) -> Rerun:
    """Return the policy that was typed.

    Raises:
        UserError: there is no such policy.
    """
    for known in get_args(Rerun):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise UserError(f"--rerun '{text}' is no policy.{did_you_mean(text, get_args(Rerun))}")


def stands(record: Record, rerun: Rerun) -> bool:
    """Return whether an earlier outcome is left as it is."""
    if record.status == "done":
        return rerun != "always"
    return rerun == "never" and record.status in ("oom", "diverged", "failed")
