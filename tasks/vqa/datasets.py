"""Where questions and images come from; every dataset is a training part and a test part."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from harness.errors import UserError
from tasks.base import Images, Units
from tasks.scenes.domains import get_domain
from tasks.scenes.draw import render
from tasks.scenes.scene import IMAGE_SIZE, Scene, draw_scene, scene_generator
from tasks.scenes.vqa import POSITIONS, Question, answer_choices, questions
from tasks.sources import Fingerprint, data_package_version, import_data_package, read_images
from tasks.vqa import VqaConfig


@dataclass(frozen=True)
class Rows:
    """Questions about images.

    Attributes:
        questions: one text a row.
        answers: the expected answer of every row: of several, the most frequent one.
        given: the answers of all annotators; None where there is one expected answer a row.
        extra: more columns of every row, by name.
        kinds: the question type of every row.
        images: int64 [rows], the number of the image within its part.
    """

    questions: Sequence[str]
    answers: Sequence[str]
    kinds: Sequence[str]
    images: np.ndarray
    given: Sequence[Sequence[str]] | None = None
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.questions)

    def select(self, rows: np.ndarray) -> "Rows":
        """Return the rows at these positions (int64)."""
        return Rows(
            [self.questions[i] for i in rows],
            [self.answers[i] for i in rows],
            [self.kinds[i] for i in rows],
            self.images[rows],
            None if self.given is None else [self.given[i] for i in rows],
            {name: [column[i] for i in rows] for name, column in self.extra.items()},
        )


class Dataset(ABC):
    """One dataset of questions about images.

    Args:
        config: the task's configuration.
        data_dir: folder given by the user; None for datasets that are read from none.

    Attributes:
        image_size: height and width of its images in pixels.
    """

    image_size: tuple[int, int]

    def __init__(self, config: VqaConfig, data_dir: Path | None) -> None:
        self.config = config
        self.data_dir = data_dir

    @property
    def parts(self) -> tuple[str, ...]:
        """Which parts there are; without ``val``, validation is carved out of ``train``."""
        return ("train", "test")

    @property
    @abstractmethod
    def revision(self) -> str:
        """The version of the data."""

    @property
    @abstractmethod
    def answers(self) -> tuple[str, ...]:
        """The closed vocabulary of answers, in a fixed order."""

    @abstractmethod
    def rows(self, part: str) -> Rows:
        """Return all questions of a part.

        Raises:
            UserError: the data are missing or damaged.
        """

    def image_name(self, part: str, number: int) -> str:
        """Return how reports name an image."""
        return f"{part}/{number}"

    @abstractmethod
    def images(self, part: str, numbers: np.ndarray, fingerprint: Fingerprint) -> Units:
        """Return the images of a part by number.

        Args:
            part: the part that they belong to.
            numbers: int64, as in ``Rows.images``.
            fingerprint: takes in what is read.

        Raises:
            UserError: an image is missing or damaged.
        """


class EasyVqa(Dataset):
    """The questions of the installed package ``easy_vqa``: one coloured shape an image.

    Source: Victor Zhou, easy-VQA, 2019.
    """

    counts: ClassVar[dict[str, tuple[int, int]]] = {"train": (38575, 4000), "test": (9673, 1000)}
    """Questions and images that each part must have."""

    image_size = (64, 64)

    @cached_property
    def revision(self) -> str:
        """The package's version."""
        return data_package_version("easy-vqa")

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """The package's own list of answers."""
        return tuple(self._read("get_answers"))

    def rows(self, part: str) -> Rows:
        """Return all questions of a part; see ``Dataset.rows``."""
        questions, answers, images = self._read(f"get_{part}_questions")
        self._check_count(part, "questions", self.counts[part][0], len(questions))
        kinds = [easy_vqa_question_type(question) for question in questions]
        return Rows(questions, answers, kinds, np.asarray(images, dtype=np.int64))

    def images(self, part: str, numbers: np.ndarray, fingerprint: Fingerprint) -> Units:
        """Return images by number; see ``Dataset.images``."""
        paths = self._read(f"get_{part}_image_paths")
        self._check_count(part, "images", self.counts[part][1], len(paths))
        absent = sorted(set(numbers.tolist()) - set(paths))
        if absent:
            raise UserError(
                f"The package 'easy_vqa' has questions about {part} images that it lacks, such as "
                f"'{absent[0]}.png'. {_REINSTALL}"
            )
        wanted = [Path(paths[number]) for number in numbers.tolist()]
        return Images(read_images(wanted, self.image_size, fingerprint))

    def _read(self, function: str) -> Any:
        package = import_data_package("easy_vqa", "easy-vqa")
        try:
            return getattr(package, function)()
        except (OSError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"The data of the package 'easy_vqa' are missing or damaged ({error}). {_REINSTALL}"
            ) from None

    def _check_count(self, part: str, what: str, expected: int, found: int) -> None:
        if found != expected:
            raise UserError(
                f"The package 'easy_vqa' must have {expected} {part} {what}; found {found}. "
                f"{_REINSTALL}"
            )


