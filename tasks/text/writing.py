"""Labels as texts that a backbone writes: GLUE as text-to-text.

Source: the protocol of LST (Sung et al., NeurIPS 2022) and of its repository: the source names the
task and its parts, the target is the label's number, for STS-B one digit behind the point.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from harness.backbones.base import Backbone, Text
from harness.errors import UserError
from tasks.base import States
from tasks.text.cards import Table

PAD = 0  # of T5, which begins to write from it
UNREADABLE = -1
"""The label, or the number, of an answer that is none of the labels' texts."""


def writing_stream(backbone: Backbone, task: str) -> str:
    """Return the stream that writes text.

    Raises:
        UserError: there is none.
    """
    for spec in backbone.specs:
        if spec.causal and spec.modality == "target":
            return spec.name
    raise UserError(
        f"task.form=text lets the backbone of task '{task}' write the label, but "
        f"{type(backbone).__name__} writes no text; use a T5, or task.form=classification."
    )


def source_text(task: str, table: Table, text: Text) -> str:
    """Return what the encoder reads: the task's name, then every part behind its key."""
    parts = (text,) if isinstance(text, str) else text
    keys = table.keys or tuple(f"{names[0]}:" for names in table.texts)
    return " ".join([task, *(f"{key} {part}" for key, part in zip(keys, parts, strict=True))])


def label_texts(table: Table) -> list[str]:
    """Return the text of every label, or of every number in tenths."""
    if table.labels:
        return [str(i) for i in range(len(table.labels))]
    return [f"{tenths / 10:.1f}" for tenths in range(round(10 * table.highest) + 1)]


def label_ids(table: Table, labels: np.ndarray) -> np.ndarray:
    """Return which of ``label_texts`` each label, or number in [0, 1], is; int64 [rows]."""
    if table.labels:
        return labels.astype(np.int64)
    return np.rint(10 * table.highest * labels).astype(np.int64)


class WritingHead(nn.Module):
    """The backbone's own frozen output layer, for the tokens that its decoder writes.

    Args:
        backbone: the model; not a part of the head.
        stream: the stream that writes.
        texts: everything that may be written.

    Attributes:
        tokens: int64 [texts, N], what each text is written as, padded.
        pad: id of the padding.
    """

    def __init__(self, backbone: Backbone, stream: str, texts: Sequence[str]) -> None:
        super().__init__()
        self.stream = stream
        self._backbone = (backbone,)  # in a tuple, so that its weights are not the head's
        self.tokens = backbone.processors()["target"](list(texts))["labels"]
        self.pad = PAD

    def forward(self, states: States) -> Tensor:
        """Return the scores [B, N, V] of the next token behind every token of the decoder."""
        return self.score(states[self.stream].output)

    def score(self, output: Tensor) -> Tensor:
        """Return the scores [B, N, V] of decoder states [B, N, D]."""
        return self._backbone[0].logits(output)  # type: ignore[operator]

    def read(self, written: Tensor) -> Tensor:
        """Return which text each row has written, or ``UNREADABLE``: int64 [B].

        Args:
            written: int64 [B, N], N as in ``tokens``; what follows a text's end does not count.
        """
        tokens = self.tokens.to(written.device)
        equal = (written[:, None] == tokens) | (tokens == self.pad)  # [B, texts, N]
        found = equal.all(2)
        return torch.where(found.any(1), found.int().argmax(1), UNREADABLE)
