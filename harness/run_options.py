"""What a run is told that does not change its outcome. This module imports no torch."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from harness.errors import UserError, did_you_mean
from harness.record import Record

Rerun = Literal["never", "failed", "always"]
CUT_OFF = "the process ended without a word"
"""What a Record says while its run is at work, and for good where its process was killed."""


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
        launcher: where several runs are made: ``local`` processes; ``ray``, the Ray cluster of
            this machine, which is started where there is none; or ``ray://HOST:PORT``.
    """

    output: Path = Path("runs")
    tracking_uri: str | None = None
    verbosity: int = 0
    rerun: Rerun = "failed"
    open_test: bool = True
    launcher: str = "local"


def check_rerun(text: str) -> Rerun:
    """Return the policy that was typed.

    Raises:
        UserError: there is no such policy.
    """
    for known in get_args(Rerun):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise UserError(f"--rerun '{text}' is no policy.{did_you_mean(text, get_args(Rerun))}")


def is_cut_off(record: Record) -> bool:
    """Return whether a run has no outcome: it is at work, or was when its process was killed."""
    return record.status == "failed" and record.error == CUT_OFF


def check_launcher(text: str) -> str:
    """Return the launcher that was typed.

    Raises:
        UserError: there is no such launcher, or Ray is not installed.
    """
    if text == "local":
        return text
    if text != "ray" and not re.fullmatch(r"ray://[^\s/:]+:\d+", text):
        raise UserError(f"--launcher '{text}': write local, ray or ray://HOST:PORT.")
    if find_spec("ray") is None:
        raise UserError(
            f"--launcher {text} needs the package 'ray', which is not installed; "
            "run: pip install 'metl-harness[ray]'"
        )
    return text


def stands(record: Record, rerun: Rerun) -> bool:
    """Return whether an earlier outcome is left as it is; a run that was cut off has none."""
    return not is_cut_off(record) and ending_stands(record.status, rerun)


def ending_stands(status: str, rerun: Rerun) -> bool:
    """Return whether how a run ended is left as it is; a full disk or Ctrl-C is no such end.

    Args:
        status: of its Record, or of a study's cell.
        rerun: which runs are made again.
    """
    if status == "done":
        return rerun != "always"
    return rerun == "never" and status in ("oom", "diverged", "failed")
