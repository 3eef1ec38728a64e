"""One run: from a configuration to a Record."""

import errno
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock

from harness.adaptation import save_adaptation
from harness.checkpoint import load_tensors, save_tensors
from harness.compilation import check_compiler
from harness.config import RunConfig
from harness.context import Context
from harness.data import Examples
from harness.endings import first_line, is_out_of_memory
from harness.errors import RunError, UserError
from harness.features import FeatureStore
from harness.forgetting import forgetting
from harness.loop import Trainer
from harness.model import build_model, build_task, pick_device
from harness.outcome import Outcome, provenance, run_key
from harness.precision import autocast, settle_precision
from harness.profile import inference_latency, measure_memory
from harness.progress import Progress, make_progress
from harness.record import (
    Record,
    RecordStore,
    check_writable,
    file_artifact,
    write_atomic,
)
from harness.run_options import CUT_OFF, RunOptions, stands
from harness.tracking import TrackingWorker, run_files
from methods.base import SideMethod
from reports.figures import learning_curve, memory_timeline
from tasks.base import Task, TaskData

CHECKPOINT = "checkpoint.safetensors"
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_SPACE = "no space left on the disk of"


def run(config: RunConfig, options: RunOptions, progress: Progress | None = None) -> Record:
    """Run one cell, or go on with it, or return its Record where it is done already.

    The Record is written whatever the outcome; its ``status`` says which. While a run is at work
    its Record says that it ended without a word, so that this is what stays of a killed process.
    Another process that wants the same run waits for it.

    Args:
        config: the run.
        options: see :class:`RunOptions`.
        progress: what the user sees; None for what fits the options and stderr.

    Raises:
        UserError: the request is wrong (missing data, no such device, unwritable output).
    """
    started = time.perf_counter()
    check_writable(options.output)
    torch.set_num_threads(config.train.threads)
    device = pick_device(config.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # generators, events and synchronisation are the current's
    check_compiler(config.train, device)
    config = settle_precision(config, device)
    progress = progress or make_progress(options.verbosity)
    tracking = TrackingWorker.start(options.tracking_uri, options.output)
    try:
        progress.phase("data")
        task = build_task(config)
        data = task.load(config.limit)
        torch.manual_seed(config.seed)
        progress.phase("model")
        built = build_model(config, task, device)
        key = run_key(config, data, built, device)
        progress.begin(key)
        with _alone(options.output, key):
            store = RecordStore(options.output)
            known = store.get(key)
            if known and stands(known, options.rerun):
                progress.message(f"Run {key[:16]} is {known.status} already; nothing to do.")
                return known
            current = Outcome(config, key, provenance(config, data, built, device), started, built)
            if options.rerun == "always":
                _checkpoint_path(options.output, key).unlink(missing_ok=True)
            _store(store, current.record("failed", CUT_OFF))
            record, path = _make(
                current,
                options.output,
                lambda: _execute(current, task, data, device, options, progress),
            )
        warning = tracking.finish(path, run_files(record, options.output)) if path else None
        if warning:
            progress.message(warning)
        return record
    finally:
        progress.close()
        tracking.close()


def _make(current: Outcome, output: Path, work: Callable[[], Record]) -> tuple[Record, Path | None]:
    """Do the work; return its Record and the Record's file, None where the disk is full."""
    store = RecordStore(output)
    try:
        record = work()
    except UserError as error:
        _store(store, current.record("failed", str(error)))
        raise
    path = _store(store, record)
    if path is None:  # the checkpoint stays, so that the same command loses little
        return current.record("disk_full", f"{NO_SPACE} {output}"), None
    if record.status == "done":
        _checkpoint_path(output, current.run_key).unlink(missing_ok=True)
    return record, path


def _alone(output: Path, key: str) -> FileLock:
    """Return a lock against other processes that make the same run."""
    folder = output / "locks"
    folder.mkdir(exist_ok=True)
    return FileLock(folder / f"{key[:16]}.lock")


def _checkpoint_path(output: Path, key: str) -> Path:
    return output / "artifacts" / key[:16] / CHECKPOINT


def _execute(
    current: Outcome,
    task: Task,
    data: TaskData,
    device: torch.device,
    options: RunOptions,
    progress: Progress,
) -> Record:
    """Do the work and return its Record, turning every ending into a status."""
    folder = options.output / "artifacts" / current.run_key[:16]
    try:
        _prepare(current, task, data, device, options, progress)
        _train(current, folder, progress)
        if options.open_test:
            _finish(current, task, folder, options.output, progress)
        return current.record("done")
    except KeyboardInterrupt:
        return current.record("cancelled", "interrupted; repeat the command to go on")
    except RunError as error:
        return current.record(error.status, str(error))  # type: ignore[arg-type]
    except OSError as error:
        if error.errno not in FULL:
            raise
        return current.record("disk_full", f"{NO_SPACE} {options.output}")
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            return current.record("oom", first_line(error))
        if options.verbosity > 0:
            traceback.print_exc(file=sys.stderr)
        return current.record("failed", f"{type(error).__name__}: {first_line(error)}")


def _prepare(
    current: Outcome,
    task: Task,
    data: TaskData,
    device: torch.device,
    options: RunOptions,
    progress: Progress,
) -> None:
    """Measure memory, and set up features and trainer."""
    config, built = current.config, current.built
    assert built is not None
    model = built.model
    examples = Examples(data, model.method.backbone, device)
    notices = [*data.notices, *examples.cut_texts(model.method.backbone)]
    for notice in notices:
        progress.message(notice)
    current.provenance = current.provenance.model_copy(update={"notices": tuple(notices)})
    if config.memory.profile:
        progress.phase("memory")
        current.report = measure_memory(config, task, model, examples)
    if config.train.compile:  # after memory, which is that of the eager step
        model.compile_steps()
    current.context = Context(config, task, model, examples)
    current.features = _features(current, task, examples, options)
    current.trainer = Trainer(
        config, task, model, examples, current.features, current.context, progress
    )
    current.baselines = task.baselines(data)


def _features(
    current: Outcome, task: Task, examples: Examples, options: RunOptions
) -> FeatureStore | None:
    """Return the store of frozen features where the method and the configuration allow one."""
    config, built = current.config, current.built
    assert built is not None
    method = built.model.method
    if not isinstance(method, SideMethod):
        current.feature_reason = "the method changes the backbone"
        return None
    if task.writes:
        current.feature_reason = "the backbone writes its answers token by token"
        return None
    if not config.features.enabled:
        current.feature_reason = "features.enabled is false"
        return None
    key = {
        "weights": built.weights_hash,
        "backbone": config.backbone.model_dump(mode="json"),
        "data": current.provenance.data.fingerprint,
        "rows": dict(current.provenance.data.rows),
        "threads": config.train.threads,
        "amp": config.train.amp,
        "device": examples.device.type,
    }
    store = FeatureStore(
        options.output / "features",
        config.features.max_bytes,
        method,
        examples,
        lambda: autocast(examples.device, config.train),
        key,
    )
    if store.fits():
        return store
    current.feature_reason = store.reason
    return None


def _train(current: Outcome, folder: Path, progress: Progress) -> None:
    """Train from the start or from the last checkpoint."""
    trainer, context = current.trainer, current.context
    assert trainer is not None
    assert context is not None
    path = folder / CHECKPOINT
    if path.is_file():
        tensors, saved = load_tensors(path)
        trainer.restore(tensors, saved["trainer"])
        context.phase_peak_bytes.update(saved["phase_peak_bytes"])
        current.earlier_host_bytes = saved["host_bytes"]
        current.earlier_seconds = saved["seconds"]
        current.earlier_feature_seconds = saved["feature_seconds"]
        progress.message(f"Going on after epoch {trainer.state.epoch}.")

    def save() -> None:
        tensors, state = trainer.checkpoint()
        whole = {
            "trainer": state,
            "phase_peak_bytes": context.phase_peak_bytes,
            "host_bytes": current.host_bytes(),
            "seconds": current.seconds(),
            "feature_seconds": current.feature_seconds(),
        }
        save_tensors(path, tensors, whole)

    trainer.fit(save)


def _finish(current: Outcome, task: Task, folder: Path, output: Path, progress: Progress) -> None:
    """Score the best epoch once on test, ask what it forgot, and write the run's files."""
    trainer, built = current.trainer, current.built
    assert trainer is not None
    assert built is not None
    progress.phase("test")
    trainer.load_best()
    start = time.perf_counter()
    predictions, current.test = trainer.evaluate("test")
    current.test_seconds = time.perf_counter() - start
    current.latency_ms = inference_latency(current.config, built.model, trainer.examples)
    current.forgetting = forgetting(current.config, built.model, trainer.examples.device)

    rows = task.describe(predictions, trainer.examples.split("test"))
    lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    files = {"predictions": write_atomic(folder / "predictions.jsonl", lines.encode())}
    files["adaptation"] = save_adaptation(
        folder / "adaptation",
        current.config,
        built.weights_hash,
        task.state(),
        trainer.state.best_tensors,
    )
    if current.report:
        content = json.dumps(current.report.timeline_json()).encode()
        files["timeline"] = write_atomic(folder / "timeline.json", content)
    current.artifacts = {name: file_artifact(path, output) for name, path in files.items()}
    _draw(current, folder)


def _draw(current: Outcome, folder: Path) -> None:
    """Draw the run's two figures; they are views and belong to no Record."""
    record = current.record("done")
    learning_curve(record, folder / "learning_curve.png")
    if current.report:
        memory_timeline(current.report.timeline_json(), record, folder / "memory_timeline.png")


def _store(store: RecordStore, record: Record) -> Path | None:
    """Write the record and return its file; on a full disk say so and return None."""
    try:
        return store.put(record)
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"The record could not be written: {error}", file=sys.stderr)
        return None