_REINSTALL = "Get it again with: pip install --force-reinstall easy-vqa"
_EASY_VQA_SHAPES = frozenset({"circle", "rectangle", "triangle"})


def easy_vqa_question_type(question: str) -> str:
    """Return the type of an easy-VQA question, read off its words.

    ``shape`` and ``colour`` ask for one; ``has-...`` and ``not-...`` are the yes/no questions
    about the presence or absence of a shape or a colour.
    """
    words = set(re.findall(r"[a-z]+", question.lower()))
    if "what" in words:
        return "colour" if "color" in words else "shape"
    asked = "shape" if words & _EASY_VQA_SHAPES else "colour"
    return f"not-{asked}" if words & {"no", "not"} else f"has-{asked}"


class ScenesVqa(Dataset):
    """Questions about drawn scenes of a domain that the bundled backbone has never seen.

    A scene's number, the domain and the world's seed determine image and questions.

    Attributes:
        question_weights: relative frequency of every question type; None for the domain's own.
        object_counts: probability of scenes with 1, 2, 3 and 4 objects; None for the domain's own.
    """

    revision = "shifted-3"
    image_size = (IMAGE_SIZE, IMAGE_SIZE)
    domain = "shifted"
    world_seed = 7001
    question_stream = 20
    questions_per_scene = 4
    question_weights: ClassVar[Mapping[str, float] | None] = None
    object_counts: ClassVar[tuple[float, ...] | None] = None
    scenes: ClassVar[dict[str, range]] = {"train": range(0, 6000), "test": range(6000, 7000)}
    """Numbers of the scenes in the world, by part."""

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """All answers that the domain's questions can have."""
        kinds = answer_choices(get_domain(self.domain))
        weights = self.question_weights or get_domain(self.domain).question_weights
        asks_positions = weights["position"] > 0
        choices = [a for kind in kinds.values() for a in kind]
        return tuple(a for a in choices if asks_positions or a not in POSITIONS)

    def rows(self, part: str) -> Rows:
        """Return all questions of a part; see ``Dataset.rows``."""
        return _drawn_rows(type(self), part)

    def draw(self, part: str) -> Rows:
        """Draw all questions of a part."""
        asked = [
            (question, number)
            for number in self.scenes[part]
            for question in questions(
                self._scene(number),
                self._generator(number),
                self.questions_per_scene,
                self.question_weights,
            )
        ]
        return Rows(
            [question.text for question, _ in asked],
            [question.answer for question, _ in asked],
            [self.kind(question) for question, _ in asked],
            np.asarray([number for _, number in asked], dtype=np.int64),
        )

    def kind(self, question: Question) -> str:
        """Return the question type that is reported."""
        return question.kind

    def images(self, part: str, numbers: np.ndarray, fingerprint: Fingerprint) -> Units:
        """Return images by number; see ``Dataset.images``."""
        drawn = np.empty((len(numbers), IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        if not np.isin(numbers, self.scenes[part]).all():
            raise ValueError(f"scenes {numbers} are not all in part '{part}'")
        for row, number in enumerate(numbers):
            drawn[row] = render(self._scene(int(number)))
        fingerprint.add(drawn.tobytes())
        return Images(drawn)

    def _scene(self, number: int) -> Scene:
        return draw_scene(self.domain, self.world_seed, number, self.object_counts)

    def _generator(self, number: int) -> np.random.Generator:
        return scene_generator(self.domain, self.world_seed, number, self.question_stream)


@cache
def _drawn_rows(source: type[ScenesVqa], part: str) -> Rows:
    """Draw a part once in a process: no configuration changes it."""
    return source(VqaConfig(), None).draw(part)
