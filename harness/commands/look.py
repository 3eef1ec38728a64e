"""``list``, ``show``, ``docs`` and ``report``: look at what there is."""

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
    save,
    set_up_logging,
    short_lived,
    stdout_console,
)

if TYPE_CHECKING:
    from harness.record import Record
    from reports.formats import Report
    from reports.studies import StudyForms

LIST_EXAMPLES = examples("harness list", "harness list methods --json")
SHOW_EXAMPLES = examples("harness show mp_ismoe", "harness show lst --backbone t5-base")
DOCS_EXAMPLES = examples("harness docs", "harness docs mp_ismoe lst --output pages")
REPORT_EXAMPLES = examples(
    "harness report --output runs --to report.html",
    "harness report runs/studies/NAME.json --format tex",
)


def list_entries(
    kind: Annotated[str | None, typer.Argument(help="methods, tasks or backbones.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """List methods, tasks and backbones."""
    from harness import listing

    set_up_logging(verbose)
    data = listing.catalogue(kind)
    if as_json:
        print_json(data)
    else:
        listing.print_catalogue(data, stdout_console())


def show(
    name: Annotated[str, typer.Argument(help="A listed name, or train, features or memory.")],
    backbone: Annotated[
        str | None, typer.Option(help="Count a method's trainable parameters on this backbone.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Explain a method, task or backbone with its settings.

    With --backbone, count what a method trains there instead: no weights are needed.
    """
    from harness import listing

    set_up_logging(verbose)
    if backbone is not None:
        from harness.counting import compare_counts

        counts = compare_counts(name, backbone)
        if as_json:
            print_json(counts)
        else:
            listing.print_counts(counts, stdout_console())
        return
    descriptions = listing.describe(name)
    if as_json:
        print_json(descriptions)
    else:
        listing.print_descriptions(descriptions, stdout_console())


def docs(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Methods; all, with an index, if none is named."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path("docs/methods"),
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Write a page about each method, in Markdown.

    It tells what trains, where the gradient flows, what it costs, and what the source leaves open.
    """
    from harness import pages
    from harness.record import check_writable, write_atomic

    set_up_logging(verbose)
    content = pages.pages(names or ())
    check_writable(output)
    paths = [write_atomic(output / name, text.encode()) for name, text in content.items()]
    if as_json:
        print_json({"files": [str(path) for path in paths]})
    else:
        print("\n".join(f"Wrote {path}" for path in paths))


@short_lived()
def report(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="A study's document, or a file of `harness memory measure`; default: the runs in "
            "--output.",
        ),
    ] = None,
    output: Output = Path("runs"),
    form: Annotated[
        str | None,
        typer.Option("--format", help="html, md, tex, csv or parquet; default: a table."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="File to write, whose suffix names the format where --format does not."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The same as --format md.")] = False,
    allow_unfair: Annotated[
        bool, typer.Option("--allow-unfair", help="Rank runs that differ in more than the method.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Compare the runs of an output folder, or show a study or a file of measured steps.

    HTML and parquet go to report.html and report.parquet in --output where --to names no file,
    those of a study to study.html and study.parquet beside its figures.
    """
    from harness.errors import UserError
    from reports.formats import FILES, chosen_format

    set_up_logging(verbose)
    if markdown and form not in (None, "md"):
        raise UserError(f"--markdown is --format md, and --format '{form}' is another. Give one.")
    chosen = chosen_format("md" if markdown else form, to)
    if file is not None and file.parent.name != "studies":
        if chosen is not None:
            raise UserError(f"{file}: --format and --to are not for measured steps; see --json.")
        _show_steps(file, as_json)
        return
    found, problems = (_study(file), []) if file else _comparison(output, allow_unfair)
    if chosen is not None:
        made = found.content(chosen)
        if to is None and chosen not in FILES and not as_json:
            print(made.decode(), end="")
            return
        folder = output if file is None else file.with_suffix("")
        path = to or folder / f"{'report' if file is None else 'study'}.{chosen}"
        told = {"file": str(path), "format": chosen, "records": len(found.records)}
        _write_report(path, made, told | {"unreadable": problems} if as_json else None)
    elif as_json:
        print_json(found.data())
    else:
        stdout_console().print(found.table())


def _comparison(output: Path, allow_unfair: bool) -> tuple["Report", list[str]]:
    """Return the runs of an output folder to report on, and what could not be read."""
    from reports.formats import Report

    records, problems = readable_records(output)
    return Report(records, problems, output, allow_unfair), problems


def _study(path: Path) -> "StudyForms":
    from harness.study import read_study, study_records
    from reports.studies import StudyForms

    study = read_study(path)
    return StudyForms(study, study_records(study, path.parent.parent))


def readable_records(output: Path) -> tuple[list["Record"], list[str]]:
    """Return an output folder's records, and tell on stderr which files are none.

    Raises:
        UserError: no record can be read.
    """
    from harness.errors import UserError
    from harness.record import RecordStore

    records, problems = RecordStore(output).readable()
    if problems and not records:
        raise UserError(
            f"--output {output}: {len(problems)} files, none of them a readable record. "
            f"{problems[0]}"
        )
    if not records:
        raise UserError(f"--output {output}: there are no records. `harness run` makes them.")
    for problem in problems:
        print(f"Left out: {problem}", file=sys.stderr)
    return records, problems


def _write_report(path: Path, content: bytes, told: dict[str, Any] | None) -> None:
    """Write a report and say where, as JSON where that is given."""
    save(path, content)
    if told is None:
        print(f"Wrote {path}")
    else:
        print_json(told)


def _show_steps(path: Path, as_json: bool) -> None:
    from reports.measured_steps import load_steps, steps_table

    document = load_steps(path)
    if as_json:
        print_json(document)
    else:
        stdout_console().print(steps_table(document))
