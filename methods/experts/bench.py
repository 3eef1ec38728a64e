"""Experts are really cheap: time and saved activations as their number grows, at the same k."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.benchmarks.timing import bench_device, duel, in_dtype, interval, is_timed
from methods.experts.config import ExpertsConfig
from methods.experts.ismoe import ISMoE

ROWS, TOKENS, WIDTH, SALIENT_WIDTH = 80, 128, 96, 384
COUNTS = (4, 16, 64)
TOP_K = 2
PAIRS = 11
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Mixture = Callable[[ISMoE, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """Forward and backward of one mixture on fixed tokens; the optimizer is not part of it.

    Attributes:
        moe: the mixture.
        x: [B, N, m] fp32, with gradient.
        salient: [B, D] fp32.
        dtype: what autocast computes in.
        run: how the mixture is computed.
    """

    moe: ISMoE
    x: Tensor
    salient: Tensor
    dtype: torch.dtype
    run: Mixture

    def __call__(self) -> None:
        """Run it once."""
        with in_dtype(self.x.device, self.dtype):
            loss = self.run(self.moe, self.x, self.salient).float().sum()
        loss.backward()
        self.moe.zero_grad(set_to_none=True)
        self.x.grad = None


def measure() -> dict[str, Any]:
    """Compare 64 experts with 4, and grouped products with a loop over the experts.

    bf16 is left out where the device only emulates it.
    """
    device = bench_device()
    return {
        "device": str(device),
        "tokens": ROWS * TOKENS,
        "top_k": TOP_K,
        "width": WIDTH,
        "dtypes": {
            name: _of_dtype(dtype, device)
            for name, dtype in DTYPES.items()
            if is_timed(dtype, device)
        },
    }


def _of_dtype(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    grouped = {n: _step(n, dtype, device, _grouped) for n in COUNTS}
    least, most = min(COUNTS), max(COUNTS)
    return {
        "most_over_least": {
            "experts": [most, least],
            **duel(grouped[most], grouped[least], PAIRS, device),
        },
        "over_loop": {
            str(n): duel(step, _step(n, dtype, device, _loop), PAIRS, device)
            for n, step in grouped.items()
        },
        "saved_bytes": {str(n): saved_bytes(grouped[n]) for n in (least, most)},
    }


def _step(count: int, dtype: torch.dtype, device: torch.device, run: Mixture) -> Step:
    generator = torch.Generator().manual_seed(0)
    config = ExpertsConfig.model_validate({"experts": count, "top_k": TOP_K})
    moe = ISMoE(config, WIDTH, SALIENT_WIDTH, replicate=False).to(device).train()
    x = torch.randn(ROWS, TOKENS, WIDTH, generator=generator).to(device).requires_grad_()
    salient = torch.randn(ROWS, SALIENT_WIDTH, generator=generator).to(device)
    return Step(moe, x, salient, dtype, run)


def _grouped(moe: ISMoE, x: Tensor, salient: Tensor) -> Tensor:
    result: Tensor = moe(x, salient, None)
    return result


def _loop(moe: ISMoE, x: Tensor, salient: Tensor) -> Tensor:
    """Compute the mixture expert by expert, as is commonly written."""
    choice = moe.router(x, salient)
    tokens = x.flatten(0, 1)
    experts, weights = choice.experts.flatten(0, 1), choice.weights.flatten(0, 1)
    out = torch.zeros_like(tokens)
    for expert in range(moe.config.experts):
        rows, places = (experts == expert).nonzero(as_tuple=True)
        hidden = F.relu(tokens[rows] @ moe.up[expert]) @ moe.down[expert]
        out = out.index_add(0, rows, hidden.float() * weights[rows, places, None])
    return out.view_as(x)


def saved_bytes(step: Step) -> dict[str, int]:
    """Return the bytes of the distinct storages that one forward pass saves, parameters apart.

    Returns:
        ``experts``: activations of the experts; ``router``: what is saved while it chooses;
        ``indices``: positions and ends of groups; ``cast_copies``: weights in autocast's type.
    """
    moe = step.moe
    found: dict[int, tuple[str, Tensor]] = {}  # alive, so that no storage takes another's address
    own = {p.untyped_storage().data_ptr() for p in moe.parameters()}
    choosing = False

    def switch(*_: Any) -> None:
        nonlocal choosing
        choosing = not choosing

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            found.setdefault(place, (_part(tensor, moe, choosing), tensor))
        return tensor

    handles = [
        moe.router.register_forward_pre_hook(switch),
        moe.router.register_forward_hook(switch),
    ]
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, in_dtype(step.x.device, step.dtype):
        step.run(moe, step.x, step.salient)
    for handle in handles:
        handle.remove()
    sizes = dict.fromkeys(("experts", "router", "indices", "cast_copies"), 0)
    for part, tensor in found.values():
        sizes[part] += tensor.untyped_storage().nbytes()
    return sizes


def _part(tensor: Tensor, moe: ISMoE, choosing: bool) -> str:
    if choosing:
        return "router"
    if not tensor.is_floating_point():
        return "indices"
    weights = (moe.up.shape, moe.down.shape)
    return "cast_copies" if tensor.shape in weights else "experts"


def lines(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the ratios."""
    yield (
        f"forward and backward of {figures['tokens']} tokens on {figures['device']}, "
        f"k={figures['top_k']}, width {figures['width']}"
    )
    for name, found in figures["dtypes"].items():
        growth = found["most_over_least"]
        most, least = growth["experts"]
        yield f"{name}: {most} experts take {interval(growth)} times as long as {least}"
        for n, pair in found["over_loop"].items():
            yield f"{name}: {n} experts take {interval(pair)} times as long as a loop over them"
        for n, saved in found["saved_bytes"].items():
            parts = ", ".join(f"{part.replace('_', ' ')} {size}" for part, size in saved.items())
            yield f"{name}: {n} experts save, in bytes: {parts}"
