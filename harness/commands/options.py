"""Options of a run, which mean the same in every verb that runs something."""

import functools
from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from harness.config import RunRequest

R = TypeVar("R")

Dataset = Annotated[str | None, typer.Option(help="Dataset of the task.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the dataset (of several tasks: a folder for each), or "
        "hub:OWNER/NAME@REVISION."
    ),
]
Recipe = Annotated[str | None, typer.Option(help="Recipe of the task.")]
Backbone = Annotated[str | None, typer.Option(help="Backbone, or backbone@preset.")]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Folder or .safetensors file with weights, OWNER/NAME@REVISION of a hub, "
        "package:NAME/FOLDER, image=PLACE,text=PLACE for two towers, or 'random'."
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=c", help="Set one field; repeatable.")
]
ConfigFile = Annotated[Path | None, typer.Option(help="YAML file of settings.")]
Seed = Annotated[int | None, typer.Option(help="Seed; 0 where none is given.")]
Seeds = Annotated[
    str | None, typer.Option(help="Several runs: '3' is seeds 0,1,2; '3,7' is these two.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:INDEX.")]
Amp = Annotated[str | None, typer.Option(help="off, bf16 or auto.")]
GradCheckpoint = Annotated[
    bool | None, typer.Option("--grad-checkpoint", help="Run blocks again in the backward pass.")
]
Limit = Annotated[
    int | None, typer.Option(help="Rows of each split; the run is marked as limited.")
]
TrackingUri = Annotated[
    str | None, typer.Option(help="MLflow server; 'off' for none; default: in the output.")
]
Budget = Annotated[
    str | None,
    typer.Option(help="Most memory of training, such as 2GiB, or a method that needs as much."),
]
FillBudget = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD",
        help="What of the method fills it: auto, or a whole number such as experts.",
    ),
]
Workers = Annotated[int, typer.Option(min=1, help="Runs at a time, each in its own process.")]
Launcher = Annotated[
    str,
    typer.Option(
        metavar="WHERE",
        help="local processes; ray, this machine's Ray cluster; or ray://HOST:PORT. All nodes must "
        "share the output folder.",
    ),
]
RerunPolicy = Annotated[
    str,
    typer.Option(
        "--rerun",
        metavar="POLICY",
        help="Which ended runs to make again: never, failed (ended badly) or always.",
    ),
]


def with_request(command: Callable[..., R]) -> Callable[..., R]:
    """Give a verb the options of a run, in the place of its parameter ``request``.

    Args:
        command: takes a :class:`harness.config.RunRequest` without method, task and seed, and all
            else by keyword, too.

    Returns:
        The verb as Typer reads it: one option for each field.
    """
    shared = signature(_request).parameters
    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        parameters += shared.values() if name == "request" else [parameter]

    @functools.wraps(command)
    def verb(**typed: Any) -> R:
        of_run = {name: typed.pop(name) for name in shared}
        return command(request=_request(**of_run), **typed)

    vars(verb)["__signature__"] = Signature(parameters)
    verb.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return verb


def _request(
    *,
    dataset: Dataset = None,
    data_dir: DataDir = None,
    recipe: Recipe = None,
    backbone: Backbone = None,
    weights: Weights = None,
    overrides: Overrides = None,
    config: ConfigFile = None,
    device: Device = "auto",
    amp: Amp = None,
    grad_checkpoint: GradCheckpoint = None,
    limit: Limit = None,
) -> "RunRequest":
    from harness.config import RunRequest

    return RunRequest(
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
