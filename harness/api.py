"""The functions of the command line for Python: ``harness.run``, ``harness.compare`` and others.

Mistakes raise :class:`harness.errors.UserError` with the message that the command line prints.
"""

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, get_type_hints

from harness.arguments import check_types
from harness.errors import ConfigError, UserError, did_you_mean
from harness.flat import flatten
from harness.own_packages import check_own_packages

if TYPE_CHECKING:
    from typing import Unpack

    import pandas as pd

    from harness.config import RunConfig, RunRequest
    from harness.matrix import Made
    from harness.record import Record
    from harness.run_options import RunOptions

logger = logging.getLogger(__name__)

INTERRUPTED = 130
File = str | PathLike[str]
Names = str | Collection[str]
Seeds = int | Collection[int]


class Settings(TypedDict, total=False):
    """What runs may be told besides method, task and seed; each as on the command line.

    Attributes:
        dataset: of the task.
        data_dir: folder with the dataset, or ``hub:OWNER/NAME@REVISION``.
        recipe: of the task.
        backbone: its name, or ``backbone@preset``.
        weights: folder with weights, or ``"random"``.
        overrides: settings by dotted name, ``{"method.bits": 4}``, or by section,
            ``{"method": {"bits": 4}}``.
        config: YAML file of settings.
        device: ``auto`` (default), ``cpu``, ``cuda`` or ``cuda:INDEX``.
        amp: ``off``, ``bf16`` or ``auto``.
        grad_checkpoint: whether blocks are run again in the backward pass.
        limit: rows of each split; the run is marked as limited.
        budget: most memory of training, such as ``"2GiB"``, or a method that needs as much.
        fill_budget: whole number of the method that may fill it, or ``"auto"``: each method grows
            what its card names.
        output: folder of records, checkpoints and figures; default ``runs``.
        tracking_uri: MLflow's; default ``"off"``; None for the database in ``output``.
        rerun: which runs that have ended are made again: ``never``, ``failed`` (default) or
            ``always``.
        verbosity: -1 quiet, 0 progress on stderr (default), 1 with tracebacks.
    """

    dataset: str | None
    data_dir: File | None
    recipe: str | None
    backbone: str | None
    weights: str | None
    overrides: Mapping[str, Any] | None
    config: File | None
    device: str
    amp: str | None
    grad_checkpoint: bool | None
    limit: int | None
    budget: str | None
    fill_budget: str | None
    output: File
    tracking_uri: str | None
    rerun: str
    verbosity: int


def run(*, method: str, task: str, seed: int = 0, **settings: "Unpack[Settings]") -> "Record":
    """Run one method on one task and return the Record, whatever the outcome; see its ``status``.

    What was run before is not run again, and what was interrupted goes on. The run sets the
    threads and the global generator of torch in this process.

    Example:
        >>> import harness
        >>> record = harness.run(method="lst", task="vqa@quick", overrides={"train.lr": 2e-3})
        >>> record.metrics.test[record.metrics.primary]

    Args:
        method: its name, or ``method@preset``.
        task: its name, or ``task@recipe``.
        seed: of the run.
        **settings: see :class:`Settings`.

    Raises:
        UserError: the request is wrong.
        KeyboardInterrupt: after Ctrl-C; the state is kept, and the same call goes on.
    """
    _check("run", settings, method=(method, str), task=(task, str), seed=(seed, int))
    from harness.commands.run import refuse_lists
    from harness.config import resolve

    refuse_lists("method", method)
    refuse_lists("task", task)
    request = replace(_request(settings), method=method, task=task, seed=seed)
    resolve(request)  # every problem at once, before a budget is looked at
    options = _options(settings)
    return _run_one(resolve(_hold(request, settings)), options)


