"""Video-text retrieval: a text finds its video, and a video its texts."""

from harness.cards import DatasetCard, TaskCard
from tasks.retrieval.cards import BUNDLED, RECIPES, RetrievalConfig, metrics

_MSRVTT = "Xu et al., MSR-VTT, CVPR 2016"

CARD = TaskCard(
    name="video_text_retrieval",
    summary="a text finds its video, and a video its texts, by the mean of its frames",
    source="Luo et al., CLIP4Clip, 2021",
    config=RetrievalConfig,
    implementation="tasks.video_text_retrieval.task:VideoTextRetrieval",
    modalities=("image", "text"),
    metrics=metrics("video"),
    primary="rsum",
    datasets=(
        DatasetCard(
            name="scenes-clips",
            summary="1,500 clips of four frames in which one shape moves, 300 more for test",
            source="bundled",
            licence="Apache-2.0",
            origin="drawn by tasks.scenes, domain mixed",
            recipes=BUNDLED,
        ),
        DatasetCard(
            name="msrvtt",
            summary="10,000 web videos as frames, twenty captions each; --data-dir",
            source="folder",
            licence="research use; videos by their owners",
            origin=_MSRVTT,
        ),
        DatasetCard(
            name="msrvtt-frames",
            summary="any part of it, in the same files; never ranked; --data-dir",
            source="folder",
            licence="research use; videos by their owners",
            origin=f"a part of {_MSRVTT}",
            part=True,
        ),
        DatasetCard(
            name="msvd",
            summary="1,970 web videos as frames, forty captions each; --data-dir",
            source="folder",
            licence="research use; videos by their owners",
            origin="Chen and Dolan, Collecting Highly Parallel Data, ACL 2011",
            recipes={name: {"task.caption_sets": True} for name in RECIPES},
        ),
    ),
    recipes=RECIPES,
    backbone="scenes_vl",
    groups=("vl",),
)
