"""The Method contract: a backbone turned into an adapted model with the same streams' states.

The training loop knows only this file. A method acts through its forward pass and its hooks, so
the loop never names a method.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, Inputs, StreamState
from harness.checkpoint import batch_statistics
from harness.errors import UserError
from harness.memory.regions import executing
from harness.registry import Config
from methods.cache import TokenCache

States = dict[str, StreamState]


@dataclass(frozen=True)
class Batch:
    """Some rows of a split.

    Attributes:
        inputs: what the backbone reads, each [B, ...].
        targets: what the loss reads, each [B, ...].
        rows: [B] long, the rows' positions in their split.
    """

    inputs: Inputs
    targets: Mapping[str, Tensor]
    rows: Tensor


class FitContext(Protocol):
    """What a method may ask for while it is being fitted.

    Attributes:
        generator: the method's own source of randomness, on the CPU.
        epochs: how many epochs the run will have.
        device: where the model lives.
    """

    generator: torch.Generator
    epochs: int
    device: torch.device

    def calibration(self, n: int) -> Iterator[Batch]:
        """Yield batches of, in all, ``n`` rows of the training split, drawn by an own generator.

        No text in a batch is padded.
        """

    def loss(self, batch: Batch) -> Tensor:
        """Return the task's loss of the adapted model on ``batch``, with its graph."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Charge time and memory of the enclosed work to a phase (``init``, ``requantize``)."""


class Method(nn.Module, ABC):
    """An adapted model.

    The constructor freezes or changes the backbone as the method says, and builds what the
    method trains. Random initialisation uses the global generator, which the run has seeded.

    Args:
        config: the method's configuration.
        backbone: the model to adapt; owned by the method from now on.
        reads: the streams that the task's head reads.
    """

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.reads = tuple(reads)
        self.specs = backbone.needed(reads)

    @abstractmethod
    def encode(
        self, stream: str, inputs: Inputs, states: Mapping[str, StreamState], cache: Any = None
    ) -> StreamState:
        """Return one stream's state, from its inputs and its sources' states.

        Args:
            stream: its name.
            inputs: the batch.
            states: the states of the stream's sources.
            cache: the backbone's cache of earlier tokens, where text is written token by token.
        """

    def adapt(self, states: States, cache: TokenCache | None = None) -> States:  # noqa: ARG002
        """Return the adapted states of the streams in ``reads``, from those of all streams.

        Args:
            states: what ``encode`` returned for all needed streams.
            cache: what was seen of earlier tokens, where text is written token by token: the
                causal streams' states are then those of the new tokens alone.
        """
        return states

    def forward(self, inputs: Inputs) -> States:
        """Return the adapted states of the streams in ``reads`` (others may be among them)."""
        return self.adapt(self._encode_all(inputs))

    def _encode_all(self, inputs: Inputs) -> States:
        states: States = {}
        for spec in self.specs:
            states[spec.name] = self.encode(spec.name, inputs, states)
        return states

    def on_fit_start(self, ctx: FitContext) -> None:
        """Prepare before the first step: calibrate a quantiser, prune by Fisher information."""

    def on_epoch_start(self, ctx: FitContext, epoch: int) -> None:
        """Act before epoch ``epoch`` (0-based): for instance re-quantise the backbone."""

    def extra_loss(self) -> Tensor | None:
        """Return a term to add to the loss of the last forward pass, or None."""
        return None

    def param_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups; options given here replace the defaults."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    @property
    def embedded(self) -> tuple[str, ...]:
        """The streams that ``forward`` returns at the width of the backbone's embedding."""
        return ()

    def parts(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the trained parameters by part (``side``, ``experts``, ``norms`` ...)."""
        return {"side": [p for p in self.parameters() if p.requires_grad]}

    def inserted(self) -> Sequence[nn.Parameter]:
        """Return the parameters that the method put inside the backbone's own modules."""
        return ()

    def extra_state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold beyond the trained parameters (codes, generators)."""
        return {}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``extra_state`` returned."""

    def backbone_state_hash(self) -> str:
        """Return a key of everything that changed in the frozen backbone (quantised codes)."""
        return ""

    def statistics(self) -> dict[str, Any]:
        """Return and reset what an epoch's history keeps (expert load, router entropy)."""
        return {}

    def quality(self) -> dict[str, Any]:
        """Return figures of the fitted model (``quantization_mse``, ``dead_experts``)."""
        return {}

    def host_bytes(self) -> dict[str, int]:
        """Return bytes held outside the model (``masters``, ``calibration``) at their peak."""
        return {}


class InPlaceMethod(Method):
    """A method that changes the backbone's own blocks: later streams see adapted states."""

    def require_sites(self, sites: Sized, kind: str) -> None:
        """Refuse a backbone in which the method finds nothing to change.

        Args:
            sites: what it found.
            kind: what it looked for, in the plural.

        Raises:
            UserError: nothing was found.
        """
        if not len(sites):
            streams = ", ".join(spec.name for spec in self.specs)
            raise UserError(
                f"Method '{type(self.config).__name__.removesuffix('Config').lower()}' changes "
                f"{kind}, of which {type(self.backbone).__name__} has none in stream {streams}; "
                f"choose a backbone of transformer blocks, or a side method."
            )

    def encode(
        self, stream: str, inputs: Inputs, states: Mapping[str, StreamState], cache: Any = None
    ) -> StreamState:
        """Run the adapted backbone's stream with gradients; see ``Method.encode``."""
        with executing("backbone"):
            return self.backbone.encode(stream, inputs, states, cache=cache)


class SideMethod(Method):
    """A method whose backbone is frozen and read under ``no_grad``.

    ``frozen`` depends on nothing that is trained, so its result can be stored and used again.

    Attributes:
        reads_taps: whether ``side`` reads hidden states beside the streams' outputs.
    """

    reads_taps: ClassVar[bool] = True

    def __init__(self, config: Config, backbone: Backbone, reads: Sequence[str]) -> None:
        super().__init__(config, backbone, reads)
        backbone.requires_grad_(False)
        backbone.eval()

    def train(self, mode: bool = True) -> "SideMethod":
        """Set the mode of everything but the backbone, whose dropout stays off."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def encode(
        self, stream: str, inputs: Inputs, states: Mapping[str, StreamState], cache: Any = None
    ) -> StreamState:
        """Return the frozen state of one stream; see ``Method.encode``."""
        with executing("backbone"):
            return self.backbone.encode(stream, inputs, states, taps=self.reads_taps, cache=cache)

    def frozen(self, inputs: Inputs) -> States:
        """Return the frozen backbone's states of all needed streams."""
        return self._encode_all(inputs)

    def extra_state(self) -> dict[str, Tensor]:
        """Return the running statistics of the side network's batch norms."""
        found = batch_statistics(self).items()
        return {name: buffer for name, buffer in found if not name.startswith("backbone.")}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the running statistics."""
        for name, buffer in SideMethod.extra_state(self).items():
            buffer.copy_(state[name])

    @abstractmethod
    def side(self, states: States, cache: TokenCache | None = None) -> States:
        """Return the adapted states of the streams in ``reads`` from the frozen states.

        Args:
            states: the frozen states of all needed streams.
            cache: what was seen of earlier tokens, where text is written token by token: the
                causal streams' states are then those of the new tokens alone.
        """

    def adapt(self, states: States, cache: TokenCache | None = None) -> States:
        """Run the side network on frozen states."""
        return self.side(states) if cache is None else self.side(states, cache)
