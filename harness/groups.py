"""Which runs belong together, a study's or a comparison's, so that views can show them so.

The documents lie in ``groups/NAME.json`` of the output folder. This module imports no torch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UserError
from harness.record import write_atomic


class Group(BaseModel):
    """Runs that were made for one question.

    Attributes:
        name: of the study or comparison.
        cells: by run key, the name of the point or pair that the run is a seed of.
        report: folder of its tables and figures, relative to the output folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    cells: Mapping[str, str]
    report: str


def save_group(group: Group, output: Path) -> Path:
    """Write a group's document."""
    path = output / "groups" / f"{group.name}.json"
    return write_atomic(path, group.model_dump_json(indent=1).encode())


def load_groups(output: Path) -> Iterator[Group]:
    """Yield the groups of an output folder.

    Raises:
        UserError: a document is not readable; the message names it.
    """
    for path in sorted((output / "groups").glob("*.json")):
        try:
            yield Group.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise UserError(f"{path} is no readable group: {error.errors()[0]['msg']}.") from error


def report_files(group: Group, output: Path) -> list[Path]:
    """Return the files of a group's report, sorted."""
    folder = output / group.report
    return sorted(path for path in folder.glob("*") if path.is_file())
