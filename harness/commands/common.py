"""What the verbs share: options that mean the same everywhere, and how results are printed."""

import gc
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_OF_FILES = 120

Output = Annotated[Path, typer.Option(help="Folder of records, checkpoints, MLflow and figures.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, show_default=False, help="Say more; show tracebacks."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]


@contextmanager
def short_lived() -> Iterator[None]:
    """Do without the garbage collector: imports make much that stays, and the process ends soon."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def examples(*commands: str) -> str:
    """Return the end of a verb's help: its examples, one a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


def set_up_logging(verbose: int, quiet: bool = False) -> None:
    """Send log lines to stderr: progress by default, more with ``-v``, warnings with ``-q``."""
    others = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=others)
    own = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    for name in ("harness", "methods", "tasks", "reports"):
        logging.getLogger(name).setLevel(own)
    # torchao, which the model library imports where it is installed, sets this one off.
    logging.getLogger("torch.utils._pytree").setLevel(logging.INFO if verbose else logging.ERROR)
    if not verbose:  # an fp32 RMSNorm of bf16 states, which is what autocast means
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")


def fail(message: str, code: int) -> int:
    """Print ``Error: message`` to stderr and return ``code``."""
    print(f"Error: {message}", file=sys.stderr)
    return code


def stdout_console() -> "Console":
    """Return the console of results: plain words without markup, wider where nobody watches."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH_OF_FILES
    return Console(markup=False, highlight=False, width=width)


def save(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    from harness.errors import UserError
    from harness.record import write_atomic

    try:
        write_atomic(path, content)
    except OSError as error:
        raise UserError(
            f"--to {path}: cannot write there ({error.strerror}). Name a file in a folder that you "
            "may write to."
        ) from error


def print_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=1))
