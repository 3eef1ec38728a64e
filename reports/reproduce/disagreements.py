"""What a disagreement within the paper is: two texts and the numbers behind them."""

from dataclasses import dataclass

OURS = ("UniPT", "SHERL")
"""Hosts of the paper's two rows of its own method."""
_HALF_UNIT = 0.5 + 1e-9


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        name: what it is.
        stated: as the paper's text or table has it, with its digits; empty where it has none.
        recomputed: from the tables.
        digits: of the recomputed number, to show.
    """

    name: str
    stated: str
    recomputed: float
    digits: int = 1

    @property
    def agrees(self) -> bool | None:
        """Whether the recomputed one rounds to the stated one; None without a statement."""
        if not self.stated:
            return None
        unit = 10.0 ** -len(self.stated.partition(".")[2])
        return abs(float(self.stated) - self.recomputed) <= _HALF_UNIT * unit


@dataclass(frozen=True)
class Inconsistency:
    """One disagreement.

    Attributes:
        title: what it is about.
        says: what the paper says.
        follows: what its own tables give.
        figures: the numbers behind it; empty where it is a matter of words alone.
    """

    title: str
    says: str
    follows: str
    figures: tuple[Figure, ...] = ()
