"""What pretraining asked of the bundled model, asked again on held-out scenes and captions.

The answers come from the heads that pretraining left, which no adaptation changes.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from harness.backbones.base import Backbone, Inputs
from harness.backbones.scenes_vl.checkpoint import read_heads
from harness.backbones.scenes_vl.heads import PretrainingHeads, first_hits
from harness.backbones.scenes_vl.model import ScenesVL
from harness.backbones.scenes_vl.pretraining_data import ATTRIBUTES, CANDIDATES, held_out_pairs
from harness.backbones.source_task import Encode, SourceTask

PAIRS = 200  # 400 trials of every score, in about a second on two cores


class HeldOutPairs(SourceTask):
    """A task on held-out images and their captions.

    Args:
        backbone: The model, whose processors make the inputs.
        heads: Those of pretraining, on the CPU.
    """

    def __init__(self, backbone: Backbone, heads: PretrainingHeads) -> None:
        self.heads = heads
        starts = range(0, PAIRS, CANDIDATES)
        self.groups = [_inputs(backbone, range(s, s + CANDIDATES)) for s in starts]

    def score(self, encode: Encode) -> float:
        """Returns the part of all trials that succeed; see `SourceTask.score`."""
        hits = [self.hits(group, encode) for group in self.groups]
        return float(torch.cat(hits).double().mean())

    @abstractmethod
    def hits(self, inputs: Inputs, encode: Encode) -> Tensor:
        """Returns which trials succeed, bool [trials].

        Args:
            inputs: Of `CANDIDATES` images and their captions.
            encode: Gives the states of `streams`.
        """


class CaptionRetrieval(HeldOutPairs):
    """Images find their captions among 100, and captions their images (recall at 1)."""

    streams = ("image", "text")

    def hits(self, inputs: Inputs, encode: Encode) -> Tensor:
        """Returns the hits of images, then those of captions; see `HeldOutPairs.hits`."""
        states = encode(inputs)
        image, text = (states[name].salient.float().cpu() for name in self.streams)
        return torch.cat(first_hits(self.heads.similarity(image, text), inputs["input_ids"]))


class CaptionMatching(HeldOutPairs):
    """The joint stream tells captions with their own image from those with another (accuracy)."""

    streams = ("joint",)

    def hits(self, inputs: Inputs, encode: Encode) -> Tensor:
        """Returns the hits of true pairs, then those of false ones; see `HeldOutPairs.hits`."""
        others = {**inputs, "pixels": inputs["pixels"].roll(1, dims=0)}
        said = [self._matches(encode(pairs)["joint"].salient) for pairs in (inputs, others)]
        return torch.cat([said[0], ~said[1]])

    def _matches(self, salient: Tensor) -> Tensor:
        """Returns whether the head says that a pair matches: [N, D] -> bool [N]."""
        return self.heads.matching(salient.float().cpu()).argmax(dim=-1) == 1


def _inputs(backbone: Backbone, numbers: range) -> Inputs:
    images, texts = held_out_pairs(numbers)
    process = backbone.processors()
    return {**process["image"](images), **process["text"](texts)}


def source_task(backbone: ScenesVL, weights: Path, reads: Sequence[str]) -> SourceTask | None:
    """Returns the task that goes through the streams that a head reads.

    Args:
        backbone: The bundled model.
        weights: Its weight file.
        reads: Names of the streams; a joint one stands for those that it reads.

    Returns:
        The task; None where the file holds no heads of pretraining.
    """
    tensors = read_heads(weights)
    if not tensors:
        return None
    config, labels = backbone.config, [len(words) for words in ATTRIBUTES.values()]
    with torch.device("meta"):
        heads = PretrainingHeads(config.width, config.vocabulary, labels)
    heads.load_state_dict(tensors, assign=True)
    return (CaptionMatching if "joint" in reads else CaptionRetrieval)(backbone, heads)
