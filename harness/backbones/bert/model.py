"""BERT behind the Backbone contract: the library's blocks, run one by one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import BertConfig, BertModel

from harness.backbones.base import (
    AttentionNames,
    BlockStyle,
    Inputs,
    StreamSpec,
    StreamState,
    Tap,
)
from harness.backbones.bert import BertBackboneConfig
from harness.backbones.constants import keep_constants_as_buffers
from harness.backbones.parts import (
    attention_bias,
    bert_attentions,
    bert_sublayers,
    linear_layers,
    prepend,
)
from harness.backbones.weights import TextBackbone
from harness.registry import Config

EPSILON = 1e-12


class Bert(TextBackbone):
    """A text stream that starts with [CLS], its salient token.

    Args:
        config: its sizes.
    """

    config: BertBackboneConfig
    config_class = BertBackboneConfig
    reads_segments = True

    def __init__(self, config: BertBackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.specs = (
            StreamSpec(
                "text",
                config.width,
                config.layers,
                config.heads,
                config.ffn_width,
                modality="text",
                style=BlockStyle(norm_first=False, activation="gelu", epsilon=EPSILON),
            ),
        )
        model = BertModel(library_config(config), add_pooling_layer=False)
        self.embeddings, self.encoder = model.embeddings, model.encoder
        keep_constants_as_buffers(self)

    def encode(
        self,
        stream: str,  # noqa: ARG002 - there is one
        inputs: Inputs,
        states: Mapping[str, StreamState],  # noqa: ARG002 - it has no sources
        *,
        taps: bool = False,
        prompt: Tensor | None = None,
        cache: Any = None,  # noqa: ARG002 - it writes no text
    ) -> StreamState:
        """Encode ``input_ids``, ``attention_mask`` and, of pairs, ``token_type_ids`` [B, N]."""
        embedded = self.embeddings(inputs["input_ids"], inputs.get("token_type_ids"))
        hidden, mask, content = prepend(prompt, embedded, inputs["attention_mask"].bool())
        bias = attention_bias(mask, hidden.dtype)
        kept = [hidden] if taps else []
        for block in self.encoder.layer:
            hidden = block(hidden, bias)
            if taps:
                kept.append(hidden)
        return StreamState(
            output=hidden,
            mask=mask,
            salient=hidden[:, content.start or 0],
            taps=tuple(Tap(value, mask=mask) for value in kept),
            content=content,
        )

    def run_late(
        self,
        stream: str,  # noqa: ARG002
        hidden: Tensor,
        mask: Tensor | None,
        *,
        memory: Tensor | None = None,  # noqa: ARG002 - the stream reads no other
        memory_mask: Tensor | None = None,  # noqa: ARG002
        cache: Any = None,  # noqa: ARG002
    ) -> Tensor:
        """Run the last block alone; see ``Backbone.run_late``."""
        return self.encoder.layer[-1](hidden, attention_bias(mask, hidden.dtype))

    def select_salient(self, stream: str, output: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return the [CLS] token [B, D]."""
        return output[:, 0]

    def processors(self) -> Mapping[str, Callable[[Any], Inputs]]:
        """Return the function from texts to inputs; see ``Backbone.processors``."""
        return {"text": self._process_texts}

    def spellings(self, name: str) -> Sequence[str]:
        """Return the names that checkpoints give a parameter; see ``Backbone.spellings``."""
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old = old.replace("LayerNorm.bias", "LayerNorm.beta")
        return list(dict.fromkeys((name, f"bert.{name}", old, f"bert.{old}")))

    def blocks(self, stream: str) -> Sequence[str]:  # noqa: ARG002
        """Return the module names of the blocks, in order."""
        return [f"encoder.layer.{i}" for i in range(self.config.layers)]

    def sublayers(self, stream: str) -> Sequence[str]:
        """Return the attention and feed-forward outputs of every block, in order."""
        return bert_sublayers(self.blocks(stream))

    def attentions(self, stream: str) -> Sequence[AttentionNames]:
        """Return the projections of every block's attention."""
        return bert_attentions(self.blocks(stream))

    def norms(self, stream: str) -> Sequence[str]:
        """Return the module names of the embedding's norm and of every block's two."""
        parts = ("attention.output.LayerNorm", "output.LayerNorm")
        inner = [f"{block}.{part}" for block in self.blocks(stream) for part in parts]
        return ["embeddings.LayerNorm", *inner]

    def embedding_of(self, stream: str) -> str:  # noqa: ARG002
        """Return the name of the word embedding."""
        return "embeddings.word_embeddings"

    def position_embeddings(self) -> Sequence[str]:
        """Return the names of the embeddings of positions and segments."""
        return ["embeddings.position_embeddings", "embeddings.token_type_embeddings"]

    @classmethod
    def text_positions(cls, config: Config) -> int:
        """Return the rows of the table of positions; see ``Backbone.text_positions``."""
        assert isinstance(config, BertBackboneConfig)
        return config.positions

    def quantizable(self) -> Sequence[str]:
        """Return the word embedding and all linear layers."""
        return ["embeddings.word_embeddings", *linear_layers(self)]


def library_config(config: BertBackboneConfig) -> BertConfig:
    """Return the library's configuration of the same model."""
    return BertConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.ffn_width,
        max_position_embeddings=config.positions,
        layer_norm_eps=EPSILON,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        attn_implementation="eager",
    )
