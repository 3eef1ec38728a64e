"""Full fine-tuning."""

from collections.abc import Mapping, Sequence

from torch import nn

from harness.backbones.base import Backbone
from harness.registry import Config
from methods.base import InPlaceMethod


class Full(InPlaceMethod):
    """Every parameter of the backbone trains.

    Args:
        config: a ``FullConfig``.
        backbone: the model to fine-tune.
        reads: the streams that the head reads.
    """

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        backbone.requires_grad_(True)

    def parts(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the whole backbone."""
        return {"backbone": list(self.backbone.parameters())}
