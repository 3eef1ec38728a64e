"""``predict``: a trained adaptation on new inputs."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.common import Json, Output, Verbose, examples, print_json, set_up_logging
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.adaptation_folder import SavedAdaptation
    from harness.predict import Prediction
    from harness.rows import NewRows

EXAMPLES = examples(
    "harness predict runs/artifacts/0123456789abcdef/adaptation --image photo.png "
    '--text "what is the color of the shape?"',
    "harness predict 0123 --output runs --input rows.jsonl --top 1",
)


def predict(
    path: Annotated[
        str,
        typer.Argument(
            help="An adaptation: its folder; an output folder that holds one; or the beginning of "
            "a run's key, looked up in --output.",
        ),
    ],
    image: Annotated[str | None, typer.Option(help="Image file of the one row.")] = None,
    text: Annotated[str | None, typer.Option(help="Text of the one row.")] = None,
    text_pair: Annotated[
        str | None, typer.Option(help="Second text of the one row, where the task is about pairs.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="File with one row a line.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder that paths in --input start from; default: that of the file."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Answers a row, the best first.")] = 3,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows at once; default: as the run was scored.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:INDEX.")] = "auto",
    weights: Annotated[
        str | None, typer.Option(help="The backbone's weights, where they have been moved.")
    ] = None,
    output: Output = Path("runs"),
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Answer new inputs with a trained adaptation.

    `harness run` leaves an adaptation in artifacts/RUN/adaptation of its output folder. Beside it
    only the backbone's weights are needed, and not the dataset.

    --image, --text and --text-pair are one row, of which a task asks for some: their answers are
    printed as lines. --input reads JSON lines
    such as {"image": "a.png", "text": "is it red?"} and prints one JSON line for each, with its
    answers and their probabilities: end the command with > answers.jsonl. --json prints one
    document for either.

    Images of another size are brought to that of the dataset, whatever their proportions. Texts
    that are longer than the backbone reads are cut, with a warning. Where any row is wrong, all
    problems are listed and nothing is answered.
    """
    from harness.adaptation_folder import find_adaptation, read_adaptation

    set_up_logging(verbose)
    new = asked_rows({"image": image, "text": text, "text_pair": text_pair}, rows, data_dir)
    saved = read_adaptation(find_adaptation(path, output))
    from harness.predict import predict as answer

    prediction = answer(saved, new, top=top, batch_size=batch_size, weights=weights, device=device)
    if prediction.cut:
        print(
            f"Warning: {len(prediction.cut)} of {len(new.rows)} texts are longer than the backbone "
            f"reads and were cut: {new.place(prediction.cut)}.",
            file=sys.stderr,
        )
    if as_json:
        print_json(_document(saved, new, prediction))
    elif rows is not None:
        for row in _answered(new, prediction):
            print(json.dumps(row))
    else:
        for answers in prediction.answers:
            for one in answers:
                print(f"{100 * one.probability:5.1f} %  {one.answer}")


def asked_rows(typed: dict[str, str | None], file: Path | None, data_dir: Path | None) -> "NewRows":
    """Return the rows of the command's options.

    Args:
        typed: the one row, by key.
        file: one of many rows.
        data_dir: what its paths start from.

    Raises:
        UserError: nothing was asked, it was asked in two ways, or the file cannot be read.
    """
    from harness.rows import one_row, read_lines

    names = [f"--{name.replace('_', '-')}" for name, value in typed.items() if value is not None]
    if file is not None and names:
        raise UserError(
            f"--input {file} and {' and '.join(names)} exclude each other: give a file of rows, or "
            "one row."
        )
    if file is not None:
        return read_lines(file, data_dir)
    if not names:
        raise UserError(
            "There is nothing to answer: give --image FILE and --text TEXT, or --input FILE.jsonl."
        )
    if data_dir is not None:
        raise UserError(
            f"--data-dir {data_dir} goes with --input; write the whole path in --image."
        )
    return one_row(typed)


def _answered(new: "NewRows", prediction: "Prediction") -> Iterator[dict[str, Any]]:
    """Yield each row with its answers, JSON-ready."""
    for row, answers in zip(new.rows, prediction.answers, strict=True):
        yield {**row, "answers": [one._asdict() for one in answers]}


def _document(saved: "SavedAdaptation", new: "NewRows", prediction: "Prediction") -> dict[str, Any]:
    config = saved.config
    return {
        "adaptation": str(saved.folder),
        "method": config.method.name,
        "task": config.task.name,
        "dataset": config.task.dataset,
        "backbone": config.backbone.name,
        "seed": config.seed,
        "cut_texts": len(prediction.cut),
        "rows": list(_answered(new, prediction)),
    }
