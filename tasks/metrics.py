"""Metrics that several tasks share; all are fractions in [0, 1]."""

import re
from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np

from harness.errors import UserError

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")

# Words whose apostrophe annotators leave out. Where the rest spells another word ("were", "ill",
# "well", "its", "id"), the contraction is not listed and the word stays as it is.
_CONTRACTED = """
ain't aren't can't couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't isn't
mightn't mightn't've mustn't needn't oughtn't shan't shouldn't shouldn't've wasn't weren't won't
wouldn't wouldn't've could've might've must've should've would've they've we've who've you've i've
i'm he'd he'd've she'd've they'd they'd've who'd you'd you'd've where'd that'd how'd it'd he's she's
that's there's what's when's where's who's how's let's it'll they'll what'll who'll how'll you'll
they're you're what're there're ma'am o'clock y'all
"""
_CONTRACTIONS = {word.replace("'", ""): word for word in _CONTRACTED.split()}


def accuracy(predicted: np.ndarray, expected: np.ndarray) -> float:
    """Return the share of equal ids.

    Args:
        predicted: int64 [rows], ids >= 0.
        expected: int64 [rows]; a negative id equals no prediction.

    Raises:
        UserError: there are no rows.
    """
    _check_rows(len(predicted), len(expected))
    return float(np.mean(predicted == expected))


def accuracy_by_group(
    predicted: np.ndarray, expected: np.ndarray, groups: Sequence[Hashable]
) -> dict[str, float]:
    """Return the accuracy within every group that occurs, by the group's name, sorted.

    Args:
        predicted: int64 [rows].
        expected: int64 [rows].
        groups: the group of every row.

    Raises:
        UserError: there are no rows.
    """
    _check_rows(len(predicted), len(expected))
    names = np.asarray([str(group) for group in groups])
    return {
        str(name): accuracy(predicted[names == name], expected[names == name])
        for name in np.unique(names)
    }


@lru_cache(maxsize=65536)
def normalize_answer(answer: str) -> str:
    """Return an answer in the form in which VQA answers are compared.

    Lower case; punctuation and articles removed; number words as digits; apostrophes restored in
    common contractions. Source: answer processing of the VQA evaluation, Antol et al. 2015,
    "VQA: Visual Question Answering", and the challenge's evaluation page.

    Args:
        answer: what a model or an annotator answered.
    """
    words = _strip_punctuation(" ".join(answer.split())).lower().split()
    digits = (_NUMBERS.get(word, word) for word in words)
    return " ".join(_CONTRACTIONS.get(word, word) for word in digits if word not in _ARTICLES)


def _strip_punctuation(text: str) -> str:
    joins_digits = _DIGIT_COMMA.search(text) is not None  # "1,000" stays one number
    result = text
    for mark in _PUNCTUATION:
        at_an_edge = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if at_an_edge or joins_digits else " ")
    return _PERIOD.sub("", result)


def vqa_accuracy(predicted: str, answers: Sequence[str]) -> float:
    """Return the VQA accuracy of one predicted answer.

    With the ten human answers of VQAv2 it is the mean, over the subsets that leave one annotator
    out, of ``min(matches / 3, 1)``. Where a dataset has one answer, agreement between annotators
    has no meaning, and the accuracy is 1 for that answer and 0 for any other.
    Source: Antol et al. 2015, "VQA: Visual Question Answering", section 3, and its evaluation.

    Args:
        predicted: the model's answer.
        answers: the annotators' answers: one, or at least four.

    Raises:
        UserError: there is no answer, or so few that the formula can never reach 1.
    """
    if not answers:
        raise UserError("VQA accuracy needs at least one answer to compare with; got none.")
    target = normalize_answer(predicted)
    matches = sum(normalize_answer(answer) == target for answer in answers)
    if len(answers) == 1:
        return float(matches)
    if len(answers) < 4:
        raise UserError(
            f"VQA accuracy is defined for one answer or for at least four; got {len(answers)}."
        )
    with_match_left_out = matches * min((matches - 1) / 3, 1.0)
    with_other_left_out = (len(answers) - matches) * min(matches / 3, 1.0)
    return (with_match_left_out + with_other_left_out) / len(answers)


def mean_vqa_accuracy(predicted: Sequence[str], answers: Sequence[Sequence[str]]) -> float:
    """Return the mean VQA accuracy over all rows.

    Args:
        predicted: one answer a row.
        answers: the annotators' answers of every row.

    Raises:
        UserError: there are no rows.
    """
    _check_rows(len(predicted), len(answers))
    return float(np.mean([vqa_accuracy(p, a) for p, a in zip(predicted, answers, strict=True)]))


def _check_rows(predicted: int, expected: int) -> None:
    if predicted != expected:
        raise ValueError(f"{predicted} predictions for {expected} expected values")
    if predicted == 0:
        raise UserError("A metric needs at least one row; the split is empty.")
