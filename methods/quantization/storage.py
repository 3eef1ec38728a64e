"""What all low-bit storages of a weight matrix share."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn


class LowBitWeight(nn.Module):
    """A frozen weight matrix, held as packed codes with named metadata.

    Attributes:
        shape: [R, C].
        source_name: name of the master tensor in its file.
        codes: [ceil(bits x R x C / 8)] uint8 buffer; every other buffer is metadata.
        scale: fp32 buffer, one value a group.
        mse: [] fp32 buffer, mean squared error against the master (Eq. 4).
    """

    shape: torch.Size
    source_name: str
    codes: Tensor
    scale: Tensor
    mse: Tensor

    @abstractmethod
    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the weight [R, C] in ``dtype``, a new tensor at every call."""

    @property
    def device(self) -> torch.device:
        """Where the codes live."""
        return self.codes.device

    @property
    def code_bytes(self) -> int:
        """Bytes of the packed codes: ceil(bits x n / 8)."""
        return self.codes.nbytes

    @property
    def metadata_bytes(self) -> int:
        """Bytes of everything but the codes."""
        return sum(b.nbytes for name, b in self.named_buffers() if name != "codes")

    @property
    def quantization_mse(self) -> float:
        """Mean squared error against the master (Eq. 4)."""
        return float(self.mse)

    def memory_categories(self) -> dict[str, str]:
        """Return the memory category of every buffer by its name."""
        metadata = dict.fromkeys(dict(self.named_buffers()), "quantization_metadata")
        return {**metadata, "codes": "quantized_weights"}

    def error_against(self, master: Tensor) -> Tensor:
        """Return the mean squared error [] against ``master`` [R, C] fp32 (Eq. 4)."""
        return (self.dequantize().sub_(master)).square_().mean()


def bias_values(bias: nn.Parameter | LowBitWeight | None) -> Tensor | None:
    """Return a bias [R] in fp32 or as it is stored, new where it is in low bits."""
    return bias.dequantize()[0] if isinstance(bias, LowBitWeight) else bias


def named_codes(weights: Mapping[str, LowBitWeight]) -> Iterator[tuple[str, Tensor]]:
    """Yield every buffer of low-bit weights as ``NAME.BUFFER``."""
    for name, weight in weights.items():
        for buffer, tensor in weight.named_buffers():
            yield f"{name}.{buffer}", tensor


def buffers_hash(buffers: Iterable[tuple[str, Tensor]]) -> str:
    """Return sha256 over buffers by name, but for errors, which no output depends on."""
    digest = hashlib.sha256()
    for name, buffer in buffers:
        if not name.endswith(".mse"):
            digest.update(name.encode())
            digest.update(buffer.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that a layer computes in: autocast's, or that of its input."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
