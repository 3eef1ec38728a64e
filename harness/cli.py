"""The command line: parse, call, print.

Exit codes: 0 done; 1 an unexpected error, which is a bug; 2 the request is wrong; 3 a run ended in
oom, diverged, failed or disk_full; 130 interrupted. Results go to stdout, all else to stderr.
Heavy imports stay inside the command bodies, so that ``--help``, ``list`` and ``show`` are quick.
"""

import importlib.util
import json
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.errors import RunError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.record import Record

app = typer.Typer(
    name="harness",
    help="Benchmark and ablation harness for memory-efficient transfer learning.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Output = Annotated[Path, typer.Option(help="Folder of records, checkpoints, MLflow and figures.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say more; show tracebacks.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every error becomes one message on stderr.

    Args:
        arguments: what was typed behind ``harness``.
    """
    try:
        check_own_packages()
        command = typer.main.get_command(app)
        return command(list(arguments), prog_name="harness", standalone_mode=False) or 0
    except (UserError, RunError) as error:
        return fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return fail(error.format_message(), error.exit_code)
    except Exception as error:
        if any(a == "--verbose" or (a[:2] == "-v" and set(a[1:]) == {"v"}) for a in arguments):
            traceback.print_exc()
        return fail(
            f"unexpected {type(error).__name__}: {error}. This is a bug in harness; "
            "repeat the command with -v to see where."
        )


def fail(message: str, code: int = 1) -> int:
    """Print ``Error: message`` to stderr and return ``code``."""
    print(f"Error: {message}", file=sys.stderr)
    return code


def check_own_packages() -> None:
    """Refuse to go on where a user's file hides one of the installed packages.

    Raises:
        UserError: ``import tasks``, for instance, would find another file.
    """
    root = Path(__file__).resolve().parent.parent
    for name in ("methods", "tasks", "reports"):
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin.parent.parent != root:
            raise UserError(
                f"'{origin or name}' hides the package '{name}' of harness in {root}. "
                "Rename it, or call the installed command `harness` from another folder."
            )


def set_up_logging(verbose: int, quiet: bool = False) -> None:
    """Send log lines to stderr: progress by default, more with ``-v``, warnings with ``-q``."""
    logging.basicConfig(
        stream=sys.stderr, format="%(message)s", level=logging.INFO if verbose else logging.WARNING
    )
    own = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    for name in ("harness", "methods", "tasks", "reports"):
        logging.getLogger(name).setLevel(own)


def console() -> "Console":
    """Return the console of results: plain words, no markup."""
    from rich.console import Console

    return Console(markup=False, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=1))


def examples(*commands: str) -> str:
    """Return the epilog of a verb."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


@app.command(
    epilog=examples(
        "harness run --method mp_ismoe --task vqa",
        "harness run --method lst --task vqa --recipe full --seeds 3 --set train.lr=2e-3",
    )
)
def run(
    method: Annotated[str, typer.Option(help="Method, or method@preset.")],
    task: Annotated[str, typer.Option(help="Task, or task@recipe.")],
    dataset: Annotated[str | None, typer.Option(help="Dataset of the task.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the dataset.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe of the task.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Backbone, or backbone@preset.")] = None,
    weights: Annotated[str | None, typer.Option(help="Folder with weights, or 'random'.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=c", help="Set one field; repeatable."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; 0 where none is given.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Several runs: '3' is seeds 0,1,2; '3,7' is these two.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:INDEX.")] = "auto",
    amp: Annotated[str | None, typer.Option(help="off or bf16.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Rows of each split; the run is marked as limited.")
    ] = None,
    output: Output = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server; 'off' for none; default: in the output.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
) -> int:
    """Run one method on one task and keep its Record; repeat the command to resume."""
    from harness.config import RunRequest, resolve

    set_up_logging(verbose, quiet)
    refuse_lists("method", method)
    refuse_lists("task", task)
    configs = [
        resolve(
            RunRequest(
                method=method,
                task=task,
                dataset=dataset,
                data_dir=data_dir,
                recipe=recipe,
                backbone=backbone,
                weights=weights,
                overrides=tuple(overrides or ()),
                config_file=config,
                seed=one,
                device=device,
                amp=amp,
                limit=limit,
            )
        )
        for one in chosen_seeds(seed, seeds)
    ]
    from harness.run import RunOptions
    from harness.run import run as run_one

    options = RunOptions(output, tracking_uri, -1 if quiet else verbose)
    records: list[Record] = []
    for resolved in configs:
        records.append(run_one(resolved, options))
        if not as_json:
            print_record(records[-1])
        if records[-1].status == "cancelled":
            break
    if as_json:
        documents = [record.model_dump(mode="json", by_alias=True) for record in records]
        print_json(documents if seeds else documents[0])
    elif len(records) > 1:
        print_comparison(records)
    return exit_code(records)


def refuse_lists(option: str, text: str) -> None:
    """Raise UserError where one name is wanted and several were typed."""
    if "," in text:
        names = [name.strip() for name in text.split(",")]
        raise UserError(
            f"--{option} '{text}' names {len(names)} {option}s, and `run` takes one. "
            f"Call it once for each, beginning with --{option} {names[0]}."
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
            code = fail(f"seed {record.seed} ended as {record.status}: {record.error}", 3)
    return code


@app.command("list", epilog=examples("harness list", "harness list methods --json"))
def list_entries(
    kind: Annotated[
        Literal["methods", "tasks", "backbones"] | None, typer.Argument(help="Only these.")
    ] = None,
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
        listing.print_catalogue(data, console())


@app.command(epilog=examples("harness show mp_ismoe", "harness show vqa --json"))
def show(
    name: Annotated[str, typer.Argument(help="A listed name, or train, features or memory.")],
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Explain a method, task or backbone: settings, presets, data, source."""
    from harness import listing

    set_up_logging(verbose)
    descriptions = listing.describe(name)
    if as_json:
        print_json(descriptions)
    else:
        listing.print_descriptions(descriptions, console())
