"""A study: points of a design, each run with some seeds, and what became of every one.

The document lies in ``studies/NAME.json`` of the output folder. It names runs by their keys; their
outcomes are in the Records. This module imports no torch.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import UserError
from harness.record import Record, RecordStore, Status, write_atomic

Objective = Literal["score", "memory"]
CellStatus = Status | Literal["pruned", "missing"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Axis(_Model):
    """A field of the configuration, and the values that the study gives it."""

    field: str
    values: tuple[Any, ...] = Field(min_length=1)

    @property
    def label(self) -> str:
        """The last part of the field: ``bits`` of ``method.bits``."""
        return self.field.rpartition(".")[2]


class Cell(_Model):
    """One run of a study.

    Attributes:
        point: a value for every axis that applies, by field.
        seed: of the run.
        status: that of its Record; ``pruned`` where a constraint or the budget forbade it or its
            curve ended it, ``missing`` where it has not been run.
        reason: why it was pruned, or what its error said.
        run_key: of its Record, where there is one.
        predicted_peak_bytes: of a training step, where it was predicted.
    """

    point: dict[str, Any]
    seed: int
    status: CellStatus = "missing"
    reason: str | None = None
    run_key: str | None = None
    predicted_peak_bytes: int | None = None


class Study(_Model):
    """The document of a study.

    Attributes:
        name: also its file's.
        method, task, dataset, recipe, backbone: what all runs share, by name.
        axes: in the order of the study's file.
        sampler: ``grid`` where every point of the design is run, else Optuna's sampler.
        objectives: ``score``, or ``score`` and ``memory``.
        budget_bytes: the most that a training step may be predicted to need; None without a limit.
        cells: every run of the design that is known so far.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    name: str
    method: str
    task: str
    dataset: str
    recipe: str
    backbone: str
    axes: tuple[Axis, ...]
    sampler: str
    objectives: tuple[Objective, ...] = ("score",)
    budget_bytes: int | None = None
    cells: tuple[Cell, ...] = ()


def study_path(output: Path, name: str) -> Path:
    """Return the file of a study."""
    return output / "studies" / f"{name}.json"


def save_study(study: Study, output: Path) -> Path:
    """Write a study's document whole."""
    text = study.model_dump_json(by_alias=True, indent=1)
    return write_atomic(study_path(output, study.name), text.encode())


def read_study(path: Path) -> Study:
    """Read a study's document.

    Raises:
        UserError: the file cannot be read, or is no study of this schema.
    """
    try:
        return Study.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise UserError(f"{path} is not a readable study: {field}: {first['msg']}.") from error


def study_records(study: Study, output: Path) -> list[Record]:
    """Return the Records of a study's runs that are in an output folder."""
    store = RecordStore(output)
    found = [store.get(cell.run_key) for cell in study.cells if cell.run_key]
    return [record for record in found if record is not None]
