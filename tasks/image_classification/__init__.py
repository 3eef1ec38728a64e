"""Image classification: one label an image."""

from pydantic import Field

from harness.cards import DatasetCard, TaskCard
from harness.registry import Config


class ImageClassificationConfig(Config):
    """Which images are used. Subsets are fixed: no run's seed changes them."""

    train_rows: int | None = Field(
        default=None,
        ge=1,
        description="At most this many training images, a fixed random subset; null: all.",
    )
    val_fraction: float = Field(
        default=0.1,
        gt=0.0,
        lt=1.0,
        description="Share of the training images set aside for validation, where the data have "
        "no validation of their own.",
    )
    image_size: int = Field(
        default=224, ge=8, description="Of a folder: side of the squares that photos become."
    )


_CIFAR = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"

CARD = TaskCard(
    name="image_classification",
    summary="name what an image shows",
    source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    config=ImageClassificationConfig,
    implementation="tasks.image_classification.task:ImageClassification",
    modalities=("image",),
    metrics={"accuracy": "max", "mean_class_accuracy": "max"},
    primary="accuracy",
    datasets=(
        DatasetCard(
            name="scenes-shapes",
            summary="the shape of one drawn object, 3,000 images and 700 for test",
            source="bundled",
            licence="Apache-2.0",
            origin="drawn by tasks.scenes, domain shifted",
        ),
        DatasetCard(
            name="cifar10",
            summary="photos of 32 x 32 pixels in ten classes; --data-dir",
            source="folder",
            licence="research use",
            origin=_CIFAR,
        ),
        DatasetCard(
            name="folder",
            summary="any labelled images; never ranked; --data-dir",
            source="folder",
            licence="that of the images",
            origin="the user's",
            part=True,
        ),
    ),
    recipes={
        "quick": {"task.train_rows": 1000, "train.epochs": 3, "train.batch_size": 64},
        "default": {"train.epochs": 6, "train.batch_size": 64},
        "full": {"train.epochs": 15, "train.batch_size": 64},
    },
    backbone="scenes_vl",
)
