"""Layers whose frozen weight is stored as packed codes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from harness.errors import UserError, did_you_mean
from harness.values import has_values
from methods.quantization.config import Compute, QuantizationConfig
from methods.quantization.convolution import QuantizedConv2d
from methods.quantization.grid import (
    Grid,
    GridSpec,
    clip_factors,
    dequantize,
    fit_grid,
    quantize,
)
from methods.quantization.int8 import int8_linear
from methods.quantization.packing import pack, packed_bytes, unpack
from methods.quantization.storage import LowBitWeight, bias_values, compute_dtype


class QuantizedWeight(LowBitWeight):
    """A frozen weight matrix, held as packed codes with a scale and zero point per group.

    It takes the place of a layer's ``weight``; tied layers share one.

    Args:
        weight: [R, C] of any floating dtype; R output channels (rows of an embedding). Further
            dimensions, of kernels, count as columns. One that is fake or on the meta device, and
            so has no values to round, gets codes and a grid without values.
        spec: the quantiser.
        source_name: name of the master tensor in its file.
        clip: ``none`` or ``mse``; ``output`` counts as ``mse`` until inputs are measured.

    Attributes:
        codes: [ceil(bits x R x C / 8)] uint8 buffer.
        scale: [G] fp32 buffer.
        zero_point: [G] uint8 buffer (fp32 for ``range=float_min``).
        mse: [] fp32 buffer, mean squared error against the master (Eq. 4).
    """

    zero_point: Tensor

    def __init__(
        self, weight: Tensor, spec: GridSpec, source_name: str, clip: str = "none"
    ) -> None:
        super().__init__()
        self.spec = spec
        self.source_name = source_name
        weight = weight.flatten(1)
        self.shape = weight.shape
        self.groups = spec.groups(weight.shape[0], weight.shape[1], source_name)
        master = weight.detach().float()
        rounded = has_values(weight)
        codes, grid = self._rounded(master, clip) if rounded else self._blank(master)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", grid.scale)
        self.register_buffer("zero_point", grid.zero_point)
        error = self.error_against(master) if rounded else master.new_zeros(())
        self.register_buffer("mse", error)

    def _rounded(self, master: Tensor, clip: str) -> tuple[Tensor, Grid]:
        """Return the packed codes and the grid of a master [R, C] fp32."""
        groups = master.reshape(self.groups)
        grid = fit_grid(groups, self.spec, clip_factors(master, self.spec, clip, None))
        return pack(quantize(groups, grid, self.spec), self.spec.bits), grid

    def _blank(self, master: Tensor) -> tuple[Tensor, Grid]:
        """Return what :meth:`_rounded` does, without values."""
        zero = torch.float32 if self.spec.range == "float_min" else torch.uint8
        scale = master.new_empty(self.groups[0])
        codes = master.new_empty(packed_bytes(self.spec.bits, master.numel()), dtype=torch.uint8)
        return codes, Grid(scale, scale.new_empty(scale.shape, dtype=zero))

    @property
    def grid(self) -> Grid:
        """Scale and zero point of every group."""
        return Grid(self.scale, self.zero_point)

    def unpacked(self) -> Tensor:
        """Return the codes as [R, C] uint8; do not write to it."""
        return unpack(self.codes, self.spec.bits, self.shape.numel()).view(self.shape)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the weight [R, C] in ``dtype`` (Eq. 3), a new tensor at every call."""
        codes = self.unpacked().view(self.groups)
        return dequantize(codes, self.grid, self.spec, dtype).view(self.shape)

    def integers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return int8 codes C [R, C], scale s [R] and offset o [R] fp32, with W = s C + o.

        Raises:
            ValueError: an output channel has several scales.
        """
        if self.spec.granularity == "group":
            raise ValueError(f"'{self.source_name}' has several scales in an output channel.")
        centre = (self.spec.levels + 1) // 2
        codes = (self.unpacked() - centre).view(torch.int8)  # uint8 wraps to the signed value
        scale = self.scale.expand(self.shape[0])
        if self.spec.range == "float_min":
            return codes, scale, scale * centre + self.zero_point
        return codes, scale, scale * (centre - self.zero_point.float())

    def dequantize_rows(self, rows: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return some rows of the weight.

        Args:
            rows: [...] long, indices of rows.
            dtype: dtype of the result.

        Returns:
            [..., C]; only these rows are unpacked.
        """
        flat = rows.reshape(-1)
        columns = self.shape[1]
        packed = self.codes.view(self.shape[0], -1)[flat]  # [n, bytes of a row]
        codes = unpack(packed.view(-1), self.spec.bits, flat.numel() * columns)
        groups_per_row = self.groups[0] // self.shape[0]
        if groups_per_row == 0:  # one grid for the whole tensor
            grid, shape = self.grid, (1, -1)
        else:
            grid = Grid(
                self.scale.view(-1, groups_per_row)[flat].view(-1),
                self.zero_point.view(-1, groups_per_row)[flat].view(-1),
            )
            shape = (-1, self.groups[1])
        values = dequantize(codes.view(shape), grid, self.spec, dtype)
        return values.view(*rows.shape, columns)

    @torch.no_grad()
    def replace(self, codes: Tensor, grid: Grid, master: Tensor) -> None:
        """Store new codes in place.

        Args:
            codes: [R, C] uint8.
            grid: scale and zero point of the G groups.
            master: [R, C] fp32, against which the error is measured.
        """
        self.codes.copy_(pack(codes, self.spec.bits))
        self.scale.copy_(grid.scale)
        self.zero_point.copy_(grid.zero_point)
        self.mse.copy_(self.error_against(master))

    def extra_repr(self) -> str:
        """Describe shape and bits."""
        return f"{tuple(self.shape)}, bits={self.spec.bits}"


