"""Visual question answering: an image and a question, one answer out of a closed vocabulary."""

from typing import Literal

from pydantic import Field

from harness.cards import DatasetCard, TaskCard
from harness.registry import Config

QUESTION_TYPES = (
    "shape",
    "colour",
    "has-shape",
    "has-colour",
    "not-shape",
    "not-colour",
    "size",
    "texture",
    "count",
    "position",
    "exist",
    "relation",
    "compare",
    "logic",
    "yes/no",
    "number",
    "other",
)


class VqaConfig(Config):
    """Which questions are used. Subsets are fixed: no run's seed changes them."""

    train_rows: int | None = Field(
        default=None,
        ge=1,
        description="At most this many training questions, a fixed random subset; null: all.",
    )
    val_fraction: float = Field(
        default=0.1,
        gt=0.0,
        lt=1.0,
        description="Share of the training images set aside for validation, questions and all.",
    )
    val_rows: int | None = Field(
        default=2000,
        ge=1,
        description="At most this many validation questions, a fixed random subset; null: all.",
    )
    min_answer_count: int = Field(
        default=1,
        ge=1,
        description="Of a folder: how often training must give an answer for it to be one of the "
        "vocabulary's; other answers stay in every denominator.",
    )
    image_size: int = Field(
        default=224, ge=8, description="Of a folder: side of the squares that photos become."
    )
    pooling: Literal["salient", "mean"] = Field(
        default="salient",
        description="What the head reads of a stream: its salient token, which is BERT's [CLS], or "
        "the mean of its tokens, for which sentence encoders such as MiniLM are trained.",
    )


CARD = TaskCard(
    name="vqa",
    summary="answer a question about an image out of a closed vocabulary",
    source="Antol et al., VQA: Visual Question Answering, 2015",
    config=VqaConfig,
    implementation="tasks.vqa.task:Vqa",
    modalities=("image", "text"),
    metrics={
        "vqa_accuracy": "max",
        "accuracy": "max",
        **{f"accuracy/{kind}": "max" for kind in QUESTION_TYPES},
    },
    primary="vqa_accuracy",
    datasets=(
        DatasetCard(
            name="easy-vqa",
            summary="48,248 questions on 5,000 images of one coloured shape; 13 answers",
            source="package",
            licence="MIT",
            origin="Victor Zhou, easy-VQA, 2019 (package easy-vqa)",
            recipes={"full": {"train.epochs": 3}},
        ),
        DatasetCard(
            name="scenes-vqa",
            summary="questions on the drawn scenes of a domain held out of pretraining",
            source="bundled",
            licence="Apache-2.0",
            origin="drawn by tasks.scenes, domain shifted",
        ),
        DatasetCard(
            name="vqav2",
            summary="1.1 M questions on COCO photos, ten answers each; --data-dir",
            source="folder",
            licence="CC BY 4.0",
            origin="Goyal et al., Making the V in VQA Matter, CVPR 2017",
            recipes={name: {"task.min_answer_count": 9} for name in ("default", "full")},
        ),
        DatasetCard(
            name="daquar",
            summary="questions on photos of rooms; --data-dir",
            source="folder",
            licence="released for research",
            origin="Malinowski and Fritz, A Multi-World Approach to Question Answering, 2014",
        ),
        DatasetCard(
            name="nlvr",
            summary="true or false statements on drawn boxes; --data-dir",
            source="folder",
            licence="CC BY 4.0",
            origin="Suhr et al., A Corpus of Natural Language for Visual Reasoning, ACL 2017",
        ),
    ),
    recipes={
        "quick": {"task.train_rows": 8000, "train.epochs": 2, "train.batch_size": 128},
        "default": {"task.train_rows": 8000, "train.epochs": 4, "train.batch_size": 128},
        "full": {"task.val_rows": None, "train.epochs": 4, "train.batch_size": 128},
    },
    backbone="scenes_vl",
    groups=("vl",),
)
