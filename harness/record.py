"""The Record: the immutable outcome of one run, and the store that keeps records.

Everything downstream (MLflow, tables, figures) is a view that can be rebuilt from records alone.
This module imports no torch.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import UserError, did_you_mean
from harness.memory.categories import CATEGORIES, PHASES

SCHEMA: Final = 1
Status = Literal["done", "oom", "diverged", "failed", "cancelled", "disk_full"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metrics(_Model):
    """Scores as fractions; ``baselines`` are blind predictors on the test split."""

    primary: str
    direction: Literal["max", "min"]
    val: dict[str, float] = Field(default_factory=dict)
    test: dict[str, float] = Field(default_factory=dict)
    baselines: dict[str, float] = Field(default_factory=dict)


class Epoch(_Model):
    """One epoch of the history; ``step`` counts optimizer steps from the run's start."""

    epoch: int
    step: int
    loss: float
    val: dict[str, float]
    lr: float
    seconds: float
    expert_load: list[list[float]] | None = None
    router_entropy: float | None = None
    quantization_mse: float | None = None


class Params(_Model):
    """Counts of parameters; ``percent`` is 100 * trainable / denominator."""

    trainable: int
    total: int
    percent: float
    denominator: int
    parts: dict[str, int]


class Memory(_Model):
    """Peak memory in bytes; the categories sum to ``train_peak_bytes``."""

    source: Literal["predicted", "traced", "allocator"]
    device: str
    train_peak_bytes: int
    inference_peak_bytes: int
    predicted_train_peak_bytes: int | None
    host_bytes: dict[str, int] = Field(default_factory=dict)
    phase_peak_bytes: dict[str, int]
    at_peak_bytes: dict[str, int]


class FeatureUse(_Model):
    """Whether stored features replaced the frozen backbone, and what filling the store took."""

    used: bool
    seconds: float
    bytes: int
    reason: str | None = None


class Time(_Model):
    """Wall-clock times; none of them is part of a Record's core.

    Attributes:
        compile_seconds: what the steps, of which ``train.compile`` compiles in some, took beyond as
            many median ones; None where nothing is compiled.
    """

    train_seconds: float
    steps: int
    step_seconds_median: float
    step_seconds_p95: float
    examples_per_second: float
    eval_seconds: float
    inference_ms_per_example: float
    total_seconds: float
    features: FeatureUse
    compile_seconds: float | None = None


class Quality(_Model):
    """Figures of the fitted model; None where a method has none.

    Attributes:
        forgetting: the drop of the pretraining task's score, a fraction, through the features that
            the head reads; None where the backbone brings no such task.
    """

    forgetting: float | None = None
    quantization_mse: float | None = None
    layer_quantization_mse: dict[str, float] | None = None
    dead_experts: int | None = None


class Artifact(_Model):
    """A file that belongs to the run; ``path`` is relative to the output folder."""

    path: str
    sha256: str
    bytes: int


class DataOrigin(_Model):
    """Where the data came from."""

    name: str
    source: str
    revision: str
    licence: str
    rows: dict[str, int]
    fingerprint: str


class Provenance(_Model):
    """What is needed to know, and to repeat, where a Record came from.

    Attributes:
        notices: what its reader should know of the data: answers outside the vocabulary, cut texts.
    """

    commit: str | None
    dirty: bool | None
    packages: dict[str, str]
    device: str
    threads: int
    data: DataOrigin
    weights: str
    started_at: str
    limited: bool
    notices: tuple[str, ...] = ()


