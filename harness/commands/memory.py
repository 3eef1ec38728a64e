"""``memory predict``, ``memory table`` and ``memory fit``: training memory, without training."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import options
from harness.commands.common import (
    Json,
    Output,
    Verbose,
    examples,
    print_json,
    set_up_logging,
    stdout_console,
)
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.memory.report import MemoryReport
    from harness.memory_table import MemoryRow
    from harness.paper_step import StepRequest

HELP = "Predict training memory, compare methods by it, and fit them into a budget."
PREDICT_EXAMPLES = examples(
    "harness memory predict --method mp_ismoe --backbone t5-base --batch-size 100",
    "harness memory predict --method full --backbone vse --amp bf16 --json",
)
MEASURE_EXAMPLES = examples(
    "harness memory measure --backbone t5-small --methods full,unipt,mp_ismoe --batch-size 4",
    "harness memory measure --backbone t5-base --device cuda --amp bf16 --save measured.json",
)
TIMELINE_EXAMPLES = examples(
    "harness memory timeline 0123",
    "harness memory timeline 0123 --output runs --to step.png",
)
TABLE_EXAMPLES = examples(
    "harness memory table --backbone t5-base",
    "harness memory table --backbone clip-vil --methods full,unipt@published,mp_ismoe",
)
FIT_EXAMPLES = examples(
    "harness memory fit --budget 8GiB --method lst --backbone t5-large",
    "harness memory fit --budget 2GiB --method mp_ismoe --backbone t5-base --vary method.experts "
    "--step 4",
)
EXAMPLES = examples(
    "harness memory table --backbone t5-base",
    "harness memory fit --budget 8GiB --method lst --backbone t5-large",
)
TARGETS = ("cuda", "cpu")
BATCH_SIZE = "train.batch_size"

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Method = Annotated[str, typer.Option(help="Method, or method@preset.")]
Backbone = Annotated[str, typer.Option(help="Backbone, or backbone@preset.")]
Methods = Annotated[
    str | None, typer.Option(help="Methods with commas between them; default: every one.")
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Rows; default: the papers'.")]
SourceLength = Annotated[int | None, typer.Option(min=1, help="Tokens of a text that is read.")]
TargetLength = Annotated[int | None, typer.Option(min=1, help="Tokens of a written text.")]
Target = Annotated[
    str, typer.Option(help="cuda or cpu: whose kernels' saved tensors count, dropout's above all.")
]


@app.command("predict", epilog=PREDICT_EXAMPLES)
def predict(
    method: Method,
    backbone: Backbone,
    batch_size: BatchSize = None,
    source_length: SourceLength = None,
    target_length: TargetLength = None,
    overrides: options.Overrides = None,
    amp: options.Amp = "off",
    grad_checkpoint: options.GradCheckpoint = None,
    target: Target = "cuda",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Predict the peak of one training step by category and phase, without weights or data."""
    from harness.paper_step import predict_step, step_shape

    set_up_logging(verbose)
    request = _request(
        method, backbone, batch_size, source_length, target_length, overrides, amp, grad_checkpoint
    )
    _check_target(target)
    report, shape = predict_step(request, target), step_shape(request)
    if as_json:
        print_json({**shape.model_dump(mode="json"), **_report_data(method, backbone, report)})
    else:
        stdout_console().print(*_report_lines(method, backbone, report, shape), sep="\n")


