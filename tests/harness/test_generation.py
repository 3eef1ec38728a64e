"""Text written with cached tokens is the text written without a cache."""

import pytest
import torch

from harness.backbones.t5 import T5BackboneConfig
from harness.backbones.t5.model import T5
from harness.generation import Cache, generate, step
from harness.testing.methods import ProbedModel, build_method, train_steps

SMALL = {
    "width": 32,
    "heads": 4,
    "head_width": 8,
    "ffn_width": 64,
    "layers": 3,
    "vocabulary": 50,
    "dropout": 0.0,
}
TEXTS = ["a red circle", "no", "how many?"]
METHODS = {
    "full": {},
    "adapter": {"reduction": 4},
    "lora": {"rank": 4},
    "prompt": {"tokens": 3},
    "linear_probe": {},
    "side_tuning": {"reduction": 4},
    "lst": {"reduction": 4},
    "unipt": {"reduction": 4},
    "sherl": {"reduction": 4},
    "qst": {"reduction": 4, "rank": 4},
    "mp_ismoe": {"reduction": 4},
    "mp_ismoe@lst": {"reduction": 4},
    "mp_ismoe@sherl": {"reduction": 4},
}


def adapted(name):
    """Return a method on a small T5, moved away from where it starts."""
    backbone = T5.build(T5BackboneConfig(**SMALL), weights="random")
    inputs = {
        **backbone.processors()["text"](TEXTS),
        **backbone.processors()["target"](["yes", "no", "two"]),
    }
    method = build_method(name, backbone, ("decoder",), **METHODS[name])
    model = ProbedModel(method)
    train_steps(model, inputs, steps=3)
    return method.eval(), {k: inputs[k] for k in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("name", METHODS)
def test_cached_text_is_uncached_text(name):
    method, inputs = adapted(name)
    texts = [
        generate(method, inputs, method.backbone.logits, 0, 6, cached=cached)
        for cached in (False, True)
    ]
    assert texts[0].shape == (3, 6)
    assert torch.equal(*texts)


@pytest.mark.parametrize("name", ["full", "lst", "unipt", "sherl", "mp_ismoe"])
def test_a_step_gives_the_states_of_the_whole(name):
    method, inputs = adapted(name)
    tokens = torch.tensor([[0, 7, 9, 4], [0, 3, 3, 8], [0, 1, 2, 5]])
    cache = Cache(method.backbone)
    with torch.no_grad():
        whole = method({**inputs, "decoder_input_ids": tokens})["decoder"].output
        parts = [step(method, inputs, t, cache)["decoder"].output for t in tokens.split(1, 1)]
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-4)


@pytest.mark.parametrize("name", ["full", "lst", "unipt", "sherl", "mp_ismoe@lst"])
def test_reordering_a_cache_reorders_the_rows(name):
    method, inputs = adapted(name)
    rows = torch.tensor([2, 0, 1])
    tokens = torch.tensor([[0, 7], [0, 3], [0, 1]])
    outputs = []
    for reorder in (False, True):
        cache = Cache(method.backbone)
        step(method, inputs, tokens[:, :1], cache)
        last = tokens[:, 1:]
        if reorder:
            cache.reorder(rows)
            last = last[rows]
        outputs.append(step(method, inputs, last, cache)["decoder"].output)
    assert torch.allclose(outputs[0][rows], outputs[1], atol=1e-5)


@pytest.mark.parametrize("name", ["lst", "unipt", "sherl", "qst", "mp_ismoe", "side_tuning"])
def test_the_decoder_is_causal(name):
    method, inputs = adapted(name)
    first, second = torch.tensor([[0, 7, 9, 4]] * 3), torch.tensor([[0, 7, 9, 5]] * 3)
    with torch.no_grad():
        outputs = [
            method({**inputs, "decoder_input_ids": t})["decoder"].output for t in (first, second)
        ]
    assert torch.allclose(outputs[0][:, :3], outputs[1][:, :3], atol=1e-6)
    assert not torch.allclose(outputs[0][:, 3], outputs[1][:, 3])
