"""Many runs: what stands from before is taken over, the rest is made in worker processes."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.config import RunConfig
from harness.dispatch import Ended, run_all
from harness.groups import Group, save_group
from harness.known_runs import KnownRuns
from harness.matrix_view import MatrixView
from harness.processor import may_have_gpu
from harness.record import Record, RecordStore, check_writable, content_hash
from harness.run_options import RunOptions
from harness.tracking import TrackingWorker, check_tracking, run_files

Report = Callable[[Sequence[Record], Path], list[Path]]


@dataclass(frozen=True)
class Made:
    """What became of one configuration.

    Attributes:
        config: the run.
        record: its outcome; None where it could not begin.
        error: why it could not begin.
        exit_code: that belongs to the error.
    """

    config: RunConfig
    record: Record | None
    error: str | None = None
    exit_code: int = 0

    @property
    def cell(self) -> str:
        """What the run is a seed of."""
        return f"{self.config.method.label} on {self.config.task.name}"

    @property
    def name(self) -> str:
        """The run's name for a message."""
        return f"{self.cell}, seed {self.config.seed}"


def run_matrix(
    configs: Sequence[RunConfig],
    workers: int,
    options: RunOptions,
    view: MatrixView,
    report: Report = lambda records, folder: [],  # noqa: ARG005
) -> list[Made]:
    """Run configurations, report, and return what became of each, in their order.

    A run that fails does not stop the others. After Ctrl-C all but the first of what had not begun
    is left out, and its exit code is 130.

    Args:
        configs: resolved runs.
        workers: processes at a time.
        options: of every run.
        view: what the user sees.
        report: writes tables and figures of the records into a folder and returns the files.

    Raises:
        UserError: the output cannot be written, MLflow keeps no runs at the URI, or this machine
            has no such device.
    """
    check_options(options, configs)
    known = KnownRuns(RecordStore(options.output).readable()[0])
    standing = {i: known.standing(config, options.rerun) for i, config in enumerate(configs)}
    missing = [i for i, record in standing.items() if record is None]
    if options.launcher == "local":
        warn_of_threads([configs[i] for i in missing], workers)
    made = {i: Made(configs[i], record) for i, record in standing.items() if record is not None}
    view.start([configs[i] for i in missing], len(made))
    name = f"comparison-{content_hash({'configs': [c.resolved() for c in configs]})[:8]}"
    log = RecordLog(options, name)
    try:
        for ended in run_all([configs[i] for i in missing], workers, options, view):
            made[missing[ended.job]] = take(ended, configs[missing[ended.job]], log, view)
        view.close()
        if len(made) < len(configs):  # Ctrl-C: the first stands for all that had not begun
            first = min(i for i in missing if i not in made)
            error = "it had not begun when Ctrl-C came; repeat the command to go on"
            made[first] = Made(configs[first], None, error, 130)
        ordered = [made[i] for i in sorted(made)]
        log.add_report(_reported(name, ordered, options.output, report))
    finally:
        view.close()
        log.close()
    return ordered


def check_options(options: RunOptions, configs: Iterable[RunConfig]) -> None:
    """Refuse what would stop every run, before the first of them begins.

    Args:
        options: of every run.
        configs: the runs, or one for many on the same device.

    Raises:
        UserError: the output cannot be written, MLflow keeps no runs at the URI, or this machine
            has no such device.
    """
    check_writable(options.output)
    check_tracking(options.tracking_uri)
    asked = {config.device for config in configs if config.device.startswith("cuda")}
    if asked and options.launcher == "local" and not may_have_gpu():
        from harness.model import pick_device  # with torch, which alone knows the devices

        for device in sorted(asked):
            pick_device(device)


def _reported(name: str, made: Sequence[Made], output: Path, report: Report) -> list[Path]:
    """Write the document of a comparison, and its report; return the report's files."""
    records = {one.record.run_key: one for one in made if one.record is not None}
    cells = {key: one.cell for key, one in records.items()}
    group = Group(name=name, cells=cells, report=f"comparisons/{name}")
    save_group(group, output)
    found = [one.record for one in records.values() if one.record is not None]
    return report(found, output / group.report) if found else []


def take(ended: Ended, config: RunConfig, log: "RecordLog", view: MatrixView) -> Made:
    """Show and log how a run ended."""
    view.ended(ended)
    if ended.record is not None:
        log.add(ended.record, Made(config, None).cell)
    return Made(config, ended.record, ended.error, ended.exit_code)


def warn_of_threads(configs: Sequence[RunConfig], workers: int) -> None:
    """Say on stderr where workers would share cores."""
    threads = max((config.train.threads for config in configs), default=1)
    cores = os.cpu_count() or 1
    if min(workers, len(configs)) * threads > cores and workers > 1:
        print(
            f"{workers} workers of {threads} threads share {cores} cores and slow each other; "
            f"--set train.threads={max(1, cores // workers)} gives each its own. The number of "
            "threads is part of a run's identity.",
            file=sys.stderr,
        )


class RecordLog:
    """Logs records to MLflow one after the other, while the runs go on.

    Args:
        options: where; MLflow's process begins with the first record.
        group: the name of the study or comparison that they are of.
    """

    def __init__(self, options: RunOptions, group: str) -> None:
        self.options = options
        self.group = group
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._worker: TrackingWorker | None = None
        self._answers: list[Future[str | None]] = []

    def add(self, record: Record, cell: str) -> None:
        """Log a record as a seed of ``cell``, which is a cell of the group."""
        self._answers.append(self._thread.submit(self._log, record, cell))

    def _log(self, record: Record, cell: str) -> str | None:
        output = self.options.output
        path = RecordStore(output).path(record.run_key)
        files = run_files(record, output)
        return self._process().log(path, files, parents=(self.group, cell))

    def add_report(self, files: Sequence[Path]) -> None:
        """Log the files of the group's report."""
        self._answers.append(self._thread.submit(self._log_report, files))

    def _log_report(self, files: Sequence[Path]) -> str | None:
        return self._process().log_report(self.group, files)

    def _process(self) -> TrackingWorker:
        if self._worker is None:
            output = self.options.output
            self._worker = TrackingWorker.start(self.options.tracking_uri, output)
        return self._worker

    def close(self) -> None:
        """Wait for what is not logged yet, and say once on stderr what went wrong."""
        warnings = [answer.result() for answer in self._answers]
        for warning in dict.fromkeys(text for text in warnings if text):
            print(warning, file=sys.stderr)
        self._thread.shutdown()
        if self._worker is not None:
            self._worker.close()
