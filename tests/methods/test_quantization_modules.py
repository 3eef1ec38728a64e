"""Low-bit layers: storage, numbers, gradients and what autograd keeps."""

import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.errors import UserError
from methods.quantization import QuantizationConfig
from methods.quantization.grid import GridSpec
from methods.quantization.modules import (
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedWeight,
    mean_mse,
    quantize_modules,
    storage_bytes,
)

GRANULARITIES = ["per_output_channel", "per_tensor", "group"]


class TinyModel(nn.Module):
    """An embedding, two linear layers, a norm, and a head tied to the embedding."""

    def __init__(self, width=16, vocabulary=11):
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        x = self.table(ids)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.head(self.norm(x))


NAMES = ["table", "blocks.0", "blocks.1", "head"]


def build(seed=0):
    torch.manual_seed(seed)
    return TinyModel()


@settings(max_examples=30)
@given(
    bits=st.sampled_from([2, 3, 4, 8]),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    granularity=st.sampled_from(["per_output_channel", "per_tensor"]),
)
def test_stored_bytes_are_exact(bits, rows, columns, granularity):
    root = nn.Sequential(nn.Linear(columns, rows))
    config = QuantizationConfig(bits=bits, granularity=granularity)
    weight = quantize_modules(root, ["0"], config)["0"].weight
    groups = 1 if granularity == "per_tensor" else rows
    assert weight.code_bytes == -(-bits * rows * columns // 8)
    assert weight.metadata_bytes == groups * (4 + 1) + 4
    assert storage_bytes({"0": root[0]}) == {
        "quantized_weights": weight.code_bytes,
        "quantization_metadata": weight.metadata_bytes,
    }
    assert set(weight.memory_categories()) == {name for name, _ in weight.named_buffers()}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_linear_forward_and_backward_agree_with_float64(bits, granularity):
    linear = nn.Linear(24, 10)
    config = QuantizationConfig(bits=bits, granularity=granularity, group_size=8)
    layer = quantize_modules(nn.Sequential(linear), ["0"], config)["0"]
    x = torch.randn(3, 5, 24, requires_grad=True)
    layer(x).square().sum().backward()
    reference = x.detach().double().requires_grad_()
    output = F.linear(reference, layer.weight.dequantize().double(), layer.bias.double())
    output.square().sum().backward()
    torch.testing.assert_close(layer(x).double(), output, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad.double(), reference.grad, rtol=1e-5, atol=1e-5)
    assert layer.bias.grad is None
    assert not any(p.requires_grad for p in layer.parameters())


def test_gradient_matches_finite_differences():
    layer = quantize_modules(nn.Sequential(nn.Linear(6, 4)), ["0"], QuantizationConfig(bits=3))["0"]
    layer.bias.data = layer.bias.data.double()
    layer.bias.requires_grad_()
    x = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, _b: layer(a), (x, layer.bias))


