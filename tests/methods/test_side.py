"""Side networks against their equations, written out in float64."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backbones.base import StreamSpec
from harness.errors import UserError
from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.methods import build_method
from methods.lst import LstConfig
from methods.lst.ladder import LadderStream
from methods.side.layers import FeedForward, biased_attention, feed_forward, kept_layers, side_width
from methods.side.network import SideTaps, SourceTokens
from methods.side.salient import SalientRule, masked_mean
from methods.unipt import UniptConfig
from methods.unipt.model import ParallelParts, ParallelStream, interact

WIDTH, REDUCTION = 16, 2


def spec(depth: int = 2, causal: bool = False, sources: tuple[str, ...] = ()) -> StreamSpec:
    return StreamSpec("s", WIDTH, depth, 2, 4 * WIDTH, sources=sources, causal=causal)


def taps(depth: int, rows: int, tokens: int, seed: int, padding: int = 0) -> SideTaps:
    generator = torch.Generator().manual_seed(seed)
    values = [
        torch.randn(rows, tokens, WIDTH, generator=generator, dtype=torch.float64)
        for _ in range(depth + 1)
    ]
    mask = torch.ones(rows, tokens, dtype=torch.bool)
    if padding:
        mask[0, -padding:] = False
    return SideTaps(values, [v[:, 0] for v in values], mask)


def parallel(depth: int, causal: bool = False, sources: tuple[str, ...] = ()) -> ParallelStream:
    torch.manual_seed(0)
    config = UniptConfig(reduction=REDUCTION)
    return ParallelStream(spec(depth, causal, sources), config, ParallelParts()).double()


@settings(max_examples=20)
@given(
    depth=st.integers(1, 3),
    rows=st.integers(1, 3),
    tokens=st.integers(2, 6),
    seed=st.integers(0, 100),
    padding=st.integers(0, 1),
)
def test_parallel_stream_is_its_equation_token_by_token(depth, rows, tokens, seed, padding):
    stream = parallel(depth)
    read = taps(depth, rows, tokens, seed, padding)
    result = stream(read, None)
    z = [down(x) for down, x in zip(stream.samplers, read.tokens, strict=True)]
    for b in range(rows):
        real = read.mask[b]
        means = [one[b][real].mean(0) for one in z]
        scores = torch.stack([stream.confidence.score(means[-1] * m) for m in means[:-1]])
        confidence = scores.softmax(0)
        for t in range(tokens):
            total = torch.zeros(stream.width, dtype=torch.float64)
            for c, target in zip(confidence, z[:-1], strict=True):
                row = torch.relu(target[b] @ z[-1][b, t]) * real
                attended = (row / (row.sum() + 1e-6)) @ target[b]
                total = total + c * (attended + target[b, t])  # A + I
            expected = z[-1][b, t] + stream.projection(total[None, None], None, None)[0, 0]
            assert torch.allclose(result[b, t], expected, atol=1e-9)


def test_a_causal_parallel_stream_sees_no_future_token():
    stream = parallel(2, causal=True)
    read = taps(2, 2, 5, seed=1)
    changed = [x.clone() for x in read.tokens]
    for x in changed:
        x[:, 3:] += 1
    first = stream(read, None)
    second = stream(SideTaps(changed, read.salients, read.mask), None)
    assert torch.equal(first[:, :3], second[:, :3])
    assert not torch.allclose(first[:, 3:], second[:, 3:])


def test_sources_are_one_more_target_of_a_parallel_stream():
    stream = parallel(1, sources=("a",))
    read = taps(1, 2, 4, seed=0)
    value = torch.randn(2, 7, stream.width, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[:, 5:] = False
    stream(read, SourceTokens(value, mask)).sum().backward()
    assert (value.grad[:, :5] != 0).any()
    assert (value.grad[:, 5:] == 0).all()


@given(seed=st.integers(0, 1000), real=st.integers(1, 3))
@settings(max_examples=15)
def test_what_is_crossed_may_be_added_to_the_targets(seed, real):
    """Z_l + LN(W_l l1norm(ReLU(Z_l S^T)) S) in place of Z_l, with no further target."""
    torch.manual_seed(seed)
    crossing = replace(spec(1, sources=("a",)), cross=True)
    stream = ParallelStream(
        crossing, UniptConfig(reduction=REDUCTION), ParallelParts(crossing="targets")
    ).double()
    read = taps(1, 1, 2, seed)
    source = torch.randn(1, 3, stream.width, dtype=torch.float64)
    mask = torch.arange(3)[None] < real
    result = stream(read, SourceTokens(source, mask))
    target, anchor = (down(x)[0] for down, x in zip(stream.samplers, read.tokens, strict=True))
    changed = []
    for z in target:
        likeness = [torch.relu(z @ s) for s in source[0, :real]]
        met = sum(a * s for a, s in zip(likeness, source[0, :real], strict=True))
        changed.append(z + stream.crossers[0](met / (sum(likeness) + 1e-6)))
    for t in range(2):
        row = torch.stack([torch.relu(z @ anchor[t]) for z in changed])
        meeting = sum(a * z for a, z in zip(row, changed, strict=True)) / (row.sum() + 1e-6)
        total = meeting + changed[t]  # one target alone has all confidence
        expected = anchor[t] + stream.projection(total[None, None], None, None)[0, 0]
        assert torch.allclose(result[0, t], expected, atol=1e-9)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_rows_of_the_interaction_are_weighted_means(seed):
    generator = torch.Generator().manual_seed(seed)
    anchor = torch.rand(2, 3, 4, generator=generator)  # positive: every row meets something
    target = torch.rand(2, 5, 4, generator=generator)
    met = interact(anchor, target, None)
    assert (met <= target.amax(1, keepdim=True) + 1e-4).all()
    assert (met >= target.amin(1, keepdim=True) - 1e-4).all()


@settings(max_examples=15)
@given(depth=st.integers(1, 3), tokens=st.integers(2, 6), seed=st.integers(0, 100))
def test_ladder_is_its_recurrence(depth, tokens, seed):
    torch.manual_seed(seed)
    stream = LadderStream(spec(depth), LstConfig(reduction=REDUCTION), feed_forward).double()
    for gate in stream.gates:
        gate.alpha.data.fill_(0.05)
    read = taps(depth, 2, tokens, seed, padding=1)
    s = stream.embedding_sampler(read.tokens[0])
    g = torch.sigmoid(torch.tensor(0.5, dtype=torch.float64))  # 0.05 / T
    for i, block in enumerate(stream.blocks):
        s = g * s + (1 - g) * stream.samplers[i](read.tokens[i + 1])
        s = s + attention_by_hand(block.attention, block.attention_norm(s), read.mask)
        y = block.mixer_norm(s)
        s = s + block.mixer.down(torch.relu(block.mixer.up(y)))
    expected = stream.norm(s)
    result = stream(read, None)
    assert torch.allclose(result[read.mask], expected[read.mask], atol=1e-6)


def attention_by_hand(attention, x, mask):
    width = x.shape[-1]
    size = width // attention.heads
    q, k, v = attention.qkv(x).split(width, dim=-1)
    heads = []
    for h in range(attention.heads):
        part = slice(h * size, (h + 1) * size)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / size**0.5
        scores = scores.masked_fill(~mask[:, None, :], float("-inf"))
        heads.append(scores.softmax(-1) @ v[..., part])
    return attention.out(torch.cat(heads, -1))


def test_a_ladder_starts_half_open_and_reads_its_sources():
    stream = LadderStream(spec(1, sources=("a",)), LstConfig(reduction=2), feed_forward).double()
    read = taps(1, 1, 3, seed=0)
    value = torch.zeros(1, 3, stream.width, dtype=torch.float64, requires_grad=True)
    stream(read, SourceTokens(value, read.mask)).square().sum().backward()
    assert torch.sigmoid(stream.gates[0].alpha) == 0.5
    assert value.grad.abs().sum() > 0


def test_a_ladder_refuses_sources_with_other_tokens():
    stream = LadderStream(spec(1, sources=("a",)), LstConfig(reduction=2), feed_forward).double()
    value = torch.zeros(1, 4, stream.width, dtype=torch.float64)
    with pytest.raises(UserError, match="has 3 tokens"):
        stream(taps(1, 1, 3, seed=0), SourceTokens(value, None))


def test_side_width_must_divide():
    assert side_width(spec(), 4) == 4
    with pytest.raises(UserError, match=r"reduction=3 must divide the width 16.*nearest.* 2"):
        side_width(spec(), 3)


def test_layers_beyond_the_depth_are_refused():
    assert kept_layers(spec(3), None) == (0, 1, 2, 3)
    assert kept_layers(spec(3), (1, 3)) == (1, 3)
    with pytest.raises(UserError, match=r"has 3 blocks.*0 to 3"):
        kept_layers(spec(3), (1, 4))


@pytest.mark.parametrize("layers", [(), (2, 1), (1, 1), (-1,)])
def test_layers_must_ascend(layers):
    with pytest.raises(ValueError, match="layers"):
        LstConfig(layers=layers)


def test_masked_mean_ignores_padding():
    x = torch.tensor([[[1.0], [3.0], [100.0]]])
    mask = torch.tensor([[True, True, False]])
    assert masked_mean(x, mask).item() == 2
    assert masked_mean(x[:, :2], None).item() == 2


def test_salient_rules():
    backbone = TinyBackbone.build(TinyConfig())
    tokens = [torch.randn(2, 3, 16) for _ in range(3)]
    own = SalientRule("tap", "backbone").select(backbone, "text", tokens, None)
    assert all(torch.equal(a, t[:, 0]) for a, t in zip(own, tokens, strict=True))
    last = SalientRule("last", "mean").select(backbone, "text", tokens, None)
    assert all(torch.equal(a, tokens[-1].mean(1)) for a in last)
    first = SalientRule("embedding", "first").select(backbone, "image", tokens, None)
    assert all(torch.equal(a, tokens[0][:, 0]) for a in first)


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


@pytest.mark.parametrize(("width", "reduction", "depth"), [(32, 4, 2), (64, 2, 3)])
def test_parameter_counts_follow_the_formulas(width, reduction, depth):
    """Counts of one stream, ``m = d / r``: LST section 8.5 and UniPT section 9, without biases
    left out (LayerNorm instead of RMSNorm)."""
    backbone = TinyBackbone.build(TinyConfig(width=width, heads=4, depth=depth))
    m, d, hidden = width // reduction, width, 2 * width // reduction
    block = linear(m, 3 * m) + linear(m, m) + linear(m, hidden) + linear(hidden, m) + 2 * 2 * m
    lst = linear(d, m) + depth * (linear(d, m) + 1 + block) + 2 * m + linear(m, d)
    unipt = (depth + 1) * (linear(d, m) + 2 * m) + linear(m, 1) + linear(m, m) + 2 * m
    unipt += linear(m, d)
    for name, expected in (("lst", lst), ("unipt", unipt)):
        method = build_method(name, backbone, ("image",), reduction=reduction, train_norms="none")
        assert sum(p.numel() for p in method.parts()["side"]) == expected


def test_feed_forward_shrinks_with_the_width():
    assert feed_forward(spec(), 8).up.weight.shape == (32, 8)
    assert isinstance(feed_forward(spec(), 8), FeedForward)


@pytest.mark.parametrize("join", ["gate", "add"])
def test_joining_lets_the_frozen_output_through(join):
    backbone = TinyBackbone.build(TinyConfig(width=32, heads=4))
    method = build_method("lst", backbone, join=join, train_norms="none").eval()
    states = method.frozen(tiny_inputs(backbone))
    with torch.no_grad():
        plain = method.network(states, backbone)["joint"]
        merged = method.side(states)["joint"].output
        frozen = states["joint"].output
    share = {"gate": 0.5 * plain + 0.5 * frozen, "add": plain}[join]
    assert torch.allclose(merged, share, atol=1e-6)


def test_post_norm_blocks_end_in_a_norm():
    torch.manual_seed(0)
    stream = LadderStream(spec(1), LstConfig(reduction=2, block_norm="post"), feed_forward).double()
    block, x = stream.blocks[0], torch.randn(2, 3, 8, dtype=torch.float64)
    mask = torch.ones(2, 3, dtype=torch.bool)
    y = block.attention_norm(x + attention_by_hand(block.attention, x, mask))
    expected = block.mixer_norm(y + block.mixer(y, None, mask))
    assert torch.allclose(block(x, mask, None), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, None])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_attention_with_a_position_bias_is_the_librarys(scale, dtype):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    bias = torch.randn(1, 3, 5, 5, generator=generator, dtype=torch.float64)
    visible = torch.arange(5) < torch.tensor([3, 5])[:, None, None, None]  # [B, 1, 1, M]
    q, k, v, bias = (t.to(dtype) for t in (q, k, v, bias))
    found = biased_attention(q, k, v, visible, bias, scale)
    mask = bias.masked_fill(~visible, -torch.inf)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    assert found.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 2e-2
    assert torch.allclose(found, expected, atol=tolerance)
