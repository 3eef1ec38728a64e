"""``compare``: several methods on several tasks, for one or several seeds."""

import sys
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
    fail,
    print_json,
    set_up_logging,
    stdout_console,
)
from harness.commands.look import comparison_data
from harness.commands.run import chosen_seeds, exit_code
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.plan import Plan
    from harness.record import Record
    from harness.run import RunOptions

EXAMPLES = examples(
    "harness compare --methods linear_probe,lst,unipt,mp_ismoe --tasks vqa --recipe quick",
    "harness compare --methods all --tasks glue --data-dir glue --seeds 3",
)


def compare(
    methods: Annotated[str, typer.Option(help="Methods with commas between them, or 'all'.")],
    tasks: Annotated[
        str, typer.Option(help="Tasks with commas between them, or groups: glue, vl, all ...")
    ],
    dataset: options.Dataset = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the dataset, or a folder for each task's; or hub:OWNER/NAME@REVISION."
        ),
    ] = None,
    recipe: options.Recipe = None,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    overrides: options.Overrides = None,
    config: options.ConfigFile = None,
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    device: options.Device = "auto",
    amp: options.Amp = None,
    grad_checkpoint: options.GradCheckpoint = None,
    limit: options.Limit = None,
    output: Output = Path("runs"),
    tracking_uri: options.TrackingUri = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Run several methods on several tasks, and compare them.

    What was run before is not run again: repeat an interrupted command to go on. Pairs that only a
    group names and that cannot be run are told and left out.
    """
    from harness.cards import task_groups
    from harness.config import RunRequest
    from harness.plan import make_plan

    set_up_logging(verbose, quiet)
    request = RunRequest(
        method="",
        task="",
        dataset=dataset,
        data_dir=data_dir,
        recipe=recipe,
        backbone=backbone,
        weights=weights,
        overrides=tuple(overrides or ()),
        config_file=config,
        device=device,
        amp=amp,
        grad_checkpoint=grad_checkpoint,
        limit=limit,
    )
    plan = make_plan(methods, tasks, chosen_seeds(seed, seeds), request)
    for pair, reason in plan.left_out.items():
        print(f"Left out: {pair}: {reason}", file=sys.stderr)

    from harness.run import RunOptions
    from reports.comparison import compare as compared
    from reports.tables import comparison_table

    records, code = _run_all(plan, RunOptions(output, tracking_uri, -1 if quiet else verbose))
    if as_json:
        print_json(comparison_data(compared(records)))
    else:
        stdout_console().print(comparison_table(records, task_groups()))
    return exit_code(records) or code


def _run_all(plan: "Plan", run_options: "RunOptions") -> tuple[list["Record"], int]:
    """Run one after the other; return the records, and the exit code of what could not begin."""
    from harness.run import run

    records: list[Record] = []
    code = 0
    for number, resolved in enumerate(plan.configs, 1):
        name = f"{resolved.method.label} on {resolved.task.name}, seed {resolved.seed}"
        if run_options.verbosity >= 0:
            print(f"Run {number} of {len(plan.configs)}: {name}", file=sys.stderr)
        try:
            records.append(run(resolved, run_options))
        except UserError as error:  # such as data that are missing: the other runs go on
            code = fail(f"{name}: {error}", error.exit_code)
            continue
        if records[-1].status == "cancelled":
            break
    return records, code
