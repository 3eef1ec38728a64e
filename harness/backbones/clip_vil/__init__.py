"""CLIP-ViL: a convolutional tower's grid and a text's tokens in one joint BERT."""

from pydantic import Field

from harness.cards import BackboneCard, PaperStep
from harness.registry import Config


class ClipVilConfig(Config):
    """Sizes; the defaults are those of CLIP-ViL with CLIP RN50x4."""

    vision: str = Field(
        default="resnet50x4_clip", description="Name of a convolutional model of timm."
    )
    image_height: int = Field(default=384, ge=32, description="Height that images are resized to.")
    image_width: int = Field(default=640, ge=32, description="Width that images are resized to.")
    width: int = Field(default=768, ge=8, description="Size of the joint hidden states.")
    heads: int = Field(default=12, ge=1, description="Attention heads of a block.")
    ffn_width: int = Field(default=3072, ge=1, description="Hidden size of the feed-forward net.")
    layers: int = Field(default=12, ge=1, description="Number of joint blocks.")
    vocabulary: int = Field(default=30522, ge=3, description="Rows of the word embedding.")
    grid_slots: int = Field(
        default=25, ge=1, description="Rows of the tables of row and column positions."
    )
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0, description="Dropout of the joint blocks.")
    max_tokens: int = Field(default=20, ge=2, description="Longest text in tokens.")
    seed: int = Field(default=0, ge=0, description="Seed of random weights.")


CARD = BackboneCard(
    name="clip_vil",
    summary="Frozen CLIP grid features and words in one joint BERT; any CNN of timm.",
    source="Shen et al., How Much Can CLIP Benefit Vision-and-Language Tasks?, ICLR 2022",
    config=ClipVilConfig,
    streams=("image", "text", "joint"),
    modalities=("image", "text"),
    provides=frozenset({"taps", "in_place", "late_block"}),
    implementation="harness.backbones.clip_vil.model:ClipVil",
    presets={"rn50x4": {"vision": "resnet50x4_clip"}},
    aliases={"clip-vil": "rn50x4"},
    paper=PaperStep(
        task="vqa",
        dataset="vqav2",
        batch_size=32,
        source_length=20,
        gpus=4,
        note="The source runs in mixed precision (apex O1).",
    ),
)
