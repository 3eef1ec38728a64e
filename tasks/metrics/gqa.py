"""GQA: accuracy by the kind of question, and consistency between questions."""

from collections.abc import Sequence

import numpy as np

from harness.errors import UserError
from tasks.metrics.classification import accuracy, accuracy_by_group, check_rows


def gqa_scores(
    predicted: np.ndarray,
    expected: np.ndarray,
    structural: Sequence[str],
    semantic: Sequence[str],
) -> dict[str, float]:
    """Return the accuracy over all questions, by form, and by structural and semantic type.

    A question of structural type ``query`` has an open answer, every other a binary one.
    Source: Hudson and Manning 2019, "GQA", and its evaluation, which scores balanced questions
    alone.

    Args:
        predicted: int64 [rows], ids >= 0.
        expected: int64 [rows]; a negative id equals no prediction.
        structural: the structural type of every question.
        semantic: the semantic type of every question.

    Raises:
        UserError: there are no rows.
    """
    forms = ["open" if kind == "query" else "binary" for kind in structural]
    kinds = {"": forms, "structural/": structural, "semantic/": semantic}
    return {"accuracy": accuracy(predicted, expected)} | {
        f"accuracy/{prefix}{name}": score
        for prefix, groups in kinds.items()
        for name, score in accuracy_by_group(predicted, expected, groups).items()
    }


def consistency(correct: np.ndarray, entailed: Sequence[Sequence[int]]) -> float:
    """Return how well the model answers what its right answers entail.

    For each question that it answers right, the accuracy over the questions entailed, averaged
    over those questions. It is 0 if no question that entails another is answered right.
    Source: Hudson and Manning 2019, "GQA", and its evaluation.

    Args:
        correct: bool [questions], for all questions, the entailed ones among them.
        entailed: for each question, the positions of the questions that its answer entails; itself
            does not count. Empty for a question that is not scored (GQA: not balanced).

    Raises:
        UserError: there are no questions, or none entails another.
    """
    check_rows(len(entailed), len(correct))
    others = [
        np.asarray([other for other in positions if other != question], dtype=np.int64)
        for question, positions in enumerate(entailed)
    ]
    if not any(len(positions) for positions in others):
        raise UserError("Consistency needs a question that entails another; there is none.")
    shares = [
        np.mean(correct[positions])
        for question, positions in enumerate(others)
        if correct[question] and len(positions)
    ]
    return float(np.mean(shares)) if shares else 0.0
