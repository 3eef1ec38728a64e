"""GNP-IQ rounds: noise, acceptance, roll-back, masters and state."""

import hashlib
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import nn

from harness.errors import UserError
from methods.quantization import QuantizationConfig
from methods.quantization.config import Noise
from methods.quantization.masters import MasterStore
from methods.quantization.modules import quantize_modules
from methods.quantization.requantize import Requantizer
from methods.quantization.sampling import layer_of, sample_channels

WIDTH = 32
NAMES = ["blocks.0", "blocks.1"]
NOISES = get_args(Noise)


def correlated(seed, count):
    """Inputs with the uneven, correlated directions that real activations have."""
    mix = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(99))
    mix = mix * torch.linspace(0.1, 2, WIDTH)
    x = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    return x @ mix.T / WIDTH**0.5 + 0.3


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(WIDTH, 48), nn.Linear(48, 16, bias=False))

    def forward(self, x):
        return self.blocks[1](torch.relu(self.blocks[0](x)))


class Setting:
    """A model with low-bit layers, its masters on disk and its requantizer."""

    def __init__(self, path, seed=0, calibrate=True, **values):
        torch.manual_seed(0)
        self.model = Chain()
        self.path = path / "masters.safetensors"
        self.original = {k: v.clone() for k, v in self.model.state_dict().items()}
        save_file(self.original, self.path)
        self.config = QuantizationConfig(**{"bits": 3, "sample_percent": 100, **values})
        self.modules = quantize_modules(self.model, NAMES, self.config)
        self.masters = MasterStore.from_file(self.path, self.original)
        generator = torch.Generator().manual_seed(seed)
        self.requantizer = Requantizer(self.modules, self.masters, self.config, generator)
        if calibrate:
            self.calibrate()

    def calibrate(self):
        self.requantizer.calibrate(lambda: self.model(correlated(1, 512)))

    def held_out_error(self, name="blocks.0"):
        """Mean squared output error on inputs that chose nothing."""
        master = self.original[f"{name}.weight"]
        difference = self.modules[name].weight.dequantize() - master
        return float((correlated(2, 2000) @ difference.T).square().mean())

    def codes(self):
        return {name: module.weight.unpacked().clone() for name, module in self.modules.items()}


@pytest.fixture
def make(tmp_path):
    return lambda **values: Setting(tmp_path, **values)


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def fit_error(setting, name):
    """The objective: output error [R] on the calibration rows."""
    requantizer = setting.requantizer
    difference = setting.modules[name].weight.dequantize() - setting.original[f"{name}.weight"]
    moment = requantizer._statistics[name].second_moment()
    return ((difference @ moment) * difference).sum(1)


def test_selected_noise_is_never_worse_on_its_objective_and_better_on_held_out_inputs(make):
    setting = make()
    objective = {name: fit_error(setting, name) for name in NAMES}
    held_out = setting.held_out_error()
    setting.requantizer.round()
    for name in NAMES:
        assert (fit_error(setting, name) <= objective[name]).all()
    assert setting.held_out_error() < 0.9 * held_out


def test_unselected_noise_costs_what_theory_says(make):
    setting = make(noise="random", noise_scale=0.25, accept="always")
    before = setting.modules["blocks.0"].weight.quantization_mse
    ratios = []
    for _ in range(20):
        setting.requantizer.round()
        ratios.append(setting.modules["blocks.0"].weight.quantization_mse / before)
    assert sum(ratios) / 20 == pytest.approx(1 + 12 * 0.25**2, rel=0.1)


@pytest.mark.parametrize("noise", ["select", "random", "layer_recon", "spsa"])
def test_single_codes_change_under_the_grid_that_they_have(make, noise):
    setting = make(
        sample_unit="codes",
        sample_percent=20,
        accept="always",
        noise=noise,
        noise_scale=0.5,
        noise_steps=5,
    )
    before = setting.codes()
    grids = {name: module.weight.grid for name, module in setting.modules.items()}
    grids = {name: (grid.scale.clone(), grid.zero_point.clone()) for name, grid in grids.items()}
    setting.requantizer.round()
    for name, module in setting.modules.items():
        assert torch.equal(module.weight.scale, grids[name][0])
        assert torch.equal(module.weight.zero_point, grids[name][1])
        changed = (module.weight.unpacked() != before[name]).float().mean()
        assert 0 < changed < 0.25
    with pytest.raises(ValueError, match="cannot be computed from its master"):
        setting.requantizer.recompute_codes("blocks.0")


