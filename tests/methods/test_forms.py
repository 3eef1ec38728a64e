"""The forms of UniPT and SHERL for retrieval and grounding hosts, against loops over their
equations in double precision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backbones.base import StreamSpec
from harness.backbones.vse.heads import GeneralizedPooling, rank_codes
from harness.errors import UserError
from harness.testing.methods import ProbedModel, build_method, train_steps
from harness.testing.small import random_inputs, small_backbone
from methods.sherl.embedding import TieredStream
from methods.side.maps import GuidedPool
from methods.side.projections import TokenBatchNorm
from methods.unipt.embedding import MeetingStream

SPEC = StreamSpec("text", 6, 2, 2, 8, modality="text", embedding_width=5)
EPSILON = 1e-6


def draw(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def shaken(module, seed):
    """Give every parameter a random value in double precision."""
    module = module.double()
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(draw(seed + i, *parameter.shape))
    return module


def linear(layer, x):
    return layer.weight @ x + (0 if layer.bias is None else layer.bias)


def stream_inputs(seed, tokens, real):
    states = [draw(seed + i, 1, tokens, SPEC.width) for i in range(SPEC.depth + 1)]
    frozen = draw(seed + 9, 1, SPEC.embedding_width)
    mask = torch.arange(tokens)[None] < real
    return states, frozen, mask


@settings(max_examples=20)
@given(seed=st.integers(0, 999), tokens=st.integers(1, 5), data=st.data())
def test_an_embedding_meets_every_hidden_state(seed, tokens, data):
    real = data.draw(st.integers(1, tokens))
    stream = shaken(MeetingStream(SPEC, 4, (0, 1, 2)), seed)
    states, frozen, mask = stream_inputs(seed, tokens, real)
    result = stream(states, frozen, mask, lambda x: x[:, real - 1])[0, 0]

    anchor = linear(stream.anchor[1], frozen[0].relu())
    meetings, scores = [], []
    for layer in range(3):
        z = [linear(stream.filters[layer][1], states[layer][0, n].relu()) for n in range(real)]
        likeness = [max((anchor @ z_n).item(), 0.0) for z_n in z]
        met = sum(a * z_n for a, z_n in zip(likeness, z, strict=True))
        meetings.append(met / (sum(likeness) + EPSILON) + z[real - 1])
        mean = sum(z) / real
        scores.append(linear(stream.confidence.score, anchor * mean).item())
    total = torch.zeros_like(anchor)
    for score, meeting in zip(scores, meetings, strict=True):
        share = math.exp(score - max(scores)) / sum(math.exp(s - max(scores)) for s in scores)
        total = total + share * meeting
    expected = frozen[0] + linear(stream.up[1], total.relu())
    assert torch.allclose(result, expected, atol=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), tokens=st.integers(1, 5), gated=st.booleans(), data=st.data())
def test_an_embedding_sums_tiers_that_do_not_repeat(seed, tokens, gated, data):
    real = data.draw(st.integers(1, tokens))
    stream = shaken(TieredStream(SPEC, 4, (0, 1, 2), 0.5, gated), seed)
    states, frozen, mask = stream_inputs(seed, tokens, real)
    result = stream(states, frozen, mask, lambda x: x[:, real - 1])[0, 0]

    q = linear(stream.anchor[1], frozen[0].relu())
    tiers = []
    for layer in range(3):
        v = [linear(stream.filters[layer][1], states[layer][0, n].relu()) for n in range(real)]
        heights = [max(linear(stream.pools[layer], q * v_n).item(), 0.0) for v_n in v]
        pooled = sum(h * v_n for h, v_n in zip(heights, v, strict=True)) / (sum(heights) + EPSILON)
        gate = torch.sigmoid(stream.gates[layer] / 0.5) if gated else 1.0
        tiers.append(pooled + gate * v[real - 1])
    weights = []
    for p in tiers:
        redundancy = sum(
            max(float(torch.cosine_similarity(p, other, dim=0)), 0.0) for other in tiers
        )
        weights.append(max(linear(stream.score, p * q).item(), 0.0) / redundancy)
    total = sum(w * p for w, p in zip(weights, tiers, strict=True)) / (sum(weights) + EPSILON)
    expected = frozen[0] + linear(stream.up[1], (total + q).relu())
    assert torch.allclose(result, expected, atol=1e-8)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), window=st.integers(1, 3), side=st.integers(1, 2))
def test_maps_are_pooled_window_by_window(seed, window, side):
    pool = shaken(GuidedPool(3, 2), seed)
    maps = draw(seed, 1, 2, side * window, side * window)
    anchor = draw(seed + 1, 1, side * side, 3)
    result = pool(maps, anchor, (side, side))[0]
    for row in range(side):
        for column in range(side):
            guide = linear(pool.guide, anchor[0, row * side + column]).relu()
            places = [
                maps[0, :, row * window + i, column * window + j]
                for i in range(window)
                for j in range(window)
            ]
            scores = [max((guide @ x).item(), 0.0) for x in places]
            weights = [s / (sum(scores) + EPSILON) + 1 / window**2 for s in scores]
            expected = sum(w * x for w, x in zip(weights, places, strict=True))
            assert torch.allclose(result[row * side + column], expected, atol=1e-6)


def test_windows_must_divide_the_maps():
    with pytest.raises(UserError, match="maps of 5 x 4 places do not divide into 2 x 2 windows"):
        GuidedPool(3, 2)(torch.zeros(1, 2, 5, 4), torch.zeros(1, 4, 3), (2, 2))


def test_batch_norm_of_tokens_is_that_of_maps():
    maps = draw(0, 3, 4, 2, 5)
    tokens = TokenBatchNorm(4).double()(maps.flatten(2).transpose(1, 2))
    expected = torch.nn.BatchNorm2d(4).double()(maps)
    assert torch.allclose(tokens, expected.flatten(2).transpose(1, 2))


def both_ways(pool: GeneralizedPooling) -> torch.nn.GRU:
    """Return the source's recurrent net, which reads its input in both directions."""
    net = torch.nn.GRU(32, 32, batch_first=True, bidirectional=True).double()
    parts = pool.upwards.state_dict() | {
        f"{name}_reverse": value for name, value in pool.downwards.state_dict().items()
    }
    net.load_state_dict(parts)
    return net


