from io import StringIO

import pytest
from rich.console import Console

from harness import progress as module
from harness.progress import LineProgress, LiveProgress, SilentProgress, make_progress
from harness.testing.records import make_record


def _run(progress, epochs: int = 2, steps: int = 3) -> None:
    progress.phase("features")
    progress.start(epochs, steps, batch_size=128, primary="vqa_accuracy", done_epochs=0)
    for row in make_record().history[:epochs]:
        for number in range(steps):
            progress.step(0.5 if number == 1 else None)
        progress.epoch(row)
    progress.phase("test")
    progress.message("a [bold]message[/nothing]")
    progress.close()
    progress.close()


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_without_a_terminal_every_epoch_is_one_plain_line(capfd):
    _run(make_progress())
    out, err = capfd.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert _lines(err) == [
        "epoch 1/2  loss 1.4000  vqa_accuracy 68.4 % (validation)  12.5 s  31 examples/s",
        "epoch 2/2  loss 0.7000  vqa_accuracy 84.4 % (validation)  12.5 s  31 examples/s",
        "a [bold]message[/nothing]",
    ]


def test_quiet_says_nothing(capfd):
    progress = make_progress(verbosity=-1)
    assert isinstance(progress, SilentProgress)
    _run(progress)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=120, highlight=False)


def test_a_terminal_shows_epoch_step_loss_score_speed_and_time_left(console, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    _run(LiveProgress(console), steps=4)
    shown = console.file.getvalue()
    for words in (
        "features ...",
        "epoch 2/2",
        "step 2/4",
        "loss 0.5000",
        "vqa_accuracy 68.4 %",
        "examples/s",
        " left",
        "test ...",
        "a [bold]message[/nothing]",
    ):
        assert words in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back


def test_drawing_does_not_follow_every_step(console, monkeypatch):
    monkeypatch.setattr(module.time, "monotonic", lambda: 5.0)
    progress = LiveProgress(console)
    progress.start(1, 10_000, batch_size=1, primary="vqa_accuracy", done_epochs=0)
    before = len(console.file.getvalue())
    for _ in range(10_000):
        progress.step(None)
    assert len(console.file.getvalue()) == before
    progress.close()


def test_a_resumed_run_counts_from_its_checkpoint(console, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    progress = LiveProgress(console)
    progress.start(5, 10, batch_size=8, primary="vqa_accuracy", done_epochs=3)
    progress.step(0.25)
    progress.close()
    assert "epoch 4/5  step 1/10  loss 0.2500" in console.file.getvalue()


def test_nothing_is_drawn_after_close(console):
    progress = LiveProgress(console)
    progress.start(1, 1, batch_size=1, primary="vqa_accuracy", done_epochs=0)
    progress.close()
    before = console.file.getvalue()
    progress.phase("test")
    assert console.file.getvalue() == before


def test_an_epoch_without_the_primary_metric_or_time_is_shown(console):
    progress = LineProgress(console)
    progress.start(1, 1, batch_size=1, primary="f1", done_epochs=0)
    progress.epoch(make_record().history[0].model_copy(update={"seconds": 0.0}))
    assert "loss 1.4000" in console.file.getvalue()
