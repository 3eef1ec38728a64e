"""Errors that the command line turns into one clear message and an exit code.

Exit codes: 0 done, 2 the request is wrong, 3 a run ended in oom/diverged/failed, 130 interrupted.
"""

import os
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path


class UserError(Exception):
    """The request is wrong: the message quotes what was typed, states the rule and the way out."""

    exit_code = 2


class ConfigError(UserError):
    """Several problems of one request, reported together.

    Args:
        problems: one complete sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            text = self.problems[0]
        else:
            lines = "\n".join(f"  {i}. {p}" for i, p in enumerate(self.problems, 1))
            text = f"{len(self.problems)} problems:\n{lines}"
        super().__init__(text)


class RowError(UserError):
    """Rows that a user gave cannot be read.

    Args:
        problems: the position of a row, and one complete sentence; a row may have several.
    """

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"row {row + 1}: {text}" for row, text in self.problems))


class RunError(Exception):
    """A run that had begun could not end; its Record says why.

    Args:
        status: the Record's status, for instance ``"diverged"``.
        message: what happened, for the Record's ``error`` field.
    """

    exit_code = 3

    def __init__(self, status: str, message: str) -> None:
        self.status = status
        super().__init__(message)


def did_you_mean(typed: str, choices: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` or the list of choices, ready to append to a message."""
    known = sorted(choices)
    close = get_close_matches(typed, known, n=2, cutoff=0.5)
    if close:
        alike = [SequenceMatcher(None, choice, typed).ratio() for choice in close]
        close = [c for c, ratio in zip(close, alike, strict=True) if ratio > 0.8 * alike[0]]
        return " Did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    return f" Known: {', '.join(known)}." if known else ""


def check_data_folder(path: Path) -> None:
    """Raise UserError where ``--data-dir`` is no folder."""
    if not path.is_dir():
        raise UserError(f"--data-dir {path}: there is no such folder.{nearest_file(path)}")


def nearest_file(path: Path) -> str:
    """Return `` Did you mean 'x'?`` where a file beside a missing one has almost its name."""
    try:
        beside = [] if os.path.exists(path) else os.listdir(path.parent)
    except (OSError, ValueError):
        return ""
    return did_you_mean(path.name, get_close_matches(path.name, beside))
