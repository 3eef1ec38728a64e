"""Linear probe: the head alone trains on frozen states."""

from harness.cards import MethodCard
from harness.costs import Cost
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
    trains="The task's head alone; a T5's output layer, which is its embedding, stays frozen.",
    gradient="It stops at the states that the head reads.",
    cost=Cost(trainable="0", saved="0", note="The head trains beside it, and saves what it reads."),
    official={
        "image classification on ViT (V-PETL-Bench)": "batch 64, 100 epochs, 10 of them warm-up; "
        "learning rate and weight decay tuned for each task"
    },
)
