"""Low bits in time: frozen forwards beside dense ones, and how long quantising takes."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.backbones.base import Backbone, Inputs
from harness.benchmarks.timing import bench_device, duel, in_dtype, interval, is_timed
from harness.cards import BACKBONES
from harness.clock import seconds
from methods.quantization.config import QuantizationConfig
from methods.quantization.masters import masters_of
from methods.quantization.modules import distinct_weights, quantize_modules
from methods.quantization.requantize import Requantizer

PAIRS = 7
QUANTIZED_WHOLE = "t5-large"
EPOCH_ROWS = 2000


@dataclass(frozen=True)
class Shape:
    """A backbone of random weights, and the texts that it reads.

    Attributes:
        backbone: its name.
        settings: of its configuration.
        stream: which is read.
        rows: texts.
        tokens: of each.
    """

    backbone: str
    settings: dict[str, Any]
    stream: str
    rows: int
    tokens: int


SHAPES = (
    Shape("minilm", {}, "text", 64, 64),
    Shape("t5-base", {"layers": 2}, "encoder", 25, 128),
)
VARIANTS: dict[str, tuple[dict[str, Any] | None, torch.dtype]] = {
    "dense in bf16": (None, torch.bfloat16),
    "8 bits in fp32": ({"bits": 8}, torch.float32),
    "8 bits in bf16": ({"bits": 8}, torch.bfloat16),
    "4 bits in bf16": ({"bits": 4}, torch.bfloat16),
    "int8 x int8 in fp32": ({"bits": 8, "compute": "int8"}, torch.float32),
    "int8 x int8 in bf16": ({"bits": 8, "compute": "int8"}, torch.bfloat16),
}


def measure() -> dict[str, Any]:
    """Compare frozen forwards with the dense one in fp32, and time quantising a whole backbone.

    What computes in bf16 is left out where the device only emulates it.
    """
    device = bench_device()
    return {
        "device": str(device),
        "forward": {shape.backbone: _forwards(shape, device) for shape in SHAPES},
        "quantize": {"backbone": QUANTIZED_WHOLE, **_quantizing(QUANTIZED_WHOLE)},
        "rewrite": {"backbone": SHAPES[0].backbone, **_rewriting(SHAPES[0], device)},
    }


@torch.no_grad()
def _forwards(shape: Shape, device: torch.device) -> dict[str, Any]:
    dense = _built(shape.backbone, shape.settings).to(device)
    ids = torch.randint(5, 1000, (shape.rows, shape.tokens), device=device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    exact = _encoded(dense, shape.stream, inputs, torch.float32)
    variants: dict[str, Any] = {}
    for name, (quantizer, dtype) in VARIANTS.items():
        if not is_timed(dtype, device):
            continue
        variant = dense if quantizer is None else _low_bit(dense, quantizer)
        output = _encoded(variant, shape.stream, inputs, dtype)
        variants[name] = {
            "error": float((output - exact).norm() / exact.norm()),
            **duel(
                lambda: _encoded(dense, shape.stream, inputs, torch.float32),
                lambda: _encoded(variant, shape.stream, inputs, dtype),  # noqa: B023 - runs here
                PAIRS,
                device,
            ),
        }
    return {"rows": shape.rows, "tokens": shape.tokens, "variants": variants}


def _built(name: str, settings: dict[str, Any]) -> Backbone:
    choice = BACKBONES.choose(name)
    config = choice.card.config(**{**choice.values, **settings})
    backbone: Backbone = BACKBONES.load(choice.card.name).build(config, weights="random")
    return backbone


def _low_bit(dense: Backbone, quantizer: dict[str, Any]) -> Backbone:
    backbone = copy.deepcopy(dense)
    config = QuantizationConfig.model_validate({"noise": "none", **quantizer})
    quantize_modules(backbone, backbone.quantizable(), config)
    return backbone


def _encoded(backbone: Backbone, stream: str, inputs: Inputs, dtype: torch.dtype) -> Tensor:
    """Return the stream's output in fp32."""
    with in_dtype(inputs["input_ids"].device, dtype):
        return backbone.encode_all([stream], inputs)[stream].output.float()


def _quantizing(name: str) -> dict[str, Any]:
    """Return the seconds of quantising every layer of a backbone, and its weights."""
    backbone = _built(name, {})
    names = backbone.quantizable()
    config = QuantizationConfig.model_validate({"noise": "none"})
    modules: dict[str, Any] = {}
    taken = seconds(lambda: modules.update(quantize_modules(backbone, names, config)))
    sizes = [weight.shape.numel() for weight in distinct_weights(modules).values()]
    return {"seconds": taken, "weights": sum(sizes)}


@torch.no_grad()
def _rewriting(shape: Shape, device: torch.device) -> dict[str, Any]:
    """Return the seconds of a round that rewrites 10 % of the channels with one draw of noise.

    Beside it stand those of reading ``EPOCH_ROWS`` texts once, less than which no epoch takes.
    """
    backbone = _built(shape.backbone, shape.settings).to(device)
    names = backbone.quantizable()
    masters = masters_of(backbone, names)
    assert masters is not None
    settings = {"noise": "random", "accept": "always", "sample_percent": 10}
    config = QuantizationConfig.model_validate(settings)
    modules = quantize_modules(backbone, names, config)
    requantizer = Requantizer(modules, masters, config, torch.Generator().manual_seed(0))
    ids = torch.randint(5, 1000, (shape.rows, shape.tokens), device=device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def read() -> None:
        backbone.encode_all([shape.stream], inputs)

    requantizer.calibrate(read)
    requantizer.round()  # the first one reads the masters' file from the disk
    requantizer.calibrate(read)
    taken = seconds(requantizer.round, device)
    epoch = seconds(read, device) * EPOCH_ROWS / shape.rows
    return {"seconds": taken, "epoch_rows": EPOCH_ROWS, "epoch_seconds": epoch}


def lines(figures: dict[str, Any]) -> Iterator[str]:
    """Yield how many times as fast as the dense fp32 forward each is, and its error."""
    for backbone, found in figures["forward"].items():
        where = f"{backbone}, {found['rows']} x {found['tokens']} tokens on {figures['device']}"
        for name, timed in found["variants"].items():
            yield (
                f"{where}: {name} is {interval(timed)} times as fast as dense in fp32, "
                f"error {100 * timed['error']:.2f} %"
            )
    whole = figures["quantize"]
    yield (
        f"{whole['backbone']}: {whole['weights']} weights are quantised in {whole['seconds']:.1f} s"
    )
    rewritten = figures["rewrite"]
    share = 100 * rewritten["seconds"] / rewritten["epoch_seconds"]
    yield (
        f"{rewritten['backbone']}: 10 % of the channels are rewritten in "
        f"{rewritten['seconds']:.2f} s, {share:.1f} % of reading {rewritten['epoch_rows']} texts"
    )
