"""A vision model of timm: any VisionTransformer, or any convolutional model made of stages."""

from pydantic import Field

from harness.cards import BackboneCard, PaperStep
from harness.registry import Config


class TimmVisionConfig(Config):
    """Which model, and the size of its images."""

    model: str = Field(default="vit_base_patch16_224", description="Name of the model in timm.")
    image_size: int = Field(
        default=224, ge=8, description="Height and width that images are resized to."
    )
    seed: int = Field(default=0, ge=0, description="Seed of random weights.")


CARD = BackboneCard(
    name="timm_vision",
    summary="Image encoder of timm; any VisionTransformer or convolutional model.",
    source="Wightman, PyTorch Image Models, 2019; ViT: Dosovitskiy et al., ICLR 2021",
    config=TimmVisionConfig,
    streams=("image",),
    modalities=("image",),
    provides=frozenset({"taps", "in_place", "late_block"}),
    implementation="harness.backbones.timm_vision.model:TimmVision",
    presets={
        "vit_base": {"model": "vit_base_patch16_224"},
        "vit_small": {"model": "vit_small_patch16_224"},
        "mobilenet": {"model": "mobilenetv2_100"},
    },
    aliases={"vit": "vit_base", "vit-base": "vit_base", "vit-small": "vit_small"},
    weights={
        "vit_base": "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "vit_small": "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
        "mobilenet": "timm/mobilenetv2_100.ra_in1k",
    },
    paper=PaperStep(task="image_classification", batch_size=128),
)
