"""``memory predict``, ``memory table`` and ``memory fit``: training memory, without training."""

import logging
from collections.abc import Callable, Sequence
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
from harness.commands.memory_text import (
    about_published,
    described,
    memory_table,
    peak_lines,
    report_data,
    report_lines,
    row_data,
    row_name,
)
from harness.errors import ConfigError, UserError

if TYPE_CHECKING:
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
    "harness memory table --backbone clip-vil --methods full,unipt@published,mp_ismoe "
    "--stored-features",
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
PICTURES = (".png", ".svg")
BATCH_SIZE = "train.batch_size"

logger = logging.getLogger(__name__)
app = typer.Typer(add_completion=False, rich_markup_mode=None)

Method = Annotated[str, typer.Option(help="Method, or method@preset.")]
Backbone = Annotated[str, typer.Option(help="Backbone, or backbone@preset.")]
Methods = Annotated[
    str | None, typer.Option(help="Methods with commas between them; default: every one.")
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Rows; default: the papers'.")]
SourceLength = Annotated[int | None, typer.Option(min=1, help="Tokens of a text that is read.")]
TargetLength = Annotated[int | None, typer.Option(min=1, help="Tokens of a written text.")]
Precision = Annotated[
    str, typer.Option("--amp", "--dtype", help="off or bf16; where steps are run, auto as well.")
]
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
    amp: Precision = "off",
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
        print_json({**shape.model_dump(mode="json"), **report_data(method, backbone, report)})
    else:
        stdout_console().print(*report_lines(method, backbone, report, shape), sep="\n")


@app.command("table", epilog=TABLE_EXAMPLES)
def table(
    backbone: Backbone,
    methods: Methods = None,
    batch_size: BatchSize = None,
    source_length: SourceLength = None,
    target_length: TargetLength = None,
    overrides: options.Overrides = None,
    amp: Precision = "off",
    target: Target = "cuda",
    stored_features: Annotated[
        bool,
        typer.Option(
            "--stored-features",
            help="Add, for side methods, the step whose backbone is not there: its states come "
            "out of a store.",
        ),
    ] = False,
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
    rows = list(memory_rows(request, chosen, target, published_memory, stored=stored_features))
    if as_json:
        print_json({**shape.model_dump(mode="json"), "rows": [row_data(row) for row in rows]})
        return
    console = stdout_console()
    console.print(f"{backbone}: {described(shape)}; predicted for {target}")
    console.print(memory_table(rows))
    for row in rows:
        if row.reason:
            console.print(f"{row_name(row)}: {row.reason}")
    if any(row.published for row in rows):
        console.print(about_published(shape.gpus, shape.note))


@app.command("fit", epilog=FIT_EXAMPLES)
def fit(
    budget: Annotated[str, typer.Option(help="Such as 8GiB.")],
    method: Method,
    backbone: Backbone,
    vary: Annotated[
        str,
        typer.Option(help="Whole number that needs more memory the larger it is: SECTION.FIELD."),
    ] = BATCH_SIZE,
    step: Annotated[int, typer.Option(min=1, help="Multiples of it, from it.")] = 1,
    batch_size: BatchSize = None,
    source_length: SourceLength = None,
    target_length: TargetLength = None,
    overrides: options.Overrides = None,
    amp: Precision = "off",
    grad_checkpoint: options.GradCheckpoint = None,
    target: Target = "cuda",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Find the largest batch, or any other setting, whose predicted peak is within a budget.

    Some values are predicted one after the other, seconds each, and told on stderr.
    """
    from harness.budget import largest_fitting, read_budget
    from harness.paper_step import predict_step
    from reports.tables import gib

    set_up_logging(verbose)
    _check_target(target)
    limit = read_budget(budget)
    if vary == BATCH_SIZE and batch_size is not None:
        raise UserError(f"--batch-size {batch_size}: it is what is made as large as fits.")

    @cache
    def peak(value: int) -> int:
        rows = value if vary == BATCH_SIZE else batch_size
        own = overrides or [] if vary == BATCH_SIZE else [*(overrides or []), f"{vary}={value}"]
        request = _request(
            method, backbone, rows, source_length, target_length, own, amp, grad_checkpoint
        )
        nbytes = predict_step(request, target).train_peak_bytes
        logger.info("%s=%d: %s GiB", vary, value, gib(nbytes, 3))
        return nbytes

    found = largest_fitting(peak, limit, smallest=step, step=step, name=vary)
    if found is None:
        raise UserError(
            f"--budget {budget}: '{method}' on '{backbone}' needs {gib(peak(step), 3)} GiB with "
            f"{vary}={step} already.{_falling(peak, vary, step)}"
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
    amp: Precision = "off",
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
    from harness.precision import native_bf16
    from harness.step_measure import measure_steps, read_document, write_document
    from reports.measured_steps import steps_table

    set_up_logging(verbose)
    place = pick_device(device)
    if amp == "auto":
        amp = "bf16" if native_bf16(place) else "off"
    request = _request("", backbone, batch_size, source_length, target_length, overrides, amp, None)
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
    if to is not None and to.suffix not in PICTURES:
        raise UserError(f"--to {to}: a picture's file ends in {' or '.join(PICTURES)}.")
    record = RecordStore(output).find(run)
    samples, path = read_timeline(record, output)
    if as_json:
        print_json({"run": record.run_key, "timeline": samples})
        return
    pictures = memory_timeline(samples, record, to or path.with_name("memory_timeline.png"))
    stdout_console().print(*map(str, pictures), *peak_lines(samples), sep="\n")


def _request(
    method: str,
    backbone: str,
    batch_size: int | None,
    source_length: int | None,
    target_length: int | None,
    overrides: Sequence[str] | None,
    amp: str,
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
    from harness.cards import METHODS
    from harness.memory_table import table_methods
    from harness.registry import unknown
    from reports.published import PRINTED

    if not methods:
        return table_methods(backbone, PRINTED)
    names = [name.strip() for name in methods.split(",")]
    if not all(names):
        raise UserError(f"--methods '{methods}': write names with commas between them.")
    problems = [problem for name in names for problem in unknown(METHODS, name)]
    if problems:
        raise ConfigError(problems)
    return names


def _falling(peak: Callable[[int], int], vary: str, step: int) -> str:
    """Say that a setting needs less the larger it is, if it does."""
    try:
        falls = peak(2 * step) < peak(step)
    except UserError:  # such as a width that it does not divide
        falls = False
    return f" It needs less with a larger {vary}; fit finds what needs more." if falls else ""


def _check_target(target: str) -> None:
    if target not in TARGETS:
        raise UserError(f"--target '{target}': write {' or '.join(TARGETS)}.")
