"""The optimizers of ``train.optimizer``, all from libraries, over the same parameter groups."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from harness.config import TrainConfig
from harness.model import AdaptedModel


def make_optimizer(model: AdaptedModel, train: TrainConfig) -> Optimizer:
    """Return the configured optimizer over the method's parameter groups and the head."""
    head = [p for p in model.head.parameters() if p.requires_grad]
    groups = [*model.method.param_groups(), {"params": head}]
    return optimizer_of([g for g in groups if g["params"]], train)


def optimizer_of(groups: list[dict[str, Any]], train: TrainConfig) -> Optimizer:
    """Return the configured optimizer over parameter groups, which may be fake tensors.

    ``adamw`` is the fused implementation: it makes no temporaries, and one call takes all tensors
    of a group. ``adafactor`` takes its rate from the schedule as the others do, without the
    source's scaling by the parameters' size (Shazeer and Stern, ICML 2018, section 8).
    """
    rates: dict[str, Any] = {"lr": train.lr, "weight_decay": train.weight_decay}
    if train.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True, **rates)
    if train.optimizer == "adamw_8bit":
        return _adamw_8bit(groups, **rates)
    if train.optimizer == "galore":
        from harness.galore import GaLore

        return GaLore(groups, train)
    from transformers.optimization import Adafactor

    return Adafactor(groups, scale_parameter=False, relative_step=False, **rates)


def _adamw_8bit(groups: list[dict[str, Any]], **rates: float) -> Optimizer:
    """Return AdamW with block-wise 8-bit moments (Dettmers et al., ICLR 2022), from torchao."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from torchao.optim import AdamW8bit
    from torchao.optim.subclass_8bit import get_qmap_signed, get_qmap_unsigned

    with unset_fake_temporarily():  # made once and kept: they must hold numbers, not shapes
        get_qmap_signed(), get_qmap_unsigned()

    class EagerAdamW8bit(AdamW8bit):
        """Runs without compilation: no compiler is needed, and fake tensors take the same path."""

        @torch.compiler.set_stance("force_eager")
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

        def new_buffer(self, parameter: Tensor, field: str) -> Tensor:
            """Return a moment as ``step`` makes it at first, for ``harness.checkpoint``."""
            return self._new_buffer(parameter, field == "exp_avg")

    return EagerAdamW8bit(groups, **rates)
