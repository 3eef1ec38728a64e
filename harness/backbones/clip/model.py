"""CLIP behind the Backbone contract: the library's towers, run block by block."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from harness.backbones.base import (
    AttentionNames,
    BlockStyle,
    Inputs,
    StreamSpec,
    StreamState,
    Tap,
)
from harness.backbones.clip import ClipConfig
from harness.backbones.constants import keep_constants_as_buffers
from harness.backbones.parts import (
    attention_bias,
    image_inputs,
    layer_norms,
    linear_layers,
)
from harness.backbones.vision import PixelScale
from harness.backbones.weights import TextBackbone
from harness.registry import Config

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Clip(TextBackbone):
    """Two towers without a common stream; ``embed`` brings them into one space.

    An image's salient token is its first, a text's the last real one. A video's frames are rows of
    the image stream, and ``groups`` tells to which video a row belongs. The temperature of the
    contrastive loss is no part of the backbone.

    Args:
        config: its sizes.
    """

    config: ClipConfig
    config_class = ClipConfig

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        style = BlockStyle(activation="gelu")
        self.specs = (
            StreamSpec(
                "image",
                config.image_width,
                config.image_layers,
                config.image_heads,
                config.image_ffn_width,
                modality="image",
                style=style,
                embedding_width=config.embedding_width,
            ),
            StreamSpec(
                "text",
                config.text_width,
                config.text_layers,
                config.text_heads,
                config.text_ffn_width,
                modality="text",
                causal=True,
                style=style,
                embedding_width=config.embedding_width,
            ),
        )
        self.pixels = PixelScale((config.image_size, config.image_size), MEAN, STD)
        self.image = CLIPVisionModel(_vision_config(config))
        self.text = CLIPTextModel(_text_config(config))
        self.projections = nn.ModuleDict(
            {s.name: nn.Linear(s.width, config.embedding_width, bias=False) for s in self.specs}
        )
        keep_constants_as_buffers(self)

    def encode(
        self,
        stream: str,
        inputs: Inputs,
        states: Mapping[str, StreamState],  # noqa: ARG002 - no stream has sources
        *,
        taps: bool = False,
        prompt: Tensor | None = None,  # noqa: ARG002 - no prompt is provided
        cache: Any = None,  # noqa: ARG002 - no stream writes text
    ) -> StreamState:
        """Encode ``image`` or ``text``.

        An image is ``pixels`` [B, 3, H, W], a video ``pixels`` [B, frames, 3, H, W], a text
        ``input_ids`` and ``attention_mask`` [B, N].
        """
        groups = mask = None
        if stream == "image":
            pixels = inputs["pixels"]
            if pixels.dim() == 5:
                videos, frames = pixels.shape[:2]
                groups = torch.arange(videos, device=pixels.device).repeat_interleave(frames)
                pixels = pixels.flatten(0, 1)
            hidden = self.image.pre_layrnorm(self.image.embeddings(self.pixels(pixels)))
        else:
            mask = inputs["attention_mask"].bool()
            hidden = self.text.embeddings(inputs["input_ids"])
        bias = _bias(mask, hidden)
        kept = [hidden] if taps else []
        for block in self._blocks(stream):
            hidden = block(hidden, bias)
            if taps:
                kept.append(hidden)
        final = self.image.post_layernorm if stream == "image" else self.text.final_layer_norm
        output = final(hidden)
        return StreamState(
            output=output,
            mask=mask,
            salient=self.select_salient(stream, output, mask),
            taps=tuple(Tap(value, mask=mask) for value in kept),
            groups=groups,
        )

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
        return self._blocks(stream)[-1](hidden, _bias(mask, hidden))

    def select_salient(self, stream: str, output: Tensor, mask: Tensor | None) -> Tensor:
        """Return an image's first token, or a text's last real one: [B, D]."""
        if stream == "image" or mask is None:
            return output[:, 0]
        last = mask.sum(1) - 1  # [B]
        return output[torch.arange(len(output), device=output.device), last]

    def embed(self, stream: str, salient: Tensor) -> Tensor:
        """Return the embedding [B, E] of a salient token [B, D]; see ``Backbone.embed``."""
        return self.projections[stream](salient)

    @classmethod
    def text_positions(cls, config: Config) -> int:
        """Return the rows of the table of positions; see ``Backbone.text_positions``."""
        assert isinstance(config, ClipConfig)
        return config.positions

    @property
    def paper_reads(self) -> tuple[str, ...]:
        """Return both streams: the paper's task is text-to-video retrieval."""
        return ("image", "text")

    def paper_output(
        self,
        head: nn.Module,
        states: Mapping[str, StreamState],
        embedded: Sequence[str] = (),
    ) -> Tensor:
        """Return how near [B, B] each video, by the mean of its frames, is to each text."""
        first, second = (
            F.normalize(state.salient if name in embedded else self.embed(name, state.salient))
            for name, state in ((name, states[name]) for name in self.paper_reads)
        )
        videos = F.normalize(first.view(len(second), -1, first.shape[1]).mean(1))
        return head(videos @ second.t())

    def paper_loss(self, output: Tensor, inputs: Inputs) -> Tensor:  # noqa: ARG002
        """Return the cross-entropy of finding each partner in the batch, both ways."""
        own = torch.arange(len(output), device=output.device)
        return F.cross_entropy(output, own) + F.cross_entropy(output.t(), own)

    def processors(self) -> Mapping[str, Callable[[Any], Inputs]]:
        """Return the functions from images, videos and texts to inputs.

        ``video``: uint8 array [n, frames, H, W, 3].
        """
        return {"image": image_inputs, "video": _video_inputs, "text": self._process_texts}

    def spellings(self, name: str) -> Sequence[str]:
        """Return the names that checkpoints give a parameter; see ``Backbone.spellings``."""
        for own, stored in (
            ("image.", "vision_model."),
            ("text.", "text_model."),
            ("projections.image.", "visual_projection."),
            ("projections.text.", "text_projection."),
        ):
            if name.startswith(own):
                return (name, stored + name.removeprefix(own))
        return (name,)

    def blocks(self, stream: str) -> Sequence[str]:
        """Return the module names of a tower's blocks, in order."""
        return [f"{stream}.encoder.layers.{i}" for i in range(self.spec(stream).depth)]

    def sublayers(self, stream: str) -> Sequence[str]:
        """Return the last layers of attention and feed-forward net of every block, in order."""
        parts = ("self_attn.out_proj", "mlp")
        return [f"{block}.{part}" for block in self.blocks(stream) for part in parts]

    def attentions(self, stream: str) -> Sequence[AttentionNames]:
        """Return the projections of every block's attention."""
        parts = ("q_proj", "k_proj", "v_proj", "out_proj")
        return [
            AttentionNames(*(f"{block}.self_attn.{part}" for part in parts))
            for block in self.blocks(stream)
        ]

    def norms(self, stream: str) -> Sequence[str]:
        """Return the module names of a tower's layer norms, the final one last."""
        return layer_norms(self, stream)

    def embedding_of(self, stream: str) -> str:  # noqa: ARG002 - one stream reads text
        """Return the name of the token embedding."""
        return "text.embeddings.token_embedding"

    def position_embeddings(self) -> Sequence[str]:
        """Return the name of the text's embedding of positions."""
        return ["text.embeddings.position_embedding"]

    def quantizable(self) -> Sequence[str]:
        """Return the token embedding and all linear layers; not the patches' convolution."""
        return ["text.embeddings.token_embedding", *linear_layers(self)]

    def _blocks(self, stream: str) -> nn.ModuleList:
        blocks = self.get_submodule(f"{stream}.encoder.layers")
        assert isinstance(blocks, nn.ModuleList)
        return blocks


