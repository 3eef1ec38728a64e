"""A matrix of runs, methods x tasks x seeds, resolved as a whole before anything runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

from harness.cards import ALL, METHODS, TASKS, task_groups
from harness.config import RunConfig, RunRequest, resolve
from harness.errors import ConfigError, UserError, check_data_folder, did_you_mean
from harness.hub import pinned_data
from harness.registry import unknown

Made = TypeVar("Made")


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        configs: task by task, method by method, seed by seed.
        labels: for each of them the method's name, with the settings that a matrix gives it.
        left_out: by "method on task", why a pair that only a group named cannot be run.
    """

    configs: tuple[RunConfig, ...]
    labels: tuple[str, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Entry:
    """A method or task of a matrix.

    Attributes:
        name: with ``@preset`` or ``@recipe``.
        of_group: whether only a group named it.
        overrides: ``section.field=value`` that it alone has.
        place: where a file names it, for messages; empty where no file does.
    """

    name: str
    of_group: bool = False
    overrides: tuple[str, ...] = ()
    place: str = ""

    @property
    def label(self) -> str:
        """The name, with what sets it apart."""
        return f"{self.name} ({', '.join(self.overrides)})" if self.overrides else self.name

    def placed(self, problems: Iterable[str]) -> list[str]:
        """Return problems of this entry with the place where a file names it."""
        return [f"{self.place}: {text}" if self.place else text for text in problems]


class _UnknownNameError(ConfigError):
    """A method or task that there is not: wrong whatever stands beside it."""


def make_plan(
    methods: Sequence[Entry],
    tasks: str,
    seeds: Sequence[int],
    request: RunRequest,
    hold: Callable[[RunRequest], RunRequest] = lambda request: request,
) -> Plan:
    """Resolve every run of a matrix.

    Args:
        methods: see :func:`named_methods` and :func:`harness.matrix_file.read_matrix`.
        tasks: names or groups with commas between them; a recipe may stand behind either.
        seeds: of every pair.
        request: what all runs share; its method, task and seed are not read.
        hold: returns a pair's request as a budget allows it, or raises UserError.

    Raises:
        ConfigError: a name is unknown, a pair that was named cannot be run, or nothing can; with
            every problem.
    """
    left_out: dict[str, str] = {}

    def resolvable(task: Entry, method: Entry) -> RunRequest:
        names = [*_unknown_task(task.name), *method.placed(unknown(METHODS, method.name))]
        if names:
            raise _UnknownNameError(names)
        shared = _with_folder(replace(request, method=method.name, task=task.name))
        own = replace(shared, overrides=(*shared.overrides, *method.overrides))
        if problems := _problems(own, seeds):
            common = _problems(shared, seeds)
            of_row = method.placed(text for text in problems if text not in common)
            raise ConfigError([*(text for text in problems if text in common), *of_row])
        _check_folder(own)
        return own

    def held(task: Entry, method: Entry) -> list[RunConfig]:
        own = hold(requests[task, method])
        return [resolve(replace(own, seed=seed)) for seed in seeds]

    # Every problem at once, before a budget is looked at or anything is tuned.
    requests = _of_each(product(_tasks(tasks), methods), resolvable, left_out)
    configs = _of_each(requests, held, left_out)
    runs = [(config, method.label) for (_, method), all_ in configs.items() for config in all_]
    return Plan(tuple(run[0] for run in runs), tuple(run[1] for run in runs), left_out)


def _problems(request: RunRequest, seeds: Sequence[int]) -> list[str]:
    """Return all that is wrong with a request, for any seed."""
    found: dict[str, None] = {}
    for seed in seeds:
        try:
            resolve(replace(request, seed=seed))
        except ConfigError as error:
            found |= dict.fromkeys(error.problems)
    return list(found)


def _of_each(
    pairs: Iterable[tuple[Entry, Entry]],
    make: Callable[[Entry, Entry], Made],
    left_out: dict[str, str],
) -> dict[tuple[Entry, Entry], Made]:
    """Return what is made of every pair; add to ``left_out`` what only a group named and fails.

    Raises:
        ConfigError: a pair that was named fails, a name is unknown, or all fail; with every
            problem.
    """
    made: dict[tuple[Entry, Entry], Made] = {}
    problems: dict[str, None] = {}
    for task, method in pairs:
        try:
            made[task, method] = make(task, method)
        except UserError as error:
            reasons = error.problems if isinstance(error, ConfigError) else (str(error),)
            of_group = task.of_group or method.of_group
            if of_group and not isinstance(error, _UnknownNameError):
                left_out[f"{method.label} on {task.name}"] = " ".join(reasons)
            else:
                problems |= dict.fromkeys(reasons)
    if not problems and not made:
        problems |= dict.fromkeys(left_out.values())
    if problems:
        raise ConfigError(list(problems))
    return made


def named_methods(text: str) -> list[Entry]:
    """Return methods of names with commas between them; ``all`` is every method."""
    found: list[Entry] = []
    for name in _words("methods", text):
        if name == ALL:
            found += [Entry(method, True) for method in METHODS.names()]
        else:
            found.append(Entry(name))
    return _distinct(found)


def _unknown_task(text: str) -> list[str]:
    """Return what is wrong with the name of a task that may have been a group: one sentence."""
    name = text.partition("@")[0]
    if name in TASKS:
        return []
    hint = did_you_mean(name, [*TASKS.names(), *task_groups()])
    return [f"'{name}' is neither a task nor a group of tasks.{hint}"]


def _tasks(text: str) -> list[Entry]:
    groups = task_groups()
    found: list[Entry] = []
    for word in _words("tasks", text):
        name, at, recipe = word.partition("@")
        if name in groups:
            found += [Entry(f"{task}{at}{recipe}", True) for task in groups[name]]
        else:
            found.append(Entry(word))
    return _distinct(found)


def _words(option: str, text: str) -> Iterator[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UserError(f"--{option} '{text}': write names with commas between them, or a group.")
    yield from words


def _distinct(named: Sequence[Entry]) -> list[Entry]:
    """Return the first of every name; what was named in so many words is of no group."""
    explicit = {one.name for one in named if not one.of_group}
    return [Entry(name, name not in explicit) for name in dict.fromkeys(one.name for one in named)]


def _with_folder(request: RunRequest) -> RunRequest:
    """Return the request with the folder of its own dataset, where ``data_dir`` holds several."""
    card = TASKS.choose(request.task).card
    chosen = request.dataset or card.datasets[0].name
    if request.data_dir is None:
        return request
    folders = [d.folder for d in card.datasets if d.name == chosen and d.folder]
    for name in (*folders, chosen, card.name):
        if (request.data_dir / name).is_dir():
            return replace(request, data_dir=request.data_dir / name)
    return request


def _check_folder(request: RunRequest) -> None:
    """Raise UserError where the dataset is read from a folder, and none is given or there."""
    card = TASKS.choose(request.task).card
    chosen = request.dataset or card.datasets[0].name
    if all(d.name != chosen or d.source != "folder" for d in card.datasets):
        return
    if request.data_dir is None:
        raise UserError(
            f"Dataset '{chosen}' is read from a folder: give --data-dir DIR. "
            f"`harness data show {card.name}` prints what it must hold."
        )
    if pinned_data(request.data_dir) is None:
        check_data_folder(request.data_dir)
