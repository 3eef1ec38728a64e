"""Studies: Optuna proposes and keeps the points, worker processes run them.

A grid is enumerated exactly: its points wait in Optuna's study, and whoever works on the study,
here or on another machine, takes the next. A study that was killed goes on where it was: what has
ended stays, what was at work is taken up again, and its runs go on from their checkpoints.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock
from optuna.trial import Trial

from harness.cards import TASKS
from harness.config import RunConfig, RunRequest, resolve
from harness.design import Design, Point
from harness.dispatch import Ended, WorkerPool, make_pool
from harness.errors import ConfigError, UserError
from harness.groups import Group, save_group
from harness.known_runs import KnownRuns
from harness.matrix import RecordLog, check_options, warn_of_threads
from harness.matrix_view import MatrixView
from harness.proposals import open_proposals
from harness.record import Epoch, Record, RecordStore, content_hash
from harness.run_options import Rerun, RunOptions, ending_stands
from harness.study import Cell, Objective, Study, save_study
from reports.tables import gib

PRUNED = "pruned: "


@dataclass(frozen=True)
class Ask:
    """What was asked of a study beside its design.

    Attributes:
        request: what all runs share; its seed is not read.
        seeds: of every point.
        objectives: what Optuna's sampler is told: the validation score, and the peak memory.
        budget_bytes: the most that a training step may be predicted to need; None: no limit.
        storage: URL of Optuna's storage; None for a journal in the output folder.
    """

    request: RunRequest
    seeds: tuple[int, ...]
    objectives: tuple[Objective, ...] = ("score",)
    budget_bytes: int | None = None
    storage: str | None = None


@dataclass
class _Point:
    """A point at work: its cells and records by seed."""

    trial: Trial
    cells: dict[int, Cell]
    configs: Mapping[int, RunConfig]
    records: dict[int, Record] = field(default_factory=dict)


class Ablation:
    """Runs one study, and follows its runs.

    Args:
        design: of the study.
        ask: see :class:`Ask`.
        options: of every run.
        workers: processes at a time.
        predict: returns the peak of a configured training step, in bytes.
        report: writes a study's tables and figures and returns the files.

    Attributes:
        interrupted: whether Ctrl-C ended it.

    Raises:
        UserError: no point of the design can be run, a value of an axis is wrong in itself (see
            :meth:`harness.design.Design.wrong_values`), the storage does not answer, or see
            :func:`harness.matrix.check_options`.
    """

    def __init__(
        self,
        design: Design,
        ask: Ask,
        options: RunOptions,
        workers: int,
        predict: Callable[[RunConfig], int],
        report: Callable[[Study], list[Path]],
    ) -> None:
        self.view = MatrixView(options.verbosity)
        self.design, self.ask, self.options = design, ask, options
        self.workers, self.predict, self.report = workers, predict, report
        self.base = first_config(design, ask.request)
        if wrong := design.wrong_values(self.base):
            raise ConfigError(wrong)
        card = TASKS.card(self.base.task.name)
        self.primary = card.primary
        better = "maximize" if card.metrics[card.primary] == "max" else "minimize"
        directions = [{"score": better, "memory": "minimize"}[name] for name in ask.objectives]
        self.name = study_name(design, ask, self.base)
        check_options(options, [self.base])
        (options.output / "locks").mkdir(exist_ok=True)
        self.proposals = open_proposals(self.name, design, directions, options.output, ask.storage)
        self.known = KnownRuns(RecordStore(options.output).readable()[0])
        self.points: dict[int, _Point] = {}  # by job
        self.log = RecordLog(options, self.name)
        self.interrupted = False

    def run(self) -> Study:
        """Run what is missing and return the study's document.

        After Ctrl-C what was at work keeps its state, and the document says what is missing.
        """
        self.proposals.begin(again=self._is_wanted_again, workers=self.workers)
        wanted, done = self.proposals.wanted, self.proposals.finished
        self.view.start([], 0)
        self.view.expect(max(0, wanted - done) * len(self.ask.seeds))
        self.view.say(f"Study {self.name}: {done} of {wanted} points are done.")
        if self.options.launcher == "local":
            warn_of_threads([self.base] * (self.workers if done < wanted else 0), self.workers)
        try:
            with make_pool(self.workers, self.options, self) as pool:
                self._work(pool)
            self.view.close()
            study = self._save()
            self.log.add_report(self.report(study))
        finally:
            self.view.close()
            self.log.close()
        return study

    def _is_wanted_again(self, cells: Sequence[Cell]) -> bool:
        """Return whether a point is run again: the outcome of one of its runs does not stand."""
        rerun = self.options.rerun
        ran = [cell for cell in cells if cell.status != "pruned"]
        return rerun == "always" or not all(_stands(cell, rerun) for cell in ran)

    def _work(self, pool: WorkerPool[Any]) -> None:
        try:
            self._take_points(pool)
            for ended in pool.ended():
                self._end(ended)
                self._take_points(pool)
        except KeyboardInterrupt:
            self.interrupted = True
            for ended in pool.interrupt():
                self._end(ended)
            for point in {id(point): point for point in self.points.values()}.values():
                self.proposals.put_back(point.trial)  # its other runs had not begun

    def _take_points(self, pool: WorkerPool[Any]) -> None:
        """Take up points while a worker is free; runs that stand from before end at once."""
        while pool.free > 0 and (taken := self.proposals.take()) is not None:
            point = self._prepare(*taken)
            if not point.configs:
                self.view.expect(self.view.total - len(point.cells))
                self._finish(point)
            jobs = {}
            for seed, config in point.configs.items():
                self.view.add(config, point_label(point.cells[seed].point))
                jobs[len(self.view.jobs) - 1] = config
                self.points[len(self.view.jobs) - 1] = point
            for job, config in jobs.items():
                standing = self.known.standing(config, self.options.rerun)
                if standing is None:
                    pool.submit(job, config)
                else:
                    self.view.began(job)
                    self._end(Ended(job, standing))

    def _prepare(self, trial: Trial, point: Point) -> _Point:
        """Resolve a point's runs; one that a rule or the budget forbids has none."""
        seeds = self.ask.seeds
        cells = {seed: Cell(point=dict(point), seed=seed) for seed in seeds}
        request = self.design.request(self.ask.request, point)
        peak: int | None = None
        try:
            configs = {seed: resolve(replace(request, seed=seed)) for seed in seeds}
        except UserError as error:
            reason: str | None = str(error)
        else:
            reason = self.design.broken(configs[seeds[0]])
            if reason is None and self.ask.budget_bytes is not None:
                peak = self.predict(configs[seeds[0]])
                if peak > self.ask.budget_bytes:
                    reason = (
                        f"a step is predicted to need {gib(peak)} GiB; the budget is "
                        f"{gib(self.ask.budget_bytes)} GiB"
                    )
        update: dict[str, Any] = {"predicted_peak_bytes": peak}
        if reason is not None:
            update |= {"status": "pruned", "reason": reason}
        cells = {seed: cell.model_copy(update=update) for seed, cell in cells.items()}
        return _Point(trial, cells, configs if reason is None else {})

    def began(self, job: int) -> None:
        """See ``harness.dispatch.Watcher``."""
        self.view.began(job)

    def epoch(self, job: int, row: Epoch) -> str | None:
        """See ``harness.dispatch.Watcher``: a sampled point may end by its validation curve."""
        self.view.epoch(job, row)
        point = self.points[job]
        alone = self.ask.objectives == ("score",) and len(point.configs) == 1
        if self.design.sampler == "grid" or not alone or self.primary not in row.val:
            return None
        point.trial.report(row.val[self.primary], row.epoch)
        if not point.trial.should_prune():
            return None
        return f"{PRUNED}worse after epoch {row.epoch} than the median of the points before"

    def _end(self, ended: Ended) -> None:
        """Take in how a run ended; the last one of a point ends its trial."""
        self.view.ended(ended)
        point = self.points.pop(ended.job)
        seed = next(
            s for s, config in point.configs.items() if config is self.view.config_of(ended.job)
        )
        record = ended.record
        if record is None:
            status = "cancelled" if ended.exit_code == 130 else "failed"
            update: dict[str, Any] = {"status": status, "reason": ended.error}
        else:
            pruned = str(record.error).startswith(PRUNED)
            update = {
                "status": "pruned" if pruned else record.status,
                "reason": record.error,
                "run_key": record.run_key,
            }
            point.records[seed] = record
            self.log.add(record, point_label(point.cells[seed].point))
        point.cells[seed] = point.cells[seed].model_copy(update=update)
        if all(other is not point for other in self.points.values()):
            self._finish(point)

    def _finish(self, point: _Point) -> None:
        """End a point's trial, unless a run of it was interrupted: then it waits again."""
        cells = list(point.cells.values())
        if any(cell.status == "cancelled" for cell in cells):
            self.proposals.put_back(point.trial)
            return
        done = all(cell.status == "done" for cell in cells)
        self.proposals.finish(point.trial, cells, self._values(point) if done else None)
        self._save()

    def _values(self, point: _Point) -> list[float]:
        records = point.records.values()
        peaks = [record.memory.train_peak_bytes for record in records if record.memory]
        values = {
            "score": fmean(record.metrics.val[self.primary] for record in records),
            "memory": float(max(peaks, default=0)),
        }
        return [values[name] for name in self.ask.objectives]

    def _save(self) -> Study:
        """Write the study's document, all of which Optuna's study holds."""
        with FileLock(self.options.output / "locks" / f"{self.name}.lock"):  # the latest stays
            return self._save_alone()

    def _save_alone(self) -> Study:
        cells = self.proposals.cells()
        if self.design.sampler == "grid":
            told = {(json.dumps(cell.point, sort_keys=True), cell.seed) for cell in cells}
            cells += [
                Cell(point=point, seed=seed)
                for point in self.design.points()
                for seed in self.ask.seeds
                if (json.dumps(point, sort_keys=True), seed) not in told
            ]
        study = Study(
            schema=1,
            name=self.name,
            method=self.base.method.label,
            task=self.base.task.name,
            dataset=self.base.task.dataset,
            recipe=self.base.task.recipe,
            backbone=self.base.backbone.label,
            axes=self.design.study_axes(),
            sampler=self.design.sampler,
            objectives=self.ask.objectives,
            budget_bytes=self.ask.budget_bytes,
            cells=tuple(cells),
        )
        save_study(study, self.options.output)
        labels = {cell.run_key: point_label(cell.point) for cell in cells if cell.run_key}
        group = Group(name=self.name, cells=labels, report=f"studies/{self.name}")
        save_group(group, self.options.output)
        return study


