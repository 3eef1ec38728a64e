"""A vision model of timm behind the Backbone contract."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from harness.backbones.base import (
    AttentionNames,
    Inputs,
    StreamState,
)
from harness.backbones.constants import keep_constants_as_buffers
from harness.backbones.parts import image_inputs, layer_norms, linear_layers
from harness.backbones.timm_vision import TimmVisionConfig
from harness.backbones.timm_vision.towers import build_tower
from harness.backbones.vision import batch_norms, convolutions
from harness.backbones.weights import LoadedBackbone
from harness.errors import UserError


class TimmVision(LoadedBackbone):
    """One image stream.

    Args:
        config: the model's name and its image size.
    """

    config_class = TimmVisionConfig

    def __init__(self, config: TimmVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.image = build_tower(config)
        self.specs = (self.image.spec,)
        keep_constants_as_buffers(self)

    def encode(
        self,
        stream: str,  # noqa: ARG002 - there is one
        inputs: Inputs,
        states: Mapping[str, StreamState],  # noqa: ARG002 - it has no sources
        *,
        taps: bool = False,
        prompt: Tensor | None = None,  # noqa: ARG002 - no text
        cache: Any = None,  # noqa: ARG002 - it writes no text
    ) -> StreamState:
        """Encode ``pixels``, uint8 [B, 3, H, W]."""
        tower = self.image
        hidden = tower.embed(inputs["pixels"])
        kept = [tower.tap(hidden)] if taps else []
        for block in tower.blocks:
            hidden = block(hidden)
            if taps:
                kept.append(tower.tap(hidden))
        output = tower.finish(hidden)
        return StreamState(output, None, tower.salient(output), tuple(kept))

    def run_late(
        self,
        stream: str,  # noqa: ARG002
        hidden: Tensor,
        mask: Tensor | None,  # noqa: ARG002 - all tokens are real
        *,
        memory: Tensor | None = None,  # noqa: ARG002 - the stream reads no other
        memory_mask: Tensor | None = None,  # noqa: ARG002
        cache: Any = None,  # noqa: ARG002
    ) -> Tensor:
        """Run the last block alone; see ``Backbone.run_late``."""
        return self.image.run_last(hidden)

    def select_salient(self, stream: str, output: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return the class token, or the mean where there is none: [B, D]."""
        return self.image.salient(output)

    def processors(self) -> Mapping[str, Callable[[Any], Inputs]]:
        """Return the function from images to inputs; see ``Backbone.processors``."""
        return {"image": image_inputs}

    def spellings(self, name: str) -> Sequence[str]:
        """Return the names that timm's files give a parameter; see ``Backbone.spellings``."""
        stored = self.image.stored_names[name.removeprefix("image.")]
        # A model that pools its tokens has its last norm behind the pooling.
        return (name, stored, f"fc_{stored}") if stored.startswith("norm.") else (name, stored)

    def blocks(self, stream: str) -> Sequence[str]:  # noqa: ARG002
        """Return the module names of the blocks, in order."""
        return [f"image.blocks.{i}" for i in range(len(self.image.blocks))]

    def sublayers(self, stream: str) -> Sequence[str]:
        """Return the attention and feed-forward modules of every transformer block, in order."""
        if self.spec(stream).convolutional:
            return []
        return [f"{block}.{part}" for block in self.blocks(stream) for part in ("attn", "mlp")]

    def attentions(self, stream: str) -> Sequence[AttentionNames]:
        """Return the fused projections of every transformer block's attention."""
        if self.spec(stream).convolutional:
            return []
        names = [f"{block}.attn" for block in self.blocks(stream)]
        return [AttentionNames(*(f"{n}.qkv",) * 3, output=f"{n}.proj") for n in names]

    def norms(self, stream: str) -> Sequence[str]:
        """Return the module names of all norms, the final one last."""
        return (batch_norms if self.spec(stream).convolutional else layer_norms)(self, stream)

    def embedding_of(self, stream: str) -> str:
        """Refuse: there is no text.

        Raises:
            UserError: always.
        """
        raise UserError(f"Stream '{stream}' of timm_vision reads no text.")

    def quantizable(self) -> Sequence[str]:
        """Return all linear layers and convolutions."""
        return [*linear_layers(self), *convolutions(self)]
