"""What low bits cost on a real backbone: every quantiser's output error, layer by layer.

Codes are chosen by the inputs of some texts and judged by those of others. A layer's error is the
mean squared error of its output, relative to plain rounding's; the table holds geometric means
over layers.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone
from methods.quantization.calibration import Moments, watched_inputs
from methods.quantization.config import QuantizationConfig
from methods.quantization.gptq import gptq_codes
from methods.quantization.grid import (
    GridSpec,
    clip_factors,
    dequantize,
    fit_grid,
    quantize,
    row_errors,
)
from methods.quantization.nf4 import nf4_rounded
from methods.quantization.noise import Problem, best_candidate, normals

NF4 = "nf4"
RTN = "rtn"
SELECT = {"noise": "select", "noise_draws": 64}

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    RTN: {"noise": "none"},
    "floor": {"noise": "none", "rounding": "floor"},
    "random 0.1 s": {"noise": "random"},
    "random 0.25 s": {"noise": "random", "noise_scale": 0.25},
    "select": SELECT,
    "range jitter": {**SELECT, "noise": "range_jitter"},
    "mean, tensor": {"noise": "mu_tensor"},
    "mean, channel": {"noise": "mu_channel"},
    "mean, weight": {"noise": "mu_weight"},
    "clip mse": {"noise": "none", "clip": "mse"},
    "clip output": {"noise": "none", "clip": "output"},
    "clip output + select": {**SELECT, "clip": "output"},
    "bias correction": {"noise": "none", "bias_correction": True},
    "gptq": {"noise": "none", "init": "gptq"},
}
"""Settings of a quantiser by the name of the table's row; NF4, of four bits, stands beside them."""


@dataclass(frozen=True)
class Layer:
    """One linear layer and what it reads.

    Attributes:
        name: its module name.
        weight: [R, C] fp32.
        fit: moments of the inputs that choose codes.
        score: moments of the inputs that judge them.
    """

    name: str
    weight: Tensor
    fit: Moments
    score: Moments


def measured_layers(
    backbone: Backbone, calibration: Sequence[str], held_out: Sequence[str]
) -> list[Layer]:
    """Run texts through a text backbone and return its linear layers with their inputs' moments.

    Args:
        backbone: with real weights; its first stream must read text.
        calibration: texts that choose codes.
        held_out: texts that judge them.
    """
    names = [n for n in backbone.quantizable() if isinstance(_module(backbone, n), nn.Linear)]
    linears = {name: _module(backbone, name) for name in names}
    fit, score = (_moments(backbone, linears, texts) for texts in (calibration, held_out))
    return [
        Layer(name, linear.weight.detach().float(), fit[name], score[name])
        for name, linear in linears.items()
        if fit[name].count and score[name].count
    ]


def relative_errors(layers: Sequence[Layer], bits: int, seed: int) -> Iterator[tuple[str, float]]:
    """Yield every variant's held-out output error at ``bits`` over that of plain rounding.

    Plain rounding itself comes first, with its error over the output's power.
    """
    base = [_error(layer, _values(layer, VARIANTS[RTN], bits, seed)) for layer in layers]
    power = [_error(layer, torch.zeros_like(layer.weight)) for layer in layers]
    yield RTN, _geometric_mean(base, power)
    for name, settings in VARIANTS.items():
        if name != RTN:
            central = bool(settings.get("bias_correction"))
            values = (_values(layer, settings, bits, seed) for layer in layers)
            errors = [_error(la, v, central=central) for la, v in zip(layers, values, strict=True)]
            yield name, _geometric_mean(errors, base)
    if bits == 4:
        yield NF4, _geometric_mean([_error(la, nf4_rounded(la.weight)) for la in layers], base)


def _values(layer: Layer, settings: Mapping[str, Any], bits: int, seed: int) -> Tensor:
    """Return a layer's weight [R, C] after quantisation."""
    config = QuantizationConfig(**settings)
    spec = GridSpec.from_config(config, bits)
    weight = layer.weight
    moment = layer.fit.second_moment(layer.fit.mean if config.bias_correction else None)
    shrink = clip_factors(weight, spec, config.clip, moment)
    groups = weight.view(spec.groups(weight.shape[0], weight.shape[1], layer.name))
    grid = fit_grid(groups, spec, shrink)
    codes = quantize(groups, grid, spec)
    if config.init == "gptq":
        codes = gptq_codes(weight, grid, spec, moment).view_as(groups)
    elif config.noise != "none":
        current = dequantize(codes, grid, spec, weight.dtype).view_as(weight)
        best = best_candidate(
            Problem(
                base=weight,
                target=weight,
                current=current,
                moment=moment,
                shrink=shrink,
                spec=spec,
                config=config,
                normal=partial(_normal, seed, layer.name, weight.shape),
            )
        )
        codes, grid = best.codes.view_as(groups), best.grid
    return dequantize(codes, grid, spec, weight.dtype).view_as(weight)


def _normal(seed: int, name: str, shape: torch.Size, draw: int) -> Tensor:
    return normals(seed, name, 0, draw, shape)


def _error(layer: Layer, values: Tensor, *, central: bool = False) -> float:
    """Return the held-out squared output error; ``central`` takes the fit's mean error away."""
    moment = layer.score.second_moment(layer.fit.mean if central else None)
    return float(row_errors(values - layer.weight, moment).sum())


def _geometric_mean(errors: Sequence[float], base: Sequence[float]) -> float:
    logs = [math.log(error / unit) for error, unit in zip(errors, base, strict=True)]
    return math.exp(sum(logs) / len(logs))


def _module(backbone: Backbone, name: str) -> Any:
    return backbone.get_submodule(name)


@torch.no_grad()
def _moments(
    backbone: Backbone, linears: Mapping[str, nn.Linear], texts: Sequence[str]
) -> dict[str, Moments]:
    """Run texts one by one, so that no padding is measured, and sum over every layer's inputs."""
    moments = {name: Moments.zeros(linear.in_features) for name, linear in linears.items()}
    process, stream = backbone.processors()["text"], backbone.specs[0].name
    with watched_inputs(linears, lambda name, x: moments[name].add(x)):
        for text in texts:
            backbone.encode(stream, process([text]), {})
    return moments
