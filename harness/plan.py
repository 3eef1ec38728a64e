"""A matrix of runs, methods x tasks x seeds, resolved as a whole before anything runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.cards import ALL, METHODS, TASKS, task_groups
from harness.config import RunConfig, RunRequest, resolve
from harness.errors import ConfigError, UserError, did_you_mean
from harness.registry import unknown
from harness.typed_values import Scalar, read_yaml, typed

Made = TypeVar("Made")


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
class Entry:
    """A method or task of a matrix.

    Attributes:
        name: with ``@preset`` or ``@recipe``.
        of_group: whether only a group named it.
        overrides: ``section.field=value`` that it alone has.
    """

    name: str
    of_group: bool = False
    overrides: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name, with what sets it apart."""
        return f"{self.name} ({', '.join(self.overrides)})" if self.overrides else self.name


class _MatrixRow(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    settings: dict[str, Scalar] = Field(default_factory=dict)


class _Matrix(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: list[_MatrixRow] = Field(min_length=1)


def make_plan(
    methods: Sequence[Entry],
    tasks: str,
    seeds: Sequence[int],
    request: RunRequest,
    hold: Callable[[RunRequest], RunRequest] = lambda request: request,
) -> Plan:
    """Resolve every run of a matrix.

    Args:
        methods: see :func:`named_methods` and :func:`read_matrix`.
        tasks: names or groups with commas between them; a recipe may stand behind either.
        seeds: of every pair.
        request: what all runs share; its method, task and seed are not read.
        hold: returns a pair's request as a budget allows it, or raises UserError.

    Raises:
        ConfigError: a pair that was named cannot be run, or nothing can; with every problem.
    """
    left_out: dict[str, str] = {}

    def resolvable(task: Entry, method: Entry) -> RunRequest:
        problems = [*_unknown_task(task.name), *unknown(METHODS, method.name)]
        if problems:
            raise ConfigError(problems)
        settings = (*request.overrides, *method.overrides)
        own = replace(request, method=method.name, task=task.name, overrides=settings)
        own = _with_folder(own)
        for seed in seeds:
            resolve(replace(own, seed=seed))
        return own

    def held(task: Entry, method: Entry) -> list[RunConfig]:
        own = hold(requests[task, method])
        return [resolve(replace(own, seed=seed)) for seed in seeds]

    # Every problem at once, before a budget is looked at or anything is tuned.
    requests = _of_each(product(_tasks(tasks), methods), resolvable, left_out)
    configs = _of_each(requests, held, left_out)
    return Plan(tuple(chain.from_iterable(configs.values())), left_out)


def _of_each(
    pairs: Iterable[tuple[Entry, Entry]],
    make: Callable[[Entry, Entry], Made],
    left_out: dict[str, str],
) -> dict[tuple[Entry, Entry], Made]:
    """Return what is made of every pair; add to ``left_out`` what only a group named and fails.

    Raises:
        ConfigError: a pair that was named fails, or all do; with every problem.
    """
    made: dict[tuple[Entry, Entry], Made] = {}
    problems: dict[str, None] = {}
    for task, method in pairs:
        try:
            made[task, method] = make(task, method)
        except UserError as error:
            reasons = error.problems if isinstance(error, ConfigError) else (str(error),)
            if task.of_group or method.of_group:
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


def read_matrix(path: Path) -> list[Entry]:
    """Return the methods of a file: ``rows``, each with a ``method`` and its ``settings``.

    Raises:
        ConfigError: with every problem of the file.
        UserError: it cannot be read, or is no YAML.
    """
    try:
        matrix = _Matrix.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigError(
            [
                f"--matrix {path}: {'.'.join(map(str, item['loc']))}: {item['msg']}. Write rows, "
                "such as 'rows: [{method: lst, settings: {train.lr: 0.001}}]'."
                for item in error.errors()
            ]
        ) from None
    return [
        Entry(row.method, overrides=tuple(f"{f}={typed(v)}" for f, v in row.settings.items()))
        for row in matrix.rows
    ]


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
