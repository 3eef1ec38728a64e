"""SHERL against its equations, and the one block of the backbone that its gradients cross."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harness.backbones.base import StreamSpec
from harness.memory.measure import measure
from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.contracts import MethodContract
from harness.testing.methods import ProbedModel, build_method
from methods.sherl import SherlConfig
from methods.sherl.network import EarlyRoute, RouteForm
from methods.side.projections import MlpProjection

WIDTH = 16


@settings(max_examples=15)
@given(
    depth=st.integers(1, 4),
    rows=st.integers(1, 3),
    tokens=st.integers(1, 5),
    seed=st.integers(0, 100),
    down=st.sampled_from(["gated", "linear"]),
    mlp=st.booleans(),
    norm=st.booleans(),
)
def test_the_early_route_is_its_equations_token_by_token(
    depth, rows, tokens, seed, down, mlp, norm
):
    torch.manual_seed(seed)
    spec = StreamSpec("s", WIDTH, depth, 2, 4 * WIDTH)
    form = RouteForm(down, MlpProjection if mlp else None, norm)
    route = EarlyRoute(spec, SherlConfig(reduction=4), late=False, form=form).double()
    for parameter in route.parameters():
        nn.init.normal_(parameter, std=0.5)
    hidden = [torch.randn(rows, tokens, WIDTH, dtype=torch.float64) for _ in range(depth + 1)]
    result = route(hidden, hidden[-1][:, 0], None)
    w, b = route.score.weight[0], route.score.bias[0]
    for i in range(rows):
        for n in range(tokens):
            v = []
            for layer, x in zip(route.downs, hidden, strict=True):
                if down == "linear":
                    v.append(layer[1](layer[0].weight @ x[i, n] + layer[0].bias))
                    continue
                u = torch.relu(layer.down.weight @ x[i, n] + layer.down.bias)
                gate = torch.sigmoid(layer.gate.weight @ u + layer.gate.bias)
                v.append((layer.mix.weight @ u + layer.mix.bias + u) * gate)
            *shallow, q = v
            scores = []
            for one in shallow:
                repeats = sum(
                    torch.relu(torch.dot(one, other) / (one.norm() * other.norm()).clamp_min(1e-24))
                    for other in shallow
                )
                scores.append(torch.relu(torch.dot(w, one * q) + b) / repeats.clamp_min(1e-6))
            total = sum(scores) + 1e-6
            tiers = sum(s / total * one for s, one in zip(scores, shallow, strict=True))
            if mlp:
                f = route.mixer
                tiers = f.norm(f.down(torch.relu(f.up(tiers))))
            y = route.up.weight @ torch.relu(tiers + q) + route.up.bias
            if norm:
                y = route.norm(y)
            y = y + torch.tanh(route.alpha / 0.1) * hidden[-1][i, n]
            assert torch.allclose(result[i, n], y, atol=1e-8)


def test_gradients_cross_the_last_block_of_what_the_head_reads_and_nothing_else():
    backbone = TinyBackbone.build(TinyConfig(width=32, heads=4, depth=3))
    method = build_method("sherl", backbone)
    crossed: list[str] = []
    blocks = [b for s in backbone.specs for b in backbone.blocks(s.name)]
    for name in blocks:

        def note(_module, _args, output, name=name):
            if output.requires_grad:
                crossed.append(name)

        backbone.get_submodule(name).register_forward_hook(note)
    ProbedModel(method).loss(tiny_inputs(backbone)).backward()
    assert crossed == ["streams.joint.2"]
    assert all(p.grad is None for p in backbone.parameters())


def test_the_late_block_is_all_that_the_backbone_saves():
    """Saved bytes of the backbone do not grow with its depth."""
    saved = []
    for depth in (2, 4):

        class Contract(MethodContract):
            name = "sherl"

            def build(self, depth=depth, **options):
                backbone = TinyBackbone.build(TinyConfig(width=32, heads=4, depth=depth))
                return build_method("sherl", backbone, layers=(0, 1, 2), **options)

        saved.append(measure(Contract().step_program("joint")).at_peak_bytes["saved_backbone"])
    assert saved[0] > 0
    assert saved[0] == saved[1]
