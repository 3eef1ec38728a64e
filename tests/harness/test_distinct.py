"""What several rows of an evaluated batch read is encoded once, and nothing else changes."""

import numpy as np
import pytest
import torch

from harness.bare_trainer import bare_trainer
from harness.config import resolve
from harness.data import sequential
from harness.distinct import encode_once, meeting_order
from harness.loop import Trainer
from harness.testing.runs import small_request

METHODS = ["full", "prompt", "lst", "unipt", "side_tuning", "mp_ismoe"]
TASKS = ["vqa", "grounding", "image_text_retrieval", "video_text_retrieval"]


def trainer_of(method: str, task_name: str, limit: int = 60) -> Trainer:
    """A trainer that encodes in every step, on few rows."""
    small = small_request(method, "train.eval_batch_size=24", task=task_name, limit=limit)
    trainer = bare_trainer(resolve(small), torch.device("cpu"))
    trainer.model.eval()
    return trainer


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_outputs_are_those_of_a_plain_forward_pass(method: str, task: str) -> None:
    trainer = trainer_of(method, task)
    order = meeting_order(trainer.examples.split("test"), trainer.model.method.specs)
    for part in sequential(len(order), 24):
        plain = trainer.model(trainer.examples.batch("test", order[part]).inputs)
        states = encode_once(trainer.model.method, trainer.examples, "test", order[part])
        torch.testing.assert_close(trainer.model.from_states(states), plain)


def test_predictions_are_in_the_order_of_the_rows() -> None:
    trainer = trainer_of("full", "vqa")
    rows = np.arange(len(trainer.examples.split("test")))
    with torch.no_grad():
        output = trainer.model(trainer.examples.batch("test", rows).inputs)
    expected = trainer.task.predict(output).numpy()
    assert len(np.unique(expected)) > 1
    assert (trainer.evaluate("test")[0] == expected).all()


def test_an_image_is_encoded_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of("full", "vqa", limit=400)
    encoded: list[int] = []
    unit_inputs = trainer.examples.unit_inputs

    def count(modality: str, units: np.ndarray) -> dict[str, torch.Tensor]:
        if modality == "image":
            encoded.append(len(units))
        return unit_inputs(modality, units)

    monkeypatch.setattr(trainer.examples, "unit_inputs", count)
    trainer.evaluate("test")
    images = len(np.unique(trainer.examples.split("test").units["image"]))
    cuts = len(encoded) - 1  # an image whose questions lie in two batches is encoded in both
    assert images <= sum(encoded) <= images + cuts < len(trainer.examples.split("test"))
