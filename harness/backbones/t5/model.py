"""T5 behind the Backbone contract: the library's blocks, run one by one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache, T5Config
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from harness.backbones.base import (
    AttentionNames,
    BlockStyle,
    Inputs,
    StreamSpec,
    StreamState,
    Tap,
)
from harness.backbones.constants import keep_constants_as_buffers
from harness.backbones.parts import (
    attention_bias,
    linear_layers,
    prepend,
)
from harness.backbones.t5 import T5BackboneConfig
from harness.backbones.weights import SpecialIds, TextBackbone

POSITION_BUCKETS = 32
EPSILON = 1e-6
PAD = 0


class T5(TextBackbone):
    """An encoder stream and a decoder stream.

    The decoder's own tokens are the target's, shifted right by one start token. The salient token
    is the mean of the encoder's tokens, and the decoder's first token, which is all that a causal
    stream may use.

    Args:
        config: its sizes.
    """

    config: T5BackboneConfig
    config_class = T5BackboneConfig
    special_ids = SpecialIds(pad=PAD, end=1, start=None)
    output_layer = "lm_head"

    def __init__(self, config: T5BackboneConfig) -> None:
        super().__init__()
        self.config = config
        style = BlockStyle(
            norm="rms",
            bias=False,
            activation="relu" if config.feed_forward == "relu" else "gelu",
            scaled=False,
            position_buckets=POSITION_BUCKETS,
            epsilon=EPSILON,
        )
        shape = (config.width, config.layers, config.heads, config.ffn_width)
        inner = config.heads * config.head_width
        self.specs = (
            StreamSpec("encoder", *shape, modality="text", attention_width=inner, style=style),
            StreamSpec(
                "decoder",
                *shape,
                modality="target",
                sources=("encoder",),
                cross=True,
                causal=True,
                attention_width=inner,
                style=style,
            ),
        )
        model = T5ForConditionalGeneration(_library_config(config))
        self.shared, self.encoder, self.decoder = model.shared, model.encoder, model.decoder
        self.lm_head = model.lm_head
        for stack in (self.encoder, self.decoder):
            stack.embed_tokens = None  # the shared embedding is looked up here
        keep_constants_as_buffers(self)

    def encode(
        self,
        stream: str,
        inputs: Inputs,
        states: Mapping[str, StreamState],
        *,
        taps: bool = False,
        prompt: Tensor | None = None,
        cache: Any = None,
    ) -> StreamState:
        """Encode ``encoder`` (``input_ids``) or ``decoder`` (``decoder_input_ids``)."""
        stack: Any = self.get_submodule(stream)
        hidden, mask, content = self._embed(stream, inputs, prompt)
        source = states["encoder"] if stream == "decoder" else None
        memory = None if source is None else source.output
        memory_bias = None if source is None else attention_bias(source.mask, hidden.dtype)
        past = 0 if cache is None else cache.get_seq_length()
        bias = self._bias(stream, hidden, mask, past)
        hidden = stack.dropout(hidden)
        kept = [hidden] if taps else []
        positions = crossed = None
        for block in stack.block:
            hidden, positions, crossed = block(
                hidden, bias, positions, memory, memory_bias, crossed, cache
            )
            if taps:
                kept.append(hidden)
        output = stack.dropout(stack.final_layer_norm(hidden))
        return StreamState(
            output=output,
            mask=mask,
            salient=self.select_salient(
                stream, output[:, content], None if mask is None else mask[:, content]
            ),
            taps=tuple(Tap(value, mask=mask) for value in kept),
            content=content,
        )

    def run_late(
        self,
        stream: str,
        hidden: Tensor,
        mask: Tensor | None,
        *,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """Run the last block of a stream alone; see ``Backbone.run_late``."""
        stack: Any = self.get_submodule(stream)
        past = 0 if cache is None else cache.get_seq_length(self.config.layers - 1)
        bias = self._bias(stream, hidden, mask, past)
        memory_bias = attention_bias(memory_mask, hidden.dtype)
        positions = (
            stack.block[0]
            .layer[0]
            .SelfAttention.compute_bias(
                hidden.shape[1], past + hidden.shape[1], device=hidden.device, past_seen_tokens=past
            )
        )
        return stack.block[-1](hidden, bias, positions, memory, memory_bias, None, cache)[0]

    def select_salient(self, stream: str, output: Tensor, mask: Tensor | None) -> Tensor:
        """Return the masked mean of the encoder, or the first token of the decoder, [B, D]."""
        if stream == "decoder":
            return output[:, 0]
        if mask is None:
            return output.mean(1)
        real = mask[..., None].to(output.dtype)  # [B, N, 1]
        return (output * real).sum(1) / real.sum(1).clamp_min(1)

    def logits(self, output: Tensor) -> Tensor:
        """Return the scores [B, N, V] of the next token for decoder states [B, N, D]."""
        scale = self.config.width**-0.5 if self.config.tied_head else 1.0
        return self.lm_head(output * scale)

    def paper_output(
        self,
        head: nn.Module,
        states: Mapping[str, StreamState],
        embedded: Sequence[str] = (),  # noqa: ARG002 - it compares none
    ) -> Tensor:
        """Return the scores [B, N, V] of the written tokens."""
        return head(self.logits(states["decoder"].output))

    def paper_loss(self, output: Tensor, inputs: Inputs) -> Tensor:
        """Return the cross-entropy of the tokens of ``labels``."""
        labels = inputs["labels"].flatten()
        return F.cross_entropy(output.flatten(0, 1).float(), labels, ignore_index=PAD)

    def tokens_of(self, stream: str) -> str:
        """Return the name of the decoder's tokens; see ``Backbone.tokens_of``."""
        return "decoder_input_ids" if stream == "decoder" else super().tokens_of(stream)

    def new_cache(self) -> EncoderDecoderCache:
        """Return what ``encode`` may keep of the decoder's earlier tokens."""
        return EncoderDecoderCache(DynamicCache(), DynamicCache())

    def processors(self) -> Mapping[str, Callable[[Any], Inputs]]:
        """Return the functions from sources and targets to inputs; see ``Backbone.processors``."""
        return {"text": self._process_texts, "target": self._process_targets}

    def blocks(self, stream: str) -> Sequence[str]:
        """Return the module names of a stream's blocks, in order."""
        return [f"{stream}.block.{i}" for i in range(self.config.layers)]

    def sublayers(self, stream: str) -> Sequence[str]:
        """Return the self-attention and feed-forward outputs of every block, in order.

        Cross-attention is none of Houlsby's sites here: the published adapters leave it out.
        """
        last = 2 if stream == "decoder" else 1
        return [
            name
            for block in self.blocks(stream)
            for name in (f"{block}.layer.0.SelfAttention.o", f"{block}.layer.{last}.DenseReluDense")
        ]

    def attentions(self, stream: str) -> Sequence[AttentionNames]:
        """Return the projections of every attention, cross-attention included."""
        parts = ["layer.0.SelfAttention"]
        if stream == "decoder":
            parts.append("layer.1.EncDecAttention")
        return [
            AttentionNames(*(f"{block}.{part}.{name}" for name in "qkvo"))
            for block in self.blocks(stream)
            for part in parts
        ]

    def norms(self, stream: str) -> Sequence[str]:
        """Return the module names of a stream's norms; the last one ends the stack."""
        layers = range(3 if stream == "decoder" else 2)
        inner = [f"{b}.layer.{i}.layer_norm" for b in self.blocks(stream) for i in layers]
        return [*inner, f"{stream}.final_layer_norm"]

    def embedding_of(self, stream: str) -> str:  # noqa: ARG002 - both streams share one
        """Return the name of the shared embedding."""
        return "shared"

    def position_tables(self) -> Sequence[nn.Parameter]:
        """Return the two tables that the stacks share among their blocks."""
        tables = map(self.get_submodule, self.position_embeddings())
        return [parameter for table in tables for parameter in table.parameters()]

    def position_embeddings(self) -> Sequence[str]:
        """Return the names of the two tables."""
        first = "block.0.layer.0.SelfAttention.relative_attention_bias"
        return [f"{spec.name}.{first}" for spec in self.specs]

    def quantizable(self) -> Sequence[str]:
        """Return the embedding, whose codes a tied head shares, and all linear layers."""
        return ["shared", *linear_layers(self)]

    def _embed(
        self, stream: str, inputs: Inputs, prompt: Tensor | None
    ) -> tuple[Tensor, Tensor | None, slice]:
        """Return embeddings [B, N, D], their mask [B, N], and which of them are the content."""
        if stream == "decoder":
            return self.shared(inputs["decoder_input_ids"]), None, slice(None)
        hidden, mask = self.shared(inputs["input_ids"]), inputs["attention_mask"].bool()
        return prepend(prompt, hidden, mask)

    def _bias(self, stream: str, hidden: Tensor, mask: Tensor | None, past: int) -> Tensor | None:
        """Return what is added to the scores of self-attention: [B or 1, 1, 1 or N, past + N].

        Args:
            stream: the encoder sees all real tokens, the decoder those up to its own.
            hidden: [B, N, D], the tokens.
            mask: [B, N] bool, True where a token of the encoder is real.
            past: number of tokens before them.
        """
        if stream == "encoder":
            return attention_bias(mask, hidden.dtype)
        tokens = hidden.shape[1]
        shape = (tokens, past + tokens)
        seen = torch.ones(shape, dtype=torch.bool, device=hidden.device).tril(past)
        zeros = torch.zeros(shape, dtype=hidden.dtype, device=hidden.device)
        return zeros.masked_fill(~seen, torch.finfo(hidden.dtype).min)[None, None]

    def _process_targets(self, texts: Sequence[str]) -> Inputs:
        """Return targets as ``labels`` and, shifted right, as the decoder's tokens."""
        labels = self._tokenizer(texts, self.config.max_tokens)["ids"]
        start = labels.new_full((len(labels), 1), PAD)
        return {"labels": labels, "decoder_input_ids": torch.cat([start, labels[:, :-1]], 1)}


def _library_config(config: T5BackboneConfig) -> T5Config:
    gated = config.feed_forward == "gated_gelu"
    return T5Config(
        vocab_size=config.vocabulary,
        d_model=config.width,
        d_kv=config.head_width,
        d_ff=config.ffn_width,
        num_layers=config.layers,
        num_heads=config.heads,
        relative_attention_num_buckets=POSITION_BUCKETS,
        dropout_rate=config.dropout,
        layer_norm_epsilon=EPSILON,
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=config.tied_head,
        attn_implementation="eager",
    )
