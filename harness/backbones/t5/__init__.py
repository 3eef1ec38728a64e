"""T5: an encoder and a decoder that reads it by cross-attention."""

from typing import Literal

from pydantic import Field

from harness.cards import BackboneCard, PaperStep
from harness.registry import Config


class T5BackboneConfig(Config):
    """Sizes of a T5; the defaults are those of t5-base."""

    width: int = Field(default=768, ge=8, description="Size of every stream's hidden states.")
    heads: int = Field(default=12, ge=1, description="Attention heads of a block.")
    head_width: int = Field(default=64, ge=1, description="Size of one head's queries.")
    ffn_width: int = Field(default=3072, ge=1, description="Hidden size of the feed-forward net.")
    layers: int = Field(default=12, ge=1, description="Blocks of each stream.")
    feed_forward: Literal["relu", "gated_gelu"] = Field(
        default="relu", description="T5 (relu) or T5 v1.1 (gated_gelu)."
    )
    tied_head: bool = Field(
        default=True,
        description="Whether the output head is the embedding (v1.1: its own).",
    )
    vocabulary: int = Field(
        default=32100,
        ge=2,
        description="Rows of the embedding. Published counts resize it to the tokenizer's 32,100.",
    )
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0, description="Dropout of all blocks.")
    max_tokens: int = Field(default=128, ge=1, description="Longest source in tokens.")
    seed: int = Field(default=0, ge=0, description="Seed of random weights.")


CARD = BackboneCard(
    name="t5",
    summary="Text-to-text transformer; any T5 or T5 v1.1 by its sizes.",
    source="Raffel et al., Exploring the Limits of Transfer Learning, JMLR 2020",
    config=T5BackboneConfig,
    streams=("encoder", "decoder"),
    modalities=("text", "target"),
    provides=frozenset({"taps", "in_place", "late_block", "prompt", "generation"}),
    implementation="harness.backbones.t5.model:T5",
    presets={
        "small": {"width": 512, "heads": 8, "ffn_width": 2048, "layers": 6},
        "base": {"width": 768, "heads": 12, "ffn_width": 3072, "layers": 12},
        "large": {"width": 1024, "heads": 16, "ffn_width": 4096, "layers": 24},
    },
    aliases={"t5-small": "small", "t5-base": "base", "t5-large": "large"},
    weights={
        "small": "google-t5/t5-small",
        "base": "google-t5/t5-base",
        "large": "google-t5/t5-large",
    },
    paper=PaperStep(
        task="sst2",
        recipe="text",
        batch_size=100,
        source_length=128,
        note="The source's environment is not this one (an older PyTorch, evaluation inside "
        "the measurement); what makes the difference is not known. Prompt was measured at "
        "a batch of 50.",
    ),
)
