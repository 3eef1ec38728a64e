"""Full-precision masters, read from their files one tensor at a time and never kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.backbones.base import Backbone
from harness.errors import UserError, did_you_mean
from harness.values import has_values


@dataclass(frozen=True)
class TensorSource:
    """One tensor of a safetensors file.

    Attributes:
        path: the file.
        tensor: its name there.
        rows: how many of its rows, from the first, are the tensor's; None for all.
    """

    path: Path
    tensor: str
    rows: int | None = None


class MasterStore:
    """Reads full-precision tensors again when re-quantisation needs them.

    Nothing stays in memory: every ``read`` opens the file. The files are never written; an
    accumulated master goes to a temporary file of its own.

    Args:
        sources: where each tensor is, by its name.
    """

    def __init__(self, sources: Mapping[str, TensorSource]) -> None:
        self._sources = dict(sources)
        self._replaced: dict[str, TensorSource] = {}
        self._folder: TemporaryDirectory[str] | None = None
        self._joined: tuple[MasterStore, ...] = ()

    @classmethod
    def from_file(
        cls,
        path: Path,
        tensors: Mapping[str, Tensor],
        stored_names: Mapping[str, str] | None = None,
    ) -> "MasterStore":
        """Read tensors from one weight file.

        Args:
            path: safetensors file.
            tensors: the tensors that it must hold, by name; their values are not looked at. The
                file's may have more rows.
            stored_names: names in the file of those that have another one there.

        Raises:
            UserError: the file cannot be read, or lacks a tensor.
        """
        try:
            with safe_open(path, framework="pt") as file:
                held = set(file.keys())
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"The weight file '{path}' cannot be read ({error}); re-quantisation needs it."
            ) from error
        sources = {
            name: TensorSource(path, (stored_names or {}).get(name, name), len(tensor))
            for name, tensor in tensors.items()
        }
        for name in (source.tensor for source in sources.values()):
            if name not in held:
                raise UserError(f"'{path}' holds no tensor '{name}'." + did_you_mean(name, held))
        return cls(sources)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "MasterStore":
        """Write tensors, such as random weights, to temporary files and read them from there."""
        store = cls({})
        store._sources = {name: store._write(name, tensor) for name, tensor in tensors.items()}
        return store

    @classmethod
    def joined(cls, stores: Sequence["MasterStore"]) -> "MasterStore":
        """Read the tensors of several stores."""
        store = cls({name: source for s in stores for name, source in s._sources.items()})
        store._joined = tuple(stores)  # their temporary files live as long as they do
        return store

    @property
    def replaced(self) -> tuple[str, ...]:
        """Names of the tensors that have an accumulated version."""
        return tuple(self._replaced)

    def read(self, name: str) -> Tensor:
        """Return the tensor ``name`` as fp32 on the CPU; its accumulated version if it has one."""
        return self._load(self._replaced.get(name, self._sources[name]))

    def read_original(self, name: str) -> Tensor:
        """Return the pretrained tensor ``name`` as fp32 on the CPU."""
        return self._load(self._sources[name])

    def replace(self, name: str, tensor: Tensor) -> None:
        """Write an accumulated version of ``name``; the original file stays as it is."""
        self._replaced[name] = self._write(f"accumulated.{name}", tensor)

    def _write(self, name: str, tensor: Tensor) -> TensorSource:
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="masters-")
        path = Path(self._folder.name) / f"{name}.safetensors"
        save_file({name: tensor.detach().cpu().contiguous()}, path)
        return TensorSource(path, name)

    @staticmethod
    def _load(source: TensorSource) -> Tensor:
        with safe_open(source.path, framework="pt") as file:
            tensor: Tensor = file.get_slice(source.tensor)[: source.rows]
        return tensor.to(torch.float32)


def masters_of(backbone: Backbone, names: Sequence[str]) -> MasterStore | None:
    """Return where full-precision weights are read again; None where there are none."""
    tensors: dict[str, Tensor] = {}
    for name in names:
        weight = backbone.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        if not any(weight is known for known in tensors.values()):  # a tied head has no own master
            tensors[f"{name}.weight"] = weight
    if not all(map(has_values, tensors.values())):
        return None
    places = {name: backbone.stored(name) for name in tensors}
    files = {place[0]: dict[str, str]() for place in places.values() if place}
    for name, place in places.items():
        if place:
            files[place[0]][name] = place[1]
    random = {name: tensors[name] for name, place in places.items() if not place}
    return MasterStore.joined(
        [
            *(
                MasterStore.from_file(path, {name: tensors[name] for name in names}, names)
                for path, names in files.items()
            ),
            MasterStore.from_tensors(random),
        ]
    )
