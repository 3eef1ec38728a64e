"""Linear probe: the head alone trains on frozen states."""

from harness.cards import MethodCard
from harness.registry import Config


class LinearProbeConfig(Config):
    """A linear probe has no settings of its own."""


CARD = MethodCard(
    name="linear_probe",
    summary="The backbone is frozen and only the task's head trains.",
    source="baseline",
    config=LinearProbeConfig,
    implementation="methods.linear_probe.model:LinearProbe",
    family="head",
    backbone_gradients=False,
    train={"lr": 3e-3},
)
