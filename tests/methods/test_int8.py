import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from methods.quantization.config import QuantizationConfig
from methods.quantization.grid import GridSpec
from methods.quantization.int8 import EXACT, LARGEST, ROWS, int8_linear
from methods.quantization.modules import QuantizedWeight, quantize_modules, quantized_linear

READINGS = [
    {"bits": bits, "range": kind, "granularity": granularity}
    for bits in (2, 3, 4, 8)
    for kind in ("include_zero", "float_min")
    for granularity in ("per_output_channel", "per_tensor")
]


def stored(weight: torch.Tensor, **settings: object) -> QuantizedWeight:
    config = QuantizationConfig.model_validate({"noise": "none", **settings})
    return QuantizedWeight(weight, GridSpec.from_config(config, config.bits or 8), "w")


@pytest.mark.parametrize("settings", READINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_integers_scale_and_offset_are_the_weight(settings):
    weight = stored(torch.randn(7, 24) + 0.3, **settings)
    codes, scale, offset = weight.integers()
    again = scale[:, None].double() * codes.double() + offset[:, None].double()
    assert codes.dtype == torch.int8
    torch.testing.assert_close(again.float(), weight.dequantize(), rtol=1e-5, atol=1e-5)


@given(
    tokens=st.integers(1, 40),
    columns=st.integers(1, 40),
    rows=st.integers(1, 20),
    seed=st.integers(0, 100),
    spread=st.sampled_from([1e-20, 1.0, 1e20]),
)
def test_it_is_the_exact_product_of_the_rounded_inputs(tokens, columns, rows, seed, spread):
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, columns, generator=drawn) * spread
    codes = torch.randint(-128, 128, (rows, columns), generator=drawn, dtype=torch.int8)
    scale, offset, bias = torch.rand(3, rows, generator=drawn) + 0.1
    found = int8_linear(x, codes, scale, offset, bias)
    step = x.abs().amax(-1, keepdim=True) / LARGEST
    integers = (x / step).round().double()
    weight = scale[:, None].double() * codes.double() + offset[:, None].double()
    exact = step.double() * (integers @ weight.T) + bias.double()
    size = step.double() * (integers.abs() @ weight.abs().T) + bias.double()
    assert ((found.double() - exact).abs() <= 1e-5 * size).all()


@pytest.mark.parametrize("columns", [EXACT - 24, EXACT + 8])
def test_without_instructions_for_integers_the_sums_are_the_same(columns, monkeypatch):
    x = torch.randn(40, columns)
    codes = torch.randint(-128, 128, (24, columns), dtype=torch.int8)
    found = []
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda native=native: native)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(int8_linear(x, codes, torch.ones(24), torch.zeros(24), None))
    if columns <= EXACT:
        assert torch.equal(*found)
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-4)


def test_blocks_of_tokens_do_not_matter():
    x = torch.randn(3, ROWS // 2, 16)
    codes = torch.randint(-128, 128, (8, 16), dtype=torch.int8)
    whole = int8_linear(x, codes, torch.ones(8), torch.zeros(8), None)
    alone = [int8_linear(part, codes, torch.ones(8), torch.zeros(8), None) for part in x]
    assert torch.equal(whole, torch.stack(alone))


def test_a_token_of_zeros_gives_the_bias():
    codes = torch.randint(-128, 128, (8, 16), dtype=torch.int8)
    bias = torch.randn(8)
    assert torch.equal(int8_linear(torch.zeros(1, 16), codes, bias, bias, bias), bias[None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_keep_dtype_and_gradient(dtype):
    weight = stored(torch.randn(8, 16))
    x = torch.randn(5, 16, dtype=dtype, requires_grad=True)
    exact = quantized_linear(x, weight, None)
    rounded = quantized_linear(x, weight, None, "int8")
    assert rounded.dtype == dtype
    assert (rounded - exact).norm() < 0.02 * exact.norm()
    grad = torch.randn_like(exact)
    (expected,) = torch.autograd.grad(exact, x, grad)
    (found,) = torch.autograd.grad(rounded, x, grad)
    assert torch.equal(found, expected)


def test_the_setting_reaches_every_linear_layer():
    config = QuantizationConfig.model_validate({"noise": "none", "compute": "int8"})
    root = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 16))
    layers = quantize_modules(root, ["0", "1"], config)
    assert [layer.compute for layer in layers.values()] == ["int8", "int8"]
    assert root(torch.randn(2, 16)).shape == (2, 16)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"granularity": "group"}, "compute=int8 sums whole rows"),
        ({"bits": None, "embedding_bits": None, "noise": "none"}, "compute=int8 asks for it"),
    ],
)
def test_what_cannot_be_summed_in_integers_is_refused(settings, rule):
    with pytest.raises(ValueError, match=rule):
        QuantizationConfig.model_validate({"compute": "int8", **settings})
