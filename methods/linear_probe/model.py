"""Linear probe."""

from methods.base import SideMethod, States


class LinearProbe(SideMethod):
    """Hands the frozen states to the head."""

    reads_taps = False

    def side(self, states: States) -> States:
        """Return the frozen states of the streams that the head reads."""
        return {name: states[name] for name in self.reads}