@pytest.mark.parametrize(
    ("values", "message"),
    [({"noise": "range_jitter"}, "moves scales"), ({"accumulate": True}, "whole channels")],
)
def test_single_codes_refuse_what_moves_their_grid_or_master(values, message):
    with pytest.raises(ValidationError, match=message):
        QuantizationConfig(sample_unit="codes", **values)


def test_two_values_of_the_objective_teach_what_its_gradient_does(make):
    """Under floor the best mean is half a step; SPSA finds its direction without a gradient."""
    found = {}
    for noise in ("spsa", "layer_recon"):
        setting = make(noise=noise, rounding="floor", accept="always", noise_steps=60, bits=8)
        setting.requantizer.round()
        record = setting.requantizer.state_dict()["blocks.0.noise.mean"]
        found[noise] = float((record / setting.modules["blocks.0"].weight.scale).mean())
    assert found["spsa"] == pytest.approx(0.5, abs=0.15)
    assert found["layer_recon"] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("noise", NOISES)
def test_no_accepted_channel_gets_worse(make, noise):
    setting = make(noise=noise, noise_steps=15, noise_draws=6)
    before = {name: fit_error(setting, name) for name in NAMES}
    mse = {name: module.weight.quantization_mse for name, module in setting.modules.items()}
    setting.requantizer.round()
    for name, module in setting.modules.items():
        if noise == "weight_mse":
            assert module.weight.quantization_mse <= mse[name]
        else:
            assert (fit_error(setting, name) <= before[name]).all()


@pytest.mark.parametrize(
    "noise", ["select", "mu_channel", "mu_tensor", "mu_weight", "range_jitter"]
)
@pytest.mark.parametrize("granularity", ["per_output_channel", "group"])
def test_chosen_noise_lowers_the_output_error(make, noise, granularity):
    setting = make(noise=noise, granularity=granularity, group_size=16)
    before = setting.held_out_error()
    setting.requantizer.round()
    assert setting.held_out_error() < before


def test_rejected_channels_are_rolled_back_bit_for_bit(make):
    setting = make(noise="random", noise_scale=0.1)
    before = setting.codes()
    scales = setting.modules["blocks.0"].weight.scale.clone()
    error = fit_error(setting, "blocks.0")
    setting.requantizer.round()
    rejected = (setting.codes()["blocks.0"] == before["blocks.0"]).all(dim=1)
    assert 0 < rejected.sum() < len(rejected)
    assert torch.equal(setting.modules["blocks.0"].weight.scale[rejected], scales[rejected])
    assert (fit_error(setting, "blocks.0")[~rejected] < error[~rejected]).all()


def test_a_round_without_noise_changes_nothing(make):
    setting = make(noise="none", accept="always")
    before = setting.requantizer.state_hash()
    setting.requantizer.round()
    assert setting.requantizer.state_hash() == before


@pytest.mark.parametrize("granularity", ["per_output_channel", "per_tensor", "group"])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"noise": "random", "accept": "always", "noise_scale": 0.5},
        {"noise": "moment", "accept": "always"},
        {"noise": "layer_recon", "noise_steps": 10, "accept": "always"},
        {"noise": "mu_channel", "noise_steps": 10},
        {"noise": "range_jitter", "range": "float_min"},
        {"accumulate": True, "noise": "random", "accept": "always"},
        {"clip": "output", "rounding": "floor"},
    ],
)
def test_codes_are_the_quantised_master_with_the_recorded_noise(make, granularity, values):
    setting = make(granularity=granularity, group_size=16, sample_percent=40, **values)
    setting.requantizer.initialise()
    for _ in range(3):
        setting.requantizer.round()
    for name, codes in setting.codes().items():
        assert torch.equal(setting.requantizer.recompute_codes(name), codes)


@pytest.mark.parametrize(
    "values", [{"noise": "mu_weight"}, {"master": "none", "accept": "always", "noise": "random"}]
)
def test_codes_without_a_record_are_refused(make, values):
    setting = make(**values)
    setting.requantizer.round()
    with pytest.raises(ValueError, match=r"blocks\.0"):
        setting.requantizer.recompute_codes("blocks.0")


