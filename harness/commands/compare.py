"""``compare`` and ``plan``: several methods on several tasks, for one or several seeds."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import options
from harness.commands.common import (
    Json,
    Output,
    Quiet,
    Verbose,
    examples,
    fail,
    print_json,
    set_up_logging,
    stdout_console,
)
from harness.commands.run import chosen_seeds, exit_code, within_budget
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.config import RunRequest
    from harness.matrix import Made
    from harness.plan import Entry
    from harness.record import Record

EXAMPLES = examples(
    "harness compare --methods linear_probe,lst,unipt,mp_ismoe --tasks vqa --recipe quick",
    "harness compare --methods all --tasks glue --data-dir glue --seeds 3 --workers 2",
)
PLAN_EXAMPLES = examples(
    "harness plan --methods all --tasks vl --recipe quick",
    "harness plan --methods lst,mp_ismoe --tasks vqa --seeds 3 --no-predict",
)

Methods = Annotated[str | None, typer.Option(help="Methods with commas between them, or 'all'.")]
Matrix = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="YAML file of methods with settings of their own."),
]
Tasks = Annotated[
    str, typer.Option(help="Tasks with commas between them, or groups: glue, vl, all ...")
]


@options.with_request
def compare(
    *,
    tasks: Tasks,
    methods: Methods = None,
    matrix: Matrix = None,
    request: "RunRequest",
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    budget: options.Budget = None,
    fill_budget: options.FillBudget = None,
    tune: Annotated[
        int | None,
        typer.Option(min=2, help="Validation-only trials of each method's learning rate first."),
    ] = None,
    workers: options.Workers = 1,
    launcher: options.Launcher = "local",
    rerun: options.RerunPolicy = "failed",
    allow_unfair: Annotated[
        bool, typer.Option("--allow-unfair", help="Rank runs that differ in more than the method.")
    ] = False,
    output: Output = Path("runs"),
    tracking_uri: options.TrackingUri = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Run several methods on several tasks, and compare them.

    What was run before is not run again: repeat an interrupted command to go on. Pairs that only a
    group names and that cannot be run are told and left out. Every run has a process; one that
    fails, diverges or runs out of memory is an outcome, and the others go on.
    """
    from harness.matrix import run_matrix
    from harness.matrix_view import MatrixView
    from harness.plan import make_plan
    from harness.run_options import RunOptions, check_launcher, check_rerun
    from harness.tracking import check_tracking
    from harness.tune import Tuner

    verbosity = -1 if quiet else verbose
    set_up_logging(verbose, quiet)
    check_tracking(tracking_uri)  # before the budget is looked at or anything is tuned
    run_options = RunOptions(
        output, tracking_uri, verbosity, check_rerun(rerun), launcher=check_launcher(launcher)
    )
    tuner = Tuner(tune, workers, run_options) if tune else None
    hold = _holder(budget, fill_budget)
    if tuner is not None:
        hold = _both(hold, tuner)
    plan = make_plan(_entries(methods, matrix), tasks, chosen_seeds(seed, seeds), request, hold)
    for pair, reason in plan.left_out.items():
        print(f"Left out: {pair}: {reason}", file=sys.stderr)
    tuned = [found.data() for found in tuner.found] if tuner else []
    reporter = _Reporter(output, allow_unfair, tuned)
    made = run_matrix(plan.configs, workers, run_options, MatrixView(verbosity), reporter)
    if as_json:
        print_json(reporter.report.data())
    else:
        stdout_console().print(reporter.report.table())
    return max(exit_code(reporter.report.records), _not_begun(made))


@options.with_request
def plan(
    *,
    tasks: Tasks,
    methods: Methods = None,
    matrix: Matrix = None,
    request: "RunRequest",
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    budget: options.Budget = None,
    fill_budget: options.FillBudget = None,
    predict: Annotated[
        bool,
        typer.Option(help="Predict the peak memory of what is missing: seconds for each pair."),
    ] = True,
    output: Output = Path("runs"),
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> None:
    """Show what a comparison would run: what is done, what is missing, what it will need.

    Time is that of earlier runs in the output folder that differ in the seed alone.
    """
    from harness.plan import make_plan
    from harness.planned import plan_rows, plan_table

    set_up_logging(verbose, quiet)
    entries, hold = _entries(methods, matrix), _holder(budget, fill_budget)
    planned = make_plan(entries, tasks, chosen_seeds(seed, seeds), request, hold)
    rows = plan_rows(planned, output, predict=predict)
    if as_json:
        print_json({"rows": rows, "left_out": dict(planned.left_out)})
    else:
        stdout_console().print(plan_table(rows, planned.left_out))


def _entries(methods: str | None, matrix: Path | None) -> "list[Entry]":
    """Return the methods that were named, or those of the file."""
    from harness.matrix_file import read_matrix
    from harness.plan import named_methods

    if (methods is None) == (matrix is None):
        raise UserError("Give --methods, or --matrix with a file of them, and not both.")
    return read_matrix(matrix) if matrix is not None else named_methods(str(methods))


def _holder(budget: str | None, fill_budget: str | None) -> "Callable[[RunRequest], RunRequest]":
    """Return what holds one of many runs to the budget that was typed, if one was."""
    return partial(within_budget, budget=budget, fill_budget=fill_budget, of_many=True)


class _Reporter:
    """Writes a comparison's report and what its tuning found; ``report`` is what was written."""

    def __init__(self, output: Path, allow_unfair: bool, tuned: Sequence[dict[str, Any]]) -> None:
        from reports.formats import Report

        self.report = Report((), output=output, allow_unfair=allow_unfair)
        self._tuned = tuned

    def __call__(self, records: "Sequence[Record]", folder: Path) -> list[Path]:
        from harness.record import write_atomic

        self.report = replace(self.report, records=records)
        files = self.report.write(folder, "report")
        if self._tuned:
            tuned = json.dumps(self._tuned, indent=1).encode()
            files.append(write_atomic(folder / "tuning.json", tuned))
        print(f"Report: {folder / 'report.html'}", file=sys.stderr)
        return files


def _both(
    first: "Callable[[RunRequest], RunRequest]", second: "Callable[[RunRequest], RunRequest]"
) -> "Callable[[RunRequest], RunRequest]":
    return lambda request: second(first(request))


def _not_begun(made: "list[Made]") -> int:
    """Say on stderr which runs could not begin; return the exit code that belongs to them."""
    codes: list[Any] = [
        fail(f"{one.name}: {one.error}", one.exit_code) for one in made if one.record is None
    ]
    return max(codes, default=0)
