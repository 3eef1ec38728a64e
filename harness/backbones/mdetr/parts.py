"""What MDETR is made of: its towers, its blocks and the heads of grounding."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import RobertaConfig, RobertaModel
from transformers.models.detr.modeling_detr import DetrEncoderLayer

from harness.backbones.base import StreamState
from harness.backbones.mdetr import MdetrConfig
from harness.backbones.vision import FixedStatistics, PixelScale, grid_model, pixel_statistics

TEXT_EPSILON = 1e-12
TEXT_POSITIONS = 512
SOFT_TOKENS, CONTRAST_WIDTH = 256, 64
"""Spans of a text that an object may point at, and the space where objects meet words."""


class ImageTower(FixedStatistics):
    """A convolutional model whose last grid becomes tokens of width D.

    Args:
        config: model, image size and width.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.trunk = grid_model(config.vision, "resnet101")
        self.grid_side = -(-config.image_size // self.trunk.feature_info[-1]["reduction"])
        size = (config.image_size, config.image_size)
        self.pixels = PixelScale(size, *pixel_statistics(self.trunk))
        self.projection = nn.Linear(self.trunk.num_features, config.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels [B, 3, H, W] in [0, 255] to tokens [B, N, D], row by row."""
        grid = self.trunk.forward_features(self.pixels(pixels))  # [B, C, h, w]
        return self.projection(grid.flatten(2).transpose(1, 2))


class TextTower(nn.Module):
    """A RoBERTa, then a linear layer and a norm to width D.

    Args:
        config: its sizes.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        sizes = RobertaConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.text_width,
            num_hidden_layers=config.text_layers,
            num_attention_heads=config.text_heads,
            intermediate_size=config.text_ffn_width,
            max_position_embeddings=TEXT_POSITIONS + 2,  # the first is behind the padding's
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            attn_implementation="eager",
        )
        model = RobertaModel(sizes, add_pooling_layer=False)
        self.embeddings, self.encoder = model.embeddings, model.encoder
        self.projection = nn.Linear(config.text_width, config.width)
        self.norm = nn.LayerNorm(config.width, eps=TEXT_EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, bias: Tensor | None) -> Tensor:
        """Map ids [B, N] to tokens [B, N, D]; ``bias`` [B, 1, 1, N] hides padding."""
        hidden = self.embeddings(ids)
        for block in self.encoder.layer:
            hidden = block(hidden, bias)
        return self.dropout(self.norm(self.projection(hidden)))


class EncoderBlock(DetrEncoderLayer):
    """The library's block, which in training also looks for infinities; this one does not."""

    def forward(  # type: ignore[override]
        self, hidden: Tensor, bias: Tensor | None, positions: Tensor
    ) -> Tensor:
        """Map [B, N, D] to [B, N, D].

        Args:
            hidden: [B, N, D].
            bias: [B, 1, 1, N], hides padding.
            positions: [1, N, D], added to queries and keys.
        """
        attended, _ = self.self_attn(hidden, bias, positions)
        attended = F.dropout(attended, self.dropout, self.training)
        hidden = self.self_attn_layer_norm(hidden + attended)
        return self.final_layer_norm(hidden + self.mlp(hidden))


class GroundingHead(nn.Module):
    """Spans and boxes of the decoder's objects, and the space in which objects meet words.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spans = nn.Linear(width, SOFT_TOKENS)
        self.boxes = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 4),
        )
        self.objects = nn.Linear(width, CONTRAST_WIDTH)
        self.words = nn.Linear(width, CONTRAST_WIDTH)

    def forward(self, states: Mapping[str, StreamState]) -> dict[str, Tensor]:
        """Return ``spans`` [B, Q, 256], ``boxes`` [B, Q, 4] in [0, 1], ``objects``, ``words``.

        The last two are directions: [B, Q, 64] and [B, N, 64], of all tokens of the encoder.
        """
        objects, tokens = states["decoder"].output, states["encoder"].output
        return {
            "spans": self.spans(objects),
            "boxes": self.boxes(objects).sigmoid(),
            "objects": F.normalize(self.objects(objects), dim=-1),
            "words": F.normalize(self.words(tokens), dim=-1),
        }


def grid_positions(side: int, width: int) -> Tensor:
    """Return sine codes [side x side, D] of a square grid's rows and columns (DETR, appendix A.4).

    The first half of D is of rows, the second of columns; places run from 0 to 2 pi.
    """
    places = torch.arange(1, side + 1) / (side + 1e-6) * 2 * math.pi
    half = width // 2
    steps = torch.arange(half) // 2 * 2
    angles = places[:, None] / 10000 ** (steps / half)  # [side, D / 2]
    even = torch.arange(half) % 2 == 0
    codes = torch.where(even, angles.sin(), angles.cos())
    rows = codes[:, None].expand(side, side, half)
    columns = codes[None].expand(side, side, half)
    return torch.cat([rows, columns], -1).flatten(0, 1)
