"""VQA accuracy, and the form in which its answers are compared."""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from harness.errors import UserError
from tasks.metrics.classification import check_rows

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

# The evaluation's list: contractions that are restored where one apostrophe is left out. It has no
# word whose rest spells another ("were", "ill", "well", "its", "shed").
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


_CONTRACTIONS = {
    short: word for word in _CONTRACTED.split() for short in _without_one_apostrophe(word)
} | {"somebody'd": "somebodyd"}  # the one entry that the evaluation has the other way round


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
    Answers are always compared in normal form, as the challenge's page describes; its script leaves
    them as they are where all annotators wrote the same, so that "2" misses ten times "two".
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
    check_rows(len(predicted), len(answers))
    return float(np.mean([vqa_accuracy(p, a) for p, a in zip(predicted, answers, strict=True)]))
