"""The affine quantiser of Eq. 1-3 as pure functions of groups of weights.

A *group* is the set of weights that share one scale and zero point; all functions work on
``[G, L]``: G groups of L weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import UserError
from methods.quantization.config import Granularity, QuantizationConfig, Range, Rounding

SHRINKS = tuple(1 - i / 40 for i in range(33))  # 1.0 down to 0.2: candidate clipping factors


@dataclass(frozen=True)
class GridSpec:
    """How weights become codes; the fields are those of ``QuantizationConfig``."""

    bits: int
    rounding: Rounding
    range: Range
    granularity: Granularity
    group_size: int

    @classmethod
    def from_config(cls, config: QuantizationConfig, bits: int) -> "GridSpec":
        """Take the quantiser's fields from ``config``, with ``bits`` bits."""
        return cls(bits, config.rounding, config.range, config.granularity, config.group_size)

    @property
    def levels(self) -> int:
        """The highest code, 2^bits - 1."""
        return int(2**self.bits) - 1

    def groups(self, rows: int, columns: int, name: str = "weight") -> tuple[int, int]:
        """Return (G, L) for a weight of ``rows`` output channels of ``columns`` weights each.

        Raises:
            UserError: the group size does not divide the row.
        """
        if self.granularity == "per_tensor":
            return 1, rows * columns
        if self.granularity == "per_output_channel":
            return rows, columns
        if columns % self.group_size:
            raise UserError(
                f"group_size={self.group_size} does not divide the {columns} inputs of '{name}'; "
                "choose a divisor, or granularity=per_output_channel."
            )
        return rows * (columns // self.group_size), self.group_size


@dataclass(frozen=True)
class Grid:
    """Scale and zero point of every group.

    Attributes:
        scale: [G] fp32, the distance of two neighbouring levels.
        zero_point: [G]; uint8 code of zero, or for ``range=float_min`` the fp32 lowest value.
    """

    scale: Tensor
    zero_point: Tensor


def _round(values: Tensor, rounding: Rounding) -> Tensor:
    return torch.round(values) if rounding == "nearest" else torch.floor(values)


def _bounds(groups: Tensor, spec: GridSpec, shrink: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return lowest and highest value of every group's range, each [G]."""
    low, high = groups.amin(dim=1), groups.amax(dim=1)
    # A constant group has no range of its own: widen it to hold zero, whatever the reading.
    widen = (low == high) | (spec.range == "include_zero")
    low = torch.where(widen, low.clamp(max=0), low)
    high = torch.where(widen, high.clamp(min=0), high)
    if shrink is None:
        return low, high
    centre = 0 if spec.range == "include_zero" else (low + high) / 2
    return centre + (low - centre) * shrink, centre + (high - centre) * shrink


def fit_grid(groups: Tensor, spec: GridSpec, shrink: Tensor | None = None) -> Grid:
    """Compute scale and zero point (Eq. 2).

    Args:
        groups: [G, L] fp32 weights.
        spec: the quantiser.
        shrink: [G] factors in (0, 1] that narrow each range; None for the full range.

    Returns:
        The grid. ``range=literal`` is Eq. 2 as printed, whose zero point is clamped to the
        codes, so that a range that misses zero is lost; the other readings keep it.
    """
    low, high = _bounds(groups, spec, shrink)
    scale = ((high - low) / spec.levels).clamp(min=torch.finfo(low.dtype).tiny)
    scale = torch.where(high == low, 1.0, scale)
    if spec.range == "float_min":
        return Grid(scale, low)
    # Only the literal reading rounds the zero point as it rounds codes.
    rounding = spec.rounding if spec.range == "literal" else "nearest"
    zero = _round(spec.levels - high / scale, rounding).clamp(0, spec.levels)
    return Grid(scale, zero.to(torch.uint8))


def quantize(groups: Tensor, grid: Grid, spec: GridSpec) -> Tensor:
    """Return the codes of weights (Eq. 1).

    Args:
        groups: [G, L] fp32.
        grid: scale and zero point of the G groups.
        spec: the quantiser.

    Returns:
        [G, L] uint8, values in [0, 2^bits - 1].
    """
    scale, zero = grid.scale[:, None], grid.zero_point[:, None]
    if spec.range == "float_min":
        codes = _round((groups - zero) / scale, spec.rounding)
    else:
        codes = _round(groups / scale, spec.rounding) + zero
    return codes.clamp_(0, spec.levels).to(torch.uint8)


def dequantize(codes: Tensor, grid: Grid, spec: GridSpec, dtype: torch.dtype) -> Tensor:
    """Return the weights that codes stand for, w = s (q - z) (Eq. 3), as [G, L] of ``dtype``.

    One new tensor is made; scale and zero point are cast to ``dtype``, codes are exact in it.
    """
    scale, zero = grid.scale[:, None].to(dtype), grid.zero_point[:, None].to(dtype)
    values = codes.to(dtype)
    if spec.range == "float_min":
        return values.mul_(scale).add_(zero)
    return values.sub_(zero).mul_(scale)


def row_errors(difference: Tensor, moment: Tensor | None) -> Tensor:
    """Return the error of every output channel.

    Args:
        difference: [..., R, C] fp32, quantised minus full-precision weights.
        moment: [C, C] fp32 second moment E[x x^T] of the layer's inputs, which makes it the mean
            squared error of the output; None for the plain sum of squares.

    Returns:
        [..., R] fp32.
    """
    weighted = difference if moment is None else difference @ moment
    return (weighted * difference).sum(dim=-1)


def unit_errors(difference: Tensor, moment: Tensor | None, spec: GridSpec) -> Tensor:
    """Return ``row_errors``, summed over the tensor where its rows share one grid; [..., R]."""
    errors = row_errors(difference, moment)
    if spec.granularity == "per_tensor":
        return errors.sum(dim=-1, keepdim=True).expand_as(errors)
    return errors


def search_shrink(weight: Tensor, spec: GridSpec, moment: Tensor | None) -> Tensor:
    """Find the clipping factor of least error, one for each output channel.

    Args:
        weight: [R, C] fp32.
        spec: the quantiser.
        moment: [C, C] second moment of the inputs (``clip=output``); None for ``clip=mse``.

    Returns:
        [G] factors in ``SHRINKS``; groups of one channel share theirs.
    """
    rows, columns = weight.shape
    shape = spec.groups(rows, columns)
    groups = weight.reshape(shape)
    errors = []
    for shrink in SHRINKS:
        grid = fit_grid(groups, spec, weight.new_full((shape[0],), shrink))
        restored = dequantize(quantize(groups, grid, spec), grid, spec, weight.dtype)
        errors.append(unit_errors(restored.view(rows, columns) - weight, moment, spec))
    best = torch.stack(errors).argmin(dim=0)  # [R]
    return rows_to_groups(weight.new_tensor(SHRINKS)[best], shape[0])


def clip_factors(weight: Tensor, spec: GridSpec, clip: str, moment: Tensor | None) -> Tensor | None:
    """Return the clipping factors of ``QuantizationConfig.clip``: [G], or None without clipping."""
    if clip == "none":
        return None
    return search_shrink(weight, spec, moment if clip == "output" else None)


def rows_to_groups(values: Tensor, groups: int) -> Tensor:
    """Repeat one value per output channel [R] for the channel's groups: [G]."""
    if groups < values.shape[0]:  # one group for the whole tensor: its rows agree
        return values[:groups]
    return values.repeat_interleave(groups // values.shape[0])