class _QuantizedLinear(torch.autograd.Function):
    """x W^T + b whose backward dequantises W again, so that W is never saved."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor | None, weight: LowBitWeight, compute: Compute
    ) -> Tensor:
        ctx.weight = weight  # the module, not a tensor: autograd saves nothing
        if compute == "int8":
            assert isinstance(weight, QuantizedWeight)
            return int8_linear(x, *weight.integers(), bias)
        return F.linear(x, weight.dequantize(x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grads
        needs_input, needs_bias, *_ = ctx.needs_input_grad
        grad_input = grad @ ctx.weight.dequantize(grad.dtype) if needs_input else None
        grad_bias = grad.reshape(-1, grad.shape[-1]).sum(0) if needs_bias else None
        return grad_input, grad_bias, None, None


def quantized_linear(
    x: Tensor, weight: LowBitWeight, bias: Tensor | None = None, compute: Compute = "float"
) -> Tensor:
    """Apply a linear layer with a low-bit weight.

    The weight is dequantised in the compute dtype (autocast's, or that of ``x``), used and freed;
    the backward pass dequantises it again, also where the forward pass is one of integers. No
    gradient is made for the weight.

    Args:
        x: [..., C] floating point.
        weight: [R, C] low-bit weight; a ``QuantizedWeight`` for ``int8``.
        bias: [R], or None.
        compute: see ``QuantizationConfig.compute``.

    Returns:
        [..., R] in the compute dtype.
    """
    dtype = compute_dtype(x)
    bias = None if bias is None else bias.to(dtype)
    result: Tensor = _QuantizedLinear.apply(x.to(dtype), bias, weight, compute)
    return result


class QuantizedLinear(nn.Module):
    """A linear layer with a low-bit frozen weight.

    Args:
        linear: the layer to replace; its bias parameter is kept, frozen.
        weight: its weight in low-bit storage.
        bias: its bias in low-bit storage, in place of the parameter.
        bias_correction: whether to hold a correction of the bias (zero until calibrated).
        compute: see ``QuantizationConfig.compute``.

    Attributes:
        correction: [R] fp32 buffer added to the bias, or None.
    """

    correction: Tensor | None
    bias: nn.Parameter | LowBitWeight | None

    def __init__(
        self,
        linear: nn.Linear,
        weight: LowBitWeight,
        bias: LowBitWeight | None = None,
        *,
        bias_correction: bool = False,
        compute: Compute = "float",
    ) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.weight = weight
        self.compute: Compute = compute
        self.bias = linear.bias if bias is None else bias
        if isinstance(self.bias, nn.Parameter):
            self.bias.requires_grad_(False)
        zeros = weight.scale.new_zeros(linear.out_features) if bias_correction else None
        self.register_buffer("correction", zeros)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` [..., C] to [..., R]."""
        bias = bias_values(self.bias)
        if self.correction is not None:
            bias = self.correction if bias is None else bias + self.correction
        return quantized_linear(x, self.weight, bias, self.compute)

    def memory_categories(self) -> dict[str, str]:
        """Return the memory category of this module's own buffer."""
        return {} if self.correction is None else {"correction": "quantization_metadata"}

    def extra_repr(self) -> str:
        """Describe the layer as ``nn.Linear`` does."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class QuantizedEmbedding(nn.Module):
    """An embedding table with low-bit rows; only the rows that are read are dequantised.

    Args:
        embedding: the table to replace.
        weight: its weight in low-bit storage.
    """

    def __init__(self, embedding: nn.Embedding, weight: QuantizedWeight) -> None:
        super().__init__()
        self.num_embeddings = embedding.num_embeddings
        self.embedding_dim = embedding.embedding_dim
        self.padding_idx = embedding.padding_idx
        self.weight = weight
        if self.embedding_dim * weight.spec.bits % 8:
            raise UserError(
                f"embedding_bits={weight.spec.bits}: a row of '{weight.source_name}' "
                f"({self.embedding_dim} weights) must fill whole bytes; choose 8."
            )

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ``ids`` [...] long; returns [..., D] fp32."""
        return self.weight.dequantize_rows(ids)

    def extra_repr(self) -> str:
        """Describe the table as ``nn.Embedding`` does."""
        return f"{self.num_embeddings}, {self.embedding_dim}"


Quantizable = nn.Linear | nn.Embedding | nn.Conv2d
QuantizedModule = QuantizedLinear | QuantizedEmbedding | QuantizedConv2d


def quantize_modules(
    root: nn.Module,
    names: Sequence[str],
    config: QuantizationConfig,
    store: Callable[[Tensor, str], LowBitWeight] | None = None,
) -> dict[str, QuantizedModule]:
    """Replace linear layers, convolutions and embeddings of a model by low-bit ones, in place.

    Weights are rounded without calibration rows; what needs these is the work of
    ``Requantizer.initialise``. A tied weight is stored once, at the embedding's bits.

    Args:
        root: the model; its weights may be real, fake or on the meta device.
        names: module names of nn.Linear, nn.Conv2d and nn.Embedding layers.
        config: the quantiser. ``embedding_bits=None`` leaves embeddings and their tied heads.
        store: makes the storage of a weight that is no embedding's from its tensor and the name
            of its master; None for codes on the grid of ``config``.

    Returns:
        The new modules by name.

    Raises:
        UserError: a name is no such layer of ``root``.
    """
    paths = dict(root.named_modules(remove_duplicate=False))
    layers = {name: _layer(paths, name) for name in names}
    tables = {id(m.weight) for m in layers.values() if isinstance(m, nn.Embedding)}
    stored: dict[int, LowBitWeight] = {}
    replaced: dict[str, QuantizedModule] = {}
    for name, layer in layers.items():
        key = id(layer.weight)
        bits = config.embedding_bits if key in tables else config.bits
        if bits is None:
            continue
        if key not in stored:
            if store is None or key in tables:
                spec = GridSpec.from_config(config, bits)
                stored[key] = QuantizedWeight(layer.weight, spec, f"{name}.weight", config.clip)
            else:
                stored[key] = store(layer.weight, f"{name}.weight")
        weight = stored[key]
        if isinstance(layer, nn.Embedding):
            assert isinstance(weight, QuantizedWeight)
            replaced[name] = QuantizedEmbedding(layer, weight)
        elif isinstance(layer, nn.Conv2d):
            replaced[name] = QuantizedConv2d(layer, weight, _low_bias(layer, name, config))
        else:
            replaced[name] = QuantizedLinear(
                layer,
                weight,
                _low_bias(layer, name, config),
                bias_correction=config.bias_correction,
                compute=config.compute,
            )
        for alias in [path for path, module in paths.items() if module is layer]:
            root.set_submodule(alias, replaced[name])
    return replaced


def _low_bias(
    layer: nn.Linear | nn.Conv2d, name: str, config: QuantizationConfig
) -> QuantizedWeight | None:
    """Return a layer's bias [1, R] as codes with one scale; None where it stays or is none."""
    if config.tensors == "weights" or config.bits is None or layer.bias is None:
        return None
    spec = replace(GridSpec.from_config(config, config.bits), granularity="per_tensor")
    return QuantizedWeight(layer.bias[None], spec, f"{name}.bias")


def low_biases(modules: Mapping[str, QuantizedModule]) -> dict[str, LowBitWeight]:
    """Return every bias in low-bit storage, as ``NAME.bias``."""
    held = {f"{name}.bias": getattr(module, "bias", None) for name, module in modules.items()}
    return {name: bias for name, bias in held.items() if isinstance(bias, LowBitWeight)}


def _layer(modules: Mapping[str, nn.Module], name: str) -> Quantizable:
    layer = modules.get(name)
    if not isinstance(layer, Quantizable):
        known = [n for n, m in modules.items() if isinstance(m, Quantizable)]
        raise UserError(
            f"'{name}' is no nn.Linear, nn.Conv2d or nn.Embedding and cannot be quantised."
            + did_you_mean(name, known)
        )
    return layer


def distinct_weights(modules: Mapping[str, QuantizedModule]) -> dict[str, LowBitWeight]:
    """Return every low-bit weight once, by the first of the modules' names that holds it."""
    found: dict[LowBitWeight, str] = {}
    for name, module in modules.items():
        found.setdefault(module.weight, name)
    return {name: weight for weight, name in found.items()}


def mean_mse(modules: Mapping[str, QuantizedModule]) -> float:
    """Return the mean squared error over all weights of all modules (Eq. 4)."""
    weights = distinct_weights(modules).values()
    total = sum(w.quantization_mse * w.shape.numel() for w in weights)
    return total / max(1, sum(w.shape.numel() for w in weights))


def layer_mses(modules: Mapping[str, QuantizedModule]) -> dict[str, float]:
    """Return the mean squared error of every weight (Eq. 4), by the module that holds it."""
    return {name: w.quantization_mse for name, w in distinct_weights(modules).items()}


def storage_bytes(modules: Mapping[str, QuantizedModule]) -> dict[str, int]:
    """Return bytes held by memory category, shared weights counted once."""
    weights = [*distinct_weights(modules).values(), *low_biases(modules).values()]
    holders: list[nn.Module] = [*weights, *modules.values()]
    totals = {"quantized_weights": 0, "quantization_metadata": 0}
    for holder in holders:
        if isinstance(holder, LowBitWeight | QuantizedLinear):
            for buffer, category in holder.memory_categories().items():
                totals[category] += holder.get_buffer(buffer).nbytes
    return totals
