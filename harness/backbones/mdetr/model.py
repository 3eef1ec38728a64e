"""MDETR behind the Backbone contract: timm's tower, the library's text and DETR blocks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DetrConfig
from transformers.models.detr.modeling_detr import DetrDecoderLayer

from harness.backbones.base import (
    AttentionNames,
    BlockStyle,
    Inputs,
    StreamSpec,
    StreamState,
    Tap,
)
from harness.backbones.constants import keep_constants_as_buffers
from harness.backbones.mdetr import MdetrConfig
from harness.backbones.mdetr.parts import (
    TEXT_POSITIONS,
    EncoderBlock,
    GroundingHead,
    ImageTower,
    TextTower,
    grid_positions,
)
from harness.backbones.parts import (
    attention_bias,
    image_inputs,
    joint_mask,
    layer_norms,
    linear_layers,
)
from harness.backbones.vision import batch_norms, convolutions
from harness.backbones.weights import SpecialIds, TextBackbone
from harness.errors import UserError
from harness.registry import Config


class Mdetr(TextBackbone):
    """Image and text, each made by a tower of its own; an encoder over both; a decoder of queries.

    The encoder's tokens are the image's, row by row, then the text's. Side networks run beside
    encoder and decoder alone. Images have one size, so that no place is padded.

    Args:
        config: its sizes.
    """

    config: MdetrConfig
    places: Tensor
    config_class = MdetrConfig
    special_ids = SpecialIds(pad=1, end=2, start=0)

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.config = config
        shape = (config.heads, config.ffn_width)
        style = BlockStyle(norm_first=False)
        self.specs = (
            StreamSpec("image", config.width, 0, *shape, modality="image"),
            StreamSpec("text", config.width, 0, *shape, modality="text"),
            StreamSpec(
                "encoder",
                config.width,
                config.layers,
                *shape,
                sources=("image", "text"),
                style=style,
            ),
            StreamSpec(
                "decoder",
                config.width,
                config.layers,
                *shape,
                sources=("encoder",),
                cross=True,
                style=style,
            ),
        )
        sizes = _library_config(config)
        self.image = ImageTower(config)
        self.text = TextTower(config)
        self.encoder = nn.ModuleList(EncoderBlock(sizes) for _ in range(config.layers))
        self.decoder = nn.ModuleList(DetrDecoderLayer(sizes) for _ in range(config.layers))
        self.decoder_norm = nn.LayerNorm(config.width)
        self.queries = nn.Embedding(config.queries, config.width)
        places = grid_positions(self.image.grid_side, config.width)
        self.register_buffer("places", places, persistent=False)  # [grid tokens, D]
        keep_constants_as_buffers(self)

    def encode(
        self,
        stream: str,
        inputs: Inputs,
        states: Mapping[str, StreamState],
        *,
        taps: bool = False,
        prompt: Tensor | None = None,  # noqa: ARG002 - no prompt is provided
        cache: Any = None,  # noqa: ARG002 - no stream writes text
    ) -> StreamState:
        """Encode ``image`` (``pixels``), ``text`` (``input_ids``), ``encoder`` or ``decoder``.

        The decoder's first hidden state is its queries.
        """
        mask = None
        memory = memory_mask = None
        if stream == "image":
            hidden = self.image(inputs["pixels"])
        elif stream == "text":
            mask = inputs["attention_mask"].bool()
            hidden = self.text(inputs["input_ids"], attention_bias(mask, torch.float32))
        elif stream == "encoder":
            image, text = states["image"], states["text"]
            hidden = torch.cat([image.output, text.output], 1)
            mask = joint_mask(image, text)
        else:
            memory, memory_mask = states["encoder"].output, states["encoder"].mask
            hidden = self.queries.weight.expand(len(memory), -1, -1)
        kept = [hidden] if taps else []
        if stream == "decoder":
            hidden = torch.zeros_like(hidden)
        for index in range(self.spec(stream).depth):
            hidden = self._run(stream, index, hidden, mask, memory, memory_mask)
            if taps:
                kept.append(hidden)
        output = self.finish(stream, hidden)
        return StreamState(
            output=output,
            mask=mask,
            salient=self.select_salient(stream, output, mask),
            taps=tuple(Tap(value, mask=mask) for value in kept),
        )

    def run_late(
        self,
        stream: str,
        hidden: Tensor,
        mask: Tensor | None,
        *,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: Any = None,  # noqa: ARG002 - no stream writes text
    ) -> Tensor:
        """Run the last block of encoder or decoder alone; see ``Backbone.run_late``."""
        depth = self.spec(stream).depth
        if not depth:
            raise UserError(f"Stream '{stream}' of mdetr has no blocks, so none is the last.")
        return self._run(stream, depth - 1, hidden, mask, memory, memory_mask)

    def finish(self, stream: str, hidden: Tensor) -> Tensor:
        """Return the decoder's last hidden state through its norm; others as they are."""
        return self.decoder_norm(hidden) if stream == "decoder" else hidden

    def _run(
        self,
        stream: str,
        index: int,
        hidden: Tensor,
        mask: Tensor | None,
        memory: Tensor | None,
        memory_mask: Tensor | None,
    ) -> Tensor:
        """Run one block of encoder or decoder on [B, N, D]."""
        if stream == "encoder":
            positions = self._positions(hidden)
            return self.encoder[index](hidden, attention_bias(mask, hidden.dtype), positions)
        assert memory is not None
        return self.decoder[index](
            hidden,
            spatial_position_embeddings=self._positions(memory),
            object_queries_position_embeddings=self.queries.weight[None],
            encoder_hidden_states=memory,
            encoder_attention_mask=attention_bias(memory_mask, memory.dtype),
        )

    def _positions(self, tokens: Tensor) -> Tensor:
        """Return the positions [1, N, D] of the encoder's tokens; a word has none."""
        words = tokens.shape[1] - len(self.places)
        return nn.functional.pad(self.places.to(tokens.dtype), (0, 0, 0, words))[None]

    def select_salient(self, stream: str, output: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return a text's first token, also among the encoder's; elsewhere the mean: [B, D]."""
        if stream == "encoder":
            return output[:, len(self.places)]
        return output[:, 0] if stream == "text" else output.mean(1)

    @classmethod
    def text_positions(cls, config: Config) -> int:  # noqa: ARG003
        """Return the positions of RoBERTa; see ``Backbone.text_positions``."""
        return TEXT_POSITIONS

    def processors(self) -> Mapping[str, Callable[[Any], Inputs]]:
        """Return the functions from images and texts to inputs; see ``Backbone.processors``."""
        return {"image": image_inputs, "text": self._process_texts}

    def blocks(self, stream: str) -> Sequence[str]:
        """Return the module names of the blocks of encoder or decoder, in order."""
        return [f"{stream}.{i}" for i in range(self.spec(stream).depth)]

    def sublayers(self, stream: str) -> Sequence[str]:
        """Return the self-attention and feed-forward outputs of every block, in order."""
        parts = ("self_attn.o_proj", "mlp")
        return [f"{block}.{part}" for block in self.blocks(stream) for part in parts]

    def attentions(self, stream: str) -> Sequence[AttentionNames]:
        """Return the projections of every block's attentions, to itself first."""
        kinds = ("self_attn", "encoder_attn") if self.spec(stream).cross else ("self_attn",)
        parts = ("q_proj", "k_proj", "v_proj", "o_proj")
        return [
            AttentionNames(*(f"{block}.{kind}.{part}" for part in parts))
            for block in self.blocks(stream)
            for kind in kinds
        ]

    def norms(self, stream: str) -> Sequence[str]:
        """Return the module names of a stream's norms, the final one last."""
        if stream == "image":
            return batch_norms(self, stream)
        final = ["decoder_norm"] if stream == "decoder" else []
        return [*layer_norms(self, stream), *final]

    def embedding_of(self, stream: str) -> str:  # noqa: ARG002 - one stream reads text
        """Return the name of the word embedding."""
        return "text.embeddings.word_embeddings"

    def quantizable(self) -> Sequence[str]:
        """Return the word embedding, all linear layers and convolutions."""
        names = [*linear_layers(self), *convolutions(self)]
        return ["text.embeddings.word_embeddings", *names]

    @property
    def paper_reads(self) -> tuple[str, ...]:
        """Return encoder and decoder: the paper's task is visual grounding."""
        return ("encoder", "decoder")

    def paper_output(
        self,
        head: nn.Module,
        states: Mapping[str, StreamState],
        embedded: Sequence[str] = (),  # noqa: ARG002 - it compares none
    ) -> Mapping[str, Tensor]:
        """Return spans, boxes, and how near each object is to each token."""
        found = head(states)
        near = found.pop("objects") @ found.pop("words").transpose(1, 2)  # [B, Q, N]
        return {**found, "near": near}

    def paper_loss(self, output: Mapping[str, Tensor], inputs: Inputs) -> Tensor:  # noqa: ARG002
        """Return losses of spans, boxes and contrast, as if each object had a target."""
        spans = -output["spans"].float().log_softmax(-1).mean()
        return spans + output["boxes"].abs().mean() - output["near"].log_softmax(-1).mean()

    def paper_head(self, embedded: Sequence[str] = ()) -> nn.Module:  # noqa: ARG002 - no embedding
        """Return the heads of spans, boxes and the contrast of objects with words."""
        return GroundingHead(self.config.width)


def _library_config(config: MdetrConfig) -> DetrConfig:
    return DetrConfig(
        d_model=config.width,
        encoder_attention_heads=config.heads,
        decoder_attention_heads=config.heads,
        encoder_ffn_dim=config.ffn_width,
        decoder_ffn_dim=config.ffn_width,
        dropout=config.dropout,
        activation_function="relu",
        attn_implementation="eager",
    )
