"""CLIP-ViL behind the Backbone contract: timm's tower, the library's BERT blocks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel

from harness.backbones.base import (
    AttentionNames,
    BlockStyle,
    Inputs,
    StreamSpec,
    StreamState,
    Tap,
)
from harness.backbones.bert import BertBackboneConfig
from harness.backbones.bert.model import EPSILON, library_config
from harness.backbones.clip_vil import ClipVilConfig
from harness.backbones.constants import keep_constants_as_buffers
from harness.backbones.parts import (
    attention_bias,
    bert_attentions,
    bert_sublayers,
    image_inputs,
    joint_mask,
    layer_norms,
    linear_layers,
)
from harness.backbones.vision import (
    FixedStatistics,
    PixelScale,
    convolutions,
    grid_model,
    pixel_statistics,
)
from harness.backbones.weights import TextBackbone
from harness.errors import UserError
from harness.registry import Config

ANSWERS = 3129  # of VQAv2, the paper's task


class GridTower(FixedStatistics):
    """A convolutional model whose last grid becomes tokens, with a position for row and column.

    Args:
        config: model, image size and width D.
    """

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        self.trunk = grid_model(config.vision, "resnet50x4_clip")
        self.projection = nn.Linear(self.trunk.num_features, config.width)
        self.norm = nn.LayerNorm(config.width, eps=EPSILON)
        self.rows = nn.Embedding(config.grid_slots, config.width)
        self.columns = nn.Embedding(config.grid_slots, config.width)
        size = (config.image_height, config.image_width)
        self.pixels = PixelScale(size, *pixel_statistics(self.trunk))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels [B, 3, H, W] in [0, 255] to tokens [B, rows x columns, D]."""
        grid = self.trunk.forward_features(self.pixels(pixels))  # [B, C, h, w]
        rows, columns = (self._positions(n, grid.device) for n in grid.shape[2:])
        places = self.rows(rows)[:, None] + self.columns(columns)[None]  # [h, w, D]
        tokens = self.projection(grid.permute(0, 2, 3, 1)) + places
        return self.norm(tokens).flatten(1, 2)

    def _positions(self, count: int, device: torch.device) -> Tensor:
        slots = self.rows.num_embeddings
        if count > slots:
            raise UserError(
                f"image_height={self.pixels.size[0]}, image_width={self.pixels.size[1]}: a grid "
                f"side of {count} tokens needs backbone.grid_slots of {count} at least; it is "
                f"{slots}."
            )
        return torch.arange(count, device=device)


class ClipVil(TextBackbone):
    """Image and text, which have no blocks of their own, and the joint blocks over both.

    The joint tokens are the text's, [CLS] first, then the image's. Nothing is adapted beside the
    tower: side networks run beside the joint blocks alone.

    Args:
        config: its sizes.
    """

    config: ClipVilConfig
    config_class = ClipVilConfig

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        self.config = config
        style = BlockStyle(norm_first=False, activation="gelu", epsilon=EPSILON)
        width, heads, ffn = config.width, config.heads, config.ffn_width
        self.specs = (
            StreamSpec("image", width, 0, heads, ffn, modality="image"),
            StreamSpec("text", width, 0, heads, ffn, modality="text"),
            StreamSpec(
                "joint", width, config.layers, heads, ffn, sources=("text", "image"), style=style
            ),
        )
        sizes = BertBackboneConfig(
            width=width,
            heads=heads,
            ffn_width=ffn,
            layers=config.layers,
            vocabulary=config.vocabulary,
            dropout=config.dropout,
        )
        bert = BertModel(library_config(sizes), add_pooling_layer=False)
        self.image = GridTower(config)
        self.text, self.joint = bert.embeddings, bert.encoder
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
        """Encode ``image`` (``pixels``), ``text`` (``input_ids``) or ``joint``."""
        if stream == "image":
            hidden, mask = self.image(inputs["pixels"]), None
        elif stream == "text":
            hidden, mask = self.text(inputs["input_ids"]), inputs["attention_mask"].bool()
        else:
            text, image = states["text"], states["image"]
            hidden = torch.cat([text.output, image.output], dim=1)
            mask = joint_mask(text, image)
        kept = [hidden] if taps else []
        if stream == "joint":
            bias = attention_bias(mask, hidden.dtype)
            for block in self.joint.layer:
                hidden = block(hidden, bias)
                if taps:
                    kept.append(hidden)
        return StreamState(
            output=hidden,
            mask=mask,
            salient=hidden[:, 0],
            taps=tuple(Tap(value, mask=mask) for value in kept),
        )

    def run_late(
        self,
        stream: str,
        hidden: Tensor,
        mask: Tensor | None,
        *,
        memory: Tensor | None = None,  # noqa: ARG002 - no stream reads another across
        memory_mask: Tensor | None = None,  # noqa: ARG002
        cache: Any = None,  # noqa: ARG002
    ) -> Tensor:
        """Run the last joint block alone; see ``Backbone.run_late``."""
        if stream != "joint":
            raise UserError(f"Stream '{stream}' of clip_vil has no blocks, so none is the last.")
        return self.joint.layer[-1](hidden, attention_bias(mask, hidden.dtype))

    def select_salient(self, stream: str, output: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return the first token [B, D]: [CLS], or the image's upper left corner."""
        return output[:, 0]

    @classmethod
    def text_positions(cls, config: Config) -> int:  # noqa: ARG003
        """Return the positions of the joint BERT; see ``Backbone.text_positions``."""
        return BertBackboneConfig().positions

    def processors(self) -> Mapping[str, Callable[[Any], Inputs]]:
        """Return the functions from images and texts to inputs; see ``Backbone.processors``."""
        return {"image": image_inputs, "text": self._process_texts}

    def blocks(self, stream: str) -> Sequence[str]:
        """Return the module names of the joint blocks, in order; none elsewhere."""
        return [f"joint.layer.{i}" for i in range(self.spec(stream).depth)]

    def sublayers(self, stream: str) -> Sequence[str]:
        """Return the attention and feed-forward outputs of every block, in order."""
        return bert_sublayers(self.blocks(stream))

    def attentions(self, stream: str) -> Sequence[AttentionNames]:
        """Return the projections of every block's attention."""
        return bert_attentions(self.blocks(stream))

    def norms(self, stream: str) -> Sequence[str]:
        """Return the module names of a stream's layer norms."""
        return layer_norms(self, stream)

    def embedding_of(self, stream: str) -> str:  # noqa: ARG002 - one stream reads text
        """Return the name of the word embedding."""
        return "text.word_embeddings"

    def quantizable(self) -> Sequence[str]:
        """Return the word embedding, all linear layers and convolutions."""
        return ["text.word_embeddings", *linear_layers(self), *convolutions(self)]

    def paper_loss(self, output: Tensor, inputs: Inputs) -> Tensor:  # noqa: ARG002
        """Return the binary cross-entropy over all answers [B, 3129]."""
        return F.binary_cross_entropy_with_logits(output.float(), torch.zeros_like(output.float()))

    def paper_head(self, embedded: Sequence[str] = ()) -> nn.Module:  # noqa: ARG002 - no embedding
        """Return the answer head of VQAv2: d to 2 d, GELU and norm, to 3,129 answers."""
        width = self.config.width
        return nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.LayerNorm(2 * width),
            nn.Linear(2 * width, ANSWERS),
        )
