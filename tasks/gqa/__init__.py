"""GQA: compositional questions about an image, scored by what they ask and how."""

from harness.cards import DatasetCard, TaskCard
from tasks.vqa import CARD as VQA
from tasks.vqa import VqaConfig

STRUCTURAL = ("query", "verify", "choose", "logical", "compare")
SEMANTIC = ("obj", "attr", "cat", "rel", "global")

CARD = TaskCard(
    name="gqa",
    summary="answer a compositional question about an image",
    source="Hudson and Manning, GQA, CVPR 2019",
    config=VqaConfig,
    implementation="tasks.gqa.task:Gqa",
    modalities=("image", "text"),
    metrics={
        "accuracy": "max",
        "accuracy/open": "max",
        "accuracy/binary": "max",
        **{f"accuracy/structural/{kind}": "max" for kind in STRUCTURAL},
        **{f"accuracy/semantic/{kind}": "max" for kind in SEMANTIC},
        "consistency": "max",
    },
    primary="accuracy",
    datasets=(
        DatasetCard(
            name="scenes-gqa",
            summary="relations, comparisons and logic on the drawn scenes of an unseen domain",
            source="bundled",
            licence="Apache-2.0",
            origin="drawn by tasks.scenes, domain shifted",
        ),
        DatasetCard(
            name="gqa",
            summary="1.1 M balanced questions on 113,000 photos; --data-dir",
            source="folder",
            licence="CC BY 4.0",
            origin="Hudson and Manning, GQA, CVPR 2019",
        ),
    ),
    recipes=VQA.recipes,
    backbone="scenes_vl",
    groups=("vl",),
)
