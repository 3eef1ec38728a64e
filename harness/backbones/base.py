"""The Backbone contract: a pretrained model as a chain of streams that other parts can read.

A backbone is made of *streams* in a declared order (for instance image, text, joint). Each stream
is encoded once; a later stream reads the states of its ``sources``. A state may carry *taps*, the
hidden states that side networks read.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.backbones.quantize import LowBit
from harness.backbones.source_task import SourceTask
from harness.backbones.states import (
    AttentionNames,
    BlockStyle,
    Inputs,
    StreamSpec,
    StreamState,
    Tap,
    Text,
)
from harness.errors import UserError
from harness.registry import Config

__all__ = [
    "AttentionNames",
    "Backbone",
    "BlockStyle",
    "Inputs",
    "StreamSpec",
    "StreamState",
    "Tap",
    "Text",
]


class Backbone(nn.Module, ABC):
    """A pretrained model.

    The full-precision master of a parameter can be read again from its file at any time.

    Args:
        config: the backbone's configuration.

    Attributes:
        specs: the streams in the order in which they are encoded.
        output_layer: module name of the linear layer that writes text, None where there is none.
        weights_path: safetensors file with the pretrained weights; None for random weights.
        low_bit: its low-bit weights, where it was quantised before a method adapted it.
        weights_hash: sha256 of that file, or ``"random:SEED"``.
        stored_names: name in that file, by name of a parameter; a missing one is its own.
    """

    specs: tuple[StreamSpec, ...]
    output_layer: str | None = None
    low_bit: LowBit = LowBit()
    weights_path: Path | None = None
    weights_hash: str = "random"
    stored_names: Mapping[str, str] = MappingProxyType({})
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

    def encode_all(self, reads: Sequence[str], inputs: Inputs) -> dict[str, StreamState]:
        """Encode the streams that ``reads`` depend on, themselves included, without taps."""
        states: dict[str, StreamState] = {}
        for spec in self.needed(reads):
            states[spec.name] = self.encode(spec.name, inputs, states)
        return states

    @abstractmethod
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
        """Encode one stream.

        Args:
            stream: its name.
            inputs: the batch, as the processors make it.
            states: the states of the stream's sources.
            taps: whether to keep the hidden states.
            prompt: [P, D] trained vectors to put before the tokens of a text stream; the state is
                longer by them, and its ``content`` leaves them out (``provides`` says "prompt").
            cache: what ``new_cache`` made: the stream's earlier tokens; ``inputs`` hold the new
                ones alone (``provides`` says "generation").
        """

    def stored(self, name: str) -> tuple[Path, str] | None:
        """Return the file that holds a parameter's full-precision master, and its name there.

        None for random weights.
        """
        if self.weights_path is None:
            return None
        return self.weights_path, self.stored_names.get(name, name)

    def spellings(self, name: str) -> Sequence[str]:
        """Return the names under which weight files may hold a parameter, its own first."""
        return (name,)

    def tokens_of(self, stream: str) -> str:
        """Return the name of the input that holds the tokens of a stream that writes text.

        Raises:
            UserError: the stream writes none.
        """
        raise UserError(f"Stream '{stream}' of {type(self).__name__} writes no text.")

    def new_cache(self) -> Any:
        """Return an empty cache for ``encode``.

        Raises:
            UserError: the backbone writes no text.
        """
        raise UserError(f"{type(self).__name__} writes no text, so it caches no tokens.")

    def run_late(
        self,
        stream: str,
        hidden: Tensor,
        mask: Tensor | None,
        *,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Run the last block of a stream alone (``provides`` says "late_block").

        Args:
            stream: its name.
            hidden: [B, N, D], in place of the last but one block's output; of maps, their tokens.
            mask: [B, N] bool, True where a token is real; None where all are.
            memory: [B, M, D], what cross-attention reads.
            memory_mask: [B, M] bool.
            cache: a cache of its own, where text is written token by token.

        Returns:
            The block's output [B, N, D], before the stack's final norm.

        Raises:
            UserError: the backbone cannot.
        """
        raise UserError(f"{type(self).__name__} cannot run its last block alone.")

    def finish(self, stream: str, hidden: Tensor) -> Tensor:
        """Return a stream's output [B, N, D] of its last block's, where no method puts a norm.

        By default the last block's output itself: where blocks have their norms first, a method
        ends in a norm of its own.
        """
        return hidden

    @abstractmethod
    def select_salient(self, stream: str, output: Tensor, mask: Tensor | None) -> Tensor:
        """Return the salient token [B, D] of hidden states ``output`` [B, N, D]."""

    @abstractmethod
    def processors(self) -> Mapping[str, Callable[[Any], Inputs]]:
        """Return, for each modality, the function from raw units to model inputs.

        ``image``: uint8 array [n, H, W, 3] -> inputs with leading size n.
        ``text``: list of n strings, or pairs of strings -> inputs with leading size n, padded to
        the longest.
        """

    @classmethod
    def text_positions(cls, config: Config) -> int | None:  # noqa: ARG003
        """Return how many tokens of a text have a position; None where no table limits them."""
        return None

    def cuts(self, texts: Sequence[Text]) -> list[bool]:
        """Return for each text whether its processor leaves out what is beyond its longest.

        By default none: a backbone that cuts texts says which.
        """
        return [False] * len(texts)

    @abstractmethod
    def blocks(self, stream: str) -> Sequence[str]:
        """Return the module names of a stream's blocks, in order."""

    @abstractmethod
    def sublayers(self, stream: str) -> Sequence[str]:
        """Return the modules whose output [B, N, D] is a sub-layer's, before its residual sum.

        Two a block, attention and feed-forward in turn: the sites of Houlsby adapters. A
        convolutional stream has none.
        """

    @abstractmethod
    def attentions(self, stream: str) -> Sequence[AttentionNames]:
        """Return the linear layers of a stream's attentions, in order: the sites of LoRA."""

    @abstractmethod
    def norms(self, stream: str) -> Sequence[str]:
        """Return the module names of a stream's normalisation layers."""

    @abstractmethod
    def embedding_of(self, stream: str) -> str:
        """Return the module name of a text stream's token embedding."""

    def position_tables(self) -> Sequence[nn.Parameter]:
        """Return the trained tables of relative positions, which are no biases of a layer."""
        return ()

    @abstractmethod
    def quantizable(self) -> Sequence[str]:
        """Return the names of the layers whose weights may be low-bit.

        They are of the classes Linear, Embedding and Conv2d.
        """

    def position_embeddings(self) -> Sequence[str]:
        """Return the names of the embeddings of positions and kinds that may be low-bit too."""
        return ()

    def embed(self, stream: str, salient: Tensor) -> Tensor:
        """Return the embedding [B, E] of a salient token [B, D], by frozen pretrained weights.

        Raises:
            UserError: the backbone has no space that its modalities share.
        """
        raise UserError(f"{type(self).__name__} has no embedding of stream '{stream}'.")

    def projection(self, stream: str) -> nn.Linear | None:
        """Return a new linear layer from a salient token into the space of pretraining, or None.

        A retrieval head trains it on from there, where ``embed`` has no frozen one.
        """
        return None

    def source_task(self, reads: Sequence[str]) -> SourceTask | None:
        """Return what pretraining asked of the streams ``reads``, to be asked again, or None.

        By default None: a backbone is mostly published without the heads of its pretraining.
        """
        return None

    @property
    def paper_reads(self) -> tuple[str, ...]:
        """The streams that the head of the backbone's paper task reads."""
        return (self.specs[-1].name,)

    def paper_head(self, embedded: Sequence[str] = ()) -> nn.Module:
        """Return the head of the backbone's paper task, which published counts include.

        By default one without parameters: a T5 writes its answers by its own frozen head.

        Args:
            embedded: the streams whose states a method has brought to the embedding's width, so
                that the head projects them no more.
        """
        return nn.Identity()

    def paper_output(
        self, head: nn.Module, states: Mapping[str, StreamState], embedded: Sequence[str] = ()
    ) -> Any:
        """Return what the paper's task computes of adapted states, as in use.

        Args:
            head: what ``paper_head`` returned.
            states: of the streams of ``paper_reads``.
            embedded: as for ``paper_head``.
        """
        return head(states[self.paper_reads[-1]].salient)

    def paper_loss(self, output: Any, inputs: Inputs) -> Tensor:
        """Return a loss whose memory is that of the paper's task; its targets are blank.

        Args:
            output: what ``paper_output`` returned.
            inputs: the batch.
        """
        return output.float().square().mean()

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
