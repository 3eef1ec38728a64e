"""Ladder side-tuning: a side network beside the frozen backbone, drawn or cut out of it."""

from collections.abc import Sequence

from torch import nn

from harness.backbones.base import Backbone, Inputs
from harness.registry import Config
from methods.base import FitContext, States
from methods.lst import LstConfig
from methods.lst.fisher import (
    check_stream,
    empirical_fisher,
    prune_stream,
    pruned_weights,
    single_rows,
)
from methods.lst.ladder import LadderStream, ladder_network
from methods.side.config import SideConfig
from methods.side.method import NetworkMethod
from methods.side.network import SideNetwork


class Lst(NetworkMethod):
    """Ladder side-tuning.

    Args:
        config: an ``LstConfig``.
        backbone: the frozen model.
        reads: the streams that the head reads.

    Raises:
        UserError: ``side_init=fisher`` on a backbone whose layers it cannot cut.
    """

    config: LstConfig

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, LstConfig)
        self.config = config
        self._alone = False  # whether the backbone answers by itself
        if config.side_init == "fisher":
            for stream in self._ladders():
                check_stream(stream, backbone)

    def build_network(self, config: SideConfig) -> SideNetwork:
        """Return the ladders."""
        assert isinstance(config, LstConfig)
        return ladder_network(config, self.specs, self.reads, self.ending(config))

    def on_fit_start(self, ctx: FitContext) -> None:
        """Cut the side blocks out of the backbone's, where the configuration asks for it."""
        if self.config.side_init == "fisher":
            with ctx.phase("init"):
                self._prune(ctx)

    def forward(self, inputs: Inputs) -> States:
        """Return the adapted states, or the backbone's while its Fisher information is measured."""
        if not self._alone:
            return super().forward(inputs)
        return self.backbone.encode_all(self.reads, inputs)

    def _prune(self, ctx: FitContext) -> None:
        ladders = self._ladders()
        weights: dict[str, nn.Parameter] = {}
        for stream in ladders:
            weights |= pruned_weights(self.backbone, stream.spec.name)
        training = self.training
        self.eval()
        self._alone = True
        try:
            rows = single_rows(ctx.calibration(self.config.fisher_rows))
            importance = empirical_fisher(weights, rows, ctx.loss)
        finally:
            self._alone = False
            self.train(training)
        for stream in ladders:
            prune_stream(stream, self.backbone, importance)

    def _ladders(self) -> list[LadderStream]:
        return [m for m in self.network.modules() if isinstance(m, LadderStream)]
