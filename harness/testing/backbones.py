"""A small backbone for tests: two unimodal streams and a joint one, a few thousand parameters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from harness.backbones.base import (
    AttentionNames,
    Backbone,
    Inputs,
    StreamSpec,
    StreamState,
    Tap,
    Text,
)
from harness.backbones.parts import prepend
from harness.cards import BackboneCard, PaperStep
from harness.errors import UserError
from harness.registry import Config

PAD, CLS, BYTES = 0, 1, 2


class TinyConfig(Config):
    """Shape of a ``TinyBackbone``."""

    width: int = Field(default=16, ge=8, description="Size of the hidden states of every stream.")
    depth: int = Field(default=2, ge=1, description="Blocks in every stream.")
    heads: int = Field(default=2, ge=1, description="Attention heads of a block.")
    image_size: int = Field(default=8, ge=1, description="Height and width of an image in pixels.")
    patch_size: int = Field(default=4, ge=1, description="Height and width of a patch in pixels.")
    max_tokens: int = Field(
        default=24, ge=2, description="Longest text, the leading [CLS] included."
    )
    causal_text: bool = Field(
        default=False, description="Whether text tokens see only earlier ones."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random weights.")

    @model_validator(mode="after")
    def _check(self) -> "TinyConfig":
        if self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size={self.image_size} must be a multiple of patch_size={self.patch_size}"
            )
        return self


class TinyAttention(nn.Module):
    """Multi-head self-attention.

    Args:
        width: size D of the hidden states.
        heads: attention heads.
        causal: whether token t sees only tokens up to t.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, N, D] to [B, N, D]; ``mask`` [B, N] is True where a token is real."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, D / heads]
            for layer in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # [B, heads, N, N]
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        if self.causal:
            n = x.shape[1]
            future = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(future, float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class TinyFeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, N, D] to [B, N, D]."""
        return self.down(F.gelu(self.up(x)))


class TinyBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, spec: StreamSpec) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(spec.width)
        self.attention = TinyAttention(spec.width, spec.heads, spec.causal)
        self.ffn_norm = nn.LayerNorm(spec.width)
        self.ffn = TinyFeedForward(spec.width, spec.ffn_width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, N, D] to [B, N, D]."""
        x = x + self.attention(self.attention_norm(x), mask)
        return x + self.ffn(self.ffn_norm(x))