def _bias(mask: Tensor | None, hidden: Tensor) -> Tensor | None:
    """Return what is added to scores: a text, which has a mask, sees no later tokens."""
    bias = attention_bias(mask, hidden.dtype)
    if bias is None:
        return None
    tokens = hidden.shape[1]
    past = torch.ones(tokens, tokens, dtype=torch.bool, device=hidden.device).tril()
    return bias.masked_fill(~past, torch.finfo(hidden.dtype).min)  # [B, 1, N, N]


def _video_inputs(videos: np.ndarray) -> Inputs:
    """Return uint8 videos [n, frames, H, W, 3] as ``pixels`` [n, frames, 3, H, W]."""
    pixels = torch.from_numpy(np.ascontiguousarray(videos)).permute(0, 1, 4, 2, 3)
    return {"pixels": pixels.contiguous()}


def _vision_config(config: ClipConfig) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=config.image_width,
        intermediate_size=config.image_ffn_width,
        projection_dim=config.embedding_width,
        num_hidden_layers=config.image_layers,
        num_attention_heads=config.image_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        attn_implementation="eager",
    )


def _text_config(config: ClipConfig) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.text_width,
        intermediate_size=config.text_ffn_width,
        projection_dim=config.embedding_width,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.text_heads,
        max_position_embeddings=config.positions,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="eager",
    )
