"""``runs list|diff|rm|gc``: the runs of an output folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.common import (
    Json,
    Output,
    Verbose,
    examples,
    print_json,
    set_up_logging,
)

if TYPE_CHECKING:
    from harness.cleaning import Item

EXAMPLES = examples(
    "harness runs list --method mp_ismoe --status done",
    "harness runs diff 0a1b2c3d 4e5f6071 --output runs",
)
LIST_EXAMPLES = examples(
    "harness runs list", "harness runs list --method lst --task vqa --status done --json"
)
DIFF_EXAMPLES = examples(
    "harness runs diff 0a1b2c3d 4e5f6071",
    "harness runs diff 0a1b2c3d other/records/0a1b2c3d4e5f6071.json --json",
)
RM_EXAMPLES = examples(
    "harness runs rm 0a1b2c3d", "harness runs rm 0a1b2c3d 4e5f6071 --output runs --yes"
)
GC_EXAMPLES = examples("harness runs gc", "harness runs gc --output runs --checkpoints --yes")

HELP = "List, compare and remove the runs of an output folder."

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Yes = Annotated[bool, typer.Option("--yes", help="Remove it; else only say what would be.")]


@app.command("list", epilog=LIST_EXAMPLES)
def list_runs(
    output: Output = Path("runs"),
    method: Annotated[
        str | None, typer.Option(help="Only runs of this method, or of method@preset.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Only runs of this task.")] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only runs that ended so: done, oom, diverged, failed, cancelled ..."),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """List runs by their start, one a line."""
    from harness import runs
    from reports.run_lists import list_lines

    set_up_logging(verbose)
    wanted = runs.Filter(method, task, status)
    rows = [runs.row(record) for record in runs.selected(runs.stored(output), wanted)]
    if as_json:
        print_json([vars(row) for row in rows])
    else:
        print("\n".join(list_lines(rows)) if rows else "There are no such runs.")


@app.command("diff", epilog=DIFF_EXAMPLES)
def diff(
    first: Annotated[str, typer.Argument(metavar="KEY", help="First digits, or a record's file.")],
    second: Annotated[str, typer.Argument(metavar="KEY", help="The other run, likewise.")],
    output: Output = Path("runs"),
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Show what tells two runs apart: settings, scores, parameters, memory and time.

    What is equal in both is not shown.
    """
    from harness import runs
    from harness.record import RecordStore
    from reports.run_lists import diff_lines

    set_up_logging(verbose)
    store = RecordStore(output)
    left, right = runs.find(first, store), runs.find(second, store)
    comparison = runs.compare_two(left, right)
    if as_json:
        print_json(vars(comparison))
    else:
        print("\n".join(diff_lines(left, right, comparison)))


@app.command("rm", epilog=RM_EXAMPLES)
def rm(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="First digits of each.")],
    output: Output = Path("runs"),
    yes: Yes = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Remove runs: the record and the artifacts of each, a checkpoint included.

    MLflow keeps its copy of them; delete it there.
    """
    from harness.cleaning import run_items
    from harness.record import RecordStore
    from harness.runs import by_key

    set_up_logging(verbose)
    store = RecordStore(output)
    records = {record.run_key: record for record in (by_key(key, store) for key in keys)}
    items = [item for record in records.values() for item in run_items(record, output)]
    _remove_and_tell(items, yes, as_json)
    if not as_json:
        print("MLflow's copy of a run is not removed; delete it in `harness ui`.")


@app.command("gc", epilog=GC_EXAMPLES)
def gc(
    output: Output = Path("runs"),
    checkpoints: Annotated[
        bool,
        typer.Option("--checkpoints", help="Also those of interrupted runs, which begin anew."),
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Remove what no run needs: orphaned artifacts, old checkpoints, features, temporary files.

    Features are computed again when a run wants them.
    """
    import sys

    from harness.cleaning import leftovers, links

    set_up_logging(verbose)
    items = leftovers(output, checkpoints=checkpoints)
    for link in links(output):
        print(f"Left alone: {link} is a symbolic link.", file=sys.stderr)
    _remove_and_tell(items, yes, as_json)


def _remove_and_tell(items: "Sequence[Item]", yes: bool, as_json: bool) -> None:
    """Remove what was found where that was confirmed, and say what it was."""
    from harness.cleaning import remove
    from reports.run_lists import item_lines

    told = remove(items) if yes else items
    if as_json:
        print_json({"removed": yes, "items": [_document(item) for item in told]})
    elif not told:
        print("There is nothing to remove.")
    else:
        print("Removed:" if yes else "Would be removed, with --yes:")
        print("\n".join(item_lines(told)))


def _document(item: "Item") -> dict[str, Any]:
    return {"what": item.what, "path": str(item.path), "bytes": item.bytes}
