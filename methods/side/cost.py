"""Symbols that the costs of side networks share; torch-free, so that method cards can import it."""

from harness.costs import Symbol

REDUCTION = {"r": Symbol(meaning="reduction of the width", field="reduction")}
REDUCED = REDUCTION | {"m": Symbol(meaning="side width", value="d // r")}
"""Of a side width that is the backbone's divided by r."""

SIDE_WIDTH = REDUCTION | {"m": Symbol(meaning="side width", field="width", value="d // r")}
"""Of one that may also be given."""

BLOCK = {
    "m_ff": Symbol(meaning="hidden width of a side block's network", value="d_ff * m // d"),
    "a": Symbol(
        meaning="parameters of a side block's attention with its norm",
        value="4*m**2 + 4*b*m + g*m",
    ),
    "f": Symbol(
        meaning="parameters of its feed-forward network with its norm",
        value="2*m*m_ff + b*(m + m_ff) + g*m",
    ),
}
"""Of transformer blocks at side width; heads as the stream's, where m is a multiple of them."""

TAPS = {"K": Symbol(meaning="hidden states that are read", field="layers", value="L + 1")}
"""Of the hidden states of each stream, the embedding among them."""
