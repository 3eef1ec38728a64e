"""The contract suites, run for everything that is registered."""

import pytest

from harness.cards import BACKBONES, METHODS, TASKS
from harness.testing.backbones import TinyBackbone, TinyConfig, tiny_inputs
from harness.testing.contracts import BackboneContract, MethodContract, TaskContract
from harness.testing.methods import ProbedModel, TinyContext, build_method, train_steps
from harness.testing.small import SMALL_BACKBONES


@pytest.fixture(scope="class", params=METHODS.names())
def method_name(request):
    request.cls.name = request.param


@pytest.mark.usefixtures("method_name")
class TestEveryMethod(MethodContract):
    pass


@pytest.mark.parametrize(
    "variant",
    [
        f"{name}@{preset}"
        for name in METHODS.names()
        for preset in METHODS.card(name).presets
        if METHODS.card(name).package is None  # the types of a library have tests of their own
    ],
)
def test_every_preset_trains(variant):
    model = ProbedModel(build_method(variant))
    inputs = tiny_inputs(TinyBackbone.build(TinyConfig()))
    context = TinyContext(model, inputs, epochs=2)
    model.method.on_fit_start(context)
    for epoch in range(context.epochs):
        model.method.on_epoch_start(context, epoch)
        train_steps(model, inputs)
    assert model.loss(inputs).isfinite()


@pytest.fixture(scope="class", params=BACKBONES.names())
def backbone_name(request):
    request.cls.name = request.param
    request.cls.settings = SMALL_BACKBONES.get(request.param, {})


@pytest.mark.usefixtures("backbone_name")
class TestEveryBackbone(BackboneContract):
    pass


def _datasets():
    """Yield task and dataset: of several that are read from folders, the last one alone."""
    for name in TASKS.names():
        folders = [card.name for card in TASKS.card(name).datasets if card.source == "folder"]
        for card in TASKS.card(name).datasets:
            if card.source != "folder" or card.name == folders[-1]:
                yield name, card.name


@pytest.fixture(
    scope="class",
    params=list(_datasets()),
    ids="-".join,
)
def task_and_dataset(request):
    request.cls.name, request.cls.dataset = request.param


@pytest.mark.usefixtures("task_and_dataset")
class TestEveryTask(TaskContract):
    pass
