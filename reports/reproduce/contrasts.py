"""What a statement is made of: comparisons of runs, with a measure, a bound and a rule."""

from dataclasses import dataclass
from typing import Literal

from reports.reproduce.selection import Selector

Measure = Literal["score", "train peak", "inference peak", "weight bytes", "latency", "forgetting"]
"""Of a run; forgetting counts downwards."""
Rule = Literal["superiority", "ratio", "equivalence"]
Match = Literal["", "trainable", "active", "peak"]


@dataclass(frozen=True)
class Term:
    """One side of a comparison, with its sign; ratios compare logarithms."""

    sign: int
    runs: Selector


@dataclass(frozen=True)
class Part:
    """One comparison of a statement.

    Attributes:
        label: what is compared.
        measure: what of a run.
        rule: ``superiority``: the effect lies above ``bound``; ``ratio``: it is ``bound`` at most;
            ``equivalence``: it lies within ``bound`` of 0 on either side.
        bound: in points of the score, or as a ratio.
        terms: the first is what the statement is about; two for a comparison, four for an
            interaction.
        tasks: names of those that count; empty for all.
        match: what else of the pair must be equal: trainable parameters, active ones, or peaks.
        free: settings that may differ between the sides, beyond those that their conditions name.
        beside: whether the part is told, and decides nothing.
    """

    label: str
    measure: Measure
    rule: Rule
    bound: float
    terms: tuple[Term, ...]
    tasks: tuple[str, ...] = ()
    match: Match = ""
    free: tuple[str, ...] = ()
    beside: bool = False


@dataclass(frozen=True)
class Claim:
    """A statement, supported where all of its parts are.

    Attributes:
        id: ``H1`` to ``H14``.
        sentence: what is said.
        rule: how it is decided.
        parts: its comparisons.
        commands: which make the runs that it needs.
        note: what else a reader must know.
    """

    id: str
    sentence: str
    rule: str
    parts: tuple[Part, ...]
    commands: tuple[str, ...]
    note: str = ""
