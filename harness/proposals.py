"""Optuna as the keeper of a study: which points wait, who works on them, how they ended."""

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import optuna
import psutil
from optuna.trial import FrozenTrial, Trial, TrialState

from harness.design import Design
from harness.errors import UserError
from harness.study import Cell
from harness.tracking import without_password

T = TypeVar("T")
CELLS, OWNER = "cells", "owner"
FIXED = "fixed_params"  # Optuna's name for what an enqueued trial must propose
TO_SIGN = timedelta(minutes=1)
"""How long a trial may be without an owner: who takes one signs it at once."""
WARM_UP_TRIALS = 5
MOST_REPEATS = 20
"""How often a sampler may propose what has been taken before it is told what to propose."""


class Proposals:
    """The points of one study in Optuna's storage, which several processes may share.

    A point's trial is RUNNING while somebody works on it, and has its cells once it has ended. A
    trial that was given up has failed without cells, and its point waits again.

    Args:
        study: Optuna's.
        design: whose points they are.
    """

    def __init__(self, study: optuna.Study, design: Design) -> None:
        self.study = study
        self.design = design
        self.is_grid = design.sampler == "grid"
        most = None if self.is_grid else int(design.trials or 0)
        self.wanted = sum(1 for _ in islice(design.points(), most))

    def begin(self, *, again: Callable[[Sequence[Cell]], bool], workers: int = 1) -> None:
        """Let wait what is missing: a grid's points, and what a process left that is gone.

        Args:
            again: whether a point that ended with these cells is to be run again.
            workers: that will take points at the same time.
        """
        for trial in self._trials(TrialState.RUNNING):
            if _is_abandoned(trial):
                self._put_back(trial.number, _params(trial))
        for trial in self._latest().values():
            if trial.state.is_finished() and again(_cells(trial)):
                self.study.enqueue_trial(trial.params)
        if self.is_grid:
            for point in spread(list(self.design.points()), workers):
                self.study.enqueue_trial(point, skip_if_exists=True)

    @property
    def finished(self) -> int:
        """Points that have ended."""
        return sum(trial.state.is_finished() for trial in self._latest().values())

    def take(self) -> tuple[Trial, dict[str, Any]] | None:
        """Take the next point to work on; None where no more are wanted.

        A sampler that proposes a point again is asked once more; what it repeats counts for
        nothing.
        """
        latest = self._latest()
        taken = {key for key, trial in latest.items() if trial.state != TrialState.WAITING}
        if len(taken) >= self.wanted:
            return None
        for _ in range(MOST_REPEATS):
            trial = self.study.ask()
            trial.set_user_attr(OWNER, _owner())
            is_fixed = FIXED in self._trials()[trial.number].system_attrs
            if self.is_grid and not is_fixed:  # another process took the last one
                self.study.tell(trial, state=TrialState.FAIL)
                return None
            point = self._suggested(trial)
            if is_fixed or _key(point) not in taken:
                return trial, point
            self.study.tell(trial, state=TrialState.FAIL)
        self.study.enqueue_trial(next(p for p in self.design.points() if _key(p) not in taken))
        return self.take()

    def _suggested(self, trial: Trial) -> dict[str, Any]:
        """Return the point that the sampler, or what is fixed, gives a trial."""
        point: dict[str, Any] = {}
        for name, levels in self.design.axes.items():
            if self.design.applies(name, point):
                point[name] = trial.suggest_categorical(name, tuple(levels))
        return point

    def finish(self, trial: Trial, cells: Sequence[Cell], values: Sequence[float] | None) -> None:
        """Keep how a point ended.

        Args:
            trial: the point's.
            cells: one for each seed.
            values: of the objectives; None where they cannot be told.
        """
        trial.set_user_attr(CELLS, [cell.model_dump(mode="json") for cell in cells])
        if values is not None:
            self.study.tell(trial, list(values))
        elif any(cell.status == "pruned" for cell in cells):
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, state=TrialState.FAIL)

    def put_back(self, trial: Trial) -> None:
        """Give a trial up; its point waits again."""
        self._put_back(trial.number, trial.params)

    def cells(self) -> list[Cell]:
        """Return the cells of all points that have ended."""
        return [cell for trial in self._latest().values() for cell in _cells(trial)]

    def _put_back(self, number: int, params: Mapping[str, Any]) -> None:
        # Another process may have given it up at the same moment.
        self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        self.study.enqueue_trial(dict(params))

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _latest(self) -> dict[str, FrozenTrial]:
        """Return by point the latest trial; those that were given up do not count."""
        return {
            _key(_params(trial)): trial
            for trial in self._trials()
            if trial.state != TrialState.FAIL or CELLS in trial.user_attrs
        }


