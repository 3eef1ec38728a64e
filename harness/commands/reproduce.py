"""``reproduce``: the MP-ISMoE paper's tables and statements beside our own numbers."""

import sys
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
    stdout_console,
)
from harness.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from harness.record import Record

EXAMPLES = examples(
    "harness reproduce table2 --predict",
    "harness reproduce claims --output runs --markdown",
)
TABLES = ("table1", "table2", "table3", "table4")
CLAIMS = "claims"
INCONSISTENCIES = "inconsistencies"
NAMES = (*TABLES, CLAIMS, INCONSISTENCIES)
TEXT = "text"
FORMATS = (TEXT, "md", "json")


def reproduce(
    what: Annotated[
        str, typer.Argument(help="table1, table2, table3, table4, claims or inconsistencies.")
    ],
    output: Output = Path("runs"),
    predict: Annotated[
        bool,
        typer.Option(
            "--predict",
            help="Predict the memory and count the parameters of a table's rows that are not yet "
            "in OUTPUT/reproduce/predicted.json: up to half a minute a row.",
        ),
    ] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="text (the default), md or json.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The same as --format md.")] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Put our numbers beside the MP-ISMoE paper's.

    A table shows every printed number with ours, labelled as measured, stand-in, predicted or not
    yet. 'claims' decides fourteen statements of the paper from the runs in --output.
    'inconsistencies' recomputes what the paper's own numbers contradict.
    """
    set_up_logging(verbose)
    _check(what, predict)
    chosen = _chosen_format(form, markdown, as_json)
    if what in TABLES:
        _show_table(what, output, predict, chosen)
    elif what == CLAIMS:
        _show_claims(output, chosen)
    else:
        _show_inconsistencies(chosen)


def _chosen_format(form: str | None, markdown: bool, as_json: bool) -> str:
    """Return the only format that was asked for, or text.

    Raises:
        UserError: there is no such format, or several were asked for.
    """
    if form is not None and form not in FORMATS:
        raise UserError(f"--format '{form}': write {', '.join(FORMATS)}.")
    asked = {
        f"--format {form}": form,
        "--markdown": "md" if markdown else None,
        "--json": "json" if as_json else None,
    }
    given = {flag: name for flag, name in asked.items() if name}
    if len(set(given.values())) > 1:
        raise UserError(f"{' and '.join(given)} ask for different formats. Give one.")
    return next(iter(given.values()), TEXT)


def _check(what: str, predict: bool) -> None:
    if what not in NAMES:
        raise UserError(f"There is no '{what}' to reproduce.{did_you_mean(what, NAMES)}")
    if predict and what not in TABLES:
        raise UserError(f"--predict is for tables; '{what}' needs no prediction.")


def _show_table(name: str, output: Path, predict: bool, form: str) -> None:
    from harness.record import check_writable
    from reports.reproduce.layout import table_data, table_markdown, table_shown
    from reports.reproduce.predictions import Predictions, read_predictions, write_predictions
    from reports.reproduce.tables import reproduced_table

    records = _records(output)
    predictions: Predictions = read_predictions(output)
    if predict:
        from harness.reproduction import predict_table

        check_writable(output)
        predictions = predict_table(
            name, predictions, lambda found: write_predictions(output, found)
        )
    found = reproduced_table(name, records, predictions, _about_steps())
    console = stdout_console()
    _print(form, table_data(found), table_markdown(found), table_shown(found, console.width))


def _records(output: Path) -> "list[Record]":
    """Return the records of an output folder, and tell on stderr which files are none."""
    from harness.record import RecordStore

    records, problems = RecordStore(output).readable()
    for problem in problems:
        print(f"Left out: {problem}", file=sys.stderr)
    return records


def _about_steps() -> dict[str, str]:
    """Return, by backbone, the sizes of its step and what is known of its printed memory."""
    from harness.cards import BACKBONES
    from reports.published import BACKBONES as PRINTED

    about = {}
    for name in PRINTED:
        step = BACKBONES.choose(name).card.paper
        summed = (
            f" Printed memory seems to be summed over {step.gpus} GPUs." if step.gpus > 1 else ""
        )
        about[name] = f"predicted at a batch of {step.batch_size} on one GPU.{summed} {step.note}"
    return about


def _show_claims(output: Path, form: str) -> None:
    from reports.reproduce.claims_layout import claims_data, claims_markdown, claims_shown
    from reports.reproduce.verdicts import decide_all

    found = decide_all(_records(output), output=output)
    _print(form, claims_data(found), claims_markdown(found), claims_shown(found))


def _show_inconsistencies(form: str) -> None:
    from reports.reproduce.inconsistencies import inconsistencies
    from reports.reproduce.inconsistencies_layout import (
        inconsistencies_data,
        inconsistencies_markdown,
        inconsistencies_shown,
    )

    found = inconsistencies()
    data, text = inconsistencies_data(found), inconsistencies_markdown(found)
    _print(form, data, text, inconsistencies_shown(found))


def _print(form: str, data: Any, text: str, shown: Any) -> None:
    if form == "json":
        print_json(data)
    elif form == "md":
        print(text, end="")
    else:
        stdout_console().print(shown)
