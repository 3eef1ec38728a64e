"""What a backbone's streams are made of, and what they say of their inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor
from torch.nn import functional as F


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

    @property
    def by_unit(self) -> bool:
        """Whether a state belongs to one unit of the modality, whatever row reads it."""
        return self.modality is not None and not self.sources

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

    def rows(self, index: Tensor) -> "Tap":
        """Return the hidden state of the rows at ``index`` ([B'] long)."""
        mask = None if self.mask is None else self.mask[index]
        return replace(self, value=self.value[index], mask=mask)


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

    def frozen(self) -> "StreamState":
        """Return this state as a head reads it, without taps."""
        return replace(self, taps=())

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
