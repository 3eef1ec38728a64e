"""``plot``: draw the runs of an output folder."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.common import (
    Json,
    Output,
    Verbose,
    examples,
    print_json,
    save,
    set_up_logging,
)
from harness.commands.look import readable_records

EXAMPLES = examples(
    "harness plot score-memory --output runs", "harness plot curves --to curves.pdf"
)


def plot(
    name: Annotated[
        str | None, typer.Argument(help="Which plot; without a name, list what there is.")
    ] = None,
    output: Output = Path("runs"),
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="One .png, .svg or .pdf; default: all three in OUTPUT/figures."
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Draw the runs of an output folder, in panels of what may be compared.

    Limited and unfinished runs are not drawn.
    """
    from reports import plots

    set_up_logging(verbose)
    if name is None:
        _list_plots(as_json)
        return
    plots.check_name(name)
    formats = plots.FORMATS if to is None else (plots.format_of(to),)
    records, problems = readable_records(output)
    made = plots.render(name, records, formats)
    files = []
    for suffix, content in made.items():
        files.append(to or output / "figures" / f"{name}.{suffix}")
        save(files[-1], content)
    if as_json:
        print_json({"plot": name, "files": [str(f) for f in files], "unreadable": problems})
    else:
        print("\n".join(f"Wrote {file}" for file in files))


def _list_plots(as_json: bool) -> None:
    from reports import plots

    known = {name: plots.summary(name) for name in plots.names()}
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in known.items()])
    else:
        width = max(map(len, known))
        print("\n".join(f"{name:<{width}}  {summary}" for name, summary in known.items()))
