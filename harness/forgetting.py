"""Forgetting: how much worse the backbone does its pretraining task through adapted features.

A frozen backbone whose side network is taken away forgets nothing, by construction. What is asked
here is what the features that a head reads still tell of the pretraining task, whatever gave them.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch

from harness.backbones.base import Inputs, StreamState
from harness.backbones.source_task import Encode, SourceTask
from harness.cards import BACKBONES
from harness.config import RunConfig
from harness.data import move
from harness.model import AdaptedModel
from harness.precision import autocast
from harness.record import content_hash
from methods.base import Method

_SCORES_BEFORE: dict[str, float] = {}
"""Scores of pretrained backbones by all that they depend on; the runs of a process share them."""


@torch.no_grad()
def forgetting(config: RunConfig, model: AdaptedModel, device: torch.device) -> float | None:
    """Return the source task's score of the pretrained backbone minus that of the adapted model.

    Generators, modes and statistics are left as they were.

    Args:
        config: the run.
        model: fitted.
        device: where it lives.

    Returns:
        A fraction, above 0 where something was lost; None where the backbone brings no such task.
    """
    method = model.method
    source = method.backbone.source_task(method.reads)
    if source is None:
        return None
    training = model.training
    model.eval()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)  # a method may draw even in its forward pass
        before = _score_before(config, source, method.backbone.weights_hash, device)
        after = _score(config, source, device, partial(_adapted, method, source.streams))
    model.train(training)
    return before - after


def _score_before(
    config: RunConfig, source: SourceTask, weights_hash: str, device: torch.device
) -> float:
    """Return the score of the backbone as it was before it was quantised or adapted."""
    choice = config.backbone
    key = content_hash(
        {
            "backbone": choice.model_dump(mode="json", exclude={"quantize"}),
            "weights": weights_hash,
            "streams": source.streams,
            "device": str(device),
            "amp": config.train.amp,
            "threads": config.train.threads,
        }
    )
    if key not in _SCORES_BEFORE:
        backbone = BACKBONES.load(choice.name).build(
            choice.config, weights=choice.weights, device=device
        )
        encode = partial(backbone.encode_all, source.streams)
        _SCORES_BEFORE[key] = _score(config, source, device, encode)
    return _SCORES_BEFORE[key]


def _score(config: RunConfig, source: SourceTask, device: torch.device, encode: Encode) -> float:
    """Return the score of states that are computed on the run's device in its precision."""

    def run(inputs: Inputs) -> Mapping[str, StreamState]:
        with autocast(device, config.train):
            return encode({name: move(value, device) for name, value in inputs.items()})

    return source.score(run)


def _adapted(method: Method, streams: Sequence[str], inputs: Inputs) -> Mapping[str, StreamState]:
    """Return the method's states of ``streams``, as it encodes them where no head reads them."""
    states = dict(method(inputs))
    missing = [name for name in streams if name not in states]
    for spec in method.backbone.needed(missing):
        if spec.name not in states:
            states[spec.name] = method.encode(spec.name, inputs, states)
    return states
