"""What the ``memory`` commands print."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.memory.report import MemoryReport
    from harness.memory_table import MemoryRow


def report_data(method: str, backbone: str, report: "MemoryReport") -> dict[str, Any]:
    """Return a prediction JSON-ready."""
    return {
        "method": method,
        "backbone": backbone,
        "target": report.device,
        "source": report.source,
        "train_peak_bytes": report.train_peak_bytes,
        "inference_peak_bytes": report.inference_peak_bytes,
        "phase_peak_bytes": report.phase_peak_bytes,
        "at_peak_bytes": report.at_peak_bytes,
    }


def peak_lines(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say when the peak was and what was alive then, the largest first."""
    from reports.palette import words
    from reports.tables import gib

    peak = max(samples, key=lambda sample: sum(sample["bytes"].values()))
    sizes = sorted(peak["bytes"].items(), key=lambda item: -item[1])
    total = f"peak {gib(sum(peak['bytes'].values()))} GiB in the {peak['phase']} phase"
    return [total, *(f"  {words(name)} {gib(nbytes)} GiB" for name, nbytes in sizes if nbytes)]


def row_data(row: "MemoryRow") -> dict[str, Any]:
    """Return a row of the table JSON-ready."""
    return {
        "method": row.method,
        "stored_features": row.stored,
        "train_peak_bytes": row.report.train_peak_bytes if row.report else None,
        "inference_peak_bytes": (
            row.report.inference_peak_bytes if row.report and not row.stored else None
        ),
        "at_peak_bytes": row.report.at_peak_bytes if row.report else None,
        "of_full": row.of_full,
        "published": row.published,
        "published_of_full": row.published_of_full,
        "reason": row.reason,
    }


def row_name(row: "MemoryRow") -> str:
    """Return what a row of the table is called."""
    return f"{row.method}, stored features" if row.stored else row.method


def report_lines(method: str, backbone: str, report: "MemoryReport", shape: Any) -> list[Any]:
    """Return a prediction as a title and a grid of its peak by category and phase."""
    from rich.table import Table

    from reports.palette import words
    from reports.published import PUBLISHED_UNIT
    from reports.tables import gib

    peak = report.train_peak_bytes
    grid = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "left"):
        grid.add_column(justify=justify)  # type: ignore[arg-type]
    unit = f"{peak / PUBLISHED_UNIT:.2f} in the published unit of 1000 MiB"
    grid.add_row("peak, training", f"{gib(peak)} GiB", unit)
    for name, nbytes in report.at_peak_bytes.items():
        if nbytes:
            grid.add_row(f"  {words(name)}", f"{gib(nbytes)} GiB", f"{100 * nbytes / peak:.1f} %")
    for name, nbytes in report.phase_peak_bytes.items():
        grid.add_row(f"peak, {words(name)}", f"{gib(nbytes)} GiB", "")
    return [f"{method} on {backbone}: {described(shape)}; predicted for {report.device}", grid]


def memory_table(rows: Sequence["MemoryRow"]) -> Any:
    """Return methods beside each other and beside what was published."""
    from rich.table import Table

    from reports.published import PUBLISHED_UNIT
    from reports.tables import gib

    grid = Table(box=None, pad_edge=False)
    for name in (
        "method",
        "GiB",
        "1000 MiB",
        "of full",
        "published",
        "of full",
        "saved in backbone",
    ):
        grid.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        peak = row.report.train_peak_bytes if row.report else None
        saved = row.report.at_peak_bytes.get("saved_backbone", 0) if row.report else None
        grid.add_row(
            row_name(row),
            "" if peak is None else gib(peak, 3),
            "" if peak is None else f"{peak / PUBLISHED_UNIT:.2f}",
            _share(row.of_full),
            "" if row.published is None else f"{row.published:g}",
            _share(row.published_of_full),
            "" if saved is None else gib(saved, 3),
        )
    return grid


def described(shape: Any) -> str:
    """Return the sizes of a batch in words."""
    parts = [f"batch {shape.batch_size}", f"{shape.source_length} tokens"]
    if shape.recipe == "text":
        parts.append(f"target of {shape.target_length}")
    if shape.frames > 1:
        parts.append(f"{shape.frames} frames")
    return ", ".join(parts)


def about_published(gpus: int, note: str) -> str:
    """Say what the published figures are."""
    summed = f" It is summed over {gpus} GPUs, and the prediction is one GPU's." if gpus > 1 else ""
    return (
        "Published: training memory of the MP-ISMoE paper, in units of 1000 MiB."
        f"{summed}{' ' + note if note else ''}"
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