class Record(_Model):
    """The outcome of one run. Units are in the names; scores are fractions."""

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema", serialization_alias="schema")
    run_key: str
    status: Status
    error: str | None = None
    method: str
    preset: str | None
    task: str
    dataset: str
    recipe: str
    backbone: str
    seed: int
    config: dict[str, Any]
    metrics: Metrics
    history: list[Epoch] = Field(default_factory=list)
    params: Params | None = None
    memory: Memory | None = None
    time: Time | None = None
    quality: Quality = Quality()
    artifacts: dict[str, Artifact] = Field(default_factory=dict)
    provenance: Provenance

    def to_json(self) -> str:
        """Return the canonical JSON text."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True)

    def core(self) -> dict[str, Any]:
        """Return everything but times, start, commit and device name.

        Two runs made "the same Record" when their cores are equal. The memory timeline is left
        out too: it merges two logs by their clocks, so neighbouring events may change places.
        """
        data = self.model_dump(mode="json", by_alias=True)
        del data["time"]
        data["artifacts"].pop("timeline", None)
        for epoch in data["history"]:
            del epoch["seconds"]
        for name in ("started_at", "commit", "dirty", "device"):
            del data["provenance"][name]
        if data["memory"]:
            del data["memory"]["device"]
        return data


def check_memory(memory: Memory) -> None:
    """Raise ValueError unless the categories and phases are known and the categories sum up."""
    unknown = set(memory.at_peak_bytes) - set(CATEGORIES) | (
        set(memory.phase_peak_bytes) - set(PHASES)
    )
    if unknown:
        raise ValueError(f"unknown memory categories or phases: {sorted(unknown)}")
    total = sum(memory.at_peak_bytes.values())
    if total != memory.train_peak_bytes:
        raise ValueError(f"categories sum to {total}, peak is {memory.train_peak_bytes}")


class RecordStore:
    """The records of one output folder, one JSON file each, named by run key.

    Args:
        output: the output folder (``runs/`` by default).
    """

    def __init__(self, output: Path) -> None:
        self.folder = output / "records"

    def path(self, run_key: str) -> Path:
        """Return the file that holds, or would hold, the record of ``run_key``."""
        return self.folder / f"{run_key[:16]}.json"

    def get(self, run_key: str) -> Record | None:
        """Return the record of ``run_key``, or None."""
        path = self.path(run_key)
        return load_record(path) if path.is_file() else None

    def put(self, record: Record) -> Path:
        """Write ``record`` atomically and return its file."""
        if record.memory:
            check_memory(record.memory)
        return write_atomic(self.path(record.run_key), record.to_json().encode())

    def __iter__(self) -> Iterator[Record]:
        for path in sorted(self.folder.glob("*.json")):
            yield load_record(path)

    def readable(self) -> tuple[list[Record], list[str]]:
        """Return the records that can be read, and for every other file what is wrong with it."""
        records, problems = [], []
        for path in sorted(self.folder.glob("*.json")):
            try:
                records.append(load_record(path))
            except UserError as error:
                problems.append(str(error))
        return records, problems

    def find(self, prefix: str) -> Record:
        """Return the only record whose run key starts with ``prefix``.

        Raises:
            UserError: none or several do.
        """
        names = [p.stem for p in sorted(self.folder.glob("*.json"))]
        matches = [n for n in names if n.startswith(prefix[:16])]
        if len(matches) != 1:
            verb = "begin" if matches else "begins"
            what = f"{len(matches)} runs" if matches else "No run"
            raise UserError(
                f"{what} in {self.folder} {verb} with '{prefix}'.{did_you_mean(prefix, names)}"
            )
        return load_record(self.folder / f"{matches[0]}.json")


def load_record(path: Path) -> Record:
    """Read one record.

    Raises:
        UserError: the file is not a record of this schema; the message names file and field.
    """
    try:
        return Record.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        problems = error.errors()
        of_schema = [problem for problem in problems if problem["loc"] == ("schema",)]
        first = (of_schema or problems)[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise UserError(f"{path} is not a readable record: {field}: {first['msg']}.") from error


def read_timeline(record: Record, output: Path) -> tuple[list[dict[str, Any]], Path]:
    """Return the memory timeline of a run, and the file that holds it.

    Raises:
        UserError: the run has none, or the file is gone or is not the one that the run wrote.
    """
    name = f"run {record.run_key[:16]}"
    artifact = record.artifacts.get("timeline")
    if artifact is None:
        raise UserError(f"There is no memory timeline of {name}, which ended as {record.status}.")
    path = output / artifact.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"The memory timeline of {name}, {path}, cannot be read: {error.strerror}."
        ) from None
    if hashlib.sha256(content).hexdigest() != artifact.sha256:
        raise UserError(f"The memory timeline of {name}, {path}, is not the file that it wrote.")
    return json.loads(content), path


def check_writable(output: Path) -> None:
    """Make the output folder and write into it.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / ".writable"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # another process may have probed at the same moment
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot write there ({error.strerror}). "
            f"Give a folder that you may write to."
        ) from error


def write_atomic(path: Path, content: bytes) -> Path:
    """Write ``content`` to ``path`` so that the file is either the old or the new one, whole.

    Args:
        path: the file; who may read it is what the umask says.
        content: all of it.

    Returns:
        ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # tempfile's are private
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return path


def content_hash(value: Mapping[str, Any]) -> str:
    """Return the sha256 of a JSON-ready mapping in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_artifact(path: Path, output: Path) -> Artifact:
    """Describe a file of the output folder."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Artifact(path=str(path.relative_to(output)), sha256=digest, bytes=path.stat().st_size)
