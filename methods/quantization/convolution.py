"""Convolutions whose frozen weight is stored as packed codes."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

from methods.quantization.storage import LowBitWeight, bias_values, compute_dtype


class _QuantizedConvolution(torch.autograd.Function):
    """A convolution whose backward dequantises its weight again, so that it is never saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, layer: "QuantizedConv2d") -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape  # no tensor: autograd saves nothing
        return F.conv2d(x, layer.kernel(x.dtype), bias, **layer.geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (grad,) = grads
        needs_input, needs_bias, _ = ctx.needs_input_grad
        grad_input = grad_bias = None
        if needs_input:
            kernel = ctx.layer.kernel(grad.dtype)
            grad_input = conv2d_input(ctx.shape, kernel, grad, **ctx.layer.geometry)
        if needs_bias:
            grad_bias = grad.sum((0, 2, 3))
        return grad_input, grad_bias, None


class QuantizedConv2d(nn.Module):
    """A convolution with a low-bit frozen weight.

    Its output channels are the rows of the stored matrix. Calibration does not measure its inputs,
    so that its codes are chosen by the error of the weights alone.

    Args:
        convolution: the layer to replace; its bias parameter is kept, frozen.
        weight: its weight [O, I / groups x height x width] in low-bit storage.
        bias: its bias in low-bit storage, in place of the parameter.
    """

    bias: nn.Parameter | LowBitWeight | None
    geometry: dict[str, Any]

    def __init__(
        self, convolution: nn.Conv2d, weight: LowBitWeight, bias: LowBitWeight | None = None
    ) -> None:
        super().__init__()
        self.shape = convolution.weight.shape
        self.geometry = {
            name: getattr(convolution, name) for name in ("stride", "padding", "dilation", "groups")
        }
        self.weight = weight
        self.bias = convolution.bias if bias is None else bias  # type: ignore[assignment]
        if isinstance(self.bias, nn.Parameter):
            self.bias.requires_grad_(False)

    def kernel(self, dtype: torch.dtype) -> Tensor:
        """Return the weight [O, I / groups, height, width] in ``dtype``, new at every call."""
        return self.weight.dequantize(dtype).view(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` [B, I, H, W] to [B, O, H', W'] in the compute dtype."""
        dtype = compute_dtype(x)
        bias = bias_values(self.bias)
        bias = None if bias is None else bias.to(dtype)
        result: Tensor = _QuantizedConvolution.apply(x.to(dtype), bias, self)
        return result

    def extra_repr(self) -> str:
        """Describe the layer by its kernel."""
        return (
            f"{tuple(self.shape)}, groups={self.geometry['groups']}, bias={self.bias is not None}"
        )