class TinyBackbone(Backbone):
    """Patches of an image, bytes of a text, and a joint stream that reads both.

    Args:
        config: its shape.
    """

    config_class: ClassVar[type[Config]] = TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        width, ffn_width = config.width, 2 * config.width
        shape = (width, config.depth, config.heads, ffn_width)
        self.specs = (
            StreamSpec("image", *shape, modality="image"),
            StreamSpec("text", *shape, modality="text", causal=config.causal_text),
            StreamSpec("joint", *shape, sources=("text", "image")),
        )
        patches = (config.image_size // config.patch_size) ** 2
        self.patch_embedding = nn.Linear(3 * config.patch_size**2, width)
        self.patch_positions = nn.Parameter(torch.zeros(patches, width))
        self.token_embedding = nn.Embedding(256 + BYTES, width)
        self.token_positions = nn.Parameter(torch.zeros(config.max_tokens, width))
        self.joint_types = nn.Parameter(torch.zeros(2, width))
        self.streams = nn.ModuleDict(
            {s.name: nn.ModuleList(TinyBlock(s) for _ in range(s.depth)) for s in self.specs}
        )
        self.final_norms = nn.ModuleDict({s.name: nn.LayerNorm(width) for s in self.specs})

    @classmethod
    def build(
        cls, config: Config, *, weights: str | None = None, device: str | torch.device = "cpu"
    ) -> "TinyBackbone":
        """Build with random weights drawn from the configuration's seed."""
        if weights not in (None, "random"):
            raise UserError(f"TinyBackbone has no weights '{weights}'; use 'random'.")
        assert isinstance(config, TinyConfig)
        with torch.device("meta"):
            model = cls(config)
        if torch.device(device).type != "meta":
            model.to_empty(device=device)
            model._draw(torch.Generator().manual_seed(config.seed))
        model.weights_hash = f"random:{config.seed}"
        return model.eval()

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(module, nn.LayerNorm):
                    parameter.fill_(1.0 if name == "weight" else 0.0)
                else:
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.copy_(noise * parameter.shape[-1] ** -0.5)

    def encode(
        self,
        stream: str,
        inputs: Inputs,
        states: Mapping[str, StreamState],
        *,
        taps: bool = False,
        prompt: Tensor | None = None,
        cache: Any = None,  # noqa: ARG002 - no stream writes text
    ) -> StreamState:
        """Encode ``image`` ([B, H, W, 3] floats), ``text`` ([B, N] tokens) or ``joint``."""
        x, mask = self._embed(stream, inputs, states)
        x, mask, content = prepend(prompt, x, mask)
        hidden = [x]
        for block in cast(nn.ModuleList, self.streams[stream]):
            x = block(x, mask)
            hidden.append(x)
        output = self.final_norms[stream](x)
        kept = tuple(Tap(h, mask=mask) for h in hidden) if taps else ()
        salient = self.select_salient(stream, output[:, content], mask)
        return StreamState(output, mask, salient, kept, content=content)

    def run_late(
        self,
        stream: str,
        hidden: Tensor,
        mask: Tensor | None,
        *,
        memory: Tensor | None = None,  # noqa: ARG002 - nothing crosses
        memory_mask: Tensor | None = None,  # noqa: ARG002
        cache: Any = None,  # noqa: ARG002
    ) -> Tensor:
        """Run the last block of a stream."""
        return cast(nn.ModuleList, self.streams[stream])[-1](hidden, mask)

    def _embed(
        self, stream: str, inputs: Inputs, states: Mapping[str, StreamState]
    ) -> tuple[Tensor, Tensor | None]:
        if stream == "image":
            p = self.config.patch_size
            patches = inputs["pixels"].unfold(1, p, p).unfold(2, p, p)  # [B, H/p, W/p, 3, p, p]
            return self.patch_embedding(
                patches.flatten(3).flatten(1, 2)
            ) + self.patch_positions, None
        if stream == "text":
            tokens = inputs["tokens"]
            positions = self.token_positions[: tokens.shape[1]]
            return self.token_embedding(tokens) + positions, tokens != PAD
        text, image = states["text"], states["image"]
        words = text.output[:, text.content]
        x = torch.cat([words + self.joint_types[0], image.output + self.joint_types[1]], 1)
        assert text.mask is not None
        real = torch.ones(image.output.shape[:2], dtype=torch.bool, device=x.device)
        return x, torch.cat([text.mask[:, text.content], real], 1)

    def select_salient(self, stream: str, output: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return the mean over an image's patches, or the leading [CLS] of text and joint."""
        return output.mean(1) if stream == "image" else output[:, 0]

    def processors(self) -> Mapping[str, Callable[[Any], Inputs]]:
        """Return the functions from raw images and strings to inputs."""
        return {"image": self._process_images, "text": self._process_texts}

    def _process_images(self, images: np.ndarray) -> Inputs:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).float() / 127.5 - 1  # [n, H, W, 3]
        size = (self.config.image_size, self.config.image_size)
        if pixels.shape[1:3] != size:
            pixels = F.interpolate(pixels.movedim(-1, 1), size).movedim(1, -1)
        return {"pixels": pixels.contiguous()}

    def _process_texts(self, texts: Sequence[Text]) -> Inputs:
        limit = self.config.max_tokens - 1
        rows = [[CLS, *(b + BYTES for b in _one_text(t).encode()[:limit])] for t in texts]
        longest = max(len(row) for row in rows)
        return {"tokens": torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])}

    def cuts(self, texts: Sequence[Text]) -> list[bool]:
        """Return which texts have more bytes than there are positions behind [CLS]."""
        return [len(_one_text(text).encode()) >= self.config.max_tokens for text in texts]

    def blocks(self, stream: str) -> Sequence[str]:
        """Return the module names of a stream's blocks."""
        return [f"streams.{stream}.{i}" for i in range(self.config.depth)]

    def sublayers(self, stream: str) -> Sequence[str]:
        """Return attention and feed-forward modules in turn."""
        return [f"{block}.{part}" for block in self.blocks(stream) for part in ("attention", "ffn")]

    def attentions(self, stream: str) -> Sequence[AttentionNames]:
        """Return the four projections of every block's attention."""
        parts = ("query", "key", "value", "out")
        return [
            AttentionNames(*(f"{block}.attention.{part}" for part in parts))
            for block in self.blocks(stream)
        ]

    def norms(self, stream: str) -> Sequence[str]:
        """Return the module names of a stream's LayerNorms."""
        inner = [
            f"{block}.{part}"
            for block in self.blocks(stream)
            for part in ("attention_norm", "ffn_norm")
        ]
        return [*inner, f"final_norms.{stream}"]

    def embedding_of(self, stream: str) -> str:  # noqa: ARG002 - one stream reads text
        """Return the name of the token embedding."""
        return "token_embedding"

    def quantizable(self) -> Sequence[str]:
        """Return all linear layers and the embedding."""
        return [n for n, m in self.named_modules() if isinstance(m, nn.Linear | nn.Embedding)]


CARD = BackboneCard(
    name="tiny",
    summary="A few thousand random parameters; two unimodal streams and a joint one.",
    source="for tests",
    config=TinyConfig,
    implementation="harness.testing.backbones:TinyBackbone",
    streams=("image", "text", "joint"),
    modalities=("image", "text"),
    provides=frozenset({"taps", "in_place", "late_block", "prompt"}),
    paper=PaperStep(task="vqa", batch_size=4),
)
"""The card under which a test may register ``TinyBackbone``."""


def _one_text(text: Text) -> str:
    """Return a text, or the two of a pair on a line each."""
    return text if isinstance(text, str) else "\n".join(text)


def tiny_inputs(
    backbone: TinyBackbone,
    texts: Sequence[str] = ("a red circle", "no", "how many?"),
) -> dict[str, Tensor]:
    """Return inputs of random images [B, H, W, 3] and the given strings, one a row."""
    size = backbone.config.image_size
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (len(texts), size, size, 3), dtype=np.uint8)
    process = backbone.processors()
    return {**process["image"](images), **process["text"](list(texts))}
