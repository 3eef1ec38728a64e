"""``data show`` and ``data check``: what a dataset's folder must hold, and whether it does."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.common import Json, Verbose, examples, print_json, set_up_logging

DATA_EXAMPLES = examples(
    "harness data show vqa --dataset daquar --example /tmp/daquar",
    "harness data check sst2 --data-dir data/SST-2",
)

HELP = "Show what a dataset's folder must hold, and check it."

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Task = Annotated[str, typer.Argument(help="A task.")]
Dataset = Annotated[
    str | None, typer.Option(help="One of its datasets; default: all, or its first.")
]


@app.command("show", epilog=DATA_EXAMPLES)
def show(
    task: Task,
    dataset: Dataset = None,
    example: Annotated[
        Path | None, typer.Option(help="Write a tiny folder of that layout here.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Show what the folder of a task's datasets must hold."""
    from harness.datasets import describe_datasets, write_example

    set_up_logging(verbose)
    described = describe_datasets(task, dataset)
    if example is not None:
        write_example(task, dataset, example)
    if as_json:
        print_json(described)
        return
    for item in described:
        print(f"{item['name']} ({item['source']}, {item['licence']}): {item['summary']}")
        for file, content in item["layout"].items():
            print(f"  {file}: {content}")
    if example is not None:
        print(f"An example is in {example}.")


@app.command("check", epilog=DATA_EXAMPLES)
def check(
    task: Task,
    dataset: Dataset = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the dataset.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Read a dataset whole, every image included, and say what there is."""
    from harness.datasets import check_dataset

    set_up_logging(verbose)
    facts = check_dataset(task, dataset, data_dir)
    if as_json:
        print_json(facts)
    else:
        notices = facts.pop("notices")
        print("\n".join([*(f"{name}: {value}" for name, value in facts.items()), *notices]))
