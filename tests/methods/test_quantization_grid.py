"""Laws of packed storage and of the quantiser (Eq. 1-4)."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.errors import UserError
from methods.quantization import QuantizationConfig
from methods.quantization.grid import GridSpec, clip_factors, dequantize, fit_grid, quantize
from methods.quantization.packing import pack, packed_bytes, unpack

BITS = st.sampled_from([2, 3, 4, 8])
SEEDS = st.integers(0, 2**31)


def spec_of(bits, **values):
    return GridSpec.from_config(QuantizationConfig(**values), bits)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def round_trip(groups, spec, shrink=None):
    grid = fit_grid(groups, spec, shrink)
    codes = quantize(groups, grid, spec)
    return codes, grid, dequantize(codes, grid, spec, torch.float32)


@settings(max_examples=60)
@given(bits=BITS, count=st.integers(0, 70), seed=SEEDS)
def test_packing_is_dense_and_lossless(bits, count, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (count,), generator=generator, dtype=torch.uint8)
    packed = pack(codes, bits)
    assert packed.nbytes == packed_bytes(bits, count) == -(-bits * count // 8)
    assert packed.untyped_storage().nbytes() == packed.nbytes
    assert torch.equal(unpack(packed, bits, count), codes)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_packed_codes_agree_with_the_bit_string(bits):
    codes = (torch.arange(17) * 37 % 2**bits).to(torch.uint8)
    bit_string = "".join(format(int(c), f"0{bits}b")[::-1] for c in codes)
    expected = [int(bit_string[i : i + 8][::-1], 2) for i in range(0, len(bit_string), 8)]
    assert pack(codes, bits).tolist() == expected


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_quantising_and_packing_work_on_fake_tensors(bits):
    with FakeTensorMode():
        groups = torch.randn(6, 10)
        codes, grid, values = round_trip(groups, spec_of(bits))
        packed = pack(codes, bits)
        assert packed.shape == (packed_bytes(bits, 60),)
        assert unpack(packed, bits, 60).shape == (60,)
        assert values.shape == groups.shape
        assert grid.scale.shape == (6,)


@pytest.mark.parametrize(
    ("rounding", "divisor", "bits"),
    [("nearest", 12, b) for b in (3, 4, 8)] + [("floor", 3, b) for b in (4, 8)],
)
def test_mean_squared_error_of_rounding(rounding, divisor, bits):
    # uniform weights, so that the error is uniform within a step at any number of bits
    groups = torch.rand(4, 50_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    spec = spec_of(bits, rounding=rounding)
    _, grid, values = round_trip(groups, spec)
    inner = (groups - groups.amin(1, keepdim=True) > grid.scale[:, None]) & (
        groups.amax(1, keepdim=True) - groups > grid.scale[:, None]
    )  # the two end steps are cut off by the range
    mse = ((values - groups)[inner] ** 2).mean()
    assert mse == pytest.approx(float((grid.scale**2).mean()) / divisor, rel=0.05)


@settings(max_examples=50)
@given(
    bits=BITS,
    seed=SEEDS,
    rows=st.integers(1, 5),
    granularity=st.sampled_from(["per_output_channel", "per_tensor", "group"]),
    reading=st.sampled_from(["include_zero", "float_min"]),
    magnitude=st.floats(1e-6, 1e6),
)
def test_codes_span_the_whole_range_and_errors_stay_within_half_a_step(
    bits, seed, rows, granularity, reading, magnitude
):
    spec = spec_of(bits, granularity=granularity, group_size=8, range=reading)
    weight = normal(seed, rows, 16) * magnitude
    weight[:, 0::8], weight[:, 1::8] = -weight[:, 0::8].abs(), weight[:, 1::8].abs()
    groups = weight.reshape(spec.groups(rows, 16))
    codes, grid, values = round_trip(groups, spec)
    assert (codes.amin(1) == 0).all()
    assert (codes.amax(1) == spec.levels).all()
    # the zero point is rounded too, so an end of the range may be clipped by half a step
    assert ((values - groups).abs() <= grid.scale[:, None] * 1.001).all()


@example(bits=2, value=-3.5e-44, reading="include_zero", rounding="floor")
@example(bits=2, value=-1.4e-45, reading="include_zero", rounding="floor")
@settings(max_examples=40)
@given(
    bits=BITS,
    value=st.floats(-1e6, 1e6, width=32),
    reading=st.sampled_from(["include_zero", "literal", "float_min"]),
    rounding=st.sampled_from(["nearest", "floor"]),
)
def test_a_constant_tensor_survives(bits, value, reading, rounding):
    groups = torch.full((3, 8), value)
    _, _, values = round_trip(groups, spec_of(bits, range=reading, rounding=rounding))
    step = abs(value) / (2**bits - 1)
    assert torch.isfinite(values).all()
    assert ((values - groups).abs() <= step * 1.001 + 1e-30).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("reading", ["include_zero", "float_min"])
def test_a_range_that_misses_zero_survives(sign, reading):
    groups = sign * (1 + torch.rand(2, 500, generator=torch.Generator().manual_seed(1)))
    _, grid, values = round_trip(groups, spec_of(8, range=reading))
    assert ((values - groups).abs() <= grid.scale[:, None] * 0.51).all()
    literal = round_trip(groups, spec_of(8, range="literal"))[2]
    assert literal[0].unique().numel() == 1  # Eq. 2 as printed loses it


def test_literal_floor_wastes_the_highest_code():
    groups = normal(0, 1, 5000)
    codes, _, _ = round_trip(groups, spec_of(8, range="literal", rounding="floor"))
    assert int(codes.max()) == 254


@settings(max_examples=40)
@given(bits=BITS, seed=SEEDS, reading=st.sampled_from(["include_zero", "float_min"]))
def test_requantising_without_noise_is_idempotent(bits, seed, reading):
    spec = spec_of(bits, range=reading)
    groups = normal(seed, 4, 64)
    codes, grid, values = round_trip(groups, spec)
    again, grid_again, values_again = round_trip(values, spec)
    assert torch.equal(codes, again)
    torch.testing.assert_close(grid.scale, grid_again.scale)
    torch.testing.assert_close(values, values_again)


def test_dequantisation_agrees_with_float64():
    spec = spec_of(3, granularity="group", group_size=8)
    groups = normal(3, 12, 8)
    codes, grid, values = round_trip(groups, spec)
    expected = grid.scale.double()[:, None] * (codes.double() - grid.zero_point.double()[:, None])
    torch.testing.assert_close(values.double(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("granularity", ["per_output_channel", "per_tensor", "group"])
@pytest.mark.parametrize("reading", ["include_zero", "float_min"])
def test_clipping_by_weight_error_is_never_worse(granularity, reading):
    spec = spec_of(2, granularity=granularity, group_size=16, range=reading)
    weight = normal(4, 8, 64)
    groups = weight.view(spec.groups(8, 64))
    factors = clip_factors(weight, spec, "mse", None)
    plain, clipped = (round_trip(groups, spec, s)[2] for s in (None, factors))
    errors = [((v - groups) ** 2).sum() for v in (plain, clipped)]
    assert errors[1] < 0.85 * errors[0]


def test_group_size_must_divide_the_row():
    with pytest.raises(UserError, match=r"group_size=7 .* 16 inputs of 'layer\.weight'"):
        spec_of(4, granularity="group", group_size=7).groups(4, 16, "layer.weight")


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"bits": 5}, "2, 3, 4 or 8"),
        ({"embedding_bits": 6}, "2, 3, 4 or 8"),
        ({"sample_percent": 101}, "less than or equal to 100"),
        ({"sample_percent": 0}, "greater than 0"),
        ({"noise_scale": -0.1}, "greater than or equal to 0"),
        ({"noise": "gaussian"}, "'select'"),
        ({"requantize_every": 0}, "greater than or equal to 1"),
        ({"bit": 4}, "Extra inputs"),
    ],
)
def test_wrong_settings_state_the_rule(values, rule):
    with pytest.raises(ValidationError, match=rule):
        QuantizationConfig(**values)


def test_every_setting_is_described():
    fields = QuantizationConfig.model_fields
    assert not [name for name, field in fields.items() if not field.description]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [3]),
        ({"requantize_every": 2}, [2, 4]),
        ({"requantize_every": 1}, [1, 2, 3, 4, 5]),
        ({"noise": "none"}, []),
    ],
)
def test_epochs_before_which_a_round_comes(values, expected):
    config = QuantizationConfig(**values)
    assert [e for e in range(6) if config.requantizes_at(e, 6)] == expected
