"""Visual question answering: an image and a question, one answer out of a closed vocabulary."""

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
        ),
        DatasetCard(
            name="scenes-vqa",
            summary="questions on the drawn scenes of a domain held out of pretraining",
            source="bundled",
            licence="Apache-2.0",
            origin="drawn by tasks.scenes, domain shifted",
        ),
    ),
    recipes={
        "quick": {"task.train_rows": 8000, "train.epochs": 2, "train.batch_size": 128},
        "default": {"task.train_rows": 8000, "train.epochs": 4, "train.batch_size": 128},
        "full": {"task.val_rows": None, "train.epochs": 4, "train.batch_size": 128},
    },
    backbone="scenes_vl",
)
