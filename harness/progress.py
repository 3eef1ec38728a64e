"""What the user sees while a run goes on. Everything is written to stderr."""

import sys
import time
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.record import Epoch

REFRESH_SECONDS = 0.5


class Progress(Protocol):
    """What a run tells about itself."""

    def begin(self, run_key: str) -> None:
        """The run has its key."""

    def start(
        self, epochs: int, steps_per_epoch: int, batch_size: int, primary: str, done_epochs: int
    ) -> None:
        """Begin training.

        Args:
            epochs: epochs of the whole run.
            steps_per_epoch: optimizer steps of one epoch.
            batch_size: rows of one optimizer step.
            primary: the metric to show.
            done_epochs: epochs that came from a checkpoint.
        """

    def step(self, loss: float | None) -> None:
        """One optimizer step is done; ``loss`` is given now and then, as reading it costs time."""

    def epoch(self, row: Epoch) -> None:
        """One epoch and its validation are done."""

    def phase(self, name: str) -> None:
        """The run turns to something that is not an epoch, for instance ``"features"``."""

    def message(self, text: str) -> None:
        """Say one thing that stays on the screen."""

    def close(self) -> None:
        """Leave the terminal as it was; further calls do nothing."""


def make_progress(verbosity: int = 0) -> Progress:
    """Return what fits stderr: a live line on a terminal, plain lines elsewhere.

    Args:
        verbosity: below 0 nothing is shown.
    """
    if verbosity < 0:
        return SilentProgress()
    console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
    return LiveProgress(console) if console.is_terminal else LineProgress(console)


class SilentProgress:
    """Shows nothing."""

    def begin(self, run_key: str) -> None:
        """See :class:`Progress`."""

    def start(
        self, epochs: int, steps_per_epoch: int, batch_size: int, primary: str, done_epochs: int
    ) -> None:
        """See :class:`Progress`."""

    def step(self, loss: float | None) -> None:
        """See :class:`Progress`."""

    def epoch(self, row: Epoch) -> None:
        """See :class:`Progress`."""

    def phase(self, name: str) -> None:
        """See :class:`Progress`."""

    def message(self, text: str) -> None:
        """See :class:`Progress`."""

    def close(self) -> None:
        """See :class:`Progress`."""


class LineProgress:
    """One plain line an epoch.

    Args:
        console: where to write.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.epochs = self.steps_per_epoch = self.batch_size = self.done_epochs = 0
        self.primary = ""
        self.done_steps = self.trained_steps = 0
        self.began = time.monotonic()

    def begin(self, run_key: str) -> None:
        """See :class:`Progress`."""

    def start(
        self, epochs: int, steps_per_epoch: int, batch_size: int, primary: str, done_epochs: int
    ) -> None:
        """See :class:`Progress`."""
        self.epochs, self.steps_per_epoch, self.done_epochs = epochs, steps_per_epoch, done_epochs
        self.batch_size, self.primary = batch_size, primary
        self.done_steps = self.trained_steps = 0
        self.began = time.monotonic()

    def step(self, loss: float | None) -> None:  # noqa: ARG002
        """See :class:`Progress`."""
        self.done_steps += 1
        self.trained_steps += 1

    def epoch(self, row: Epoch) -> None:
        """See :class:`Progress`."""
        self.done_epochs, self.done_steps = row.epoch, 0
        score = row.val.get(self.primary)
        shown = "" if score is None else f"  {self.primary} {100 * score:.1f} % (validation)"
        rate = self.steps_per_epoch * self.batch_size / row.seconds if row.seconds else 0.0
        self.message(
            f"epoch {row.epoch}/{self.epochs}  loss {row.loss:.4f}{shown}  "
            f"{row.seconds:.1f} s  {rate:,.0f} examples/s"
        )

    def phase(self, name: str) -> None:
        """See :class:`Progress`."""

    def message(self, text: str) -> None:
        """See :class:`Progress`."""
        self.console.print(Text(text))

    def close(self) -> None:
        """See :class:`Progress`."""


class LiveProgress(LineProgress):
    """A line that follows the run, above it one line an epoch.

    No thread refreshes it: a step draws it when the last drawing is ``REFRESH_SECONDS`` old.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.loss: float | None = None
        self.score: float | None = None
        self.drawn = 0.0
        self.live = Live(console=console, auto_refresh=False, transient=True)
        self.closed = False

    def start(
        self, epochs: int, steps_per_epoch: int, batch_size: int, primary: str, done_epochs: int
    ) -> None:
        """See :class:`Progress`."""
        super().start(epochs, steps_per_epoch, batch_size, primary, done_epochs)
        self._draw(self._line())

    def step(self, loss: float | None) -> None:
        """See :class:`Progress`."""
        super().step(loss)
        if loss is not None:
            self.loss = loss
        if time.monotonic() - self.drawn >= REFRESH_SECONDS:
            self._draw(self._line())

    def epoch(self, row: Epoch) -> None:
        """See :class:`Progress`."""
        self.loss, self.score = row.loss, row.val.get(self.primary)
        super().epoch(row)
        self._draw(self._line())

    def phase(self, name: str) -> None:
        """See :class:`Progress`."""
        self._draw(f"{name} ...")

    def close(self) -> None:
        """See :class:`Progress`."""
        self.closed = True
        self.live.stop()

    def _draw(self, line: str) -> None:
        if self.closed:
            return
        if not self.live.is_started:
            self.live.start()
        self.drawn = time.monotonic()
        self.live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)

    def _line(self) -> str:
        """Return epoch, step, loss, score, speed and the time that is left."""
        elapsed = time.monotonic() - self.began
        speed = self.trained_steps / elapsed if elapsed > 0 else 0.0
        left = (self.epochs - self.done_epochs) * self.steps_per_epoch - self.done_steps
        epoch = min(self.done_epochs + 1, self.epochs)
        parts = [
            f"epoch {epoch}/{self.epochs}",
            f"step {self.done_steps}/{self.steps_per_epoch}",
            "" if self.loss is None else f"loss {self.loss:.4f}",
            "" if self.score is None else f"{self.primary} {100 * self.score:.1f} %",
            f"{speed * self.batch_size:,.0f} examples/s" if speed else "",
            f"{timedelta(seconds=round(left / speed))} left" if speed else "",
        ]
        return "  ".join(part for part in parts if part)
