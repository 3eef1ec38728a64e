"""What a Record looks like in MLflow. Imported by the tracking worker only."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from harness.flat import flatten
from harness.record import Record, content_hash, load_record
from harness.tracking import SERVERS
from reports.fairness import fairness_group

EXPERIMENT = "metl"
GROUP_TAG = "group_sha256"
OF_TRAINING = ("mlflow.experimentKind", "custom_model_development")
"""What makes MLflow show an experiment as one of trained models."""
LOCK_SECONDS = 60
PARAMS_PER_CALL = 100
VALUE_LENGTH = 5000
DIGEST_LENGTH = 36
RUN_STATUS = {"done": "FINISHED", "cancelled": "KILLED"}
NOT_IN_A_KEY = re.compile(r"[^\w./ -]")


class MlflowView:
    """MLflow's experiment of this project at one URI.

    Args:
        uri: a database or a server.
        output: where the artifacts go when the URI is a database.
    """

    def __init__(self, uri: str, output: Path) -> None:
        self.is_database = uri.partition("://")[0] not in SERVERS
        self.lock_path = output / ".mlflow.lock"
        self.parents: dict[tuple[str, ...], str] = {}
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        with self._alone():  # two processes that make the schema at once break it
            self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            self.experiment_id = self._experiment((output / "mlartifacts").as_uri())

    def log(self, record_path: Path, files: Sequence[Path], parents: Sequence[str] = ()) -> str:
        """Log a record, unless the very same one is there, and return MLflow's run id.

        An unfinished run, or one of another record with this run key, is replaced.

        Args:
            record_path: the record's file.
            files: further files of the run.
            parents: names of the runs that it belongs below, the outermost first; they are made
                where they are not there.
        """
        record = load_record(record_path)
        digest = hashlib.sha256(record_path.read_bytes()).hexdigest()
        with self._alone():
            for run in self.client.search_runs(
                [self.experiment_id], f"tags.run_key = '{record.run_key}'"
            ):
                if run.data.tags.get("record_sha256") == digest:
                    self._place(run.info.run_id, record, parents)
                    return run.info.run_id
                self.client.delete_run(run.info.run_id)
            run_id = self._write(record, digest, [record_path, *files])
            self._place(run_id, record, parents)
            return run_id

    def log_report(self, group: str, files: Sequence[Path]) -> None:
        """Log files with the run that stands for a group, over those of the same names."""
        with self._alone():
            run_id = self._parent((group,))
            for path in files:
                self.client.log_artifact(run_id, str(path))

    def _place(self, run_id: str, record: Record, parents: Sequence[str]) -> None:
        """Put a run below its parents, as MLflow's own nested runs are, and name it after them."""
        if parents:
            self.client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, self._parent(tuple(parents)))
            self.client.update_run(run_id, name=f"{parents[-1]}, seed {record.seed}")

    def _parent(self, path: tuple[str, ...]) -> str:
        """Return the run that stands for a group, below those of the groups around it."""
        if path not in self.parents:
            digest = hashlib.sha256(json.dumps(path).encode()).hexdigest()
            found = self.client.search_runs(
                [self.experiment_id], f"tags.{GROUP_TAG} = '{digest}'", max_results=1
            )
            run = found[0] if found else self._make_parent(path, digest)
            self.parents[path] = run.info.run_id
        return self.parents[path]

    def _make_parent(self, path: tuple[str, ...], digest: str) -> Run:
        above = {MLFLOW_PARENT_RUN_ID: self._parent(path[:-1])} if len(path) > 1 else {}
        run = self.client.create_run(
            self.experiment_id, tags={GROUP_TAG: digest, **above}, run_name=path[-1]
        )
        self.client.set_terminated(run.info.run_id)
        return run

    def _write(self, record: Record, digest: str, files: Sequence[Path]) -> str:
        start_ms = int(1000 * datetime.fromisoformat(record.provenance.started_at).timestamp())
        run_id = self.client.create_run(
            self.experiment_id,
            start_time=start_ms,
            tags=dict(tags(record)),
            run_name=f"{record.method}-{record.task}-{record.seed}",
        ).info.run_id
        pairs = list(params(record))
        for first in range(0, len(pairs), PARAMS_PER_CALL):
            part = pairs[first : first + PARAMS_PER_CALL]
            self.client.log_batch(run_id, params=[Param(name, value) for name, value in part])
        self.client.log_batch(run_id, metrics=list(_history(record, start_ms)))
        self.client.log_batch(run_id, metrics=list(_final(record, start_ms)))
        self.client.log_inputs(run_id, [_dataset(record)])
        for path in files:
            self.client.log_artifact(run_id, str(path))
        # The mark of a run that was logged to the end.
        self.client.log_batch(run_id, tags=[RunTag("record_sha256", digest)])
        seconds = record.time.total_seconds if record.time else 0.0
        status = RUN_STATUS.get(record.status, "FAILED")
        self.client.set_terminated(run_id, status, start_ms + int(1000 * seconds))
        return run_id

    def _experiment(self, artifacts: str) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            try:
                location = artifacts if self.is_database else None
                return self.client.create_experiment(
                    EXPERIMENT, artifact_location=location, tags=dict([OF_TRAINING])
                )
            except MlflowException:  # another process was first
                found = self.client.get_experiment_by_name(EXPERIMENT)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _alone(self) -> AbstractContextManager[Any]:
        """Return a lock against other processes that use the same database."""
        return FileLock(self.lock_path, timeout=LOCK_SECONDS) if self.is_database else nullcontext()


