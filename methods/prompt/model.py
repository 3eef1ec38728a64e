"""Prompt tuning: trained vectors before the tokens of a text."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from harness.backbones.base import Backbone, Inputs, StreamState
from harness.errors import UserError
from harness.memory.regions import executing
from harness.registry import Config
from methods.base import InPlaceMethod, States
from methods.cache import TokenCache
from methods.prompt import PromptConfig
from methods.quantization.modules import QuantizedEmbedding


class Prompt(InPlaceMethod):
    """A prompt for every needed text stream, at the level of its embeddings.

    A prompt starts as the embeddings of the first ids, which the source found better than random
    vectors (Lester et al., section 3.2; the official T5 code takes the first rows of the table).
    What the head reads is the content behind the prompt.

    Args:
        config: a ``PromptConfig``.
        backbone: the frozen model.
        reads: the streams that the head reads.
    """

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        assert isinstance(config, PromptConfig)
        backbone.requires_grad_(False)
        texts = [spec.name for spec in self.specs if spec.modality == "text"]
        if not texts:
            raise UserError(
                f"Method 'prompt' needs a text stream; the head reads {', '.join(reads)}, which "
                f"depends on none."
            )
        self.prompts = nn.ParameterDict(
            {name: _first_rows(backbone, name, config.tokens) for name in texts}
        )

    def encode(
        self, stream: str, inputs: Inputs, states: Mapping[str, StreamState], cache: Any = None
    ) -> StreamState:
        """Run a stream with gradients, text behind its prompt; see ``Method.encode``."""
        prompt = self.prompts.get(stream)
        with executing("backbone"):
            return self.backbone.encode(stream, inputs, states, prompt=prompt, cache=cache)

    def adapt(self, states: States, cache: TokenCache | None = None) -> States:  # noqa: ARG002
        """Return the states without prompts."""
        return {name: _content(state) for name, state in states.items()}

    def parts(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the prompts."""
        return {"prompts": list(self.prompts.values())}


def _first_rows(backbone: Backbone, stream: str, tokens: int) -> nn.Parameter:
    """Return a copy [P, D] of the first rows of a stream's embedding, over and over if need be."""
    table = backbone.get_submodule(backbone.embedding_of(stream))
    assert isinstance(table, nn.Embedding | QuantizedEmbedding)
    rows = torch.arange(tokens, device=table.weight.device) % table.num_embeddings
    if isinstance(table, QuantizedEmbedding):
        return nn.Parameter(table(rows))
    return nn.Parameter(table.weight.detach()[rows].clone())


def _content(state: StreamState) -> StreamState:
    """Return a state without its prompt."""
    mask = None if state.mask is None else state.mask[:, state.content]
    return replace(state, output=state.output[:, state.content], mask=mask, content=slice(None))
