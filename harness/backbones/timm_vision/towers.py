"""A vision model of timm as an embedding and a row of blocks."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.regnet import RegNet
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from harness.backbones.base import BlockStyle, StreamSpec, Tap
from harness.backbones.timm_vision import TimmVisionConfig
from harness.backbones.vision import FixedStatistics, PixelScale, pixel_statistics, timm_model
from harness.errors import UserError

DEFAULT = "vit_base_patch16_224"
STAGED = (ConvNeXt, EfficientNet, RegNet, ResNet)
"""Families of timm whose parts run one after the other."""

SIDE_HEADS = 8
"""Attention heads of side networks beside a convolutional model, which has none to follow."""

HEAD_PARTS = ("global_pool", "classifier", "fc", "head", "head_drop")
FIRST_STRIDE = 4
"""Pixels per token of the first map that side networks read, as in UniPT and SHERL."""


class Tower(FixedStatistics):
    """A vision model.

    Attributes:
        spec: its stream, named ``image``.
        blocks: what follows the embedding, in order.
        stored_names: names of the parameters and statistics in the model's own files.
    """

    spec: StreamSpec
    blocks: nn.ModuleList
    stored_names: dict[str, str]

    def __init__(self, model: Any, image_size: int) -> None:
        super().__init__()
        self.pixels = PixelScale((image_size, image_size), *pixel_statistics(model))

    @abstractmethod
    def embed(self, pixels: Tensor) -> Tensor:
        """Return hidden state 0 of pixels [B, 3, H, W] in [0, 255]."""

    @abstractmethod
    def finish(self, hidden: Tensor) -> Tensor:
        """Return the output [B, N, D] of the last hidden state."""

    @abstractmethod
    def tap(self, hidden: Tensor) -> Tap:
        """Return a hidden state as side networks read it."""

    @abstractmethod
    def salient(self, output: Tensor) -> Tensor:
        """Return the salient token [B, D] of hidden states [B, N, D]."""

    @abstractmethod
    def run_last(self, hidden: Tensor) -> Tensor:
        """Run the last block on tokens [B, N, C], to tokens."""


def build_tower(config: TimmVisionConfig) -> Tower:
    """Return the tower of a model of timm.

    Raises:
        UserError: timm has no such model, or it is of another kind.
    """
    with torch.device("meta"):  # which kind it is, without its weights
        kind = type(timm_model(config.model, DEFAULT))
    if issubclass(kind, VisionTransformer):
        sized = timm_model(config.model, DEFAULT, img_size=config.image_size)
        return TransformerTower(sized, config)
    if issubclass(kind, STAGED):
        return ConvolutionalTower(timm_model(config.model, DEFAULT), config)
    raise UserError(
        f"'{config.model}' is a {kind.__name__} of timm. Backbones are made of its "
        f"VisionTransformer (such as {DEFAULT}) and of its convolutional families "
        f"{', '.join(family.__name__ for family in STAGED)}."
    )


class TransformerTower(Tower):
    """A VisionTransformer.

    Args:
        model: timm's.
        config: its name and image size.
    """

    def __init__(self, model: VisionTransformer, config: TimmVisionConfig) -> None:
        super().__init__(model, config.image_size)
        own = {id(p): name for name, p in model.named_parameters()}
        first = cast(Any, model.blocks[0])
        self.spec = StreamSpec(
            "image",
            model.embed_dim,
            len(model.blocks),
            first.attn.num_heads,
            first.mlp.fc1.out_features,
            modality="image",
            style=BlockStyle(activation="gelu", epsilon=cast(Any, model.norm).eps),
        )
        self.has_class_token = model.cls_token is not None
        self.blocks = nn.ModuleList(model.blocks)
        self.norm = model.norm
        model.blocks, model.norm = nn.Sequential(), nn.Identity()
        self.embedding = model
        self.stored_names = {name: own[id(p)] for name, p in self.named_parameters()}

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the patches, class token first, with their positions: [B, N, D]."""
        return self.embedding.forward_features(self.pixels(pixels))

    def finish(self, hidden: Tensor) -> Tensor:
        """Return the normed last hidden state [B, N, D]."""
        return self.norm(hidden)

    def tap(self, hidden: Tensor) -> Tap:
        """Return tokens as they are."""
        return Tap(hidden)

    def salient(self, output: Tensor) -> Tensor:
        """Return the class token, or the mean of all tokens where there is none: [B, D]."""
        return output[:, 0] if self.has_class_token else output.mean(1)

    def run_last(self, hidden: Tensor) -> Tensor:
        """Run the last block on tokens [B, N, D]."""
        return self.blocks[-1](hidden)


