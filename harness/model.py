"""The adapted model with its task head, and how it is built from a configuration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, Inputs
from harness.cards import BACKBONES, LOW_BIT, METHODS, TASKS
from harness.checkpoint import Tensors, load_trained, prefixed, trained_tensors, unprefixed
from harness.config import RunConfig, device_problem
from harness.errors import UserError
from harness.hub import data_folder
from harness.recompute import recompute_blocks
from harness.record import Params
from harness.registry import import_attribute
from methods.base import Batch, FitContext, Method, States
from tasks.base import Task


class AdaptedModel(nn.Module):
    """A method's adapted backbone and the task's head.

    Args:
        method: the adapted backbone.
        head: from states to the task's output.
    """

    def __init__(self, method: Method, head: nn.Module) -> None:
        super().__init__()
        self.method = method
        self.head = head

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the head's output for raw inputs."""
        return self.head(self.method(inputs))

    def from_states(self, states: States) -> Tensor:
        """Return the head's output for what the method's ``encode`` returned, or a store of it."""
        return self.head(self.method.adapt(states))

    def compile_steps(self) -> None:
        """Have the forward passes of training and evaluation compiled when they are next run."""
        self.forward = torch.compile(self.forward)  # type: ignore[method-assign]
        self.from_states = torch.compile(self.from_states)  # type: ignore[method-assign]

    def on_fit_start(self, ctx: FitContext) -> None:
        """Calibrate a low-bit backbone where it asks for rows; then the method prepares itself."""
        low_bit = self.method.backbone.low_bit
        if low_bit.calibration_rows:
            with ctx.phase("init"):
                low_bit.calibrate(lambda: self._read(ctx.calibration(low_bit.calibration_rows)))
        self.method.on_fit_start(ctx)

    @torch.no_grad()
    def _read(self, batches: Iterable[Batch]) -> None:
        """Run rows through the backbone without dropout."""
        training = self.method.training
        self.method.eval()
        for batch in batches:
            self.method.backbone.encode_all(self.method.reads, batch.inputs)
        self.method.train(training)

    def fitted_tensors(self) -> Tensors:
        """Return copies of everything that the fitted model is beyond the backbone's weights."""
        held = {
            **prefixed("extra", self.method.extra_state()),
            **prefixed("backbone", self.method.backbone.low_bit.state()),
        }
        copies = {name: tensor.detach().clone() for name, tensor in held.items()}
        return {**prefixed("trained", trained_tensors(self)), **copies}

    def load_fitted(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what ``fitted_tensors`` returned."""
        load_trained(self, unprefixed("trained", tensors))
        self.method.load_extra_state(unprefixed("extra", tensors))
        self.method.backbone.low_bit.load_state(unprefixed("backbone", tensors))

    def quality(self) -> dict[str, Any]:
        """Return figures of the fitted model, those of a low-bit backbone included."""
        return {**self.method.backbone.low_bit.quality(), **self.method.quality()}

    def host_bytes(self) -> dict[str, int]:
        """Return the peak bytes that backbone and method held outside the model."""
        return {**self.method.backbone.low_bit.host_bytes(), **self.method.host_bytes()}

    def regions(self) -> dict[str, nn.Module]:
        """Return the modules to which saved activations are charged."""
        return {"backbone": self.method.backbone, "side": self.method, "head": self.head}


@dataclass(frozen=True)
class Built:
    """A model and the size of its backbone before the method changed it."""

    model: AdaptedModel
    backbone_parameters: int
    weights_hash: str

    def params(self) -> Params:
        """Count trainable and total parameters; percent is of the backbone's own."""
        method, head = self.model.method, self.model.head
        parts = {name: count(part) for name, part in method.parts().items()}
        parts["head"] = count(p for p in head.parameters() if p.requires_grad)
        trainable = count(p for p in self.model.parameters() if p.requires_grad)
        own = {id(p) for p in method.backbone.parameters()} - {id(p) for p in method.inserted()}
        added = count(p for p in self.model.parameters() if id(p) not in own)
        return Params(
            trainable=trainable,
            total=self.backbone_parameters + added,
            percent=100 * trainable / self.backbone_parameters,
            denominator=self.backbone_parameters,
            parts=parts,
        )


def count(parameters: object) -> int:
    """Return the number of elements of some parameters."""
    return sum(p.numel() for p in parameters)  # type: ignore[attr-defined]


def build_task(config: RunConfig) -> Task:
    """Return the configured task, without loading its data.

    Raises:
        UserError: its folder is wrong, or cannot be fetched from a hub.
    """
    choice = config.task
    folder = data_folder(choice.data_dir)
    return TASKS.load(choice.name)(choice.config, choice.dataset, folder, config.seed)


def build_model(config: RunConfig, task: Task, device: torch.device) -> Built:
    """Build backbone, method and head; random initialisation follows the global generator.

    Raises:
        UserError: the weights are missing or damaged, or the parts do not fit.
    """
    choice = config.backbone
    backbone: Backbone = BACKBONES.load(choice.name).build(
        choice.config, weights=choice.weights, device=device
    )
    size = count(backbone.parameters())
    weights_hash = backbone.weights_hash
    head = None if task.embeds else task.build_head(backbone)
    method = adapt(config, backbone, task.reads(backbone)).to(device)
    if head is None:
        head = task.build_head(backbone, method.embedded)
    elif method.embedded:
        raise UserError(
            f"method.output: method '{config.method.name}' brings {', '.join(method.embedded)} to "
            f"the width of an embedding, but task '{config.task.name}' compares none; "
            f"leave method.output=state."
        )
    return Built(AdaptedModel(method, head.to(device)), size, weights_hash)


def adapt(config: RunConfig, backbone: Backbone, reads: Sequence[str]) -> Method:
    """Return the configured method on a backbone, which is stored and recomputed as configured.

    Args:
        config: of the method, the backbone's bits and the recomputation of its blocks.
        backbone: changed in place.
        reads: the streams that the head reads.

    Raises:
        UserError: the parts do not fit.
    """
    quantize = config.backbone.quantize
    if quantize.quantize != "none":
        backbone.low_bit = import_attribute(LOW_BIT)(backbone, quantize)
    method = METHODS.load(config.method.name)(config.method.config, backbone, reads)
    if config.train.grad_checkpoint:
        recompute_blocks(backbone)
    return method


def pick_device(text: str) -> torch.device:
    """Return the device of ``auto``, ``cpu``, ``cuda`` or ``cuda:INDEX``.

    Raises:
        UserError: this is no name of a device, or it does not exist on this machine.
    """
    problem = device_problem(text)
    if problem:
        raise UserError(problem)
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(text)
    if device.type == "cuda":
        found = torch.cuda.device_count()
        if (device.index or 0) >= found:
            known = ", ".join(["cpu", *(f"cuda:{i}" for i in range(found))])
            raise UserError(f"--device {text}: this machine has no such device. Present: {known}.")
    return device
