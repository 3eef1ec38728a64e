"""What is particular to single methods; the laws of all of them are in the contract suite."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.methods import ProbedModel, build_method, train_steps
from methods.adapter.model import Adapter


def tiny(**settings) -> TinyBackbone:
    return TinyBackbone.build(TinyConfig(width=32, heads=4, **settings))


def test_a_linear_probe_hands_over_the_frozen_states():
    backbone = tiny()
    inputs = tiny_inputs(backbone)
    method = build_method("linear_probe", backbone)
    states = {}
    for spec in backbone.specs:
        states[spec.name] = backbone.encode(spec.name, inputs, states)
    assert torch.equal(method(inputs)["joint"].output, states["joint"].output)
    assert not any(p.requires_grad for p in method.parameters())
    assert all(s.taps == () for s in method.frozen(inputs).values())


def test_full_trains_the_whole_backbone():
    method = build_method("full")
    assert all(p.requires_grad for p in method.backbone.parameters())


def test_adapters_start_near_the_identity():
    backbone = tiny()
    inputs = tiny_inputs(backbone)
    plain = build_method("linear_probe", copy.deepcopy(backbone))(inputs)["joint"].output
    adapted = build_method("adapter", backbone)(inputs)["joint"].output
    assert torch.allclose(adapted, plain, atol=0.1)
    assert not torch.equal(adapted, plain)


def test_adapters_are_where_and_what_they_should_be():
    backbone = tiny(depth=3)
    method = build_method("adapter", backbone, reduction=8)
    adapters = [m for m in method.modules() if isinstance(m, Adapter)]
    assert len(adapters) == 3 * 3 * 2  # streams x blocks x (attention, feed-forward)
    bottleneck = 32 // 8
    each = 2 * 32 * bottleneck + bottleneck + 32
    parts = {name: sum(p.numel() for p in part) for name, part in method.parts().items()}
    norms = 3 * (2 * 3 + 1) * 2 * 32
    assert parts == {"side": len(adapters) * each, "norms": norms}
    assert all(m.memory_region == "side" for m in adapters)


@settings(max_examples=30)
@given(
    width=st.integers(2, 9),
    bottleneck=st.integers(1, 4),
    rows=st.integers(1, 3),
    tokens=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_an_adapter_is_its_equation_token_by_token(width, bottleneck, rows, tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    adapter = Adapter(width, bottleneck).double()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(rows, tokens, width, generator=generator, dtype=torch.float64)
    found = adapter(x)
    down, up = adapter.down, adapter.up
    for row in range(rows):
        for token in range(tokens):
            h = down.weight @ x[row, token] + down.bias
            gelu = [
                0.5 * v * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (v + 0.044715 * v**3))) for v in h
            ]
            expected = x[row, token] + up.weight @ torch.stack(gelu) + up.bias
            assert torch.allclose(found[row, token], expected, atol=1e-10)


def test_adapters_act_on_a_sublayer_before_its_residual():
    backbone = tiny(depth=1)
    method = build_method("adapter", backbone, ("image",))
    behind_attention, behind_ffn = method.adapters
    block = backbone.get_submodule("streams.image.0")
    x = torch.randn(2, 4, 32)
    with torch.no_grad():  # .forward leaves the hooks out
        y = x + behind_attention(block.attention.forward(block.attention_norm(x), None))
        expected = y + behind_ffn(block.ffn.forward(block.ffn_norm(y)))
        assert torch.equal(block(x, None), expected)


def test_norms_stay_frozen_on_request():
    method = build_method("adapter", train_norms=False)
    assert not any(p.requires_grad for p in method.backbone.parameters())
    assert method.parts()["norms"] == []


def test_adapters_need_a_bottleneck():
    with pytest.raises(UserError, match=r"reduction=64 leaves no bottleneck.*width 32"):
        build_method("adapter", reduction=64)


def test_side_tuning_starts_half_way_and_reads_the_input_alone():
    backbone = tiny()
    method = build_method("side_tuning", backbone).eval()
    states = method.frozen(tiny_inputs(backbone))
    with torch.no_grad():
        side = method.network(states, backbone)["joint"]
        blended = method.side(states)["joint"].output
    assert torch.allclose(blended, 0.5 * states["joint"].output + 0.5 * side, atol=1e-6)
    for state in states.values():
        for tap in state.taps[1:]:
            tap.value.fill_(float("nan"))
    with torch.no_grad():
        assert torch.equal(method.side(states)["joint"].output, blended)


def test_the_blending_weight_has_no_weight_decay():
    method = build_method("side_tuning")
    *_, last = method.param_groups()
    assert last["weight_decay"] == 0
    assert [id(p) for p in last["params"]] == [id(m.alpha) for m in method.merges.values()]


@pytest.mark.parametrize("name", ["side_tuning", "lst", "unipt", "mp_ismoe"])
def test_side_networks_shrink_with_the_reduction(name):
    sizes = [
        sum(p.numel() for p in build_method(name, reduction=r).parts()["side"]) for r in (2, 4, 8)
    ]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ["full", "adapter", "side_tuning", "lst", "unipt", "mp_ismoe"])
def test_every_method_can_learn(name):
    """The loss of a few rows falls."""
    model = ProbedModel(build_method(name))
    inputs = tiny_inputs(model.method.backbone)
    torch.manual_seed(0)  # routers and dropout draw from the global generator
    before = model.loss(inputs).item()
    train_steps(model, inputs, steps=15)
    assert model.loss(inputs).item() < 0.7 * before


@pytest.mark.parametrize("name", ["full", "lst", "unipt", "mp_ismoe", "mp_ismoe@lst"])
def test_a_copied_model_is_independent_and_equal(name):
    method = build_method(name).eval()
    twin = copy.deepcopy(method)
    inputs = tiny_inputs(method.backbone)
    with torch.no_grad():
        assert torch.equal(method(inputs)["joint"].output, twin(inputs)["joint"].output)
    train_steps(ProbedModel(twin), inputs)
    own = {p.data_ptr() for p in method.parameters()}
    assert not own & {p.data_ptr() for p in twin.parameters()}


def test_streams_that_no_head_needs_have_no_side_network():
    method = build_method("lst", reads=("text",))
    assert list(method.network.streams) == ["text"]
    assert list(build_method("unipt").network.upsamplers) == ["joint"]


@pytest.mark.parametrize("name", ["lst", "unipt", "mp_ismoe", "side_tuning"])
def test_a_causal_stream_stays_causal(name):
    backbone = tiny(causal_text=True)
    method = build_method(name, backbone, ("text",)).eval()
    first, second = ({**tiny_inputs(backbone, [text, text])} for text in ("abcdef", "abcxyz"))
    with torch.no_grad():
        outputs = [method(i)["text"].output[:, :4] for i in (first, second)]  # [CLS] a b c
    assert torch.allclose(*outputs, atol=1e-6)
