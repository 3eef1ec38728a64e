"""BitFit: biases train, nothing else."""

from collections.abc import Mapping, Sequence

from torch import nn

from harness.backbones.base import Backbone
from harness.errors import UserError
from harness.registry import Config
from methods.base import InPlaceMethod
from methods.bitfit import BitFitConfig
from methods.bitfit.biases import add_biases, biases_of


class BitFit(InPlaceMethod):
    """The biases of all needed streams (Ben Zaken et al., section 3).

    Args:
        config: a ``BitFitConfig``.
        backbone: the model; all but its biases is frozen.
        reads: the streams that the head reads.
    """

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, BitFitConfig)
        backbone.requires_grad_(False)
        streams = tuple(spec.name for spec in self.specs)
        self.added = add_biases(backbone, streams) if config.add else nn.ModuleList()
        tables = {id(table) for table in backbone.position_tables()}
        self.biases = [p for p in biases_of(backbone, streams) if id(p) not in tables]
        self.biases.extend(self.added.parameters())
        if not self.biases:
            raise UserError(
                f"{type(backbone).__name__} has no biases to train; leave method.add=true."
            )
        for parameter in self.biases:
            parameter.requires_grad_()

    def parts(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the biases."""
        return {"biases": self.biases}
