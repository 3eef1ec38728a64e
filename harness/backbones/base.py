"""The Backbone contract: a pretrained model as a chain of streams that other parts can read.

A backbone is made of *streams* in a declared order (for instance image, text, joint). Each stream
is encoded once; a later stream reads the states of its ``sources``. A state may carry *taps*, the
hidden states that side networks read.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.quantize import LowBit
from harness.errors import UserError
from harness.registry import Config


@dataclass(frozen=True)
class BlockStyle:
    """How a stream's transformer blocks are made; side networks make theirs alike.

    Attributes:
        norm: LayerNorm, or RMSNorm without a bias.
        norm_first: whether norms stand before the sub-layers or, as in BERT, after the sums.
        bias: whether linear layers have biases.
        activation: of the feed-forward network.
        scaled: whether attention scores are divided by the root of a head's width.
        position_buckets: rows of the relative-position table that a stack shares; 0 for none.
        position_distance: tokens beyond which all distances share a bucket.
        epsilon: of the norms.
    """

    norm: Literal["layer", "rms"] = "layer"
    norm_first: bool = True
    bias: bool = True
    activation: Literal["relu", "gelu"] = "relu"
    scaled: bool = True
    position_buckets: int = 0
    position_distance: int = 128
    epsilon: float = 1e-5


@dataclass(frozen=True)
class StreamSpec:
    """The shape of one stream.

    Attributes:
        name: the stream's name.
        width: size D of its hidden states.
        depth: number of blocks; a state carries ``depth + 1`` taps, the embedding first. A stream
            without blocks only makes tokens for later ones, and no side network runs beside it.
        heads: attention heads of a block.
        ffn_width: hidden size of a block's feed-forward network.
        modality: the modality that gives the stream's own tokens, or None where they are made of
            the sources' tokens alone, or are trained queries (with ``cross``). With sources,
            features belong to a row, not to a unit.
        sources: earlier streams that this stream reads.
        cross: whether it reads them by cross-attention; otherwise their tokens, concatenated in
            this order, are its own.
        causal: whether token t may only see tokens up to t.
        attention_width: size of queries, keys and values of all heads together; None for ``width``.
        style: how its blocks are made; side networks of a convolutional stream follow it too.
        widths: sizes of its ``depth + 1`` hidden states where they differ, the last one ``width``.
        stage_ends: the hidden states that are read where none are named; None for all.
        convolutional: whether its blocks are stages of maps, with neither attention nor sub-layers.
        embedding_width: size E of the embedding that compares samples of several modalities; None
            where the backbone has no such space.
    """

    name: str
    width: int
    depth: int
    heads: int
    ffn_width: int
    modality: str | None = None
    sources: tuple[str, ...] = ()
    cross: bool = False
    causal: bool = False
    attention_width: int | None = None
    style: BlockStyle = BlockStyle()
    widths: tuple[int, ...] | None = None
    stage_ends: tuple[int, ...] | None = None
    convolutional: bool = False
    embedding_width: int | None = None

    def tap_width(self, layer: int) -> int:
        """Return the size of hidden state ``layer``; 0 is the embedding."""
        return self.width if self.widths is None else self.widths[layer]


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

    def tokens(self, grid: tuple[int, int] | None = None) -> Tensor:
        """Return the hidden state as tokens [B, N, D].

        Args:
            grid: of a map's tokens, to which it is averaged; None for its own.
        """
        if self.layout == "BNC":
            return self.value
        same = grid is None or tuple(self.value.shape[2:]) == grid
        pooled = self.value if same else F.adaptive_avg_pool2d(self.value, grid)
        return pooled.flatten(2).transpose(1, 2)


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

    def rows(self, index: Tensor) -> "StreamState":
        """Return the state of the rows at ``index`` ([B'] long), without taps."""
        return replace(
            self,
            output=self.output[index],
            mask=None if self.mask is None else self.mask[index],
            salient=self.salient[index],
            taps=(),
            groups=None if self.groups is None else self.groups[index],
            aux_outputs={name: value[index] for name, value in self.aux_outputs.items()},
        )

    def adapted(self, output: Tensor, salient: Tensor) -> "StreamState":
        """Return this state with another output and without taps."""
        return replace(self, output=output, salient=salient, taps=())


Inputs = Mapping[str, Tensor]
Text = str | tuple[str, str]


@dataclass(frozen=True)
class AttentionNames:
    """The linear layers of one attention, as module names of the backbone.

    One name for query, key and value means one fused layer whose rows are theirs, in this order.
    """

    query: str
    key: str
    value: str
    output: str


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
