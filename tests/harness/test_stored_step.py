"""The step of a side method whose backbone's states come out of a store."""

import json

import pytest
import torch

from harness.cli import execute
from harness.errors import UserError
from harness.memory.measure import measure
from harness.paper_step import checked_step, predict_step
from harness.stored_step import predict_stored_step, stored_program
from harness.testing.runs import small_step

SIDE = ["lst", "unipt", "sherl", "qst", "side_tuning", "mp_ismoe"]


@pytest.mark.parametrize("backbone", ["t5", "bert"])
@pytest.mark.parametrize("method", SIDE)
def test_the_backbone_is_not_there(method, backbone):
    request = small_step(method, backbone)
    whole, stored = predict_step(request), predict_stored_step(request)
    for name in ("trainable_weights", "optimizer_state"):
        assert stored.at_peak_bytes[name] == whole.at_peak_bytes[name]
    kept, all_of_it = (
        sum(report.at_peak_bytes[n] for n in ("frozen_weights", "quantized_weights"))
        for report in (stored, whole)
    )
    assert kept < all_of_it
    assert stored.at_peak_bytes["inputs"] > whole.at_peak_bytes["inputs"]


@pytest.mark.parametrize("method", ["unipt", "sherl", "mp_ismoe"])
def test_the_predicted_step_is_the_measured_one(method):
    request = small_step(method, "t5")
    predicted = predict_stored_step(request, target="cpu")
    torch.manual_seed(0)
    measured = measure(stored_program(*checked_step(request)))
    assert predicted.train_peak_bytes == measured.traced_train_peak_bytes
    assert 0 <= measured.train_peak_bytes - predicted.train_peak_bytes <= 64


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_changed_backbone_has_no_states_to_store(method):
    with pytest.raises(UserError, match="no states of it can be stored"):
        predict_stored_step(small_step(method, "t5"))


def test_the_table_has_a_second_row_for_side_methods(capsys):
    words = ["memory", "table", "--backbone", "t5-small", "--methods", "full,unipt"]
    sizes = ["--batch-size", "2", "--source-length", "6", "--target-length", "3"]
    layers = ["--set", "backbone.layers=1", "--stored-features"]
    assert execute([*words, *sizes, *layers, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["method"], row["stored_features"]) for row in rows] == [
        ("full", False),
        ("unipt", False),
        ("unipt", True),
    ]
    assert rows[2]["train_peak_bytes"] < rows[1]["train_peak_bytes"]
    assert rows[2]["inference_peak_bytes"] is None
    assert execute([*words, *sizes, *layers]) == 0
    assert "unipt, stored features" in capsys.readouterr().out