class ConvolutionalTower(Tower):
    """A convolutional model: maps of stride 4 are the embedding, each further stage is a block.

    What follows the last stage, or else its last unit, is a block of its own, so that it can run
    alone.

    Args:
        model: timm's.
        config: its name and image size.
    """

    def __init__(self, model: Any, config: TimmVisionConfig) -> None:
        super().__init__(model, config.image_size)
        own = {id(p): name for name, p in [*model.named_parameters(), *model.named_buffers()]}
        stages = _stages(model)
        self.embedding = stages[0][0]
        self.blocks = nn.ModuleList(stage for stage, _, _ in stages[1:])
        widths = tuple(width for _, width, _ in stages)
        strides = [stride for _, _, stride in stages]
        self.image_size = config.image_size
        self.spec = StreamSpec(
            "image",
            widths[-1],
            len(self.blocks),
            SIDE_HEADS,
            4 * widths[-1],
            modality="image",
            style=BlockStyle(activation="gelu"),
            widths=widths,
            stage_ends=_stage_ends(strides),
            convolutional=True,
        )
        kept = [*self.named_parameters(), *self.named_buffers()]
        self.stored_names = {name: own[id(t)] for name, t in kept if id(t) in own}

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the first maps [B, C, H / 4, W / 4]."""
        return self.embedding(self.pixels(pixels))

    def finish(self, hidden: Tensor) -> Tensor:
        """Return the last maps as tokens [B, N, D]."""
        return self.tap(hidden).tokens()

    def tap(self, hidden: Tensor) -> Tap:
        """Return maps as they are."""
        grid = (hidden.shape[2], hidden.shape[3])
        return Tap(hidden, layout="BCHW", grid=grid, stride=self.image_size // grid[0])

    def salient(self, output: Tensor) -> Tensor:
        """Return the mean over all places [B, D]."""
        return output.mean(1)

    def run_last(self, hidden: Tensor) -> Tensor:
        """Run the last unit on tokens [B, N, C] of square maps."""
        side = round(hidden.shape[1] ** 0.5)
        maps = hidden.transpose(1, 2).unflatten(2, (side, side))
        return self.finish(self.blocks[-1](maps))


def _stage_ends(strides: Sequence[int]) -> tuple[int, ...]:
    """Return the last of the hidden states of every stride."""
    return tuple(i for i, s in enumerate(strides) if s not in strides[i + 1 :])


def _stages(model: Any) -> list[tuple[nn.Sequential, int, int]]:
    """Return a model's parts with the width and the stride of their maps, in order."""
    ends = [
        (str(info["module"]), int(info["num_chs"]), int(info["reduction"]))
        for info in model.feature_info
        if info["reduction"] >= FIRST_STRIDE
    ]
    chain = _chain(model, [end for end, _, _ in ends])
    names = [part for part, _ in chain]
    marks = [names.index(end) + 1 for end, _, _ in ends]
    parts = [[m for _, m in chain[a:b]] for a, b in pairwise([0, *marks])]
    rest = [m for _, m in chain[marks[-1] :] if not isinstance(m, nn.Identity)]
    stages = [(p, width, stride) for p, (_, width, stride) in zip(parts, ends, strict=True)]
    stages[-1:] = _split_last(*stages[-1], rest, model.num_features)
    return [(nn.Sequential(*part), width, stride) for part, width, stride in stages]


def _split_last(
    part: list[nn.Module], inner: int, stride: int, rest: list[nn.Module], width: int
) -> list[tuple[list[nn.Module], int, int]]:
    """Split the last stage: what follows it, or else its last unit, is a part of its own.

    Args:
        part: the modules of the stage.
        inner: the width of its maps.
        stride: of its maps.
        rest: what follows it.
        width: of the last maps.
    """
    *before, stage = part
    if rest:
        return [(part, inner, stride), (rest, width, stride)]
    if isinstance(stage, nn.Sequential) and len(stage) > 1:
        return [([*before, *stage[:-1]], inner, stride), ([stage[-1]], width, stride)]
    return [(part, width, stride)]


def _chain(model: nn.Module, ends: Sequence[str]) -> list[tuple[str, nn.Module]]:
    """Return the parts that a model runs one after the other, split where a stage ends."""
    chain: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        if name in HEAD_PARTS:
            continue
        inside = [end.removeprefix(f"{name}.") for end in ends if end.startswith(f"{name}.")]
        if inside:
            chain += [(f"{name}.{part}", module) for part, module in _chain(child, inside)]
        else:
            chain.append((name, child))
    return chain