def _stands(cell: Cell, rerun: Rerun) -> bool:
    """Return whether a run's outcome is left as it is; one that could not begin has no Record."""
    return cell.run_key is not None and ending_stands(cell.status, rerun)


def first_config(design: Design, request: RunRequest) -> RunConfig:
    """Return the configuration of a design's first point that can be run.

    Raises:
        UserError: none can; with the reason of the first.
    """
    reasons: list[str] = []
    for point in design.points():
        try:
            config = resolve(design.request(request, point))
        except UserError as error:
            reasons.append(str(error))
            continue
        reason = design.broken(config)
        if reason is None:
            return config
        reasons.append(reason)
    raise UserError(f"No point of study '{design.name}' can be run: {reasons[0]}")


def study_name(design: Design, ask: Ask, base: RunConfig) -> str:
    """Return a name that the same question always gets, and another one never."""
    identity = {
        "design": design.model_dump(mode="json", exclude={"about", "trials"}),
        "base": base.resolved(),
        "seeds": ask.seeds,
        "objectives": ask.objectives,
        "budget_bytes": ask.budget_bytes,
    }
    digest = content_hash(identity)[:8]
    return f"{design.name}-{base.task.name}-{base.task.recipe}-{digest}"


def point_label(point: Point) -> str:
    """Return a point in words: ``bits=4, experts=8``."""
    return ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in point.items())
