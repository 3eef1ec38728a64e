"""Input statistics of quantised linear layers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.quantization.modules import QuantizedLinear


@dataclass
class Moments:
    """Sums over a layer's input vectors x, on the CPU.

    Attributes:
        outer: [C, C] fp32 sum of x x^T.
        total: [C] fp32 sum of x.
        count: number of vectors.
    """

    outer: Tensor
    total: Tensor
    count: int = 0

    @classmethod
    def zeros(cls, columns: int) -> "Moments":
        """Start from nothing."""
        return cls(torch.zeros(columns, columns), torch.zeros(columns))

    def add(self, x: Tensor) -> None:
        """Add the vectors of ``x`` [..., C]."""
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        self.outer += (rows.T @ rows).cpu()
        self.total += rows.sum(0).cpu()
        self.count += rows.shape[0]

    @property
    def bytes(self) -> int:
        """Bytes held on the host."""
        return self.outer.nbytes + self.total.nbytes

    @property
    def mean(self) -> Tensor:
        """[C] mean of x."""
        return self.total / self.count

    def second_moment(self, about: Tensor | None = None) -> Tensor:
        """Return E[(x - a)(x - a)^T] as [C, C] fp32, with a = ``about`` [C], or zero."""
        moment = self.outer / self.count
        if about is None:
            return moment
        cross = torch.outer(about, self.mean)
        return moment - cross - cross.T + torch.outer(about, about)


@contextmanager
def watched_inputs(
    modules: Mapping[str, nn.Module], see: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Call ``see(name, x)`` with what a module reads, before each of its forward passes."""

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: see(name, inputs[0])

    handles = [m.register_forward_pre_hook(watch(name)) for name, m in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def collect(
    modules: Mapping[str, QuantizedLinear], run_forward: Callable[[], None]
) -> dict[str, Moments]:
    """Run the model and gather the input moments of its layers.

    Args:
        modules: the layers by name.
        run_forward: runs the calibration rows through the model.

    Returns:
        Moments by name, of the layers that ``run_forward`` reached.
    """
    moments = {name: Moments.zeros(module.in_features) for name, module in modules.items()}
    with torch.no_grad(), watched_inputs(modules, lambda name, x: moments[name].add(x)):
        run_forward()
    return {name: found for name, found in moments.items() if found.count}
