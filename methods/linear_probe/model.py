"""Linear probe."""

from methods.base import SideMethod, States
from methods.cache import TokenCache


class LinearProbe(SideMethod):
    """Hands the frozen states to the head."""

    reads_taps = False

    def side(self, states: States, cache: TokenCache | None = None) -> States:  # noqa: ARG002
        """Return the frozen states of the streams that the head reads."""
        return {name: states[name] for name in self.reads}
