"""A matrix of runs, methods x tasks x seeds, resolved as a whole before anything runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from harness.cards import ALL, METHODS, TASKS, task_groups
from harness.config import RunConfig, RunRequest, resolve
from harness.errors import ConfigError, UserError, did_you_mean


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        configs: task by task, method by method, seed by seed.
        left_out: by "method on task", why a pair that only a group named cannot be run.
    """

    configs: tuple[RunConfig, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class _Named:
    name: str
    of_group: bool


def make_plan(methods: str, tasks: str, seeds: Sequence[int], request: RunRequest) -> Plan:
    """Resolve every run of a matrix.

    Args:
        methods: names with commas between them; ``all`` is every method.
        tasks: names or groups, likewise; a recipe may stand behind either.
        seeds: of every pair.
        request: what all runs share; its method, task and seed are not read.

    Raises:
        ConfigError: a pair that was named cannot be run, or nothing can; with every problem.
    """
    pairs = list(product(_tasks(tasks), _methods(methods)))
    configs: list[RunConfig] = []
    left_out: dict[str, str] = {}
    problems: dict[str, None] = {}
    for task, method in pairs:
        own = replace(request, method=method.name, task=task.name)
        try:
            found = [resolve(replace(_with_folder(own), seed=seed)) for seed in seeds]
        except UserError as error:
            reasons = error.problems if isinstance(error, ConfigError) else (str(error),)
            if task.of_group or method.of_group:
                left_out[f"{method.name} on {task.name}"] = " ".join(reasons)
            else:
                problems |= dict.fromkeys(reasons)
            continue
        configs += found
    if not problems and not configs:
        problems |= dict.fromkeys(left_out.values())
    if problems:
        raise ConfigError(list(problems))
    return Plan(tuple(configs), left_out)


def _methods(text: str) -> list[_Named]:
    found: list[_Named] = []
    for name in _words("methods", text):
        if name == ALL:
            found += [_Named(method, True) for method in METHODS.names()]
        else:
            found.append(_Named(name, False))
    return _distinct(found)


def _tasks(text: str) -> list[_Named]:
    groups = task_groups()
    found: list[_Named] = []
    for word in _words("tasks", text):
        name, at, recipe = word.partition("@")
        if name in groups:
            found += [_Named(f"{task}{at}{recipe}", True) for task in groups[name]]
            continue
        if name not in TASKS:
            hint = did_you_mean(name, [*TASKS.names(), *groups])
            raise UserError(f"'{name}' is neither a task nor a group of tasks.{hint}")
        found.append(_Named(word, False))
    return _distinct(found)


def _words(option: str, text: str) -> Iterator[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UserError(f"--{option} '{text}': write names with commas between them, or a group.")
    yield from words


def _distinct(named: Sequence[_Named]) -> list[_Named]:
    """Return the first of every name; what was named in so many words is of no group."""
    explicit = {one.name for one in named if not one.of_group}
    return [_Named(name, name not in explicit) for name in dict.fromkeys(one.name for one in named)]


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