@settings(max_examples=15)
@given(seed=st.integers(0, 999), tokens=st.integers(1, 5), data=st.data())
def test_generalized_pooling_weighs_sorted_values_and_knows_no_padding(seed, tokens, data):
    real = data.draw(st.integers(1, tokens))
    pool = shaken(GeneralizedPooling(), seed)
    x = draw(seed, 2, tokens, 3)
    mask = torch.stack([torch.arange(tokens) < real, torch.ones(tokens, dtype=torch.bool)])
    pooled, alone = pool(x, mask), pool(x[:1, :real], None)
    read = both_ways(pool)(rank_codes(real, x.device).double()[None])[0][0]  # [n, 2 x 32]
    weights = pool.score((read[:, :32] + read[:, 32:]) / 2)[:, 0].softmax(0)
    for feature in range(3):
        ranked = sorted(x[0, :real, feature].tolist(), reverse=True)
        expected = sum(w * v for w, v in zip(weights.tolist(), ranked, strict=True))
        assert float(pooled[0, feature]) == pytest.approx(expected, abs=1e-9)
    assert torch.allclose(pooled[:1], alone)


@pytest.mark.parametrize("method", ["unipt", "sherl"])
@pytest.mark.parametrize("backbone", ["clip", "vse"])
def test_published_forms_train(method, backbone):
    """What is embedded has the embedding's width; batch statistics belong to the state."""
    values = {
        "clip": {"output": "embedding", "width": 8},
        "vse": {"unipt": {"output": "projected"}, "sherl": {"down": "linear", "output_norm": True}},
    }[backbone]
    options = {"reduction": 4, **values.get(method, {} if backbone == "vse" else values)}
    if method == "unipt":
        options["train_norms"] = "none"
    model = small_backbone(backbone)
    built = build_method(method, model, model.paper_reads, **options)
    inputs = random_inputs(model, ["a red circle", "no"])
    states = built(inputs)
    for name in model.paper_reads:
        spec = model.spec(name)
        width = spec.embedding_width if name in built.embedded else spec.width
        assert states[name].output.shape[2] == states[name].salient.shape[1] == width
    if backbone == "vse":
        head = model.paper_head(built.embedded)
        assert all(e.shape == (2, 24) for e in head(states).values())
        assert all("running" in name for name in built.extra_state())
        assert built.extra_state()
    torch.stack([s.output.square().mean() for s in states.values()]).sum().backward()
    assert all(p.grad is not None for p in built.parameters() if p.requires_grad)


def test_other_backbones_embed_nothing():
    with pytest.raises(UserError, match=r"method\.output=embedding.*has no embedding of its own"):
        build_method("unipt", output="embedding", train_norms="none")
    with pytest.raises(UserError, match=r"method\.output.*leave method\.output=state"):
        build_method("unipt", output="projected", train_norms="none")


def test_batch_statistics_come_back(tmp_path):
    def build():
        model = small_backbone("vse")
        return ProbedModel(build_method("unipt", model, model.paper_reads, reduction=4))

    trained, fresh = build(), build()
    inputs = random_inputs(trained.method.backbone, ["a red circle", "no"])
    train_steps(trained, inputs)
    fresh.load_state_dict(dict(trained.named_parameters()), strict=False)
    fresh.method.load_extra_state({k: v.clone() for k, v in trained.method.extra_state().items()})
    trained.eval(), fresh.eval()
    assert torch.equal(trained(inputs), fresh(inputs))


def test_late_maps_are_pooled_by_their_maximum_and_mean():
    torch.manual_seed(0)
    options = {"reduction": 4, "down": "linear", "output_norm": True}
    backbone = small_backbone("vse")
    plain, pooled = (
        build_method("sherl", backbone, ("image", "text"), map_pooling=form, **options).eval()
        for form in ("none", "max_avg")
    )
    pooled.load_state_dict(plain.state_dict())
    with torch.no_grad():
        states = plain.frozen(random_inputs(backbone, ["a shape", "two"]))
        before, after = plain.side(states), pooled.side(states)
    assert torch.equal(after["text"].output, before["text"].output)
    height, width = states["image"].taps[-1].grid
    tokens = before["image"].output  # [B, H W, D]
    found = after["image"].output
    assert found.shape == (2, (height // 2) * (width // 2), tokens.shape[2])
    for row in range(height // 2):
        for column in range(width // 2):
            corner = 2 * row * width + 2 * column
            window = tokens[:, [corner, corner + 1, corner + width, corner + width + 1]]
            expected = window.amax(1) + window.mean(1)
            assert torch.allclose(found[:, row * (width // 2) + column], expected, atol=1e-5)
