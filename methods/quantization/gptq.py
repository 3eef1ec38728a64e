"""Codes by GPTQ: round column by column and let later columns make up for the error."""

import torch
from torch import Tensor

from methods.quantization.grid import Grid, GridSpec, dequantize, quantize

DAMPING = 0.01  # of the mean diagonal, added to the moment before it is inverted


def gptq_codes(weight: Tensor, grid: Grid, spec: GridSpec, moment: Tensor) -> Tensor:
    """Return codes that keep the layer's output (GPTQ, ICLR 2023, algorithm 1).

    Args:
        weight: [R, C] fp32.
        grid: scale and zero point of the G groups, kept as they are.
        spec: the quantiser.
        moment: [C, C] fp32 second moment of the layer's inputs.

    Returns:
        [R, C] uint8.
    """
    rows, columns = weight.shape
    weight = weight.clone()
    damped = moment.double()
    damped.diagonal().add_(DAMPING * moment.diagonal().mean().clamp(min=1e-12).double())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True).to(weight.dtype)  # [C, C]
    scale, zero = (_per_column(t, rows, columns) for t in (grid.scale, grid.zero_point))
    codes = torch.empty(rows, columns, dtype=torch.uint8, device=weight.device)
    for i in range(columns):
        column = weight[:, i : i + 1]
        column_grid = Grid(scale[:, i], zero[:, i])
        codes[:, i : i + 1] = quantize(column, column_grid, spec)
        rounded = dequantize(codes[:, i : i + 1], column_grid, spec, weight.dtype)
        error = (column - rounded) / upper[i, i]
        weight[:, i + 1 :] -= error * upper[i, i + 1 :]
    return codes


def _per_column(values: Tensor, rows: int, columns: int) -> Tensor:
    """Spread group values [G] over the weights they belong to, [R, C], as a view or a copy."""
    if values.numel() == 1:
        return values.expand(rows, columns)
    groups_per_row = values.numel() // rows
    return values.view(rows, groups_per_row).repeat_interleave(columns // groups_per_row, dim=1)
