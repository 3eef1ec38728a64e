"""Predicted memory of every method at the papers' batch, beside what the paper printed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.cards import BACKBONES, METHODS, PUBLISHED, published_setting
from harness.errors import UserError
from harness.memory.report import MemoryReport
from harness.paper_step import StepRequest, predict_step
from harness.stored_step import predict_stored_step

BASELINE = "full"


@dataclass(frozen=True)
class MemoryRow:
    """One method's prediction.

    Attributes:
        method: ``name`` or ``name@preset``.
        stored: whether the backbone's states come out of a store, and the backbone is not there.
        report: the prediction; None where the backbone cannot carry the method.
        reason: why there is none.
        of_full: the peak as a share of full fine-tuning's; None where one of them is missing.
        published: the printed memory in units of 1000 MiB; None where none is printed.
        published_of_full: the same as a share of full fine-tuning's.
    """

    method: str
    stored: bool
    report: MemoryReport | None
    reason: str | None
    of_full: float | None
    published: float | None
    published_of_full: float | None


def table_methods(backbone: str, printed: Sequence[str]) -> list[str]:
    """Return full fine-tuning and every other method, as published on the backbone where it is.

    Args:
        backbone: its name.
        printed: more methods, presets of which the paper prints a row.
    """
    carrier = BACKBONES.choose(backbone)
    own = [name for name in METHODS.names() if METHODS.card(name).package is None]
    methods = [
        f"{name}@{PUBLISHED}" if published_setting(METHODS.card(name), carrier) else name
        for name in sorted(own, key=lambda name: name != BASELINE)
    ]
    return [*methods, *(name for name in printed if name not in (*own, *methods))]


def memory_rows(
    request: StepRequest,
    methods: Sequence[str],
    target: str,
    published: Callable[[str, str], float | None],
    *,
    stored: bool = False,
) -> Iterator[MemoryRow]:
    """Yield the row of each method.

    Args:
        request: backbone, sizes and settings; its method does not count.
        methods: ``name`` or ``name@preset``; shares are of full fine-tuning where it is the first.
        target: ``cuda`` or ``cpu``.
        published: returns the printed memory of (backbone, method).
        stored: whether methods with a frozen backbone have a second row, on stored features.
    """
    full = published_full = None
    for method in methods:
        asked = replace(request, method=method)
        report, reason = _predicted(predict_step, asked, target)
        printed = published(request.backbone, method)
        if method.partition("@")[0] == BASELINE:
            full, published_full = report, printed
        yield MemoryRow(
            method=method,
            stored=False,
            report=report,
            reason=reason,
            of_full=_share(report, full),
            published=printed,
            published_of_full=printed / published_full if printed and published_full else None,
        )
        if stored and report and METHODS.choose(method).card.frozen_backbone:
            report, reason = _predicted(predict_stored_step, asked, target)
            share = _share(report, full)
            yield MemoryRow(method, True, report, reason, share, None, None)


def _predicted(
    predict: Callable[[StepRequest, str], MemoryReport], request: StepRequest, target: str
) -> tuple[MemoryReport | None, str | None]:
    """Return a prediction, or why there is none."""
    try:
        return predict(request, target), None
    except UserError as error:
        return None, str(error)


def _share(report: MemoryReport | None, full: MemoryReport | None) -> float | None:
    return report.train_peak_bytes / full.train_peak_bytes if report and full else None