def compare(
    methods: Names,
    tasks: Names,
    seeds: Seeds = 1,
    *,
    workers: int = 1,
    launcher: str = "local",
    **settings: "Unpack[Settings]",
) -> list["Record"]:
    """Run several methods on several tasks and return the Records: task, method, seed.

    Pairs that only a group names and that cannot be run are left out with a warning. A run that
    fails is an outcome, and the others go on.

    Example:
        >>> import harness
        >>> records = harness.compare(["lst", "mp_ismoe"], ["vqa@quick"], seeds=3)
        >>> harness.frame(records).groupby("method")["score"].mean()

    Args:
        methods: names, ``all`` among them; in one text with commas, or in a list.
        tasks: names or groups of tasks, likewise.
        seeds: how many, from 0, or which.
        workers: runs at a time. One is run in this process; several have processes of their own,
            so that a script needs ``if __name__ == "__main__":`` around the call.
        launcher: ``local``; ``ray``, the Ray cluster of this machine, which is started where there
            is none; or ``ray://HOST:PORT``. All nodes must share the output folder.
        **settings: see :class:`Settings`.

    Raises:
        UserError: the request is wrong, or some runs could not begin; those that were made are
            kept, and the same call returns them when the rest can begin.
        KeyboardInterrupt: after Ctrl-C; the state is kept, and the same call goes on.
    """
    _check(
        "compare",
        settings,
        methods=(methods, Names),
        tasks=(tasks, Names),
        seeds=(seeds, Seeds),
        workers=(workers, int),
        launcher=(launcher, str),
    )
    from harness.plan import make_plan, named_methods
    from harness.run_options import check_launcher

    if workers < 1:
        raise UserError(f"workers={workers}: 1 or more.")
    options = replace(_options(settings), launcher=check_launcher(launcher))
    request = _request(settings)
    hold = partial(_hold, settings=settings, of_many=True)
    entries = named_methods(_words(methods))
    plan = make_plan(entries, _words(tasks), _seeds(seeds), request, hold)
    for pair, reason in plan.left_out.items():
        logger.warning("Left out: %s: %s", pair, reason)
    return _run_all(plan.configs, workers, options)


def records(output: File = "runs") -> list["Record"]:
    """Return the Records of an output folder, sorted by start.

    Files that are no readable Record are left out with a warning.

    Example:
        >>> import harness
        >>> [record.metrics.test for record in harness.records("runs") if record.method == "lst"]

    Args:
        output: the output folder.

    Raises:
        UserError: there are none.
    """
    from harness.runs import stored

    check_types({"output": (output, File)})
    return stored(Path(output))


def load_records(output: File = "runs") -> "pd.DataFrame":
    """Return the runs of an output folder as a tidy table: a row a run, sorted by start.

    The columns are those of :func:`reports.export.frame`: ``score`` is the primary metric on the
    test split as a fraction, bytes and seconds are in the names.

    Example:
        >>> import harness
        >>> runs = harness.load_records("runs")
        >>> runs.groupby("method")[["score", "memory.train_peak_bytes"]].mean()

    Args:
        output: the output folder.

    Raises:
        UserError: there are no records.
    """
    return frame(records(output))


def frame(records: Iterable["Record"]) -> "pd.DataFrame":
    """Return Records as the table of :func:`load_records`, in their order.

    Example:
        >>> import harness
        >>> harness.frame(harness.compare("lst,unipt", "vqa@quick"))[["method", "score"]]

    Args:
        records: such as :func:`compare` returns.
    """
    check_own_packages()
    from reports.export import frame as tidy

    return tidy(records)


def _check(function: str, settings: Mapping[str, Any], **own: tuple[Any, Any]) -> None:
    """Raise where the call cannot be meant: hidden packages, unknown settings, or wrong types.

    Args:
        function: its name.
        settings: see :class:`Settings`.
        **own: the function's own arguments, each with what it may be.
    """
    check_own_packages()
    kinds = get_type_hints(Settings)
    for name in settings:
        if name not in kinds:
            raise TypeError(
                f"harness.{function}() has no argument '{name}'.{did_you_mean(name, kinds)}"
            )
    check_types({**own, **{name: (value, kinds[name]) for name, value in settings.items()}})


