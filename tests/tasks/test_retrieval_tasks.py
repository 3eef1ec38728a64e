"""Retrieval: losses, heads, and a run that learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from harness.backbones.scenes_vl import ScenesVLConfig
from harness.backbones.scenes_vl.model import ScenesVL
from harness.cards import TASKS
from harness.config import RunRequest, resolve
from harness.errors import UserError
from harness.model import build_model, build_task
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.small import SMALL_BACKBONES, random_inputs, small_backbone
from tasks.retrieval.cards import RetrievalConfig
from tasks.retrieval.head import PairHead
from tasks.retrieval.loss import hinge, infonce
from tasks.retrieval.pairs import candidates
from tasks.subsets import carve_groups

TEXTS = ["a red circle", "two", "the star is blue", "no"]


def pairs(rows: int = 6, width: int = 5) -> torch.Tensor:
    drawn = torch.randn(rows, 2, width, generator=torch.Generator().manual_seed(0))
    return F.normalize(drawn.double(), dim=2)


def test_infonce_is_the_mean_over_both_directions():
    found = pairs()
    first = torch.tensor([0, 1, 2, 1, 3, 4])  # rows 1 and 3 show the same image
    expected = 0.0
    for a, b in ((0, 1), (1, 0)):
        for i in range(6):
            others = [j for j in range(6) if j == i or first[j] != first[i]]
            scores = torch.stack([found[i, a] @ found[j, b] for j in others])
            own = found[i, a] @ found[i, b]
            expected += float(torch.logsumexp(scores, 0) - own) / 12
    assert float(infonce(found, first)) == pytest.approx(expected)


def test_hinge_takes_the_hardest_negative():
    found = pairs()
    first = torch.tensor([0, 1, 2, 1, 3, 4])
    expected = 0.0
    for a, b in ((0, 1), (1, 0)):
        for i in range(6):
            own = found[i, a] @ found[i, b]
            others = [found[i, a] @ found[j, b] for j in range(6) if first[j] != first[i]]
            expected += max(0.0, float(0.2 + max(others) - own)) / 6
    assert float(hinge(found, first, 0.2)) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["scenes_vl", "vse", "clip"])
@pytest.mark.parametrize("scaled", [True, False])
def test_embeddings_have_length_one_but_for_the_scale(name, scaled):
    backbone = small_backbone(name)
    head = PairHead(backbone, ("image", "text"), 12, (), scaled=scaled)
    inputs = random_inputs(backbone, TEXTS)
    output = head(backbone.encode_all(("image", "text"), inputs))
    lengths = output.norm(dim=2)
    assert torch.allclose(lengths[:, 1], torch.ones(4), atol=1e-5)
    assert torch.allclose(lengths[:, 0], torch.full((4,), 1 / 0.07 if scaled else 1.0), rtol=1e-4)
    own = {id(p) for p in backbone.parameters()}
    assert not own & {id(p) for p in head.parameters()}


def test_the_carved_validation_shares_no_group():
    groups = np.arange(40) // 2
    kept, held = carve_groups(groups, 0.1)
    assert not set(groups[kept]) & set(groups[held])
    assert len(held) == 4
    assert sorted([*kept, *held]) == list(range(40))


def fifty_images(**config):
    """Return a retrieval task, and its data with a test split of 50 images."""
    task = TASKS.load("image_text_retrieval")(RetrievalConfig(**config), "scenes-captions", None, 0)
    data = task.load(limit=60)
    test = data.splits["test"]
    kept = test.select(np.flatnonzero(candidates(test)[1] < 50))
    return task, replace(data, splits={**data.splits, "test": kept})


@pytest.mark.parametrize("config", [{}, {"fold_images": 10}, {"caption_sets": True}])
def test_chance_is_what_random_embeddings_reach(config):
    task, data = fifty_images(**config)
    test, generator = data.splits["test"], np.random.default_rng(0)
    scores = [
        task.metrics(generator.normal(size=(len(test), 2, 8)).astype(np.float32), test)["rsum"]
        for _ in range(200)
    ]
    assert np.mean(scores) == pytest.approx(task.baselines(data)["chance"], rel=0.05)


def test_folds_must_be_whole():
    task, data = fifty_images(fold_images=9)
    test = data.splits["test"]
    with pytest.raises(UserError, match="50 images do not make whole folds of 9"):
        task.metrics(np.ones((len(test), 2, 8), np.float32), test)


@pytest.fixture
def request_of(tmp_path):
    def make(method: str, backbone: str, *overrides: str) -> RunRequest:
        small = [
            f"backbone.{key}={value}"
            for key, value in SMALL_BACKBONES[backbone].items()
            if not isinstance(value, dict)
        ]
        inner = [
            f"backbone.{key}.{field}={value}"
            for key, values in SMALL_BACKBONES[backbone].items()
            if isinstance(values, dict)
            for field, value in values.items()
        ]
        return RunRequest(
            method=method,
            task="image_text_retrieval",
            backbone=backbone,
            weights="random",
            limit=40,
            overrides=(*small, *inner, "train.epochs=1", "memory.profile=false", *overrides),
        )

    return make


@pytest.mark.parametrize(
    ("method", "backbone", "setting"),
    [
        ("unipt", "clip", "method.output=embedding method.join=none"),
        ("unipt", "vse", "method.output=projected method.join=none"),
        pytest.param("lst", "vse", "task.loss=hinge memory.profile=true", marks=pytest.mark.slow),
        ("lora", "clip", "task.loss=infonce"),
    ],
)
def test_methods_run_on_two_towers(method, backbone, setting, request_of, tmp_path):
    record = run(
        resolve(request_of(method, backbone, *setting.split())),
        RunOptions(output=tmp_path, tracking_uri="off", verbosity=-1),
    )
    assert record.status == "done", record.error
    assert 0 <= record.metrics.test["rsum"] <= 6
    assert record.metrics.baselines.keys() == {"chance"}


def test_an_embedding_of_its_own_is_taken_as_it_is(request_of):
    config = resolve(request_of("unipt", "clip", "method.output=embedding", "method.join=none"))
    task = build_task(config)
    built = build_model(config, task, torch.device("cpu"))
    assert built.model.method.embedded == ("image", "text")
    assert not built.model.head.projections


def test_a_backbone_without_a_text_stream_of_its_own_is_refused():
    task = TASKS.load("image_text_retrieval")(RetrievalConfig(), "scenes-captions", None, 0)
    with pytest.raises(UserError, match="stream of its own for texts"):
        task.reads(small_backbone("timm_vision"))


def test_the_bundled_backbone_learns_to_match_unseen_domains(tmp_path):
    record = run(
        resolve(
            RunRequest(
                method="linear_probe",
                task="image_text_retrieval",
                limit=400,
                overrides=("train.epochs=8", "memory.profile=false", "train.batch_size=64"),
            )
        ),
        RunOptions(output=tmp_path, tracking_uri="off", verbosity=-1),
    )
    first, *_, last = (epoch.val["rsum"] for epoch in record.history)
    assert last > first
    assert record.metrics.test["rsum"] > 4


def test_the_head_goes_on_from_pretrained_projections_where_there_are_any():
    backbone = ScenesVL.build(ScenesVLConfig())
    head = PairHead(backbone, ("image", "text"), 64, (), scaled=True)
    with safe_open(backbone.weights_path, framework="pt") as file:
        for stream, layer in head.projections.items():
            pretrained = file.get_tensor(f"pretraining_heads.{stream}_projection.weight")
            assert torch.equal(layer.weight, pretrained)
            assert layer.weight.requires_grad
    random = ScenesVL.build(ScenesVLConfig(), weights="random")
    widths = {
        len(p.weight)
        for p in PairHead(random, ("image", "text"), 64, (), scaled=True).projections.values()
    }
    assert widths == {64}
