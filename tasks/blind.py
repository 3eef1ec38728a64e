"""Predictors that read no image, or no order of words: what a model must beat.

``majority_answer`` reads nothing; ``answers_by_words`` counts words.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

_SEEN_ENOUGH = 10  # times that a question must occur before its own answers are trusted
_SMOOTHING = 0.5


def majority_answer(answers: Sequence[str]) -> str:
    """Return the most frequent answer; of equally frequent ones, the first in the alphabet."""
    counts = Counter(answers)
    return min(counts, key=lambda answer: (-counts[answer], answer))


def answers_by_words(
    questions: Sequence[str], answers: Sequence[str], asked: Sequence[str]
) -> list[str]:
    """Answer questions, or label texts, by the words of the text alone.

    A text that training has often gets its most frequent answer there; any other is answered by
    multinomial naive Bayes over its words and pairs of neighbouring words.

    Args:
        questions: the training texts.
        answers: their answers.
        asked: the texts to answer.

    Returns:
        One answer for each of ``asked``.
    """
    by_text: dict[str, list[str]] = defaultdict(list)
    for question, answer in zip(questions, answers, strict=True):
        by_text[question].append(answer)
    known = {
        question: majority_answer(given)
        for question, given in by_text.items()
        if len(given) >= _SEEN_ENOUGH
    }
    unknown = sorted(set(asked) - known.keys())
    if unknown:
        guesses = _naive_bayes(questions, answers, unknown)
        known.update(zip(unknown, guesses, strict=True))
    return [known[question] for question in asked]


def _naive_bayes(
    questions: Sequence[str], answers: Sequence[str], asked: Sequence[str]
) -> list[str]:
    vocabulary = {t: i for i, t in enumerate(sorted({t for q in questions for t in _terms(q)}))}
    classes = sorted(set(answers))
    position = {answer: i for i, answer in enumerate(classes)}
    counts = np.full((len(classes), len(vocabulary)), _SMOOTHING)  # [A, V]
    for question, answer in zip(questions, answers, strict=True):
        np.add.at(counts[position[answer]], [vocabulary[t] for t in _terms(question)], 1)
    log_terms = np.log(counts / counts.sum(axis=1, keepdims=True))
    frequency = Counter(answers)
    log_prior = np.log([frequency[answer] / len(answers) for answer in classes])  # [A]
    scores = [
        log_prior + log_terms[:, [vocabulary[t] for t in _terms(q) if t in vocabulary]].sum(axis=1)
        for q in asked
    ]
    return [classes[int(np.argmax(score))] for score in scores]


def _terms(question: str) -> list[str]:
    words = question.lower().replace("?", " ?").split()
    pairs = zip(["<start>", *words], [*words, "<end>"], strict=True)
    return [*words, *(f"{a} {b}" for a, b in pairs)]