def _request(settings: Settings) -> "RunRequest":
    """Return the request of no method and task yet."""
    from harness.config import RunRequest

    data_dir, config = settings.get("data_dir"), settings.get("config")
    return RunRequest(
        method="",
        task="",
        dataset=settings.get("dataset"),
        data_dir=None if data_dir is None else Path(data_dir),
        recipe=settings.get("recipe"),
        backbone=settings.get("backbone"),
        weights=settings.get("weights"),
        overrides=_overrides(settings.get("overrides") or {}),
        config_file=None if config is None else Path(config),
        device=settings.get("device", "auto"),
        amp=settings.get("amp"),
        grad_checkpoint=settings.get("grad_checkpoint"),
        limit=settings.get("limit"),
    )


def _options(settings: Settings) -> "RunOptions":
    from harness.run_options import RunOptions, check_rerun

    return RunOptions(
        output=Path(settings.get("output", "runs")),
        tracking_uri=settings.get("tracking_uri", "off"),
        verbosity=settings.get("verbosity", 0),
        rerun=check_rerun(settings.get("rerun", "failed")),
    )


def _overrides(overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """Return settings as ``--set`` takes them."""
    return tuple(f"{name}={_typed(name, value)}" for name, value in flatten(overrides))


def _typed(name: str, value: Any) -> str:
    """Return a value as it is typed: JSON, which is YAML, with numpy's numbers as numbers."""

    def plain(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else str(Path(value))

    try:
        return json.dumps(value, default=plain, ensure_ascii=False)
    except (TypeError, ValueError):
        raise UserError(
            f"overrides: '{name}' is {value!r}; write a number, a text, a path, or a list of these."
        ) from None


def _words(names: Names) -> str:
    return names if isinstance(names, str) else ",".join(names)


def _seeds(seeds: Seeds) -> list[int]:
    """Return the seeds that a count or a list stands for."""
    chosen = [int(s) for s in seeds] if isinstance(seeds, Collection) else list(range(seeds))
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(f"seeds={seeds!r}: write a count such as 3, or different seeds as [3, 7].")
    return chosen


def _hold(request: "RunRequest", settings: Settings, of_many: bool = False) -> "RunRequest":
    """Return the request as the budget allows it.

    Where it is one of many, a method without the field to fill just has to fit.
    """
    from harness.commands.run import within_budget

    return within_budget(request, settings.get("budget"), settings.get("fill_budget"), of_many)


def _run_one(config: "RunConfig", options: "RunOptions") -> "Record":
    """Run in this process; an interruption that the run has noted ends the caller, too."""
    from harness.runner import run

    record = run(config, options)
    if record.status == "cancelled":
        raise KeyboardInterrupt
    return record


def _run_all(configs: "Sequence[RunConfig]", workers: int, options: "RunOptions") -> list["Record"]:
    """Run every configuration and return the Records in their order.

    Raises:
        ConfigError: some could not begin.
    """
    here = workers == 1 and options.launcher == "local"
    made = _here(configs, options) if here else _in_workers(configs, workers, options)
    ended = [one.record for one in made if one.record is not None]
    if any(one.exit_code == INTERRUPTED for one in made) or any(
        record.status == "cancelled" for record in ended
    ):
        raise KeyboardInterrupt
    problems = [f"{one.name}: {one.error}" for one in made if one.record is None]
    if problems:
        raise ConfigError(problems)
    return ended


def _in_workers(
    configs: "Sequence[RunConfig]", workers: int, options: "RunOptions"
) -> list["Made"]:
    from harness.matrix import run_matrix
    from harness.matrix_view import MatrixView

    return run_matrix(configs, workers, options, MatrixView(options.verbosity))


def _here(configs: "Sequence[RunConfig]", options: "RunOptions") -> list["Made"]:
    from harness.matrix import Made

    made = []
    for config in configs:
        try:
            made.append(Made(config, _run_one(config, options)))
        except UserError as error:  # such as data that are missing: the other runs go on
            made.append(Made(config, None, str(error), error.exit_code))
    return made
