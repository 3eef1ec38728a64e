"""The bundled vision-language model, pretrained on the drawn scenes of `tasks/scenes`."""

from pydantic import Field

from harness.cards import BackboneCard, PaperStep
from harness.registry import Config


class ScenesVLConfig(Config):
    """Sizes of the bundled model; the bundled weights fit the defaults."""

    width: int = Field(default=128, ge=8, description="Size of every stream's hidden states.")
    heads: int = Field(default=4, ge=1, description="Attention heads of a block.")
    image_layers: int = Field(default=4, ge=1, description="Blocks of the image stream.")
    text_layers: int = Field(default=2, ge=1, description="Blocks of the text stream.")
    joint_layers: int = Field(default=4, ge=1, description="Blocks of the joint stream.")
    max_tokens: int = Field(
        default=64, ge=8, description="Longest text in tokens; longer ones are cut."
    )
    vocabulary: int = Field(default=1000, ge=262, description="Rows of the token embedding.")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Dropout of all blocks.")
    seed: int = Field(default=0, ge=0, description="Seed of random weights.")


CARD = BackboneCard(
    name="scenes_vl",
    summary="Small vision-language model pretrained on drawn scenes; its weights are bundled.",
    source="this project, 2026: timm ViT, transformers BERT and joint encoder, trained by "
    "`harness pretrain scenes_vl`",
    config=ScenesVLConfig,
    streams=("image", "text", "joint"),
    modalities=("image", "text"),
    provides=frozenset({"taps", "in_place", "late_block", "prompt"}),
    bundled=True,
    implementation="harness.backbones.scenes_vl.model:ScenesVL",
    paper=PaperStep(task="vqa", batch_size=128),
)