def test_without_a_master_errors_compound(make):
    errors = {}
    for master in ("file", "none"):
        setting = make(noise="random", accept="always", noise_scale=0.5, bits=8, master=master)
        for _ in range(8):
            setting.requantizer.round()
        errors[master] = setting.modules["blocks.0"].weight.quantization_mse
    assert errors["none"] > 3 * errors["file"]


def test_accumulated_noise_is_a_random_walk(make):
    values = {"noise": "random", "accept": "always", "noise_scale": 0.5, "bits": 8}
    errors = []
    for accumulate in (False, True):
        setting = make(accumulate=accumulate, **values)
        for _ in range(8):
            setting.requantizer.round()
        errors.append(setting.modules["blocks.0"].weight.quantization_mse)
    assert errors[1] > 3 * errors[0]


def test_accumulated_noise_stays_in_the_master_of_a_convolution(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    save_file(model.state_dict(), tmp_path / "masters.safetensors")
    masters = MasterStore.from_file(tmp_path / "masters.safetensors", model.state_dict())
    values = {"noise": "random", "accept": "always", "noise_scale": 0.5, "sample_percent": 100}
    config = QuantizationConfig(bits=8, accumulate=True, **values)
    modules = quantize_modules(model, ["0"], config)
    requantizer = Requantizer(modules, masters, config, torch.Generator().manual_seed(0))
    requantizer.calibrate(lambda: model(torch.randn(4, 3, 9, 9)))
    errors = []
    for _ in range(4):
        requantizer.round()
        errors.append(modules["0"].weight.quantization_mse)
        assert torch.equal(requantizer.recompute_codes("0"), modules["0"].weight.unpacked())
    assert errors[-1] > 1.5 * errors[0]


@pytest.mark.parametrize("accumulate", [False, True])
def test_master_files_and_unquantised_parameters_stay_as_they_are(make, accumulate):
    setting = make(accumulate=accumulate, accept="always", bias_correction=True)
    digest = hashlib.sha256(setting.path.read_bytes()).hexdigest()
    setting.requantizer.initialise()
    setting.requantizer.round()
    assert hashlib.sha256(setting.path.read_bytes()).hexdigest() == digest
    assert torch.equal(setting.model.blocks[0].bias, setting.original["blocks.0.bias"])


@pytest.mark.parametrize("clip", ["none", "mse", "output"])
def test_each_remedy_lowers_the_output_error(make, clip):
    plain = make(bits=2).held_out_error()
    setting = make(bits=2, clip=clip, init="gptq")
    setting.requantizer.initialise()
    assert setting.held_out_error() < plain
    if clip == "output":
        clipped = make(bits=2, clip="output")
        clipped.requantizer.initialise()
        assert clipped.held_out_error() < 0.8 * plain


def test_bias_correction_removes_the_mean_output_error(make):
    plain, corrected = make(bits=2), make(bits=2, bias_correction=True)
    corrected.requantizer.initialise()
    x = correlated(1, 512)
    target = nn.functional.linear(
        x, plain.original["blocks.0.weight"], plain.original["blocks.0.bias"]
    )
    errors = [(s.model.blocks[0](x) - target).mean(0).abs().max() for s in (plain, corrected)]
    assert errors[1] < 0.35 * errors[0]


def test_same_seed_same_codes_and_another_seed_others(make):
    settings = [make(seed=seed, sample_percent=30) for seed in (0, 0, 1)]
    for setting in settings:
        setting.requantizer.round()
    codes = [setting.codes() for setting in settings]
    assert equal(codes[0], codes[1])
    assert not equal(codes[0], codes[2])
    hashes = [setting.requantizer.state_hash() for setting in settings]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("accumulate", [False, True])
def test_a_restored_requantizer_goes_on_as_if_uninterrupted(make, tmp_path, accumulate):
    values = {"accumulate": accumulate, "sample_percent": 50, "bias_correction": True}
    whole, first, second = make(**values), make(**values), make(seed=5, **values)
    for setting in (whole, first):
        setting.requantizer.initialise()
        setting.requantizer.round()
    save_file(first.requantizer.state_dict(), tmp_path / "state.safetensors")
    second.requantizer.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert equal(second.codes(), first.codes())
    x = correlated(3, 5)
    assert torch.equal(second.model(x), first.model(x))
    for setting in (whole, second):
        setting.calibrate()
        setting.requantizer.round()
    assert equal(whole.codes(), second.codes())
    assert whole.requantizer.state_hash() == second.requantizer.state_hash()
    assert second.requantizer.rounds == 2


def test_rounds_need_calibration(make):
    setting = make(calibrate=False)
    with pytest.raises(RuntimeError, match="calibrate"):
        setting.requantizer.round()
    with pytest.raises(RuntimeError, match="calibrate"):
        make(calibrate=False, clip="output").requantizer.initialise()


def test_layers_that_no_input_reaches_are_judged_by_weight_error(make):
    setting = make(calibrate=False)
    setting.requantizer.calibrate(lambda: setting.model.blocks[0](correlated(1, 64)))
    mse = setting.modules["blocks.1"].weight.quantization_mse
    setting.requantizer.round()
    assert setting.modules["blocks.1"].weight.quantization_mse <= mse


def test_calibration_sums_over_all_rows_and_its_bytes_are_counted(make):
    setting = make(calibrate=False)
    x = correlated(1, 7)

    def one_by_one():
        for row in x.split(1):
            setting.model(row)

    setting.requantizer.calibrate(one_by_one)
    moments = setting.requantizer._statistics["blocks.0"]
    torch.testing.assert_close(moments.total, x.sum(0))
    torch.testing.assert_close(moments.outer, x.T @ x)
    centred = moments.second_moment(moments.mean)
    torch.testing.assert_close(centred, torch.cov(x.T, correction=0), rtol=1e-3, atol=1e-4)
    expected = 4 * (WIDTH * WIDTH + WIDTH + 48 * 48 + 48)
    assert setting.requantizer.host_bytes() == {"masters": 4 * 48 * 32, "calibration": expected}
    setting.requantizer.forget_calibration()
    assert setting.requantizer.host_bytes()["calibration"] == expected
    assert not setting.model.blocks[0]._forward_pre_hooks


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"sample_percent": 10}, 20),
        ({"sample_percent": 0.001}, 1),
        ({"sample_percent": 100}, 200),
        ({"sample_unit": "tensors", "sample_percent": 50}, {60, 140, 100, 160, 40}),
        ({"sample_unit": "layers", "sample_percent": 50}, {100}),
        ({"granularity": "per_tensor", "sample_percent": 25}, {60, 40, 50}),
    ],
)
def test_sampled_percentage(values, expected):
    channels = {"a.blocks.0.q": 60, "a.blocks.0.k": 40, "a.blocks.1.q": 50, "a.blocks.1.k": 50}
    config = QuantizationConfig(**values)
    drawn = sample_channels(channels, config, torch.Generator().manual_seed(0))
    total = sum(len(rows) for rows in drawn.values())
    assert total in expected if isinstance(expected, set) else total == expected
    for name, rows in drawn.items():
        assert len(rows.unique()) == len(rows)
        assert rows.max() < channels[name]


def test_layer_of_a_module_name():
    assert layer_of("encoder.block.3.layer.0.q") == "encoder.block.3"
    assert layer_of("blocks.11") == "blocks.11"
    assert layer_of("head.proj") == "head"


def test_missing_masters_are_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"blocks.0.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"'blocks\.1\.weight'.*blocks\.0\.weight"):
        MasterStore.from_file(path, {"blocks.1.weight": torch.zeros(1)})
    path.write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot be read"):
        MasterStore.from_file(path, {"blocks.0.weight": torch.zeros(1)})
    with pytest.raises(UserError, match="cannot be read"):
        MasterStore.from_file(tmp_path / "none.safetensors", {})


def test_random_weights_get_a_file_of_their_own():
    tensor = torch.randn(3, 4)
    store = MasterStore.from_tensors({"a.weight": tensor.half()})
    assert torch.equal(store.read("a.weight"), tensor.half().float())
    store.replace("a.weight", tensor)
    assert torch.equal(store.read("a.weight"), tensor)
    assert torch.equal(store.read_original("a.weight"), tensor.half().float())
