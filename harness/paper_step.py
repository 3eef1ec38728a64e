"""The training step of a method on a backbone at the papers' batch: without data or weights.

Everything is made of fake tensors, so that a step of any size can be predicted on any machine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from harness.backbones.base import Backbone, Inputs
from harness.cards import BACKBONES, METHODS, PaperStep
from harness.config import RunConfig, RunRequest, resolve
from harness.errors import ConfigError, UserError
from harness.memory.predict import predict_built
from harness.memory.report import MemoryReport
from harness.memory.step import StepProgram
from harness.model import AdaptedModel, adapt
from harness.optimizers import make_optimizer
from harness.precision import autocast
from harness.registry import unknown

CPU = torch.device("cpu")
IMAGE_SIZE = (64, 64)
"""Of raw images, where a backbone brings them to its size before a batch is made."""


@dataclass(frozen=True)
class StepRequest:
    """Whose step is predicted; None stands for the paper's.

    Attributes:
        method: ``name`` or ``name@preset``.
        backbone: ``name`` or ``name@preset``.
        batch_size: rows.
        source_length: tokens of a text that is read.
        target_length: tokens of a text that is written.
        overrides: ``section.field=value`` settings.
        amp: off or bf16.
        grad_checkpoint: whether blocks run again in the backward pass.
    """

    method: str
    backbone: str
    batch_size: int | None = None
    source_length: int | None = None
    target_length: int | None = None
    overrides: tuple[str, ...] = ()
    amp: str | None = None
    grad_checkpoint: bool | None = None


def predict_step(request: StepRequest, target: str = "cuda") -> MemoryReport:
    """Predict the memory of the step.

    Args:
        request: the step.
        target: ``cuda`` or ``cpu``, whose kernels' saved tensors are counted.

    Raises:
        UserError: a name or a setting is wrong, or the backbone cannot carry the method.
    """
    config, shape = checked_step(request)
    return predict_built(lambda: paper_program(config, shape), target=target)


def checked_step(request: StepRequest) -> tuple[RunConfig, PaperStep]:
    """Return configuration and sizes of a step that the backbone can take.

    Raises:
        ConfigError: names or settings are wrong.
        UserError: a text is too long.
    """
    problems = [
        *unknown(METHODS, request.method),
        *unknown(BACKBONES, request.backbone),
        *_ambiguous(request),
    ]
    if problems:
        raise ConfigError(problems)
    shape = step_shape(request)
    config = step_config(request, shape)
    _check_length(config, shape)
    return config, shape


def _ambiguous(request: StepRequest) -> Iterator[str]:
    """Say what of a request would be passed over, or is of no device."""
    for text in request.overrides:
        field, _, value = text.partition("=")
        if field.strip() == "train.batch_size":
            yield f"--set {text}: the rows of this step are --batch-size {value.strip()}."
    if request.amp == "auto":
        yield "--amp auto: a predicted step is of no device in particular; write off or bf16."


def step_shape(request: StepRequest) -> PaperStep:
    """Return the paper's step of a backbone with the sizes that were asked for.

    Raises:
        UserError: there is no such backbone.
    """
    asked = {
        name: value
        for name in ("batch_size", "source_length", "target_length")
        if (value := getattr(request, name)) is not None
    }
    return BACKBONES.choose(request.backbone).card.paper.model_copy(update=asked)


def step_config(request: StepRequest, shape: PaperStep) -> RunConfig:
    """Return the configuration of the paper's task with the method on the backbone.

    Raises:
        ConfigError: with every problem found.
    """
    return resolve(
        RunRequest(
            method=request.method,
            task=shape.task,
            dataset=shape.dataset,
            recipe=shape.recipe,
            backbone=request.backbone,
            weights="random",
            overrides=(*request.overrides, f"train.batch_size={shape.batch_size}"),
            device="cpu",
            amp=request.amp,
            grad_checkpoint=request.grad_checkpoint,
        )
    )


def _check_length(config: RunConfig, shape: PaperStep) -> None:
    choice = config.backbone
    positions = BACKBONES.load(choice.name).text_positions(choice.config)
    if positions is not None and shape.source_length > positions:
        raise UserError(
            f"--source-length {shape.source_length}: backbone '{choice.label}' has "
            f"{positions} positions."
        )


def paper_program(config: RunConfig, shape: PaperStep, device: torch.device = CPU) -> StepProgram:
    """Build model and step, of real or, in their mode, of fake tensors.

    Args:
        config: method, backbone and training.
        shape: rows and lengths of the batch.
        device: of model and batch.

    Raises:
        UserError: the method trains nothing.
    """
    model = _build(config, device)
    backbone, train = model.method.backbone, config.train
    rows = shape.model_copy(update={"batch_size": train.rows_at_once})

    def output(model: nn.Module, inputs: Inputs) -> Any:
        assert isinstance(model, AdaptedModel)
        states = model.method(inputs)
        return model.method.backbone.paper_output(model.head, states, model.method.embedded)

    def loss(model: nn.Module, output: Any, inputs: Inputs) -> Tensor:
        assert isinstance(model, AdaptedModel)
        return model.method.backbone.paper_loss(output, inputs)

    return StepProgram(
        model=model,
        regions=model.regions(),
        make_batch=lambda: {n: t.to(device) for n, t in blank_inputs(backbone, rows).items()},
        output=output,
        loss=loss,
        make_optimizer=lambda m: make_optimizer(m, train),  # type: ignore[arg-type]
        precision=lambda: autocast(device, train),
        clip_norm=train.clip_norm,
        accumulation_steps=train.grad_accum,
    )


def _build(config: RunConfig, device: torch.device) -> AdaptedModel:
    choice = config.backbone
    backbone = BACKBONES.load(choice.name).build(
        choice.config, weights=choice.weights, device=device
    )
    method = adapt(config, backbone, backbone.paper_reads)
    model = AdaptedModel(method, backbone.paper_head(method.embedded))
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(
            f"Method '{config.method.label}' trains nothing on backbone '{choice.label}', whose "
            f"head is frozen: there is no step to predict."
        )
    return model.to(device)


def blank_inputs(backbone: Backbone, shape: PaperStep) -> dict[str, Tensor]:
    """Return a batch of blank images and texts, every text as long as ``shape`` says.

    Args:
        backbone: whose processors tell what its inputs are.
        shape: rows and lengths.
    """
    inputs: dict[str, Tensor] = {}
    lengths = {"text": shape.source_length, "target": shape.target_length}
    for modality in dict.fromkeys(spec.modality for spec in backbone.specs if spec.modality):
        with unset_fake_temporarily():
            unit = _unit(backbone, modality)
        for name, value in unit.items():
            if modality in lengths:
                size = (shape.batch_size, lengths[modality])
                inputs[name] = value[:, :1].expand(size).contiguous()
            else:
                rows = shape.batch_size * shape.frames
                inputs[name] = value.expand(rows, *value.shape[1:]).contiguous()
    return inputs


def _unit(backbone: Backbone, modality: str) -> Mapping[str, Tensor]:
    """Return the inputs of one image, or of one short text."""
    if modality == "image":
        from harness.backbones.vision import PixelScale

        sizes = [m.size for m in backbone.modules() if isinstance(m, PixelScale)]
        height, width = (sizes or [IMAGE_SIZE])[0]
        return backbone.processors()[modality](np.zeros((1, height, width, 3), dtype=np.uint8))
    return backbone.processors()[modality](["a"])
