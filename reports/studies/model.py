"""Linear models of a factorial design: coding, least squares, estimates with intervals.

A factor of L levels is coded by L - 1 columns whose effects sum to zero over the levels, and the
interaction of two factors by the products of their columns. In a balanced design the effects are
then differences of means: a level's mean less the grand mean, and so on.
Source: Scheffe, The Analysis of Variance, 1959, chapters 3 and 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import stdtrit

from reports.comparison import CONFIDENCE


@dataclass(frozen=True)
class Estimate:
    """An estimated effect, in the unit of the outcome; without an error there is no interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Error:
    """The variance of one run's outcome and its degrees of freedom; None and 0: not known."""

    variance: float | None
    freedom: int


@dataclass(frozen=True, eq=False)
class Term:
    """A main effect or an interaction of a model.

    Attributes:
        axes: the positions of its factors.
        coding: ``[combinations, columns]``; its effects are ``coding @ coefficients``.
        rows: ``[runs]``; the combination of levels that each run has.
    """

    axes: tuple[int, ...]
    coding: np.ndarray
    rows: np.ndarray

    @property
    def columns(self) -> np.ndarray:
        """``[runs, columns]`` of the model's matrix."""
        return self.coding[self.rows]


def main_term(axis: int, rows: np.ndarray, levels: int) -> Term:
    """Return the main effect of a factor.

    Args:
        axis: its position.
        rows: ``[runs]``; the level of each run, from 0.
        levels: how many there are, at least two.
    """
    coding = np.vstack([np.eye(levels - 1), -np.ones(levels - 1)])
    return Term((axis,), coding, rows)


def pair_terms(mains: Sequence[Term]) -> list[Term]:
    """Return the interactions of each two factors."""
    return [
        Term(
            axes=first.axes + second.axes,
            coding=np.kron(first.coding, second.coding),
            rows=first.rows * len(second.coding) + second.rows,
        )
        for first, second in combinations(mains, 2)
    ]


def matrix(terms: Sequence[Term], runs: int) -> np.ndarray:
    """Return ``[runs, columns]``: a column of ones and those of the terms, in their order."""
    return np.hstack([np.ones((runs, 1)), *(term.columns for term in terms)])


def estimable(terms: Sequence[Term], runs: int) -> list[bool]:
    """Return for each term whether all its columns are independent of all other terms' columns."""
    whole = _rank(terms, runs)
    return [
        whole - _rank([other for other in terms if other is not term], runs) == term.coding.shape[1]
        for term in terms
    ]


def residual(terms: Sequence[Term], outcomes: np.ndarray) -> Error:
    """Return what the model leaves, as variance over its degrees of freedom."""
    freedom = len(outcomes) - _rank(terms, len(outcomes))
    if freedom == 0:
        return Error(None, 0)
    return Error(squares(terms, outcomes) / freedom, freedom)


def squares(terms: Sequence[Term], outcomes: np.ndarray) -> float:
    """Return the sum of squared residuals of the least-squares fit."""
    design = matrix(terms, len(outcomes))
    coefficients = np.linalg.lstsq(design, outcomes, rcond=None)[0]
    return float(np.sum((outcomes - design @ coefficients) ** 2))


def intercept(terms: Sequence[Term], outcomes: np.ndarray) -> float:
    """Return the fitted mean over all combinations of levels, every one alike."""
    return float(np.linalg.lstsq(matrix(terms, len(outcomes)), outcomes, rcond=None)[0][0])


def estimates(
    term: Term, terms: Sequence[Term], outcomes: np.ndarray, error: Error
) -> list[Estimate]:
    """Return the effect of each combination of a term's levels, with its t-interval.

    Args:
        term: one of ``terms``.
        terms: the model.
        outcomes: ``[runs]``.
        error: of one run.
    """
    start = 1 + sum(other.coding.shape[1] for other in terms[: terms.index(term)])
    block = slice(start, start + term.coding.shape[1])
    solve = term.coding @ np.linalg.pinv(matrix(terms, len(outcomes)))[block]
    values = solve @ outcomes
    if error.variance is None:
        return [Estimate(float(value), None, None) for value in values]
    quantile = stdtrit(error.freedom, 0.5 + CONFIDENCE / 2)
    halves = quantile * np.sqrt(error.variance * np.sum(solve**2, axis=1))
    return [
        Estimate(float(value), float(value - half), float(value + half))
        for value, half in zip(values, halves, strict=True)
    ]


def _rank(terms: Sequence[Term], runs: int) -> int:
    return int(np.linalg.matrix_rank(matrix(terms, runs)))
