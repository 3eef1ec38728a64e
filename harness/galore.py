"""GaLore: AdamW whose moments live in a low-rank space of the gradient (Zhao et al., ICML 2024).

The algorithm is pytorch-optimizer's. Here its projections become tensors of the optimizer's state,
where the memory tracker counts them and a checkpoint holds them.
"""

from typing import Any

from pytorch_optimizer import GaLore as LibraryGaLore
from pytorch_optimizer.optimizer.utils.galore import GaLoreProjector

from harness.config import TrainConfig


class GaLore(LibraryGaLore):
    """The library's optimizer, whose state is tensors and counters alone.

    Args:
        groups: parameter groups; matrices larger than the rank are projected.
        train: rate, decay, rank, interval between projections, and scale.
    """

    def __init__(self, groups: list[dict[str, Any]], train: TrainConfig) -> None:
        projection = {
            "rank": train.galore_rank,
            "update_proj_gap": train.galore_gap,
            "scale": train.galore_scale,
            "projection_type": "std",
        }
        split = []
        for group in groups:
            rest = {name: value for name, value in group.items() if name != "params"}
            wide = [p for p in group["params"] if p.dim() == 2 and min(p.shape) > train.galore_rank]
            narrow = [p for p in group["params"] if not any(p is w for w in wide)]
            split += [{**rest, **projection, "params": wide}] if wide else []
            split += [{**rest, "params": narrow}] if narrow else []
        super().__init__(split, lr=train.lr, weight_decay=train.weight_decay, foreach=False)

    def step(self, closure: Any = None) -> Any:
        """Update the parameters; projectors exist during the step alone."""
        for group in self.param_groups:
            held = [self.state[p] for p in group["params"] if self.state[p]]
            group["step"] = max((state["step"] for state in held), default=0)
            for state in held:
                if "projection" in state:
                    state["projector"] = _projector(group)
                    state["projector"].ortho_matrix = state.pop("projection")
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:  # it had no gradient
                    continue
                state["step"] = group["step"]
                if "projector" in state:
                    # As a checkpoint holds it: products round by their operands' layout.
                    state["projection"] = state.pop("projector").ortho_matrix.contiguous()
        return loss


def _projector(group: dict[str, Any]) -> GaLoreProjector:
    names = ("rank", "update_proj_gap", "scale", "projection_type")
    return GaLoreProjector(**{name: group[name] for name in names})
