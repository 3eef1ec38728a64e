"""``pretrain``, ``sync``, ``bench`` and ``doctor``: weights, MLflow, measurements, the machine."""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.commands.common import (
    Json,
    Output,
    Quiet,
    Verbose,
    examples,
    print_json,
    set_up_logging,
)
from harness.errors import UserError

PRETRAIN_EXAMPLES = examples(
    "harness pretrain scenes_vl",
    "harness pretrain scenes_vl --minutes 5 --output runs/small --seed 1",
)
SYNC_EXAMPLES = examples(
    "harness sync", "harness sync --output runs --tracking-uri http://localhost:5000"
)
BENCH_EXAMPLES = examples("harness bench", "harness bench loop --json")
DOCTOR_EXAMPLES = examples("harness doctor", "harness doctor --json")


def pretrain(
    name: Annotated[str, typer.Argument(help="Backbone that can be pretrained here.")],
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Minutes to train for, on a wall clock.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps to train for instead.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of data, weights and masks.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:INDEX.")] = "cpu",
    output: Annotated[
        Path | None, typer.Option(help="Folder of the weights; default: runs/pretrained/NAME.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Pretrain a bundled backbone.

    Use the result with `harness run --weights FOLDER`.
    """
    set_up_logging(verbose, quiet)
    if minutes and steps:
        raise UserError(f"--minutes {minutes:g} and --steps {steps} exclude each other; give one.")
    folder = output or Path("runs") / "pretrained" / name
    settings = {"minutes": minutes, "steps": steps, "seed": seed, "threads": threads}
    train = pretraining_of(name)
    from harness.model import pick_device
    from harness.record import check_writable

    chosen = str(pick_device(device))
    check_writable(folder)
    scores = train(folder, device=chosen, **settings)
    if as_json:
        print_json(scores)
    else:
        print("\n".join(f"{key}: {value}" for key, value in scores.items()))
        print(f"Weights are in {folder}.")


def pretraining_of(name: str) -> Callable[..., dict[str, Any]]:
    """Return the function that pretrains a backbone.

    Raises:
        UserError: there is no such backbone, or it has no pretraining.
    """
    from harness.cards import BACKBONES

    package = BACKBONES.card(name).implementation.rpartition(":")[0].rpartition(".")[0]
    if importlib.util.find_spec(f"{package}.pretraining") is None:
        raise UserError(f"Backbone '{name}' cannot be pretrained here; it has no pretraining.")
    return importlib.import_module(f"{package}.pretraining").pretrain


def sync(
    output: Output = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server or database; default: in the output.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Bring MLflow up to date from the records of an output folder."""
    from harness.record import RecordStore
    from harness.tracking import sync as sync_records

    set_up_logging(verbose)
    if not any(RecordStore(output).folder.glob("*.json")):
        raise UserError(f"--output {output}: there are no records. `harness run` makes them.")
    outcomes = {path.stem: warning for path, warning in sync_records(tracking_uri, output)}
    if as_json:
        print_json(outcomes)
    else:
        for run, warning in outcomes.items():
            print(f"{run}  {warning or 'up to date'}")


def bench(
    name: Annotated[
        str | None,
        typer.Argument(
            help="startup, loop, job, prediction, features, compile, experts, low_bits; default: "
            "all."
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Measure the harness itself, and what its methods promise, on an idle machine.

    startup: whole processes of the quick commands. loop: the training loop against a bare PyTorch
    loop. job: wall-clock time and memory of the main job. prediction: predicted steps of T5.
    features: a study with and without stored features. compile: compiled steps against eager ones.
    experts: many experts against few, and against a loop over them. low_bits: frozen forwards
    against dense ones.
    """
    from harness.benchmarks import lines, measure

    set_up_logging(verbose)
    results = []
    try:
        for figures in measure(name):
            results.append(figures)
            if not as_json:
                print("\n".join(lines(figures)), flush=True)
    finally:  # what was measured before one fails took its minutes
        if as_json and results:
            print_json(results)


def doctor(output: Output = Path("runs"), as_json: Json = False, verbose: Verbose = 0) -> None:
    """Show versions, threads, BLAS, GPUs, memory and disk."""
    from harness.doctor import examine, lines

    set_up_logging(verbose)
    facts = examine(output)
    if as_json:
        print_json(facts)
    else:
        print("\n".join(lines(facts)))
