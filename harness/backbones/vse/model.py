"""VSE behind the Backbone contract: two backbones, each a tower under its stream's name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones.base import AttentionNames, Backbone, Inputs, StreamState, Text
from harness.backbones.bert.model import Bert
from harness.backbones.timm_vision.model import TimmVision
from harness.backbones.vse import VseConfig
from harness.backbones.vse.heads import RetrievalHead
from harness.backbones.weights import RANDOM
from harness.errors import UserError
from harness.record import content_hash
from harness.registry import Config

TOWERS = ("image", "text")
MARGIN = 0.2
"""Of the paper's hinge loss."""


class Vse(Backbone):
    """An image tower and a text tower without a common stream.

    Args:
        config: of both towers.
        image: the vision model.
        text: the text model.
    """

    config_class = VseConfig

    def __init__(self, config: VseConfig, image: TimmVision, text: Bert) -> None:
        super().__init__()
        self.config = config
        self.image, self.text = image, text
        self.specs = tuple(
            replace(spec, embedding_width=config.embedding_width)
            for spec in (*image.specs, *text.specs)
        )
        self.weights_hash = _hash(image, text)

    @classmethod
    def build(
        cls, config: Config, *, weights: str | None = None, device: str | torch.device = "cpu"
    ) -> "Vse":
        """Build from a configuration; see ``Backbone.build``.

        ``weights`` names those of both towers, ``image=PLACE,text=PLACE``, or is ``random``.
        """
        assert isinstance(config, VseConfig)
        meta = torch.device(device).type == "meta"
        places = dict.fromkeys(TOWERS, RANDOM) if meta else _places(weights)
        image = config.image.model_copy(update={"seed": config.seed})
        text = config.text.model_copy(update={"seed": config.seed})
        return cls(
            config,
            TimmVision.build(image, weights=places["image"], device=device),
            Bert.build(text, weights=places["text"], device=device),
        ).eval()

    def encode(
        self,
        stream: str,
        inputs: Inputs,
        states: Mapping[str, StreamState],
        *,
        taps: bool = False,
        prompt: Tensor | None = None,
        cache: Any = None,
    ) -> StreamState:
        """Encode ``image`` (``pixels``) or ``text`` (``input_ids``)."""
        tower = self._tower(stream)
        return tower.encode(stream, inputs, states, taps=taps, prompt=prompt, cache=cache)

    def run_late(
        self,
        stream: str,
        hidden: Tensor,
        mask: Tensor | None,
        *,
        memory: Tensor | None = None,  # noqa: ARG002 - no stream reads another
        memory_mask: Tensor | None = None,  # noqa: ARG002
        cache: Any = None,  # noqa: ARG002
    ) -> Tensor:
        """Run a tower's last block alone; see ``Backbone.run_late``."""
        return self._tower(stream).run_late(stream, hidden, mask)

    def select_salient(self, stream: str, output: Tensor, mask: Tensor | None) -> Tensor:
        """Return the tower's salient token [B, D]."""
        return self._tower(stream).select_salient(stream, output, mask)

    @property
    def paper_reads(self) -> tuple[str, ...]:
        """Return both streams: the paper's task is image-text retrieval."""
        return TOWERS

    def paper_head(self, embedded: Sequence[str] = ()) -> nn.Module:
        """Return the retrieval head: for each stream a linear layer and a trained pooling."""
        return RetrievalHead(self.specs, embedded)

    def paper_output(
        self,
        head: nn.Module,
        states: Mapping[str, StreamState],
        embedded: Sequence[str] = (),  # noqa: ARG002 - the head knows it
    ) -> Tensor:
        """Return how near [B, B] each image is to each text."""
        found = head(states)
        return found["image"] @ found["text"].t()

    def paper_loss(self, output: Tensor, inputs: Inputs) -> Tensor:  # noqa: ARG002
        """Return the violation of the margin by the hardest negatives, both ways."""
        missing = (MARGIN + output - output.diagonal()[:, None]).clamp(min=0)
        return missing.amax(0).sum() + missing.amax(1).sum()

    def processors(self) -> Mapping[str, Callable[[Any], Inputs]]:
        """Return the functions from images and texts to inputs; see ``Backbone.processors``."""
        return {**self.image.processors(), **self.text.processors()}

    @classmethod
    def text_positions(cls, config: Config) -> int:
        """Return the positions of the text tower; see ``Backbone.text_positions``."""
        assert isinstance(config, VseConfig)
        return Bert.text_positions(config.text)

    def cuts(self, texts: Sequence[Text]) -> list[bool]:
        """Return which texts the text tower cuts; see ``Backbone.cuts``."""
        return self.text.cuts(texts)

    def stored(self, name: str) -> tuple[Path, str] | None:
        """Return where a tower keeps a parameter; see ``Backbone.stored``."""
        stream, _, own = name.partition(".")
        return self._tower(stream).stored(own)

    def blocks(self, stream: str) -> Sequence[str]:
        """Return the module names of a tower's blocks, in order."""
        return _below(stream, self._tower(stream).blocks(stream))

    def sublayers(self, stream: str) -> Sequence[str]:
        """Return the sub-layers of a tower's blocks, in order."""
        return _below(stream, self._tower(stream).sublayers(stream))

    def attentions(self, stream: str) -> Sequence[AttentionNames]:
        """Return the projections of a tower's attentions."""
        return [
            AttentionNames(*_below(stream, (a.query, a.key, a.value, a.output)))
            for a in self._tower(stream).attentions(stream)
        ]

    def norms(self, stream: str) -> Sequence[str]:
        """Return the module names of a tower's norms, the final one last."""
        return _below(stream, self._tower(stream).norms(stream))

    def embedding_of(self, stream: str) -> str:
        """Return the name of the text tower's word embedding."""
        return f"{stream}.{self._tower(stream).embedding_of(stream)}"

    def quantizable(self) -> Sequence[str]:
        """Return the layers of both towers whose weights may be low-bit."""
        return [n for name in TOWERS for n in _below(name, self._tower(name).quantizable())]

    def position_embeddings(self) -> Sequence[str]:
        """Return those of both towers."""
        return [n for name in TOWERS for n in _below(name, self._tower(name).position_embeddings())]

    def _tower(self, stream: str) -> Backbone:
        return self.image if stream == "image" else self.text


def _below(stream: str, names: Sequence[str]) -> list[str]:
    return [f"{stream}.{name}" for name in names]


def _places(weights: str | None) -> dict[str, str]:
    """Return where each tower's weights are.

    Raises:
        UserError: they are not named for both towers.
    """
    if weights == RANDOM:
        return dict.fromkeys(TOWERS, RANDOM)
    places = dict(part.split("=", 1) for part in (weights or "").split(",") if "=" in part)
    if set(places) != set(TOWERS):
        typed = "" if weights is None else f"--weights {weights}: "
        raise UserError(
            f"{typed}This backbone has two towers. Name the weights of both, "
            f"--weights image=PLACE,text=PLACE, where a place is a folder, a .safetensors file, "
            f"OWNER/NAME@REVISION of a hub, package:NAME/FOLDER or random; or --weights random."
        )
    return places


def _hash(image: Backbone, text: Backbone) -> str:
    """Return a key of both towers' weights."""
    hashes = {"image": image.weights_hash, "text": text.weights_hash}
    random = all(value.startswith(RANDOM) for value in hashes.values())
    return hashes["image"] if random else content_hash(hashes)
