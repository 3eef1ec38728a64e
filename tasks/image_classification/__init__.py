"""Image classification: one label an image."""

from harness.cards import DatasetCard, TaskCard
from tasks.image_rows import ImageRowsConfig

_CIFAR = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"

CARD = TaskCard(
    name="image_classification",
    summary="name what an image shows",
    source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    config=ImageRowsConfig,
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
