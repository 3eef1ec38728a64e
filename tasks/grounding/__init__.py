"""Visual grounding: an image and a referring expression, the box of what it refers to."""

from pathlib import Path

from pydantic import Field

from harness.cards import DatasetCard, TaskCard
from tasks.image_rows import ImageRowsConfig


class GroundingConfig(ImageRowsConfig):
    """Which expressions are used. Subsets are fixed: no run's seed changes them."""

    images_dir: Path | None = Field(
        default=None,
        description="Of a folder: where its images or their archives are, if not beside the rows.",
    )


# Side networks learn places only beside the frozen output: alone they stay at blind scores.
_COMMON = {"train.batch_size": 64, "method.join": "gate"}
_FOLDER = "expressions and boxes; --data-dir"

CARD = TaskCard(
    name="grounding",
    summary="find the box of what an expression refers to",
    source="Yu et al., Modeling Context in Referring Expressions, ECCV 2016",
    config=GroundingConfig,
    implementation="tasks.grounding.task:Grounding",
    modalities=("image", "text"),
    metrics={"accuracy@0.5": "max", "accuracy@0.5/giou": "max", "mean_iou": "max"},
    primary="accuracy@0.5",
    datasets=(
        DatasetCard(
            name="scenes-boxes",
            summary="expressions for the objects of 4,000 drawn scenes, and of 400 more for test",
            source="bundled",
            licence="Apache-2.0",
            origin="drawn by tasks.scenes, domain mixed",
        ),
        *(
            DatasetCard(
                name=name,
                summary=_FOLDER,
                source="folder",
                licence="Apache-2.0; COCO photos by their owners",
                origin=origin,
            )
            for name, origin in (
                ("refcoco", "Yu et al., ECCV 2016"),
                ("refcoco+", "Yu et al., ECCV 2016"),
                ("refcocog", "Mao et al., CVPR 2016"),
            )
        ),
        DatasetCard(
            name="coco-boxes",
            summary="expressions made by rule for boxes of COCO; --data-dir",
            source="folder",
            licence="CC BY 4.0; photos by their owners",
            origin="after Lin et al., Microsoft COCO, ECCV 2014",
            part=True,
        ),
        DatasetCard(
            name="nlvr-objects",
            summary="expressions made by rule for the drawn objects of NLVR; --data-dir",
            source="folder",
            licence="CC BY 4.0",
            origin="after Suhr et al., NLVR, ACL 2017",
            part=True,
        ),
    ),
    recipes={
        "quick": {"task.train_rows": 4000, "train.epochs": 10, **_COMMON},
        "default": {"train.epochs": 10, **_COMMON},
        "full": {"train.epochs": 25, **_COMMON},
    },
    backbone="scenes_vl",
    groups=("vl",),
)
