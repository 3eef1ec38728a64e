"""Re-quantisation rounds of GNP-IQ: perturb sampled channels, round again, keep what is better."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from methods.quantization.calibration import Moments, collect
from methods.quantization.config import QuantizationConfig
from methods.quantization.gptq import gptq_codes
from methods.quantization.grid import (
    Grid,
    clip_factors,
    fit_grid,
    quantize,
    rows_to_groups,
)
from methods.quantization.masters import MasterStore
from methods.quantization.modules import (
    QuantizedLinear,
    QuantizedModule,
    QuantizedWeight,
    distinct_weights,
    low_biases,
)
from methods.quantization.noise import Candidate, FixedGrid, Problem, best_candidate, normals
from methods.quantization.sampling import keyed_generator, sample_channels
from methods.quantization.storage import buffers_hash, named_codes


class Requantizer:
    """Calibrates and re-quantises the low-bit layers of a frozen backbone.

    The noise of an accepted group is recorded by round, draw, mean and deviation, and every draw
    is a function of the seed, so that codes can be computed again from master and record.

    Args:
        modules: the low-bit modules by name; tied weights are handled once.
        masters: where the full-precision weights are read again.
        config: quantiser and noise.
        generator: CPU generator; one number is drawn from it.
    """

    def __init__(
        self,
        modules: Mapping[str, QuantizedModule],
        masters: MasterStore,
        config: QuantizationConfig,
        generator: torch.Generator,
    ) -> None:
        self.modules = dict(modules)
        weights = distinct_weights(modules).items()
        self.weights = {name: w for name, w in weights if isinstance(w, QuantizedWeight)}
        self.masters = masters
        self.config = config
        self.rounds = 0
        self._seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
        self._statistics: dict[str, Moments] = {}
        self._calibrated = False
        self._calibration_peak_bytes = 0
        self._records = {name: _no_noise(weight) for name, weight in self.weights.items()}

    # -- calibration ---------------------------------------------------------------------------

    def calibrate(self, run_forward: Callable[[], None]) -> None:
        """Measure the layers' inputs on the calibration examples.

        Calibrate right before ``initialise`` and before every ``round``: statistics are no part
        of the state, so that a resumed run measures what an uninterrupted one does.

        Args:
            run_forward: runs the calibration rows through the model.
        """
        linears = {n: m for n, m in self.modules.items() if isinstance(m, QuantizedLinear)}
        self._statistics = collect(linears, run_forward)
        self._calibrated = True
        held = sum(moments.bytes for moments in self._statistics.values())
        self._calibration_peak_bytes = max(self._calibration_peak_bytes, held)

    def forget_calibration(self) -> None:
        """Free the statistics."""
        self._statistics = {}
        self._calibrated = False

    def host_bytes(self) -> dict[str, int]:
        """Return the most bytes that masters (one tensor) and statistics held on the host."""
        largest = max((4 * w.shape.numel() for w in self.weights.values()), default=0)
        return {"masters": largest, "calibration": self._calibration_peak_bytes}

    # -- first codes and rounds ----------------------------------------------------------------

    @torch.no_grad()
    def initialise(self) -> None:
        """Choose the first codes by calibration rows (``clip``, ``init``, ``bias_correction``).

        A weight that no calibration row reached, such as an embedding, keeps the codes it has.

        Raises:
            RuntimeError: ``calibrate`` has not been called.
        """
        if not self.config.needs_initialisation:
            return
        self._require_calibration()
        for name, weight in self.weights.items():
            moment = self._moment(name)
            if moment is None:
                continue
            master = self._read(weight)
            shrink = clip_factors(master, weight.spec, self.config.clip, moment)
            grid = fit_grid(master.view(weight.groups), weight.spec, shrink)
            if self.config.init == "gptq":
                codes = gptq_codes(master, grid, weight.spec, moment)
                self._records[name]["mean"].fill_(torch.nan)  # not a rounding of the master
            else:
                codes = quantize(master.view(weight.groups), grid, weight.spec)
            weight.replace(codes.view(weight.shape), grid, master)
            self._correct_biases(weight, master)

    @torch.no_grad()
    def round(self) -> None:
        """Re-quantise p percent of the sample units with noise (Eq. 5, then Eq. 2 and 1).

        Raises:
            RuntimeError: the objective needs ``calibrate``, which has not been called.
        """
        if self.config.needs_calibration:
            self._require_calibration()
        for name, rows in self._sample(self.rounds).items():
            self._requantize(name, rows)
        self.rounds += 1

    def _requantize(self, name: str, rows: Tensor) -> None:
        """Re-quantise the output channels ``rows`` [n] of one weight."""
        weight = self.weights[name]
        rows = rows.to(weight.device)
        master = self._read(weight)
        problem = self._problem(name, rows, master)
        best = best_candidate(problem)
        if self.config.accept == "always":
            kept = torch.ones_like(rows, dtype=torch.bool)
        else:
            kept = best.error < problem.error(problem.current)
        if kept.any():
            self._store(name, rows, best, kept, master)
            self._correct_biases(weight, master)

    def _problem(self, name: str, rows: Tensor, master: Tensor) -> Problem:
        weight = self.weights[name]
        target, current = master[rows], weight.dequantize()[rows]
        base = current if self.config.master == "none" else target
        if self.config.accumulate and self.config.master == "file":
            base = self._accumulated(weight)[rows]
        moment = None if self.config.noise == "weight_mse" else self._moment(name)
        round_index = self.rounds
        fixed = self._fixed(name, rows) if self.config.sample_unit == "codes" else None
        return Problem(
            base=base,
            target=target,
            current=current,
            moment=moment,
            shrink=clip_factors(base, weight.spec, self.config.clip, moment),
            spec=weight.spec,
            config=self.config,
            normal=lambda draw: normals(self._seed, name, round_index, draw, base.shape).to(
                base.device
            ),
            fixed=fixed,
        )

    def _fixed(self, name: str, rows: Tensor) -> FixedGrid:
        """Draw p percent of a weight's single codes; the grid of its ``rows`` stays."""
        weight = self.weights[name]
        codes, groups = weight.unpacked()[rows], _group_indices(weight, rows)
        generator = keyed_generator(self._seed, "codes", self.rounds, name)
        drawn = torch.rand(codes.shape, generator=generator) * 100 < self.config.sample_percent
        grid = Grid(weight.scale[groups], weight.zero_point[groups])
        return FixedGrid(drawn.to(weight.device), codes, grid)

    def _store(
        self, name: str, rows: Tensor, best: Candidate, kept: Tensor, master: Tensor
    ) -> None:
        """Write the channels of mask ``kept`` [n] among ``rows`` [n]; leave all others."""
        weight = self.weights[name]
        kept_groups = rows_to_groups(kept, best.draw.shape[0])
        chosen = _group_indices(weight, rows)[kept_groups]
        codes, scale, zero_point = (
            t.clone() for t in (weight.unpacked(), weight.scale, weight.zero_point)
        )
        codes[rows[kept]] = best.codes[kept]
        scale[chosen] = best.grid.scale[kept_groups]
        zero_point[chosen] = best.grid.zero_point[kept_groups]
        weight.replace(codes, Grid(scale, zero_point), master)
        mean, std = best.mean[kept_groups], best.std[kept_groups]
        if self.config.master == "none" or self.config.sample_unit == "codes":
            mean = torch.full_like(mean, torch.nan)  # no noise on the master gives these codes
        elif self.config.accumulate:
            accumulated = self._accumulated(weight)
            accumulated[rows[kept]] = best.weights[kept]
            self.masters.replace(weight.source_name, accumulated)
            mean, std = torch.zeros_like(mean), torch.zeros_like(std)  # the master holds it now
        record, index = self._records[name], chosen.cpu()
        record["round"][index] = self.rounds
        record["draw"][index] = best.draw[kept_groups].cpu()
        record["mean"][index] = mean.cpu()
        record["std"][index] = std.cpu()

    def _sample(self, round_index: int) -> dict[str, Tensor]:
        """Return a round's output channels by name, on the CPU; a function of seed and round."""
        channels = {name: weight.shape[0] for name, weight in self.weights.items()}
        generator = keyed_generator(self._seed, "sample", round_index)
        return sample_channels(channels, self.config, generator)

    # -- masters and moments ----------------------------------------------------------------------

    def _require_calibration(self) -> None:
        if not self._calibrated:
            raise RuntimeError("call Requantizer.calibrate before: output errors are needed")

    def _read(self, weight: QuantizedWeight) -> Tensor:
        master = self.masters.read_original(weight.source_name)
        return master.view(weight.shape).to(weight.device)

    def _accumulated(self, weight: QuantizedWeight) -> Tensor:
        """Return the master [R, C] with the noise of all rounds so far."""
        return self.masters.read(weight.source_name).view(weight.shape).to(weight.device)

    def _linears(self, weight: QuantizedWeight) -> Iterator[tuple[str, QuantizedLinear]]:
        """Yield the linear layers that use a weight and whose inputs were measured."""
        for name, module in self.modules.items():
            if name not in self._statistics:
                continue
            if isinstance(module, QuantizedLinear) and module.weight is weight:
                yield name, module

    def _moment(self, name: str) -> Tensor | None:
        """Return the input moments [C, C] of a weight; None where no row reached it."""
        weight = self.weights[name]
        for layer, module in self._linears(weight):
            moments = self._statistics[layer]
            # A corrected bias takes the mean away from the error.
            about = None if module.correction is None else moments.mean
            return moments.second_moment(about).to(weight.device)
        return None

    def _correct_biases(self, weight: QuantizedWeight, master: Tensor) -> None:
        """Set the corrections of a weight's layers to their mean output error, negated."""
        for name, module in self._linears(weight):
            if module.correction is not None:
                mean = self._statistics[name].mean.to(weight.device)
                module.correction.copy_((master - weight.dequantize()) @ mean)

    # -- state ---------------------------------------------------------------------------------

    def recompute_codes(self, name: str) -> Tensor:
        """Compute a weight's codes again from its master and the recorded state.

        Args:
            name: module name of the weight.

        Returns:
            [R, C] uint8, equal to the stored codes.

        Raises:
            ValueError: the codes are no rounding of the master with recorded noise (``init=gptq``,
                ``noise=mu_weight``, ``master=none``, ``sample_unit=codes``).
        """
        weight, record = self.weights[name], self._records[name]
        if bool(record["mean"].isnan().any()):
            raise ValueError(f"the codes of '{name}' cannot be computed from its master alone")
        groups = self.masters.read(weight.source_name).view(weight.groups)
        perturbed = groups + record["mean"][:, None]
        noisy = torch.stack((record["round"], record["draw"]), dim=1)
        for round_index, draw in noisy[record["draw"] > 0].unique(dim=0).tolist():
            rows = self._sample(round_index)[name]
            indices = _group_indices(weight, rows)
            shape = torch.Size((len(rows), weight.shape[1]))
            normal = normals(self._seed, name, round_index, draw, shape)
            normal = normal.view(len(indices), -1)
            match = (record["round"][indices] == round_index) & (record["draw"][indices] == draw)
            chosen = indices[match]
            perturbed[chosen] += record["std"][chosen, None] * normal[match]
        grid = Grid(weight.scale.cpu(), weight.zero_point.cpu())
        return quantize(perturbed, grid, weight.spec).view(weight.shape)

    def state_dict(self) -> dict[str, Tensor]:
        """Return codes, grids, corrections, noise records and counters as named tensors."""
        state = {
            "seed": torch.tensor(self._seed),
            "rounds": torch.tensor(self.rounds),
        }
        for name, buffer in self._buffers():
            state[name] = buffer.clone()
        for name, record in self._records.items():
            state |= {f"{name}.noise.{key}": value.clone() for key, value in record.items()}
        for tensor in self.masters.replaced:
            state[f"accumulated.{tensor}"] = self.masters.read(tensor)
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned, in place.

        Raises:
            KeyError: a tensor is missing.
        """
        self._seed, self.rounds = int(state["seed"]), int(state["rounds"])
        for name, buffer in self._buffers():
            buffer.copy_(state[name])
        for name, record in self._records.items():
            for key, value in record.items():
                value.copy_(state[f"{name}.noise.{key}"])
        for key, value in state.items():
            if key.startswith("accumulated."):
                self.masters.replace(key.removeprefix("accumulated."), value)

    def state_hash(self) -> str:
        """Return sha256 over everything that the layers' outputs depend on."""
        return buffers_hash(self._buffers())

    def _buffers(self) -> Iterator[tuple[str, Tensor]]:
        yield from named_codes(self.weights)
        yield from named_codes(low_biases(self.modules))
        for name, module in self.modules.items():
            if isinstance(module, QuantizedLinear) and module.correction is not None:
                yield f"{name}.correction", module.correction


def _group_indices(weight: QuantizedWeight, rows: Tensor) -> Tensor:
    """Return the groups [n x groups per row] of output channels ``rows`` [n]."""
    groups_per_row = weight.groups[0] // weight.shape[0]
    if groups_per_row == 0:  # one group for the whole tensor
        return torch.zeros(1, dtype=torch.long, device=rows.device)
    offsets = torch.arange(groups_per_row, device=rows.device)
    return (rows[:, None] * groups_per_row + offsets).view(-1)


def _no_noise(weight: QuantizedWeight) -> dict[str, Tensor]:
    """Return the record of codes that are a plain rounding of the master, on the CPU."""
    groups = weight.groups[0]
    return {
        "round": torch.full((groups,), -1, dtype=torch.int32),
        "draw": torch.zeros(groups, dtype=torch.int32),
        "mean": torch.zeros(groups),
        "std": torch.zeros(groups),
    }
