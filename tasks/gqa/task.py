"""GQA: its datasets, and its scores by question type."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from tasks.base import Split, TaskData
from tasks.blind import answers_by_words, majority_answer
from tasks.folder import layout
from tasks.gqa import CARD
from tasks.metrics import consistency, gqa_scores
from tasks.scenes.vqa import Question as SceneQuestion
from tasks.vqa.datasets import Dataset, ScenesVqa
from tasks.vqa.folder import FolderVqa, Question
from tasks.vqa.task import Vqa

_SCENE_TYPES = {
    "exist": "verify/obj",
    "count": "query/obj",
    "position": "query/rel",
    "compare": "compare/attr",
    "logic": "logical/obj",
}


class ScenesGqa(ScenesVqa):
    """Questions about drawn scenes, most of them about more than one object."""

    revision = "shifted-gqa-1"
    world_seed = 7005
    object_counts = (0.1, 0.4, 0.3, 0.2)
    question_weights: ClassVar[Mapping[str, float] | None] = {
        "exist": 1.0,
        "colour": 1.0,
        "shape": 1.0,
        "size": 0.5,
        "texture": 0.5,
        "count": 1.0,
        "position": 0.0,
        "relation": 4.0,
        "compare": 2.0,
        "logic": 3.0,
    }

    def kind(self, question: SceneQuestion) -> str:
        """Return structural and semantic type, ``query/attr``."""
        if question.kind == "relation":
            return "verify/rel" if question.answer in {"yes", "no"} else "query/rel"
        return _SCENE_TYPES.get(question.kind, "query/attr")


class Typed(Question):
    """One line: a question with its types and with what its answer entails.

    Attributes:
        question_id: its name.
        structural: how it asks.
        semantic: what it asks about.
        entailed: names of the questions whose answers follow from its answer.
    """

    question_id: str
    structural: str
    semantic: str
    entailed: tuple[str, ...] = ()


class FolderGqa(FolderVqa):
    """Typed questions and photos as ``tasks.folder`` describes them."""

    line = (
        '{"question_id": "1", "image": "a.jpg", "question": "is the cup red ?", "answer": "no", '
        '"structural": "verify", "semantic": "attr", "entailed": ["7"]}'
    )
    example: ClassVar[Mapping[str, Sequence[Mapping[str, Any]]]] = {
        name: [
            {
                "question_id": f"{name}{i}{word}",
                "image": f"{name}/{i}.png",
                "question": f"is it {word} ?",
                "answer": "yes" if i % 2 else "no",
                "structural": "verify",
                "semantic": "attr",
                "entailed": [f"{name}{i}red"] if word != "red" else [],
            }
            for i in range(12)
            for word in ("red", "not blue")
        ]
        for name in ("train", "test")
    }
    row = Typed

    def kind(self, row: Question) -> str:
        """Return structural and semantic type, ``query/attr``."""
        assert isinstance(row, Typed)
        return f"{row.structural}/{row.semantic}"

    def extra(self, rows: Sequence[Question]) -> Mapping[str, Sequence[Any]]:
        """Return the questions' names, and those of what they entail."""
        typed = [row for row in rows if isinstance(row, Typed)]
        return {"id": [row.question_id for row in typed], "entailed": [r.entailed for r in typed]}


class Gqa(Vqa):
    """Compositional questions, answered out of a closed vocabulary; see ``Vqa``."""

    card = CARD
    folder_layout = layout(FolderGqa.line)
    folder_example = FolderGqa.example
    sources: ClassVar[Mapping[str, type[Dataset]]] = {"scenes-gqa": ScenesGqa}
    folder_source = FolderGqa

    def load(self, limit: int | None = None) -> TaskData:
        """Read the questions and images, and count the entailed questions that are no rows."""
        data = super().load(limit)
        return replace(data, notices=(*data.notices, *_not_asked(data.splits["test"])))

    def metrics(self, predictions: np.ndarray, split: Split) -> dict[str, float]:
        """Return accuracy, also by form and by type, and consistency where the data entail.

        Args:
            predictions: int64 [rows], ids of answers.
            split: the rows that were predicted.
        """
        expected = split.targets["answer"]
        types = [kind.split("/") for kind in split.columns["question_type"]]
        scores = gqa_scores(
            predictions, expected, [kind[0] for kind in types], [kind[1] for kind in types]
        )
        entailed = _positions(split)
        if any(entailed):
            scores["consistency"] = consistency(predictions == expected, entailed)
        return scores

    def baselines(self, data: TaskData) -> dict[str, float]:
        """Return the accuracy on test of predictors that see no image; see ``Vqa.baselines``."""
        train, test = data.splits["train"], data.splits["test"]
        asked, answers = train.columns["question"], train.columns["answer"]
        blind = answers_by_words(asked, answers, test.columns["question"])
        expected = np.asarray(test.columns["answer"])
        return {
            "majority": float(np.mean(expected == majority_answer(answers))),
            "question_only": float(np.mean(expected == np.asarray(blind))),
        }


def _not_asked(split: Split) -> list[str]:
    """Return a sentence if rows entail questions that are not among them."""
    ids = set(split.columns.get("id", []))
    names = [name for names in split.columns.get("entailed", []) for name in names]
    missing = sum(name not in ids for name in names)
    if not missing:
        return []
    return [
        f"{missing} of {len(names)} entailed questions are not among the rows of test; the "
        f"official consistency asks them, too, and this one leaves them out."
    ]


def _positions(split: Split) -> list[list[int]]:
    """Return for each question the rows of the questions that it entails."""
    ids = split.columns.get("id", [])
    row_of = {name: row for row, name in enumerate(ids)}
    entailed = split.columns.get("entailed", [])
    return [[row_of[name] for name in names if name in row_of] for names in entailed]