def tags(record: Record) -> Iterator[tuple[str, str]]:
    """Yield what runs are found by."""
    origin = record.provenance
    yield "run_key", record.run_key
    for name in ("status", "method", "preset", "task", "dataset", "recipe", "backbone", "seed"):
        yield name, str(getattr(record, name))
    yield "limited", str(origin.limited).lower()
    yield "data_source", origin.data.source
    yield "device", origin.device
    yield "commit", str(origin.commit)
    yield "fairness_group", content_hash(fairness_group(record))[:DIGEST_LENGTH]
    if record.error:
        yield "error", record.error[:VALUE_LENGTH]


def params(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the resolved configuration with dotted names; values as JSON, but strings as such."""
    for name, value in flatten(record.config):
        text = value if isinstance(value, str) else json.dumps(value)
        yield _key(name), text[:VALUE_LENGTH]


def final_metrics(record: Record) -> Iterator[tuple[str, float]]:
    """Yield the outcome: scores, parameters, memory, time, quality; units are in the names."""
    yield from _numbers("best_val", record.metrics.val)
    yield from _numbers("test", record.metrics.test)
    yield from _numbers("baseline", record.metrics.baselines)
    for section in ("params", "memory", "time", "quality"):
        values = getattr(record, section)
        if values is not None:
            kept = values.model_dump(mode="json", exclude={"layer_quantization_mse"})
            yield from _numbers(section, kept)


def _numbers(section: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in flatten(values):
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield _key(f"{section}/{name}"), float(value)


def _final(record: Record, start_ms: int) -> Iterator[Metric]:
    seconds = record.time.total_seconds if record.time else 0.0
    for name, value in final_metrics(record):
        yield Metric(name, value, start_ms + int(1000 * seconds), len(record.history))


def _history(record: Record, start_ms: int) -> Iterator[Metric]:
    seconds = 0.0
    for row in record.history:
        seconds += row.seconds
        values = row.model_dump(mode="json", exclude={"epoch", "step", "expert_load"})
        for name, value in _numbers("epoch", values):
            yield Metric(name, value, start_ms + int(1000 * seconds), row.epoch)


def _dataset(record: Record) -> DatasetInput:
    data = record.provenance.data
    digest = data.fingerprint[:DIGEST_LENGTH]
    source = json.dumps({"name": data.name, "revision": data.revision, "licence": data.licence})
    profile = json.dumps({"rows": data.rows})
    return DatasetInput(Dataset(data.name, digest, data.source, source, profile=profile), [])


def _key(name: str) -> str:
    """Return ``name`` with what MLflow refuses in a key replaced."""
    return NOT_IN_A_KEY.sub("_", name)[:250]
