"""The task that a backbone was pretrained on, asked again of what an adaptation made of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from harness.backbones.states import Inputs, StreamState

Encode = Callable[[Inputs], Mapping[str, StreamState]]
"""From inputs, as the backbone's processors make them, to the states of some streams."""


class SourceTask(ABC):
    """A task of pretraining with its frozen heads, on data that are always the same.

    Attributes:
        streams: those whose states the heads read.
    """

    streams: tuple[str, ...]

    @abstractmethod
    def score(self, encode: Encode) -> float:
        """Return how well it is done, a fraction in [0, 1].

        Args:
            encode: gives the states of ``streams``.
        """
