"""Image-text retrieval: a text finds its image, and an image its texts."""

from harness.cards import DatasetCard, TaskCard
from tasks.retrieval.cards import BUNDLED, RECIPES, RetrievalConfig, metrics

_COCO = "Lin et al., Microsoft COCO, ECCV 2014; Chen et al., COCO Captions, 2015"

CARD = TaskCard(
    name="image_text_retrieval",
    summary="a text finds its image, and an image its texts",
    source="Karpathy and Fei-Fei, Deep Visual-Semantic Alignments, CVPR 2015",
    config=RetrievalConfig,
    implementation="tasks.image_text_retrieval.task:ImageTextRetrieval",
    modalities=("image", "text"),
    metrics=metrics("image"),
    primary="rsum",
    datasets=(
        DatasetCard(
            name="scenes-captions",
            summary="3,000 drawn scenes with two captions each, 500 more for test",
            source="bundled",
            licence="Apache-2.0",
            origin="drawn by tasks.scenes, domain mixed",
            recipes=BUNDLED,
        ),
        DatasetCard(
            name="flickr30k",
            summary="31,000 photos with five captions each; --data-dir",
            source="folder",
            licence="research use; photos by their owners",
            origin="Young et al., From Image Descriptions to Visual Denotations, TACL 2014",
        ),
        DatasetCard(
            name="coco",
            summary="123,000 photos with five captions each; --data-dir",
            source="folder",
            licence="CC BY 4.0; photos by their owners",
            origin=_COCO,
        ),
        DatasetCard(
            name="coco-mini",
            summary="any part of it, in the same files; never ranked; --data-dir",
            source="folder",
            licence="CC BY 4.0; photos by their owners",
            origin=f"a part of {_COCO}",
            part=True,
            recipes={"default": {"train.epochs": 10}},
        ),
    ),
    recipes=RECIPES,
    backbone="scenes_vl",
    groups=("vl",),
)
