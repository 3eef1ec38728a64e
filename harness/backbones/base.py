"""The Backbone contract: a pretrained model as a chain of streams that other parts can read.

A backbone is made of *streams* in a declared order (for instance image, text, joint). Each stream
is encoded once; a later stream reads the states of its ``sources``. A state may carry *taps*, the
hidden states that side networks read.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from harness.registry import Config


@dataclass(frozen=True)
class StreamSpec:
    """The shape of one stream.

    Attributes:
        name: the stream's name.
        width: size D of its hidden states.
        depth: number of blocks; a state carries ``depth + 1`` taps, the embedding first.
        heads: attention heads of a block.
        ffn_width: hidden size of a block's feed-forward network.
        modality: the modality that alone determines the stream's input, or None where the input
            is made of the sources' states (then features belong to a row, not to a modality unit).
        sources: earlier streams whose tokens this stream reads, concatenated in this order.
        causal: whether token t may only see tokens up to t.
    """

    name: str
    width: int
    depth: int
    heads: int
    ffn_width: int
    modality: str | None = None
    sources: tuple[str, ...] = ()
    causal: bool = False


@dataclass(frozen=True)
class Tap:
    """A hidden state that side networks read, in its native layout.

    Attributes:
        value: [B, N, D] for layout ``"BNC"``, [B, D, H, W] for ``"BCHW"``.
        layout: the order of ``value``'s dimensions.
        mask: [B, N] bool, True where a token is real; None where all are.
        grid: height and width in tokens, for images.
        stride: pixels per token, for images.
    """

    value: Tensor
    layout: Literal["BNC", "BCHW"] = "BNC"
    mask: Tensor | None = None
    grid: tuple[int, int] | None = None
    stride: int | None = None


@dataclass(frozen=True)
class StreamState:
    """What one stream says about its inputs.

    Attributes:
        output: [B, N, D] final hidden states.
        mask: [B, N] bool, True where a token is real; None where all are.
        salient: [B, D] the [CLS] token or its stand-in.
        taps: embedding and every block's output; empty where nobody asked for them.
        groups: [B] long, the example that a row belongs to; None where row i is example i.
        content: the tokens that heads may read (prompts lie outside it).
        aux_outputs: what a head needs beyond ``output``.
    """

    output: Tensor
    mask: Tensor | None
    salient: Tensor
    taps: tuple[Tap, ...] = ()
    groups: Tensor | None = None
    content: slice = field(default_factory=lambda: slice(None))
    aux_outputs: Mapping[str, Tensor] = field(default_factory=dict)

    def adapted(self, output: Tensor, salient: Tensor) -> "StreamState":
        """Return this state with another output and without taps."""
        return replace(self, output=output, salient=salient, taps=())


Inputs = Mapping[str, Tensor]


class Backbone(nn.Module, ABC):
    """A pretrained model.

    Subclasses keep their parameters under the same names as their weight file, so that the
    full-precision master of ``name`` can be read again from ``weights_path`` at any time.

    Args:
        config: the backbone's configuration.

    Attributes:
        specs: the streams in the order in which they are encoded.
        weights_path: safetensors file with the pretrained weights; None for random weights.
        weights_hash: sha256 of that file, or ``"random:SEED"``.
    """

    specs: tuple[StreamSpec, ...]
    weights_path: Path | None = None
    weights_hash: str = "random"
    config_class: ClassVar[type[Config]]

    @classmethod
    @abstractmethod
    def build(
        cls, config: Config, *, weights: str | None = None, device: str | torch.device = "cpu"
    ) -> "Backbone":
        """Build from a configuration.

        Args:
            config: the backbone's configuration.
            weights: None for the default (bundled) weights, ``"random"``, or a local folder.
            device: where to build; ``"meta"`` builds shapes without weights.

        Raises:
            UserError: the weights are missing or damaged.
        """

    @abstractmethod
    def encode(
        self,
        stream: str,
        inputs: Inputs,
        states: Mapping[str, StreamState],
        *,
        taps: bool = False,
    ) -> StreamState:
        """Encode one stream.

        Args:
            stream: its name.
            inputs: the batch, as the processors make it.
            states: the states of the stream's sources.
            taps: whether to keep the hidden states.
        """

    @abstractmethod
    def select_salient(self, stream: str, output: Tensor, mask: Tensor | None) -> Tensor:
        """Return the salient token [B, D] of hidden states ``output`` [B, N, D]."""

    @abstractmethod
    def processors(self) -> Mapping[str, Callable[[Any], Inputs]]:
        """Return, for each modality, the function from raw units to model inputs.

        ``image``: uint8 array [n, H, W, 3] -> inputs with leading size n.
        ``text``: list of n strings -> inputs with leading size n, padded to the longest.
        """

    @abstractmethod
    def blocks(self, stream: str) -> Sequence[str]:
        """Return the module names of a stream's blocks, in order."""

    @abstractmethod
    def sublayers(self, stream: str) -> Sequence[str]:
        """Return the modules whose output [B, N, D] is a sub-layer's, before its residual sum.

        Two a block, attention and feed-forward in turn: the sites of Houlsby adapters.
        """

    @abstractmethod
    def norms(self, stream: str) -> Sequence[str]:
        """Return the module names of a stream's normalisation layers."""

    @abstractmethod
    def quantizable(self) -> Sequence[str]:
        """Return the names of the Linear and Embedding modules whose weights may be low-bit."""

    def spec(self, stream: str) -> StreamSpec:
        """Return the shape of ``stream``."""
        return next(s for s in self.specs if s.name == stream)

    def needed(self, reads: Sequence[str]) -> tuple[StreamSpec, ...]:
        """Return the streams that ``reads`` depend on, themselves included, in encoding order."""
        wanted = set(reads)
        for spec in reversed(self.specs):
            if spec.name in wanted:
                wanted.update(spec.sources)
        return tuple(s for s in self.specs if s.name in wanted)
