"""MDETR: a convolutional tower and a RoBERTa in one encoder, read by a decoder of queries."""

from pydantic import Field

from harness.cards import BackboneCard, PaperStep
from harness.registry import Config


class MdetrConfig(Config):
    """Sizes; the defaults are those of MDETR with ResNet-101 and RoBERTa-base."""

    vision: str = Field(default="resnet101", description="Name of a convolutional model of timm.")
    image_size: int = Field(
        default=640, ge=32, description="Height and width that images are resized to."
    )
    text_width: int = Field(default=768, ge=8, description="Size of the text's hidden states.")
    text_heads: int = Field(default=12, ge=1, description="Attention heads of a text block.")
    text_ffn_width: int = Field(
        default=3072, ge=1, description="Hidden size of the feed-forward net of a text block."
    )
    text_layers: int = Field(default=12, ge=1, description="Number of text blocks.")
    vocabulary: int = Field(default=50265, ge=5, description="Rows of the word embedding.")
    width: int = Field(default=256, ge=8, description="Size of encoder and decoder states.")
    heads: int = Field(default=8, ge=1, description="Attention heads of encoder and decoder.")
    ffn_width: int = Field(
        default=2048, ge=1, description="Hidden size of their feed-forward nets."
    )
    layers: int = Field(default=6, ge=1, description="Number of blocks of encoder and decoder.")
    queries: int = Field(default=100, ge=1, description="Objects that the decoder looks for.")
    dropout: float = Field(
        default=0.1, ge=0.0, lt=1.0, description="Dropout of encoder, decoder and text blocks."
    )
    max_tokens: int = Field(default=128, ge=2, description="Longest text in tokens.")
    seed: int = Field(default=0, ge=0, description="Seed of random weights.")


CARD = BackboneCard(
    name="mdetr",
    summary="Image and text in one encoder, objects from a decoder; for visual grounding.",
    source="Kamath et al., MDETR: Modulated Detection, ICCV 2021",
    config=MdetrConfig,
    streams=("image", "text", "encoder", "decoder"),
    modalities=("image", "text"),
    provides=frozenset({"taps", "in_place", "late_block"}),
    implementation="harness.backbones.mdetr.model:Mdetr",
    presets={"resnet101": {"vision": "resnet101"}},
    paper=PaperStep(
        task="grounding",
        dataset="refcoco",
        batch_size=4,
        gpus=2,
        note="The source's photos are up to 1333 pixels wide, and its losses cover every "
        "decoder layer.",
    ),
)
