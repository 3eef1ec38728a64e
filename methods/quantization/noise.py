"""Noise of a re-quantisation (Eq. 5) and its objectives: proposals of new codes.

A proposal perturbs the full-precision weights, w' = w + mean + std * xi with standard normal xi,
fits a new grid and rounds. Scale and zero point have one value per group, and so have the mean
and the standard deviation that are recorded with accepted codes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.quantization.config import QuantizationConfig
from methods.quantization.grid import (
    Grid,
    GridSpec,
    dequantize,
    fit_grid,
    quantize,
    row_errors,
    rows_to_groups,
    unit_errors,
)
from methods.quantization.sampling import keyed_generator

LEARNING_RATE = 0.02  # of learned noise, in units of the scale
SPSA_WIDTH = 0.1  # how far apart the two values are taken, in units of the scale
SPSA_GAIN = 0.2
STACKED_WEIGHTS = 2**18  # draws are tried together up to this many perturbed weights


@dataclass(frozen=True)
class Problem:
    """The channels of one tensor that a round re-quantises.

    Attributes:
        base: [R, C] fp32, the weights that noise is added to.
        target: [R, C] fp32, the master, against which errors are measured.
        current: [R, C] fp32, what the present codes stand for.
        moment: [C, C] fp32 input moment of the calibration rows; None measures weight errors.
        shrink: [G] clipping factors, or None.
        spec: the quantiser.
        config: the noise.
        normal: returns the standard normals [R, C] of a draw by its number.
        fixed: what single codes that are drawn have to leave as it is; None where channels are.
    """

    base: Tensor
    target: Tensor
    current: Tensor
    moment: Tensor | None
    shrink: Tensor | None
    spec: GridSpec
    config: QuantizationConfig
    normal: Callable[[int], Tensor]
    fixed: "FixedGrid | None" = None

    @property
    def groups(self) -> Tensor:
        """``base`` as [G, L]."""
        return self.base.reshape(self.spec.groups(*self.base.shape))

    def normal_groups(self, draw: int) -> Tensor:
        """The standard normals of a draw as [G, L]."""
        return self.normal(draw).view_as(self.groups)

    def fit(self, groups: Tensor, shrink: Tensor | None) -> Grid:
        """Return the grid of perturbed weights [K G, L]: a new one, or the one that they keep."""
        if self.fixed is None:
            return fit_grid(groups, self.spec, shrink)
        times = groups.shape[0] // self.fixed.grid.scale.shape[0]
        return Grid(self.fixed.grid.scale.repeat(times), self.fixed.grid.zero_point.repeat(times))

    def round(self, groups: Tensor, grid: Grid) -> Tensor:
        """Return the codes [K G, L] of perturbed weights; those that were not drawn stay."""
        codes = quantize(groups, grid, self.spec)
        if self.fixed is None:
            return codes
        times = groups.shape[0] // self.fixed.grid.scale.shape[0]
        drawn, kept = (t.view(-1, groups.shape[1]) for t in (self.fixed.drawn, self.fixed.codes))
        return torch.where(drawn.repeat(times, 1), codes, kept.repeat(times, 1))

    def error(self, values: Tensor) -> Tensor:
        """Return the objective [..., R] of dequantised weights [..., R, C]."""
        return unit_errors(values - self.target, self.moment, self.spec)


@dataclass(frozen=True)
class FixedGrid:
    """What a round of single codes keeps.

    Attributes:
        drawn: [R, C] bool, the codes that the round may change.
        codes: [R, C] uint8, the present ones.
        grid: scale and zero point of the G groups, which stay.
    """

    drawn: Tensor
    codes: Tensor
    grid: Grid


@dataclass(frozen=True)
class Candidate:
    """Codes with what made them.

    Attributes:
        weights: [R, C] fp32, the perturbed weights.
        codes: [R, C] uint8.
        grid: scale and zero point of the G groups.
        draw: [G] int32, number of the draw; 0 is no noise.
        mean: [G] fp32; NaN where a value per weight was used, which is not kept.
        std: [G] fp32.
        error: [R] fp32 objective.
    """

    weights: Tensor
    codes: Tensor
    grid: Grid
    draw: Tensor
    mean: Tensor
    std: Tensor
    error: Tensor

    def merge(self, other: "Candidate", rows: Tensor) -> "Candidate":
        """Return this candidate with the channels of mask ``rows`` [R] taken from ``other``."""
        groups = rows_to_groups(rows, self.draw.shape[0])
        mine, theirs = self.grid, other.grid
        return Candidate(
            torch.where(rows[:, None], other.weights, self.weights),
            torch.where(rows[:, None], other.codes, self.codes),
            Grid(
                torch.where(groups, theirs.scale, mine.scale),
                torch.where(groups, theirs.zero_point, mine.zero_point),
            ),
            torch.where(groups, other.draw, self.draw),
            torch.where(groups, other.mean, self.mean),
            torch.where(groups, other.std, self.std),
            torch.where(rows, other.error, self.error),
        )


def normals(seed: int, name: str, round_index: int, draw: int, shape: torch.Size) -> Tensor:
    """Return standard normals that depend on the arguments alone; CPU fp32 of ``shape``."""
    generator = keyed_generator(seed, name, round_index, draw)
    return torch.randn(shape, generator=generator)


def _candidate(
    problem: Problem, draws: Sequence[int], mean: Tensor, std: Tensor, shrink: Tensor | None
) -> Candidate:
    """Quantise the perturbed weights of K draws at once; keep the best draw of every channel.

    Args:
        problem: the channels.
        draws: their numbers; 0 is no noise.
        mean: [G, 1] or [G, L] fp32, the noise's mean.
        std: [G, 1] fp32, its standard deviation.
        shrink: [K, G] or [G] clipping factors, or None.
    """
    groups, spec, stacked = problem.groups, problem.spec, len(draws)
    count, length = groups.shape
    noise = [std * problem.normal_groups(d) if d else torch.zeros_like(groups) for d in draws]
    perturbed = (groups + mean + torch.stack(noise)).view(-1, length)  # [K G, L]
    if shrink is not None:
        shrink = shrink.expand(stacked, count).reshape(-1)  # [K G]
    grid = problem.fit(perturbed, shrink)
    codes = problem.round(perturbed, grid)
    values = dequantize(codes, grid, spec, groups.dtype)
    by_row = (stacked, *problem.base.shape)
    errors = problem.error(values.view(by_row))  # [K, R]
    best, row = errors.argmin(dim=0), torch.arange(errors.shape[1], device=groups.device)  # [R]
    best_of_group = rows_to_groups(best, count)  # [G]
    group = best_of_group * count + torch.arange(count, device=groups.device)
    draw = torch.tensor(draws, dtype=torch.int32, device=groups.device)[best_of_group]
    return Candidate(
        weights=perturbed.view(by_row)[best, row],
        codes=codes.view(by_row)[best, row],
        grid=Grid(grid.scale[group], grid.zero_point[group]),
        draw=draw,
        mean=torch.full_like(std[:, 0], torch.nan) if mean.shape[1] > 1 else mean[:, 0],
        std=torch.where(draw > 0, std[:, 0], 0),
        error=errors[best, row],
    )


def _stacks(problem: Problem, draws: int) -> Iterator[list[int]]:
    """Split draws 0, 1, ... into stacks of a bounded number of weights."""
    size = max(1, STACKED_WEIGHTS // problem.base.numel())
    for start in range(0, draws, size):
        yield list(range(start, min(start + size, draws)))


def _scale(problem: Problem) -> Tensor:
    """Return the scale of the unperturbed weights, [G, 1]: the unit of all noise."""
    return problem.fit(problem.groups, problem.shrink).scale[:, None]


def _none(problem: Problem) -> Iterator[Candidate]:
    """No noise: the codes of the weights as they are."""
    zero = torch.zeros_like(_scale(problem))
    yield _candidate(problem, [0], zero, zero, problem.shrink)


def _random(problem: Problem) -> Iterator[Candidate]:
    """One Gaussian draw: Eq. 5 as printed, with a fixed standard deviation."""
    scale = _scale(problem)
    std = problem.config.noise_scale * scale
    yield _candidate(problem, [1], torch.zeros_like(scale), std, problem.shrink)


def _moment(problem: Problem) -> Iterator[Candidate]:
    """One draw with mean and deviation of the present quantisation error."""
    residual = problem.target - problem.current
    ones = torch.ones_like(_scale(problem))
    yield _candidate(problem, [1], residual.mean() * ones, residual.std() * ones, problem.shrink)


def _select(problem: Problem) -> Iterator[Candidate]:
    """Several draws to choose from, the first without noise."""
    scale = _scale(problem)
    mean, std = torch.zeros_like(scale), problem.config.noise_scale * scale
    for draws in _stacks(problem, problem.config.noise_draws):
        yield _candidate(problem, draws, mean, std, problem.shrink)


def _range_jitter(problem: Problem) -> Iterator[Candidate]:
    """A control for ``select``: only the ends of the range move, by about ``noise_scale`` s."""
    zero = torch.zeros_like(_scale(problem))
    base = torch.ones_like(zero[:, 0]) if problem.shrink is None else problem.shrink
    unit = 2 * problem.config.noise_scale / problem.spec.levels  # one end is half the range
    for draws in _stacks(problem, problem.config.noise_draws):
        jitter = [problem.normal_groups(d)[:, 0] if d else torch.zeros_like(base) for d in draws]
        shrink = base + unit * torch.stack(jitter)  # [K, G]
        yield _candidate(problem, [0] * len(draws), zero, zero, shrink)


def _mu_tensor(problem: Problem) -> Iterator[Candidate]:
    """A learned mean for the tensor."""
    yield _learn(problem, torch.zeros(1, 1), with_std=False)


def _mu_channel(problem: Problem) -> Iterator[Candidate]:
    """A learned mean for every group."""
    yield _learn(problem, torch.zeros(problem.groups.shape[0], 1), with_std=False)


def _mu_weight(problem: Problem) -> Iterator[Candidate]:
    """A learned mean for every weight."""
    yield _learn(problem, torch.zeros(problem.groups.shape), with_std=False)


def _learned_gaussian(problem: Problem) -> Iterator[Candidate]:
    """A learned mean and deviation for the tensor (``layer_recon``, ``weight_mse``)."""
    yield _learn(problem, torch.zeros(1, 1), with_std=True)


@torch.enable_grad()
def _learn(problem: Problem, mean: Tensor, *, with_std: bool) -> Candidate:
    """Learn the noise by Adam on the objective, with straight-through rounding.

    Args:
        problem: the channels.
        mean: zeros of the mean's shape: [1, 1], [G, 1] or [G, L], in units of the scale.
        with_std: whether a standard deviation is learned too, by reparameterisation.

    Returns:
        The codes of the best mean seen, by channel or, for one mean, over the tensor.
    """
    groups, scale = problem.groups, _scale(problem)
    mean = mean.to(groups).requires_grad_()
    start = max(problem.config.noise_scale, 1e-3)
    log_std = torch.full_like(mean[:1, :1], start).log().detach().requires_grad_(with_std)
    learned = [mean, log_std] if with_std else [mean]
    optimizer = torch.optim.Adam(learned, lr=LEARNING_RATE)
    best_mean, best_std = mean.detach().clone(), torch.zeros_like(log_std)
    best = torch.full((mean.shape[0],), torch.inf, device=groups.device)
    for step in range(1, problem.config.noise_steps + 1):
        noise = log_std.exp() * problem.normal_groups(step) if with_std else 0
        perturbed = groups + scale * (mean + noise)
        rounded = _rounded(problem, perturbed.detach())
        values = (perturbed + (rounded - perturbed.detach())).view_as(problem.base)
        errors = row_errors(values - problem.target, problem.moment)
        seen = errors.detach()
        seen = seen.sum()[None] if mean.shape[0] == 1 else rows_to_groups(seen, mean.shape[0])
        better = (seen < best)[:, None]
        best = torch.minimum(seen, best)
        best_mean = torch.where(better, mean.detach(), best_mean)
        if with_std:
            best_std = torch.where(better[:1], log_std.detach().exp(), best_std)
        optimizer.zero_grad()
        (errors.sum() / errors.detach().sum().clamp(min=torch.finfo(errors.dtype).tiny)).backward()
        optimizer.step()
    with torch.no_grad():
        draw = problem.config.noise_steps + 1 if with_std else 0
        return _candidate(problem, [draw], best_mean * scale, best_std * scale, problem.shrink)


def _rounded(problem: Problem, perturbed: Tensor) -> Tensor:
    """Return what the codes of perturbed weights [G, L] stand for."""
    grid = problem.fit(perturbed, problem.shrink)
    codes = problem.round(perturbed, grid)
    return dequantize(codes, grid, problem.spec, perturbed.dtype)


def _spsa(problem: Problem) -> Iterator[Candidate]:
    """A mean and a deviation for the tensor, learned from two values of the objective a step.

    Source: Spall, Multivariate stochastic approximation using a simultaneous perturbation gradient
    approximation, IEEE TAC 1992, with the gains of his 1998 implementation guide.
    """
    groups, scale, steps = problem.groups, _scale(problem), problem.config.noise_steps
    start = max(problem.config.noise_scale, 1e-3)
    point = torch.tensor([0.0, math.log(start)], device=groups.device)  # mean, log deviation
    best, least = point, math.inf

    def error(values: Tensor, normal: Tensor) -> float:
        perturbed = groups + scale * (values[0] + values[1].exp() * normal)
        return float(problem.error(_rounded(problem, perturbed).view_as(problem.base)).sum())

    for step in range(1, steps + 1):
        normal = problem.normal_groups(step)
        side = normal.view(-1)[:2].sign() * SPSA_WIDTH / step**0.101
        above, below = error(point + side, normal), error(point - side, normal)
        if min(above, below) < least:
            least, best = min(above, below), point + side if above < below else point - side
        slope = (above - below) / max(above + below, torch.finfo(torch.float32).tiny)
        point = point - SPSA_GAIN / (0.1 * steps + step) ** 0.602 * slope / side
    mean, std = best[0] * scale, best[1].exp() * scale
    yield _candidate(problem, [steps + 1], mean, std, problem.shrink)


PROPOSALS: dict[str, Callable[[Problem], Iterator[Candidate]]] = {
    "none": _none,
    "random": _random,
    "moment": _moment,
    "select": _select,
    "range_jitter": _range_jitter,
    "mu_channel": _mu_channel,
    "mu_tensor": _mu_tensor,
    "mu_weight": _mu_weight,
    "layer_recon": _learned_gaussian,
    "spsa": _spsa,
    "weight_mse": _learned_gaussian,
}


def best_candidate(problem: Problem) -> Candidate:
    """Return the proposals of ``config.noise``, merged channel by channel by least error."""
    candidates = PROPOSALS[problem.config.noise](problem)
    best = next(candidates)
    for candidate in candidates:
        best = best.merge(candidate, candidate.error < best.error)
    return best
