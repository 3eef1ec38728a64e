"""Questions about the photos of a folder."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from harness.errors import UserError
from tasks.base import Units
from tasks.folder import (
    DataFolder,
    Lines,
    Row,
    missing_images,
    refuse,
    repeated,
)
from tasks.image_files import ImageFile, ImageFiles
from tasks.metrics import normalize_answer
from tasks.sources import Fingerprint
from tasks.vqa import VqaConfig
from tasks.vqa.datasets import Dataset, Rows

EXAMPLE: Mapping[str, Sequence[Mapping[str, Any]]] = {
    name: [
        {"image": f"{name}/{i}.png", "question": f"is it {word} ?", "answer": answer}
        for i in range(12)
        for word, answer in (("red", "yes" if i % 2 else "no"), ("a cup", "yes"))
    ]
    for name in ("train", "test")
}
"""The rows of a tiny folder."""


class Question(Row):
    """One line: a question about an image, with one answer or those of several annotators.

    Attributes:
        image: name of the image file.
        question: the text.
        answer: the one expected answer.
        answers: the annotators' answers, ten in VQAv2; read where there is no ``answer``.
        question_id: its name, which no other line may have; None where it has none.
    """

    image: str
    question: str = Field(min_length=1)
    answer: str | None = None
    answers: tuple[str, ...] = ()
    question_id: str | int | None = None

    @property
    def expected(self) -> str:
        """The one answer, or the annotators' most frequent one."""
        if self.answer is not None:
            return self.answer
        counts = Counter(map(normalize_answer, self.answers))
        return min(counts, key=lambda answer: (-counts[answer], answer))


class FolderVqa(Dataset):
    """Questions and photos as ``tasks.folder`` describes them.

    The vocabulary are the answers that training gives at least ``min_answer_count`` times. Photos
    are resized to squares.

    Attributes:
        line: a line of a file, as it is shown.
        example: the rows of a tiny folder.
        row: what a line must hold.
    """

    line: ClassVar[str] = (
        '{"image": "a.jpg", "question": "what is on the table ?", "answer": "cup"}; or, in place '
        'of "answer", "answers": [those of ten annotators]'
    )
    example: ClassVar[Mapping[str, Sequence[Mapping[str, Any]]]] = EXAMPLE
    row: ClassVar[type[Question]] = Question

    def __init__(self, config: VqaConfig, data_dir: Path | None, name: str) -> None:
        super().__init__(config, data_dir)
        self.image_size = (config.image_size, config.image_size)
        self.name = name

    @cached_property
    def _files(self) -> tuple[dict[str, Lines[Question]], str]:
        """The rows by part and a hash of all files, read when they are first asked for."""
        folder, content = DataFolder(self.name, self.data_dir), Fingerprint()
        parts = folder.parts().items()
        lines = {part: self._read(folder, name, content) for part, name in parts}
        return lines, content.hexdigest()

    @property
    def _lines(self) -> dict[str, Lines[Question]]:
        return self._files[0]

    def _read(self, folder: DataFolder, name: str, content: Fingerprint) -> Lines[Question]:
        lines = folder.read(name, self.row, content)
        problems = missing_images(lines, [[row.image] for row in lines.rows])
        problems += [
            f"line {number}: neither 'answer' nor 'answers'"
            for number, row in enumerate(lines.rows, 1)
            if row.answer is None and not row.answers
        ]
        problems += repeated([row.question_id for row in lines.rows])
        refuse(lines.path, problems)
        return lines

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts whose files there are."""
        return tuple(self._lines)

    @property
    def revision(self) -> str:
        """A hash of all annotations."""
        return f"sha256:{self._files[1][:16]}"

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """The answers that training gives often enough, in the order of the alphabet.

        Raises:
            UserError: there is none.
        """
        counts = Counter(row.expected for row in self._lines["train"].rows)
        least = self.config.min_answer_count
        found = sorted(answer for answer, count in counts.items() if count >= least)
        if not found:
            raise UserError(
                f"task.min_answer_count={least}: no training answer occurs that often; the most "
                f"frequent one occurs {max(counts.values())} times."
            )
        return tuple(found)

    def rows(self, part: str) -> Rows:
        """Return all questions of a part; see ``Dataset.rows``."""
        rows = self._lines[part].rows
        number_of = {name: number for number, name in enumerate(self._names(part))}
        annotated = any(row.answer is None for row in rows)
        return Rows(
            [row.question for row in rows],
            [row.expected for row in rows],
            [self.kind(row) for row in rows],
            np.asarray([number_of[row.image] for row in rows], dtype=np.int64),
            [row.answers or (row.expected,) for row in rows] if annotated else None,
            self.extra(rows),
        )

    def kind(self, row: Question) -> str:
        """Return the question type that is reported."""
        return answer_type(row.expected)

    def extra(self, rows: Sequence[Question]) -> Mapping[str, Sequence[Any]]:  # noqa: ARG002
        """Return more columns of every row, by name."""
        return {}

    def image_name(self, part: str, number: int) -> str:
        """Return the image's file name."""
        return self._names(part)[number]

    def images(self, part: str, numbers: np.ndarray, fingerprint: Fingerprint) -> Units:
        """Return images by number, decoded when they are read; see ``Dataset.images``."""
        source, names = self._lines[part].images, self._names(part)
        wanted = [names[number] for number in numbers.tolist()]
        for name in wanted:
            fingerprint.add(source.stamp(name).encode())
        return ImageFiles([ImageFile(source, name) for name in wanted], self.image_size)

    def _names(self, part: str) -> Sequence[str]:
        return self._sorted_names[part]

    @cached_property
    def _sorted_names(self) -> dict[str, list[str]]:
        return {
            part: sorted({row.image for row in lines.rows}) for part, lines in self._lines.items()
        }


def answer_type(answer: str) -> str:
    """Return the type of a question, told by its answer, as VQAv2 has it."""
    if answer.lower() in {"yes", "no", "true", "false"}:
        return "yes/no"
    return "number" if answer.isdecimal() else "other"