@app.command("table", epilog=TABLE_EXAMPLES)
def table(
    backbone: Backbone,
    methods: Methods = None,
    batch_size: BatchSize = None,
    source_length: SourceLength = None,
    target_length: TargetLength = None,
    overrides: options.Overrides = None,
    amp: options.Amp = "off",
    target: Target = "cuda",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Predict every method at the papers' batch, beside what the MP-ISMoE paper printed."""
    from harness.memory_table import memory_rows
    from harness.paper_step import step_shape
    from reports.published import published_memory

    set_up_logging(verbose)
    _check_target(target)
    request = _request("", backbone, batch_size, source_length, target_length, overrides, amp, None)
    shape = step_shape(request)
    chosen = _chosen(methods, backbone)
    rows = list(memory_rows(request, chosen, target, published_memory))
    if as_json:
        print_json({**shape.model_dump(mode="json"), "rows": [_row_data(row) for row in rows]})
        return
    console = stdout_console()
    console.print(f"{backbone}: {_described(shape)}; predicted for {target}")
    console.print(_table(rows))
    for row in rows:
        if row.reason:
            console.print(f"{row.method}: {row.reason}")
    if any(row.published for row in rows):
        console.print(_about_published(shape.gpus, shape.note))


@app.command("fit", epilog=FIT_EXAMPLES)
def fit(
    budget: Annotated[str, typer.Option(help="Such as 8GiB.")],
    method: Method,
    backbone: Backbone,
    vary: Annotated[
        str, typer.Option(help="Whole number to make as large as fits: SECTION.FIELD.")
    ] = BATCH_SIZE,
    step: Annotated[int, typer.Option(min=1, help="Multiples of it, from it.")] = 1,
    batch_size: BatchSize = None,
    source_length: SourceLength = None,
    target_length: TargetLength = None,
    overrides: options.Overrides = None,
    amp: options.Amp = "off",
    grad_checkpoint: options.GradCheckpoint = None,
    target: Target = "cuda",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Find the largest batch, or any other setting, whose predicted peak is within a budget."""
    from harness.budget import largest_fitting, read_budget
    from harness.paper_step import predict_step
    from reports.tables import gib

    set_up_logging(verbose)
    _check_target(target)
    limit = read_budget(budget)

    @cache
    def peak(value: int) -> int:
        rows = value if vary == BATCH_SIZE else batch_size
        own = overrides or [] if vary == BATCH_SIZE else [*(overrides or []), f"{vary}={value}"]
        request = _request(
            method, backbone, rows, source_length, target_length, own, amp, grad_checkpoint
        )
        return predict_step(request, target).train_peak_bytes

    found = largest_fitting(peak, limit, smallest=step, step=step)
    if found is None:
        raise UserError(
            f"--budget {budget}: '{method}' on '{backbone}' needs {gib(peak(step), 3)} GiB with "
            f"{vary}={step} already."
        )
    value, nbytes = found
    if as_json:
        print_json({"setting": vary, "value": value, "peak_bytes": nbytes, "budget_bytes": limit})
    else:
        print(f"{vary}={value}: {gib(nbytes, 3)} GiB of {gib(limit, 3)} GiB")


@app.command("measure", epilog=MEASURE_EXAMPLES)
def measure(
    backbone: Backbone,
    methods: Methods = None,
    batch_size: BatchSize = None,
    source_length: SourceLength = None,
    target_length: TargetLength = None,
    overrides: options.Overrides = None,
    device: options.Device = "auto",
    amp: options.Amp = "off",
    save: Annotated[
        Path | None,
        typer.Option(help="File that keeps every step; repeat the command to go on with it."),
    ] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the CUDA allocator's history of each method's step, a file each for "
            "pytorch.org/memory_viz.",
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run the papers' training steps on a device, with random weights, and measure them."""
    from harness.memory.snapshot import check_snapshots
    from harness.model import pick_device
    from harness.step_measure import measure_steps, read_document, write_document
    from reports.measured_steps import steps_table

    set_up_logging(verbose)
    request = _request("", backbone, batch_size, source_length, target_length, overrides, amp, None)
    place = pick_device(device)
    if snapshot is not None:
        check_snapshots(snapshot, place)
    document = read_document(save, place)

    def keep(document: dict[str, Any]) -> None:
        if save:
            write_document(save, document)

    measure_steps(request, _chosen(methods, backbone), place, document, keep, snapshot)
    if as_json:
        print_json(document)
    else:
        stdout_console().print(steps_table(document))


@app.command("timeline", epilog=TIMELINE_EXAMPLES)
def timeline(
    run: Annotated[str, typer.Argument(help="Beginning of the run's key.")],
    to: Annotated[
        Path | None,
        typer.Option(help="Picture to write, as PNG and SVG; default: among the run's artifacts."),
    ] = None,
    output: Output = Path("runs"),
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Draw the memory of a run's training step by category, event by event."""
    from harness.record import RecordStore, read_timeline
    from reports.figures import memory_timeline

    set_up_logging(verbose)
    record = RecordStore(output).find(run)
    samples, path = read_timeline(record, output)
    if as_json:
        print_json({"run": record.run_key, "timeline": samples})
        return
    picture = memory_timeline(samples, record, to or path.with_name("memory_timeline.png"))[0]
    stdout_console().print(f"{picture}", *_peak_lines(samples), sep="\n")


def _request(
    method: str,
    backbone: str,
    batch_size: int | None,
    source_length: int | None,
    target_length: int | None,
    overrides: Sequence[str] | None,
    amp: str | None,
    grad_checkpoint: bool | None,
) -> "StepRequest":
    from harness.paper_step import StepRequest

    return StepRequest(
        method=method,
        backbone=backbone,
        batch_size=batch_size,
        source_length=source_length,
        target_length=target_length,
        overrides=tuple(overrides or ()),
        amp=amp,
        grad_checkpoint=grad_checkpoint,
    )


def _chosen(methods: str | None, backbone: str) -> list[str]:
    """Return the methods that were named, or every one as it is published on the backbone."""
    from harness.memory_table import table_methods
    from reports.published import PRINTED

    if not methods:
        return table_methods(backbone, PRINTED)
    return [name.strip() for name in methods.split(",")]


def _check_target(target: str) -> None:
    if target not in TARGETS:
        raise UserError(f"--target '{target}': write {' or '.join(TARGETS)}.")


def _report_data(method: str, backbone: str, report: "MemoryReport") -> dict[str, Any]:
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


def _peak_lines(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say when the peak was and what was alive then, the largest first."""
    from reports.palette import words
    from reports.tables import gib

    peak = max(samples, key=lambda sample: sum(sample["bytes"].values()))
    sizes = sorted(peak["bytes"].items(), key=lambda item: -item[1])
    total = f"peak {gib(sum(peak['bytes'].values()))} GiB in the {peak['phase']} phase"
    return [total, *(f"  {words(name)} {gib(nbytes)} GiB" for name, nbytes in sizes if nbytes)]


def _row_data(row: "MemoryRow") -> dict[str, Any]:
    return {
        "method": row.method,
        "train_peak_bytes": row.report.train_peak_bytes if row.report else None,
        "inference_peak_bytes": row.report.inference_peak_bytes if row.report else None,
        "at_peak_bytes": row.report.at_peak_bytes if row.report else None,
        "of_full": row.of_full,
        "published": row.published,
        "published_of_full": row.published_of_full,
        "reason": row.reason,
    }


def _report_lines(method: str, backbone: str, report: "MemoryReport", shape: Any) -> list[Any]:
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
    return [f"{method} on {backbone}: {_described(shape)}; predicted for {report.device}", grid]


def _table(rows: Sequence["MemoryRow"]) -> Any:
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
            row.method,
            "" if peak is None else gib(peak, 3),
            "" if peak is None else f"{peak / PUBLISHED_UNIT:.2f}",
            _share(row.of_full),
            "" if row.published is None else f"{row.published:g}",
            _share(row.published_of_full),
            "" if saved is None else gib(saved, 3),
        )
    return grid


def _described(shape: Any) -> str:
    parts = [f"batch {shape.batch_size}", f"{shape.source_length} tokens"]
    if shape.recipe == "text":
        parts.append(f"target of {shape.target_length}")
    if shape.frames > 1:
        parts.append(f"{shape.frames} frames")
    return ", ".join(parts)


def _about_published(gpus: int, note: str) -> str:
    summed = f" It is summed over {gpus} GPUs, and the prediction is one GPU's." if gpus > 1 else ""
    return (
        "Published: training memory of the MP-ISMoE paper, in units of 1000 MiB."
        f"{summed}{' ' + note if note else ''}"
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
