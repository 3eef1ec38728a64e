"""CLIP: an image tower and a text tower that meet in one embedding; a video is its frames."""

from pydantic import Field

from harness.cards import BackboneCard, PaperStep
from harness.registry import Config


class ClipConfig(Config):
    """Sizes; the defaults are those of CLIP ViT-B/32, with the text length of CLIP4Clip."""

    image_width: int = Field(default=768, ge=8, description="Size of an image's hidden states.")
    image_heads: int = Field(default=12, ge=1, description="Attention heads of an image block.")
    image_ffn_width: int = Field(
        default=3072, ge=1, description="Hidden size of the feed-forward net of an image block."
    )
    image_layers: int = Field(default=12, ge=1, description="Number of image blocks.")
    image_size: int = Field(
        default=224, ge=8, description="Height and width that images are resized to."
    )
    patch_size: int = Field(default=32, ge=1, description="Height and width of a patch in pixels.")
    text_width: int = Field(default=512, ge=8, description="Size of a text's hidden states.")
    text_heads: int = Field(default=8, ge=1, description="Attention heads of a text block.")
    text_ffn_width: int = Field(
        default=2048, ge=1, description="Hidden size of the feed-forward net of a text block."
    )
    text_layers: int = Field(default=12, ge=1, description="Number of text blocks.")
    vocabulary: int = Field(default=49408, ge=4, description="Rows of the token embedding.")
    positions: int = Field(default=77, ge=2, description="Rows of the position embedding.")
    embedding_width: int = Field(
        default=512, ge=1, description="Size of the embedding that images and texts share."
    )
    max_tokens: int = Field(default=32, ge=2, description="Longest text in tokens.")
    seed: int = Field(default=0, ge=0, description="Seed of random weights.")


CARD = BackboneCard(
    name="clip",
    summary="Image and text towers with one embedding; videos as frames (CLIP4Clip).",
    source="Radford et al., CLIP, ICML 2021; CLIP4Clip: Luo et al., Neurocomputing 2022",
    config=ClipConfig,
    streams=("image", "text"),
    modalities=("image", "video", "text"),
    provides=frozenset({"taps", "in_place", "late_block", "embedding"}),
    implementation="harness.backbones.clip.model:Clip",
    presets={"vit_b32": {"patch_size": 32}, "vit_b16": {"patch_size": 16}},
    aliases={"clip-vit-b32": "vit_b32", "clip-vit-b16": "vit_b16"},
    weights={
        "vit_b32": "openai/clip-vit-base-patch32",
        "vit_b16": "openai/clip-vit-base-patch16",
    },
    paper=PaperStep(
        task="video_text_retrieval",
        dataset="msrvtt",
        batch_size=32,
        frames=12,
        gpus=4,
        note="The source keeps CLIP's weights in fp16.",
    ),
)
