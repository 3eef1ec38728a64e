"""Grounding, GQA, image classification and videos: what their rows say, and a run of each."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.backbones.base import StreamSpec, StreamState
from harness.cards import TASKS
from harness.config import resolve
from harness.errors import UserError
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.runs import small_request
from harness.testing.small import small_backbone
from tasks.base import Task
from tasks.gqa import SEMANTIC, STRUCTURAL
from tasks.grounding.sources import ScenesBoxes
from tasks.grounding.task import BoxHead, corners, generalized_iou
from tasks.image_classification.sources import ScenesShapes
from tasks.metrics import box_giou, box_iou
from tasks.scenes.clips import FRAMES, MOTIONS, draw_clip, render_clip
from tasks.scenes.scene import IMAGE_SIZE


def task(name: str, folder: Path | None = None, dataset: str | None = None, **config) -> Task:
    card = TASKS.card(name)
    chosen = dataset or card.datasets[0].name
    return TASKS.load(name)(card.config(**config), chosen, folder, 0)


@pytest.mark.parametrize(
    "name", ["grounding", "gqa", "image_classification", "video_text_retrieval"]
)
def test_a_run_on_the_bundled_data_ends_in_a_record(name, tmp_path):
    record = run(
        resolve(small_request("mp_ismoe", "train.epochs=1", task=name)),
        RunOptions(output=tmp_path, tracking_uri="off", verbosity=-1),
    )
    assert record.status == "done", record.error
    assert set(record.metrics.test) <= set(TASKS.card(name).metrics)
    rows = (tmp_path / record.artifacts["predictions"].path).read_text().splitlines()
    assert len([json.loads(row) for row in rows]) == 32


def test_every_drawn_box_is_inside_its_image():
    expressions = ScenesBoxes().expressions("test")
    boxes = expressions.boxes
    assert len(expressions) > 800
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert boxes.min() >= -1 / IMAGE_SIZE
    assert boxes.max() <= 1 + 1 / IMAGE_SIZE
    texts_of: dict[int, list[str]] = {}
    for text, image in zip(expressions.texts, expressions.images.tolist(), strict=True):
        texts_of.setdefault(image, []).append(text)
    assert all(len(set(texts)) == len(texts) for texts in texts_of.values())


def test_the_loss_of_overlap_is_that_of_the_metric():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.rand(200, 4, generator=generator) for _ in range(2))
    one, other = (torch.cat([b[:, :2], b[:, :2] + b[:, 2:]], 1) for b in (one, other))
    found = generalized_iou(one, other).numpy()
    assert found == pytest.approx(box_giou(one.numpy(), other.numpy()), abs=1e-4)


def test_a_right_box_has_no_loss_but_rounding_and_scores_one():
    grounding = task("grounding")
    split = grounding.load(limit=50).splits["test"]
    boxes = torch.from_numpy(split.targets["box"])
    centres = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
    assert torch.allclose(corners(centres), boxes, atol=1e-6)
    assert float(grounding.loss(centres, {"box": boxes})) == pytest.approx(0, abs=1e-4)
    scores = grounding.metrics(grounding.predict(centres).numpy(), split)
    assert scores == pytest.approx({"accuracy@0.5": 1, "accuracy@0.5/giou": 1, "mean_iou": 1})
    worse = centres + 0.2
    assert float(grounding.loss(worse, {"box": boxes})) > 1
    assert box_iou(corners(worse).numpy(), boxes.numpy()).mean() < 0.5


@pytest.mark.parametrize("streams", [("image", "joint"), ("image", "text"), ("decoder",)])
def test_a_box_depends_on_real_tokens_in_any_order(streams):
    torch.manual_seed(0)
    specs = [
        StreamSpec(n, 8, 1, 1, 8, modality=n if n in ("image", "text") else None) for n in streams
    ]
    head = BoxHead(specs)
    order = torch.randperm(5)

    def boxes(change: Callable[[Tensor], Tensor]) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        states = {}
        for name in streams:
            tokens = torch.randn(3, 5, 8, generator=generator)  # [B, N, D]
            mask = torch.arange(5) < torch.tensor([[5], [4], [3]])  # [B, N]
            states[name] = StreamState(change(tokens), change(mask), tokens[:, 0])
        return head(states)

    def hide(values: Tensor) -> Tensor:
        if values.dtype == torch.bool:
            return values
        kept = torch.arange(5)[:, None] < torch.tensor([5, 4, 3])[:, None, None]
        return torch.where(kept, values, 9.0)

    whole = boxes(lambda values: values)
    assert whole.shape == (3, 4)
    assert torch.allclose(boxes(lambda values: values[:, order]), whole, atol=1e-6)
    assert torch.allclose(boxes(hide), whole, atol=1e-6)
    assert not torch.allclose(boxes(lambda v: v if v.dtype == torch.bool else v.flip(2)), whole)


def test_boxes_are_looked_for_in_the_image_that_a_joint_stream_reads():
    grounding = task("grounding")
    assert grounding.reads(small_backbone("scenes_vl")) == ("image", "joint")
    assert grounding.reads(small_backbone("mdetr")) == ("decoder",)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([30, 0, 20, 10], "lies outside its image of 40 x 30"),
        ([-5, 0, 10, 10], "lies outside its image"),
        ([1, 1, 0, 10], "has no area"),
    ],
)
def test_a_wrong_box_is_refused_with_its_line(box, message, tmp_path):
    TASKS.load("grounding").write_example("coco-boxes", tmp_path)
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    lines[4] = json.dumps({**json.loads(lines[4]), "bbox": box})
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=f"line 5: box .*{message}"):
        task("grounding", tmp_path, "coco-boxes")


def test_images_may_lie_in_another_folder(tmp_path):
    TASKS.load("grounding").write_example("coco-boxes", tmp_path / "all")
    (tmp_path / "rows").mkdir()
    for path in (tmp_path / "all").glob("*.jsonl"):
        path.rename(tmp_path / "rows" / path.name)
    with pytest.raises(UserError, match="needs the images"):
        task("grounding", tmp_path / "rows", "coco-boxes")
    asked = task("grounding", tmp_path / "rows", "coco-boxes", images_dir=tmp_path / "all")
    assert len(asked.load().splits["test"]) == 20


def test_types_of_drawn_questions_are_gqas():
    split = task("gqa").load(limit=400).splits["test"]
    types = {tuple(kind.split("/")) for kind in split.columns["question_type"]}
    assert {structural for structural, _ in types} <= set(STRUCTURAL)
    assert {semantic for _, semantic in types} <= set(SEMANTIC)
    assert len(types) >= 5


def test_consistency_is_scored_where_questions_entail_others(tmp_path):
    TASKS.load("gqa").write_example("gqa", tmp_path)
    asked = task("gqa", tmp_path, "gqa", image_size=8)
    split = asked.load().splits["test"]
    right = split.targets["answer"]
    assert asked.metrics(right, split)["consistency"] == 1
    red = np.asarray(["red" in q for q in split.columns["question"]])
    assert asked.metrics(np.where(red, 1 - right, right), split)["consistency"] == 0


def test_entailed_questions_that_are_no_rows_are_counted(tmp_path):
    TASKS.load("gqa").write_example("gqa", tmp_path)
    asked = task("gqa", tmp_path, "gqa", image_size=8)
    assert not any("entailed" in notice for notice in asked.load().notices)
    path = tmp_path / "test.jsonl"
    path.write_text(path.read_text().replace('"entailed": ["test0red"]', '"entailed": ["x"]', 1))
    (notice,) = task("gqa", tmp_path, "gqa", image_size=8).load().notices
    assert notice.startswith("1 of 12 entailed questions are not among the rows of test")


def test_a_label_of_test_alone_is_refused(tmp_path):
    TASKS.load("image_classification").write_example("folder", tmp_path)
    path = tmp_path / "test.jsonl"
    path.write_text(path.read_text().replace('"cat"', '"cow"', 1))
    with pytest.raises(UserError, match=r"line 1: label 'cow' is none of training's, cat, dog"):
        task("image_classification", tmp_path, "folder").load()


def test_drawn_shapes_are_those_of_their_scenes():
    source = ScenesShapes()
    assert len(source.rows("train")) == 3000
    assert set(source.rows("test").labels) == set(range(len(source.labels)))


def test_a_clip_moves_as_its_caption_says():
    for number in range(40):
        clip = draw_clip("shifted", 1, number)
        motion = next(words for words in MOTIONS if words in clip.caption or words == "nowhere")
        mover = [scene.objects[-1] for scene in clip.scenes]
        moved = mover[-1].x - mover[0].x, mover[-1].y - mover[0].y
        assert tuple(np.sign(moved)) == MOTIONS[motion]
        assert mover[0].colour in clip.caption
        assert all(
            thing.x - thing.radius >= 0 and thing.x + thing.radius <= IMAGE_SIZE for thing in mover
        )
    assert render_clip(clip).shape == (FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3)


def test_a_video_is_embedded_by_the_mean_of_its_frames(tmp_path):
    TASKS.load("video_text_retrieval").write_example("msrvtt-frames", tmp_path)
    videos = task("video_text_retrieval", tmp_path, "msrvtt-frames", image_size=16)
    data = videos.load()
    split = data.splits["test"]
    assert split.units["image"].shape == (20, 2)
    assert len(set(split.targets["first"])) == 20
    assert len(data.units["image"]) == 80
    lines = (tmp_path / "test.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    lines[0] = json.dumps({**row, "frames": row["frames"][:1]})
    (tmp_path / "test.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match="as many frames; found 1, 2"):
        task("video_text_retrieval", tmp_path, "msrvtt-frames")
