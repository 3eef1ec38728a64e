"""Real datasets, read whole where ``METL_DATA_DIR`` says that they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from harness.cards import TASKS
from tasks.base import Task, TaskData

DATA = Path(os.environ.get("METL_DATA_DIR", ""))
pytestmark = pytest.mark.skipif(
    "METL_DATA_DIR" not in os.environ, reason="METL_DATA_DIR names no folder of real datasets"
)

# Task, dataset, folder, rows of test, and what the majority or chance scores there.
READ = [
    ("sst2", "sst2", "text/SST-2", 872, 0.509),
    ("cola", "cola-mini", "text/CoLA", 522, 0.0),
    ("mrpc", "mrpc", "text/MRPC", 204, None),
    ("stsb", "stsb", "text/STS-B", 750, 0.0),
    ("rte", "rte-mini", "text/RTE", 139, None),
    ("qnli", "qnli-mini", "text/QNLI", 877, 0.511),
    ("qqp", "qqp-mini", "text/QQP", 2820, None),
    ("mnli", "mnli-mini", "text/MNLI", 200, 0.35),
    ("vqa", "daquar", "vqa/daquar", 2870, 0.055),
    ("vqa", "nlvr", "vqa/nlvr", 1978, 0.553),
    ("image_text_retrieval", "coco-mini", "image_text/coco_mini", 460, None),
    ("video_text_retrieval", "msrvtt-frames", "video_text/msrvtt_frames", 300, None),
    ("grounding", "coco-boxes", "grounding/coco_boxes", 272, None),
    ("grounding", "nlvr-objects", "grounding/nlvr_objects", 3956, None),
    ("image_classification", "folder", "image_cls/cifar10_jpg", 2000, 0.1),
]
IMAGES = {"coco-boxes": "image_text/coco_mini", "nlvr-objects": "vqa/nlvr"}


def loaded(name: str, dataset: str, folder: str) -> tuple[Task, TaskData]:
    settings = {"images_dir": DATA / IMAGES[dataset]} if dataset in IMAGES else {}
    task = TASKS.load(name)(TASKS.card(name).config(**settings), dataset, DATA / folder, 0)
    return task, task.load()


@pytest.mark.parametrize(("name", "dataset", "folder", "rows", "floor"), READ)
def test_a_real_dataset_is_read_whole(name, dataset, folder, rows, floor):
    task, data = loaded(name, dataset, folder)
    assert len(data.splits["test"]) == rows
    assert all(len(split) for split in data.splits.values())
    for modality, units in data.units.items():
        taken = units.take(np.arange(min(8, len(units))))
        assert len(taken) == min(8, len(units)), modality
    if floor is not None:
        assert task.baselines(data)["majority"] == pytest.approx(floor, abs=2e-3)
