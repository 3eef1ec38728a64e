"""Where gradients flow: every method on every family of backbones."""

from collections import Counter

import pytest
import torch

from harness.cards import BACKBONES, METHODS
from harness.compatibility import incompatibilities
from harness.memory.regions import current_region
from harness.testing.methods import ProbedModel, build_method
from harness.testing.small import random_inputs, small_backbone

TEXTS = ["is there a red circle?", "no"]
PAIRS = [
    (method, backbone)
    for backbone in BACKBONES.names()
    for method in METHODS.names()
    if not list(incompatibilities(METHODS.choose(method), None, BACKBONES.choose(backbone)))
]


def saved_regions(model: ProbedModel, inputs) -> Counter[str]:
    """Run forward and backward; count the tensors that autograd saves by executing region."""
    regions: Counter[str] = Counter()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        regions[current_region()] += 1
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.loss(inputs)
    loss.backward()
    return regions


@pytest.mark.parametrize(("method", "backbone"), PAIRS)
def test_gradients_stay_where_the_card_says(method, backbone):
    card = METHODS.card(method)
    model = small_backbone(backbone)
    if method == "prompt" and model.spec(model.paper_reads[0]).sources:
        reads = tuple(s.name for s in model.specs if s.modality == "text")[:1]
    else:
        reads = model.paper_reads
    built = ProbedModel(build_method(method, model, reads))
    built.train()
    regions = saved_regions(built, random_inputs(model, TEXTS))
    own = {id(p) for p in model.parameters()}
    trained = [p for p in built.method.parameters() if p.requires_grad]
    if card.family in ("side", "head"):
        assert not [p for p in trained if id(p) in own]
        assert not [n for n, p in model.named_parameters() if p.grad is not None]
        late = "late_block" in card.requires
        assert (regions["backbone"] > 0) == late, "only a late block may save in the backbone"
    else:
        assert regions["backbone"] > 0
    reached = [p for p in trained if p.grad is not None]
    assert len(reached) >= 0.8 * len(trained)


@pytest.mark.parametrize("backbone", BACKBONES.names())
def test_a_late_block_lets_gradients_through_and_keeps_none(backbone):
    """SHERL: only the last block of a stream that is read is in the graph."""
    model = small_backbone(backbone)
    built = ProbedModel(build_method("sherl", model, model.paper_reads, reduction=4))
    entered = Counter()
    for spec in model.specs:
        for name in model.blocks(spec.name):
            model.get_submodule(name).register_forward_hook(
                lambda _m, _i, output, name=name: entered.update(
                    [name] if _first(output).requires_grad else []
                )
            )
    built.loss(random_inputs(model, TEXTS)).backward()
    assert set(entered) == {model.blocks(name)[-1] for name in built.method.network.late}
    assert built.method.network.late


def _first(output):
    return output if isinstance(output, torch.Tensor) else output[0]