@pytest.mark.parametrize("bits", [3, 8])
def test_no_dequantised_weight_is_saved_for_backward(bits):
    model = build()
    quantize_modules(model, NAMES, QuantizationConfig(bits=bits))
    saved = []

    def keep(tensor):
        saved.append(tensor)
        return tensor

    x = torch.randn(2, 3, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        output = model.blocks[1](model.blocks[0](x))
    assert saved == []
    output.sum().backward()
    assert x.grad is not None


def test_at_most_one_dequantised_weight_lives_at_a_time(monkeypatch):
    model = build()
    quantize_modules(model, NAMES, QuantizationConfig(bits=4))
    made = []
    dequantize = QuantizedWeight.dequantize

    def watched(self, dtype=torch.float32):
        assert not any(reference() is not None for reference in made)
        weight = dequantize(self, dtype)
        made.append(weakref.ref(weight))
        return weight

    monkeypatch.setattr(QuantizedWeight, "dequantize", watched)
    x = torch.randn(2, 3, 16, requires_grad=True)
    model.head(model.blocks[1](model.blocks[0](x))).sum().backward()
    assert len(made) == 6  # three layers, forward and backward
    assert not any(reference() is not None for reference in made)


def test_autocast_sets_the_compute_dtype():
    layer = quantize_modules(nn.Sequential(nn.Linear(8, 4)), ["0"], QuantizationConfig())["0"]
    x = torch.randn(5, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert x.grad.dtype == torch.float32
    torch.testing.assert_close(output.float(), layer(x), rtol=0.05, atol=0.05)
    with torch.no_grad():
        assert layer(x).dtype == torch.float32


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_embedding_rows_equal_the_dequantised_table(bits, granularity):
    config = QuantizationConfig(embedding_bits=bits, granularity=granularity, group_size=8)
    table = quantize_modules(nn.Sequential(nn.Embedding(9, 16)), ["0"], config)["0"]
    ids = torch.tensor([[0, 8, 3], [3, 3, 1]])
    assert torch.equal(table(ids), table.weight.dequantize()[ids])


def test_embedding_rows_must_fill_bytes():
    with pytest.raises(UserError, match="embedding_bits=3"):
        quantize_modules(
            nn.Sequential(nn.Embedding(4, 6)), ["0"], QuantizationConfig(embedding_bits=3)
        )


def test_tied_weight_is_stored_once_at_the_embedding_bits():
    model = build()
    modules = quantize_modules(model, ["head", *NAMES[:3]], QuantizationConfig(bits=2))
    assert isinstance(modules["table"], QuantizedEmbedding)
    assert isinstance(modules["head"], QuantizedLinear)
    assert model.head.weight is model.table.weight
    assert model.head.weight.spec.bits == 8
    assert model.blocks[0].weight.spec.bits == 2
    assert storage_bytes(modules)["quantized_weights"] == 11 * 16 + 2 * 16 * 16 // 4


def test_unquantised_embedding_keeps_its_tied_head():
    model = build()
    table = model.table
    modules = quantize_modules(model, NAMES, QuantizationConfig(embedding_bits=None))
    assert set(modules) == {"blocks.0", "blocks.1"}
    assert model.table is table
    assert model.head.weight is table.weight


def test_a_module_known_under_two_names_is_replaced_under_both():
    model = build()
    model.alias = model.blocks[0]
    modules = quantize_modules(model, ["blocks.0"], QuantizationConfig())
    assert model.alias is model.blocks[0] is modules["blocks.0"]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_saving_and_loading_gives_the_same_outputs(bits, tmp_path):
    from safetensors.torch import load_file, save_file

    config = QuantizationConfig(bits=bits)
    first, second = build(0), build(1)
    ids = torch.arange(6)[None]
    names = NAMES[1:3]  # tied tensors are no business of safetensors
    for model in (first, second):
        quantize_modules(model, names, config)
        model.head = nn.Identity()
    save_file(first.state_dict(), tmp_path / "codes.safetensors")
    second.load_state_dict(load_file(tmp_path / "codes.safetensors"))
    assert torch.equal(first(ids), second(ids))
    assert mean_mse({"b": first.blocks[0]}) == mean_mse({"b": second.blocks[0]})


def test_same_weights_give_the_same_codes():
    stores = [quantize_modules(build(), NAMES, QuantizationConfig(bits=3)) for _ in range(2)]
    for name in NAMES:
        assert torch.equal(stores[0][name].weight.codes, stores[1][name].weight.codes)


def test_reported_error_is_the_mean_squared_error():
    linear = nn.Linear(32, 8)
    master = linear.weight.detach().clone()
    layer = quantize_modules(nn.Sequential(linear), ["0"], QuantizationConfig(bits=3))["0"]
    expected = ((layer.weight.dequantize() - master) ** 2).mean()
    assert layer.weight.quantization_mse == pytest.approx(float(expected))
    assert layer.weight.source_name == "0.weight"


@pytest.mark.parametrize("device", ["meta", "fake"])
def test_shapes_without_weights(device):
    if device == "meta":
        with torch.device("meta"):
            model = TinyModel()
        modules = quantize_modules(model, NAMES, QuantizationConfig(bits=3, clip="mse"))
    else:
        with FakeTensorMode():
            model = TinyModel()
            modules = quantize_modules(model, NAMES, QuantizationConfig(bits=3))
            assert model(torch.zeros(2, 5, dtype=torch.long)).shape == (2, 5, 11)
    assert storage_bytes(modules)["quantized_weights"] == 11 * 16 + 2 * 96


@pytest.mark.parametrize("range_", ["include_zero", "float_min"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", [3, 8])
def test_storage_without_values_is_that_of_values(bits, granularity, range_):
    config = QuantizationConfig(bits=bits, granularity=granularity, group_size=4, range=range_)
    spec = GridSpec.from_config(config, bits)
    real = QuantizedWeight(torch.randn(5, 12), spec, "w")
    blank = QuantizedWeight(torch.empty(5, 12, device="meta"), spec, "w")
    described = [{name: (b.shape, b.dtype) for name, b in w.named_buffers()} for w in (real, blank)]
    assert described[0] == described[1]


def test_unknown_module_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"'blocks\.7' .*blocks\.\d"):
        quantize_modules(build(), ["blocks.7"], QuantizationConfig())


@settings(max_examples=15)
@given(
    seed=st.integers(0, 99),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
)
def test_a_low_bit_convolution_is_that_of_its_dequantised_kernel(
    seed, stride, padding, groups, bias
):
    torch.manual_seed(seed)
    layer = nn.Conv2d(4, 6, 3, stride, padding, groups=groups, bias=bias)
    model = nn.Sequential(layer)
    quantize_modules(model, ["0"], QuantizationConfig(bits=4))
    low = model[0]
    assert low.weight.code_bytes == -(-4 * layer.weight.numel() // 8)
    x = torch.randn(2, 4, 7, 5, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = low(x)
    assert saved == []
    expected = F.conv2d(x, low.kernel(x.dtype), layer.bias, stride, padding, 1, groups)
    assert torch.equal(y, expected)
    weight = torch.randn_like(y)
    (found,) = torch.autograd.grad((y * weight).sum(), x)
    (reference,) = torch.autograd.grad((expected * weight).sum(), x)
    assert torch.allclose(found, reference, atol=1e-5)
