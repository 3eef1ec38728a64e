"""``run``: one method on one task, for one or several seeds."""

import logging
import sys
from collections.abc import Sequence
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
    fail,
    print_json,
    set_up_logging,
    stdout_console,
)
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.config import RunConfig, RunRequest
    from harness.record import Record
    from harness.run_options import RunOptions

logger = logging.getLogger(__name__)

EXAMPLES = examples(
    "harness run --method mp_ismoe --task vqa",
    "harness run --method lst --task vqa --recipe full --seeds 3 --set train.lr=2e-3",
)


@options.with_request
def run(
    *,
    method: Annotated[str, typer.Option(help="Method, or method@preset.")],
    task: Annotated[str, typer.Option(help="Task, or task@recipe.")],
    request: "RunRequest",
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    budget: options.Budget = None,
    fill_budget: options.FillBudget = None,
    output: Output = Path("runs"),
    tracking_uri: options.TrackingUri = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Run one method on one task.

    The Record is kept in the output folder. Repeat an interrupted command to go on.
    """
    from harness.config import resolve

    set_up_logging(verbose, quiet)
    refuse_lists("method", method)
    refuse_lists("task", task)
    request = replace(request, method=method, task=task)
    all_seeds = chosen_seeds(seed, seeds)
    request = within_budget(request, budget, fill_budget)
    configs = [resolve(replace(request, seed=one)) for one in all_seeds]
    from harness.run_options import RunOptions

    run_options = RunOptions(output, tracking_uri, -1 if quiet else verbose)
    records = _run_and_show(configs, run_options, as_json)
    if as_json:
        documents = [record.model_dump(mode="json", by_alias=True) for record in records]
        print_json(documents if seeds else documents[0])
    return exit_code(records)


def within_budget(
    request: "RunRequest", budget: str | None, fill_budget: str | None, of_many: bool = False
) -> "RunRequest":
    """Return the request as the budget allows it, and say on stderr what it will need.

    Without a budget, and with nothing that would fill one, the request stays as it is.

    Args:
        request: the run, of any seed.
        budget: a size, or a method that needs as much.
        fill_budget: the whole number of the method that may fill it, or ``auto``.
        of_many: whether the method is one of several, which need not have that number.

    Raises:
        UserError: it does not fit, or nothing of that name can grow.
    """
    if budget is None and fill_budget is None:
        return request
    from harness.run_budget import BudgetRequest, hold
    from reports.tables import gib

    if budget is None:
        raise UserError(
            f"--fill-budget {fill_budget}: there is nothing to fill; give --budget too."
        )
    held = hold(request, BudgetRequest(budget, fill_budget, of_many))
    logger.info(
        "%s on %s%s: %s GiB of %s GiB (predicted)%s",
        request.method,
        request.task,
        f" with {held.filled}" if held.filled else "",
        gib(held.peak_bytes),
        gib(held.budget_bytes),
        "; nothing of it grows to fill them" if fill_budget and not held.filled else "",
    )
    return held.request


def _run_and_show(
    configs: Sequence["RunConfig"], options: "RunOptions", as_json: bool
) -> list["Record"]:
    """Run one after the other; show each table, and the comparison, unless JSON is wanted."""
    from harness.runner import run as run_one
    from reports.formats import Report
    from reports.tables import run_table

    records: list[Record] = []
    for resolved in configs:
        records.append(run_one(resolved, options))
        if not as_json:
            stdout_console().print(run_table(records[-1]))
        if records[-1].status == "cancelled":
            break
    if not as_json and len(records) > 1:
        stdout_console().print(Report(records).table())
    return records


def refuse_lists(option: str, text: str) -> None:
    """Raise UserError where one name is wanted, and several or a group were typed."""
    from harness.cards import ALL, METHODS, task_groups

    groups = task_groups() if option == "task" else {ALL: tuple(METHODS.names())}
    if members := groups.get(text.partition("@")[0]):
        raise UserError(
            f"--{option} '{text}' is a group of {len(members)} {option}s, and `run` takes one; "
            f"`harness compare --{option}s {text}` takes them all."
        )
    if "," in text:
        names = [name.strip() for name in text.split(",")]
        raise UserError(
            f"--{option} '{text}' names {len(names)} {option}s, and `run` takes one; "
            f"`harness compare --{option}s {text}` takes them all."
        )


def chosen_seeds(seed: int | None, seeds: str | None) -> list[int]:
    """Return the seeds to run: one of ``--seed``, or those of ``--seeds``.

    Raises:
        UserError: both were given, or ``--seeds`` is neither a count nor a list.
    """
    if seeds is None:
        return [seed or 0]
    if seed is not None:
        raise UserError(f"--seed {seed} and --seeds {seeds} exclude each other; give one.")
    parts = [part.strip() for part in seeds.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(
            f"--seeds '{seeds}': write a count such as 3, or different seeds such as 3,7."
        )
    if len(parts) > 1:
        return [int(part) for part in parts]
    if int(seeds) < 1:
        raise UserError(f"--seeds '{seeds}': a count is 1 or more.")
    return list(range(int(seeds)))


def exit_code(records: "Sequence[Record]") -> int:
    """Return the exit code of some runs, and say on stderr which of them did not end well."""
    code = 0
    for record in records:
        if record.status == "cancelled":
            print("Interrupted; the state is kept. Repeat the command to go on.", file=sys.stderr)
            return 130
        if record.status != "done":
            name = f"{record.method} on {record.task}, seed {record.seed},"
            code = fail(f"{name} ended as {record.status}: {record.error}", 3)
    return code
