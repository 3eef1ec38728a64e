"""LST's first weights by Fisher information, against loops in float64."""

import pytest
import torch
from pydantic import ValidationError

from harness.backbones.base import Backbone
from harness.errors import UserError
from harness.testing.methods import ProbedModel, TinyContext, build_method, snapshot
from harness.testing.small import random_inputs, small_backbone
from methods.lst.fisher import block_names, prune_stream, pruned_weights
from methods.mp_ismoe import MpIsmoeConfig

TEXTS = ["a red circle", "no"]


def best(scores: list[float], count: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:count])


def reference_block(backbone: Backbone, importance, names, kept: list[int], share: float, m: int):
    """Walk a block with loops; return the kept inner, output, hidden and last rows in turn."""
    found = []
    for a in names.attentions:
        q, k, v = (importance[n].double() for n in (a.query, a.key, a.value))
        scores = [
            sum((q[row, c] * k[row, c] * v[row, c]).item() for c in kept) for row in range(len(q))
        ]
        inner = best(scores, round(len(scores) * share))
        o = importance[a.output].double()
        out = best([sum(o[row, c].item() for c in inner) for row in range(len(o))], m)
        found.append((kept, inner, out))
        kept = out
    up, down = importance[names.up].double(), importance[names.down].double()
    scores = [sum(up[row, c].item() for c in kept) for row in range(len(up))]
    hidden = best(scores, round(len(scores) * share))
    out = best([sum(down[row, c].item() for c in hidden) for row in range(len(down))], m)
    found.append((kept, hidden, out))
    return found, out


@pytest.mark.parametrize("name", ["t5", "bert"])
@pytest.mark.parametrize(("reduction", "layers"), [(2, None), (4, (2,))])
def test_side_weights_are_the_slices_that_the_text_describes(name, reduction, layers):
    backbone = small_backbone(name)
    method = build_method(
        "lst", backbone, (backbone.specs[-1].name,), reduction=reduction, layers=layers
    )
    generator = torch.Generator().manual_seed(reduction)
    for stream in method.network.streams.values():
        spec, m = stream.spec, stream.width
        weights = pruned_weights(backbone, spec.name)
        draw = {id(p): torch.rand(p.shape, generator=generator) ** 8 for p in weights.values()}
        importance = {n: draw[id(p)].double() * 1e-30 for n, p in weights.items()}
        prune_stream(stream, backbone, importance)
        embedding = importance[backbone.embedding_of(spec.name)]
        kept = best([embedding[:, d].sum().item() for d in range(spec.width)], m)
        blocks = dict(zip(stream.kept, stream.blocks, strict=True))
        for index, names in enumerate(block_names(backbone, spec.name), 1):
            parts, kept = reference_block(backbone, importance, names, kept, m / spec.width, m)
            if index in blocks:
                check_block(backbone, names, blocks[index], parts, spec.style.norm_first)


def check_block(backbone, names, side, parts, norm_first):
    def cut(name: str, rows: list[int], columns: list[int]) -> torch.Tensor:
        return backbone.get_submodule(name).weight[rows][:, columns]

    attention = names.attentions[0]
    inputs, inner, out = parts[0]
    three = [cut(n, inner, inputs) for n in (attention.query, attention.key, attention.value)]
    assert torch.equal(side.attention.qkv.weight, torch.cat(three))
    assert torch.equal(side.attention.out.weight, cut(attention.output, out, inner))
    norm = backbone.get_submodule(names.norms[0])
    assert torch.equal(side.attention_norm.weight, norm.weight[inputs if norm_first else out])
    if len(parts) == 3:
        cross, (inputs, inner, _) = names.attentions[1], parts[1]
        assert torch.equal(side.cross_attention.q.weight, cut(cross.query, inner, inputs))
        two = torch.cat([cut(n, inner, inputs) for n in (cross.key, cross.value)])
        assert torch.equal(side.cross_attention.kv.weight, two)
    inputs, hidden, out = parts[-1]
    assert torch.equal(side.mixer.up.weight, cut(names.up, hidden, inputs))
    assert torch.equal(side.mixer.down.weight, cut(names.down, out, hidden))
    if side.mixer.up.bias is not None:
        assert torch.equal(side.mixer.up.bias, backbone.get_submodule(names.up).bias[hidden])


def fitted(name: str, **settings):
    backbone = small_backbone(name)
    method = build_method("lst", backbone, (backbone.specs[-1].name,), fisher_rows=2, **settings)
    first = snapshot(method)
    context = TinyContext(ProbedModel(method), random_inputs(backbone, TEXTS))
    method.on_fit_start(context)
    return method, first, context


@pytest.mark.parametrize("name", ["t5", "bert"])
def test_fitting_starts_from_the_backbone_and_leaves_it_as_it_is(name):
    method, first, context = fitted(name, side_init="fisher")
    assert context.phases == ["init"]
    after = method.state_dict()
    changed = {n for n in first if not torch.equal(first[n], after[n])}
    assert any(".blocks." in n for n in changed)
    assert not any(n.startswith("backbone.") or "sampler" in n for n in changed)
    assert not any(p.requires_grad or p.grad is not None for p in method.backbone.parameters())
    for stream, table in zip(
        method.network.streams.values(), method.backbone.position_tables(), strict=False
    ):
        assert torch.equal(stream.positions.table.weight, table)


def test_random_weights_are_what_they_were():
    method, first, context = fitted("t5", side_init="random")
    assert context.phases == []
    assert all(torch.equal(first[n], value) for n, value in method.state_dict().items())


def test_a_backbone_without_a_text_stream_is_refused():
    with pytest.raises(UserError, match=r"text embedding.*choose side_init=random"):
        build_method("lst", side_init="fisher")


def test_codes_have_no_fisher_information():
    with pytest.raises(ValidationError, match="codes have none"):
        MpIsmoeConfig(host="lst", side_init="fisher")
