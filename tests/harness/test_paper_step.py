"""Predicted steps of the papers' batches: every method, every backbone, no weights."""

import json
import re

import pytest
import torch

from harness.cards import BACKBONES, METHODS
from harness.cli import execute
from harness.errors import UserError
from harness.memory.measure import measure
from harness.memory_table import memory_rows, table_methods
from harness.paper_step import StepRequest, paper_program, predict_step, step_config, step_shape
from harness.testing.runs import small_step
from harness.testing.small import SMALL_BACKBONES
from reports.published import PRINTED, published_memory

OWN_METHODS = [name for name in METHODS.names() if METHODS.card(name).package is None]


@pytest.mark.parametrize("backbone", sorted(SMALL_BACKBONES))
@pytest.mark.parametrize("method", [pytest.param("full", marks=pytest.mark.slow), "mp_ismoe"])
def test_every_backbone_has_a_step(method, backbone):
    report = predict_step(small_step(method, backbone))
    assert report.source == "predicted"
    assert report.device == "cuda"
    assert sum(report.at_peak_bytes.values()) == report.train_peak_bytes
    if METHODS.card(method).frozen_backbone:
        assert report.at_peak_bytes.get("saved_backbone", 0) == 0


@pytest.mark.parametrize("method", [name for name in OWN_METHODS if name != "linear_probe"])
def test_every_method_has_a_step_on_a_t5(method):
    report = predict_step(small_step(method, "t5"))
    assert report.train_peak_bytes > report.phase_peak_bytes["load"]


@pytest.mark.parametrize("method", ["full", "mp_ismoe"])
def test_a_predicted_step_is_the_measured_one(method):
    request = small_step(method, "t5")
    predicted = predict_step(request, target="cpu")
    torch.manual_seed(0)
    shape = step_shape(request)
    measured = measure(paper_program(step_config(request, shape), shape))
    assert predicted.train_peak_bytes == measured.traced_train_peak_bytes
    assert predicted.train_peak_bytes == measured.predicted_train_peak_bytes
    assert 0 <= measured.train_peak_bytes - predicted.train_peak_bytes <= 64


@pytest.mark.parametrize("method", ["full", "unipt"])
def test_peaks_grow_with_the_batch(method):
    few, many = (
        predict_step(small_step(method, "t5", batch_size=rows)).train_peak_bytes for rows in (2, 6)
    )
    assert few < many


def test_recomputed_blocks_keep_the_masks_that_cuda_keeps():
    plain, again = (
        predict_step(small_step("lora", "t5", "backbone.dropout=0.1", *more))
        for more in ((), ("train.grad_checkpoint=true",))
    )
    assert again.at_peak_bytes["saved_backbone"] < plain.at_peak_bytes["saved_backbone"]


def test_a_method_that_trains_nothing_has_no_step():
    with pytest.raises(UserError, match=r"'linear_probe' trains nothing on backbone 't5'"):
        predict_step(small_step("linear_probe", "t5"))


@pytest.mark.parametrize("backbone", [n for n in BACKBONES.names() if not n.startswith("t")])
def test_a_text_is_no_longer_than_the_positions(backbone):
    """T5's positions are relative, and `timm_vision` reads no text."""
    with pytest.raises(UserError, match=rf"--source-length 600: backbone '{backbone}.*' has \d+"):
        predict_step(StepRequest("lst", backbone, source_length=600))


def test_wrong_names_are_told_together():
    with pytest.raises(UserError, match=r"(?s)'lts'.*'lst'.*'bert-bas'.*'bert-base'"):
        predict_step(StepRequest("lts", "bert-bas"))


def test_a_row_says_why_it_is_empty_and_shares_are_of_full_fine_tuning():
    request = small_step("", "t5")
    rows = list(memory_rows(request, ["full", "linear_probe", "lst"], "cpu", lambda *_: None))
    full, probe, lst = rows
    assert full.of_full == 1
    assert probe.report is None
    assert "trains nothing" in str(probe.reason)
    assert lst.report is not None
    assert full.report is not None
    assert lst.of_full == lst.report.train_peak_bytes / full.report.train_peak_bytes


def test_tables_hold_every_method_as_it_was_published():
    methods = table_methods("t5-base", PRINTED)
    assert methods[0].partition("@")[0] == "full"
    assert {name.partition("@")[0] for name in methods} == set(OWN_METHODS)
    assert {"lst@published", "mp_ismoe@published", "mp_ismoe@sherl"} <= set(methods)


@pytest.mark.parametrize(
    ("backbone", "method", "printed"),
    [
        ("t5-base", "full", 17.6),
        ("t5-base", "mp_ismoe@published", 3.2),
        ("t5-base", "mp_ismoe@sherl", 3.3),
        ("t5-large", "lst@published", 12.2),
        ("clip-vil", "unipt", 11.6),
        ("t5-base", "mp_ismoe@gnp_iq", None),
        ("t5-base", "qst", None),
        ("scenes_vl", "full", None),
    ],
)
def test_published_memory_is_that_of_the_papers_tables(backbone, method, printed):
    assert published_memory(backbone, method) == printed


def test_every_backbone_has_a_task_that_it_reads():
    for name in BACKBONES.names():
        request = StepRequest("full", name)
        assert step_config(request, step_shape(request)).task.name


def test_the_command_prints_one_document(capsys):
    words = "memory predict --method unipt --backbone t5-small --batch-size 2 --json"
    assert execute(words.split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["at_peak_bytes"].values()) == found["train_peak_bytes"]
    assert (found["batch_size"], found["source_length"], found["target"]) == (2, 128, "cuda")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("predict --method lst --backbone t5-base --target tpu", "--target 'tpu'"),
        ("predict --method lst --backbone t5-base --amp fp8", "train.amp=fp8"),
        ("predict --method lst --backbone t5-base --batch-size 0", "--batch-size"),
        ("predict --method lts --backbone t5-base", "Did you mean 'lst'"),
        ("fit --budget 8GB --method lst --backbone t5-base", "such as 8GiB"),
        (
            "fit --budget 1KiB --method lst --backbone t5 --set backbone.layers=1",
            "needs .* GiB with",
        ),
    ],
)
def test_a_wrong_request_is_one_message(words, message, capsys):
    assert execute(["memory", *words.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(message, captured.err)


@pytest.mark.slow
def test_mp_ismoe_is_cheaper_than_its_host_on_t5_base():
    peaks = {
        name: predict_step(StepRequest(name, "t5-base", amp="off")).train_peak_bytes
        for name in ("full", "lst@published", "unipt@published", "mp_ismoe@published")
    }
    own = peaks["mp_ismoe@published"]
    assert own <= 0.12 * peaks["full"]
    assert own <= 0.80 * peaks["unipt@published"]
    assert own <= 0.60 * peaks["lst@published"]