def spread(points: Sequence[T], workers: int) -> list[T]:
    """Order a grid so that workers begin far from one another, and each goes on to a neighbour.

    Neighbours often share their frozen features: of two at the same time one would wait for the
    other to compute them, and of two in turn the second finds them.

    Args:
        points: neighbours side by side.
        workers: that take points at the same time.
    """
    length = max(1, ceil(len(points) / workers))
    parts = [points[start : start + length] for start in range(0, len(points), length)]
    return [part[i] for i in range(length) for part in parts if i < len(part)]


def _params(trial: FrozenTrial) -> Mapping[str, Any]:
    """Return a trial's point; whole also where its process ended before it had taken all of it."""
    fixed: Mapping[str, Any] = trial.system_attrs.get(FIXED, {})
    return {**fixed, **trial.params}


def _key(point: Mapping[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)


def _cells(trial: FrozenTrial) -> list[Cell]:
    return [Cell.model_validate(cell) for cell in trial.user_attrs.get(CELLS, [])]


def _owner() -> str:
    process = psutil.Process()
    return f"{socket.gethostname()} {process.pid} {process.create_time()}"


def _is_abandoned(trial: FrozenTrial) -> bool:
    """Return whether nobody works on a trial any more that has not ended."""
    owner = trial.user_attrs.get(OWNER)
    if owner is not None:
        return not _owner_lives(owner)
    began = trial.datetime_start
    return began is not None and datetime.now() - began > TO_SIGN


def _owner_lives(owner: str) -> bool:
    """Return whether a trial's process is at work; one on another machine is taken to be."""
    host, _, process = owner.partition(" ")
    if host != socket.gethostname():
        return True
    pid, _, began = process.partition(" ")
    try:
        return str(psutil.Process(int(pid)).create_time()) == began
    except psutil.NoSuchProcess:
        return False


def open_proposals(
    name: str, design: Design, directions: Sequence[str], output: Path, url: str | None
) -> Proposals:
    """Make Optuna's study, or open it where it is.

    Args:
        name: of the study.
        design: whose points it holds.
        directions: of the objectives, ``maximize`` or ``minimize``.
        output: folder whose ``studies/NAME.journal`` keeps it.
        url: of a database that keeps it instead.

    Raises:
        UserError: the storage does not answer, or its driver is not installed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            storage=_journal(output, name) if url is None else _database(url),
            study_name=name,
            directions=list(directions),
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP_TRIALS),
        )
    except Exception as error:
        if url is None:
            raise
        line = (str(error).strip().splitlines() or [""])[0].replace(url, without_password(url))
        raise UserError(
            f"--storage {without_password(url)} cannot be used ({type(error).__name__}: {line}). "
            "Write a database that answers, such as sqlite:///study.db or "
            "postgresql://USER@HOST/NAME with its driver installed."
        ) from error
    study.sampler = _sampler(design.sampler, seed=len(study.get_trials(deepcopy=False)))
    return Proposals(study, design)


def _journal(output: Path, name: str) -> optuna.storages.JournalStorage:
    path = output / "studies" / f"{name}.journal"
    path.parent.mkdir(parents=True, exist_ok=True)
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.storages.JournalStorage(backend)


def _database(url: str) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})


def _sampler(kind: str, seed: int) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler; a study that goes on draws with another seed than it began with."""
    if kind == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True)
    if kind == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)
