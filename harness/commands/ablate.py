"""``ablate``: a study over fields of the configuration."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands import options
from harness.commands.common import (
    Json,
    Output,
    Quiet,
    Verbose,
    examples,
    print_json,
    set_up_logging,
    stdout_console,
)
from harness.commands.run import chosen_seeds, refuse_lists
from harness.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from harness.config import RunConfig, RunRequest
    from harness.design import Design
    from harness.study import Objective, Study
    from reports.studies import StudyForms
    from tasks.base import Task, TaskData

EXAMPLES = examples(
    "harness ablate --method mp_ismoe --task vqa --recipe quick --workers 2 --set train.threads=1",
    "harness ablate --method mp_ismoe --task vqa --study paper-table-3 --seeds 3",
)
BAD_ENDS = ("oom", "diverged", "failed", "disk_full")


@options.with_request
def ablate(
    *,
    method: Annotated[str, typer.Option(help="Method, or method@preset.")] = "mp_ismoe",
    task: Annotated[str, typer.Option(help="Task, or task@recipe.")] = "vqa",
    study: Annotated[
        str, typer.Option(help="A study's name, or a YAML file of axes; 'list' shows the names.")
    ] = "bits-noise-experts",
    trials: Annotated[
        int | None, typer.Option(min=1, help="Points to choose, where the study is no grid.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="grid (every point), tpe, nsga2 or random.")
    ] = None,
    objectives: Annotated[
        str, typer.Option(help="What the sampler is told: score, or score,memory.")
    ] = "score",
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Database that keeps the study's points.")
    ] = None,
    request: "RunRequest",
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    budget: Annotated[
        str | None, typer.Option(help="Most memory of a point's training step, such as 2GiB.")
    ] = None,
    workers: options.Workers = 1,
    launcher: options.Launcher = "local",
    rerun: options.RerunPolicy = "never",
    output: Output = Path("runs"),
    tracking_uri: options.TrackingUri = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Run a study: every point of a grid, or points that Optuna chooses.

    The same point is never run twice, in this study or any other of the output folder. Repeat an
    interrupted command to go on. Tables, figures and the study's document lie in OUTPUT/studies.
    """
    from harness.design import design_names, read_design

    set_up_logging(verbose, quiet)
    if study == "list":
        about = {name: read_design(name).about for name in design_names()}
        if as_json:
            print_json(about)
        else:
            print("\n".join(f"{name}: {text}" for name, text in about.items()))
        return 0
    refuse_lists("method", method)
    refuse_lists("task", task)
    from harness.ablate import Ablation, Ask
    from harness.budget import read_budget
    from harness.run_options import RunOptions, check_launcher, check_rerun

    design = _sampled(read_design(study), sampler, trials)
    request = replace(request, method=method, task=task)
    ask = Ask(
        request,
        tuple(chosen_seeds(seed, seeds)),
        _objectives(objectives),
        read_budget(budget) if budget else None,
        storage,
    )
    verbosity = -1 if quiet else verbose
    run_options = RunOptions(
        output, tracking_uri, verbosity, check_rerun(rerun), launcher=check_launcher(launcher)
    )
    reporter = _Reporter(output)
    ablation = Ablation(design, ask, run_options, workers, _predictor(), reporter)
    done = ablation.run()
    _show(reporter.found, output, as_json)
    if ablation.interrupted:
        print("Interrupted; the state is kept. Repeat the command to go on.", file=sys.stderr)
        return 130
    statuses = {cell.status for cell in done.cells}
    return 0 if "done" in statuses and statuses.isdisjoint(BAD_ENDS) else 3


def _sampled(design: "Design", sampler: str | None, trials: int | None) -> "Design":
    """Return the design with the sampler and the number of points that were typed."""
    from harness.design import SAMPLERS

    if sampler is not None and sampler not in SAMPLERS:
        raise UserError(f"--sampler '{sampler}' is none.{did_you_mean(sampler, SAMPLERS)}")
    update = {"sampler": sampler or design.sampler, "trials": trials or design.trials}
    design = design.model_copy(update=update)
    if design.sampler != "grid":
        if design.trials is None:
            raise UserError(f"--sampler {design.sampler}: say how many points with --trials.")
        return design
    count = sum(1 for _ in design.points())
    if trials is not None and trials < count:
        raise UserError(
            f"--trials {trials}: a grid runs all of its {count} points; choose --sampler tpe, "
            "nsga2 or random to run fewer."
        )
    return design


def _objectives(text: str) -> tuple["Objective", ...]:
    """Return what the sampler is told."""
    names = tuple(name.strip() for name in text.split(","))
    if names not in (("score",), ("score", "memory")):
        raise UserError(f"--objectives '{text}': write score, or score,memory.")
    return names


def _predictor() -> "Callable[[RunConfig], int]":
    """Return what predicts a configured run's peak; a task's data are read once."""
    loaded: dict[str, tuple[Task, TaskData]] = {}

    def predict(config: "RunConfig") -> int:
        from harness.model import build_task
        from harness.run_budget import predicted_peak

        key = config.task.model_dump_json()
        if key not in loaded:
            task = build_task(config)
            loaded[key] = task, task.load(config.limit)
        return predicted_peak(config, *loaded[key])

    return predict


class _Reporter:
    """Writes a study's report in words and figures; ``found`` is what was written."""

    found: "StudyForms"

    def __init__(self, output: Path) -> None:
        self.output = output

    def __call__(self, study: "Study") -> list[Path]:
        from harness.study import study_records
        from reports.studies import StudyForms, save

        self.found = StudyForms(study, study_records(study, self.output))
        folder = self.output / "studies" / study.name
        return [*self.found.write(folder, "study"), *save(self.found.figures, folder)]


def _show(found: "StudyForms", output: Path, as_json: bool) -> None:
    if as_json:
        print_json(found.data())
        return
    stdout_console().print(found.table())
    print(f"Tables and figures: {output / 'studies' / found.study.name}", file=sys.stderr)
