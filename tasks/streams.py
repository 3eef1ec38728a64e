"""Which streams of a backbone a head reads, and what of them."""

from collections.abc import Sequence

from torch import Tensor

from harness.backbones.base import Backbone, StreamState
from harness.errors import UserError


def last_streams(backbone: Backbone, task: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """Return the streams that no other reads: a joint one, or the towers of a dual encoder.

    Args:
        backbone: the model.
        task: the task's name, for messages.
        modalities: what they must read, directly or through their sources.

    Raises:
        UserError: they do not read all of it.
    """
    sources = {source for spec in backbone.specs for source in spec.sources}
    last = tuple(spec.name for spec in backbone.specs if spec.name not in sources)
    read = {spec.modality for spec in backbone.needed(last)}
    missing = [modality for modality in modalities if modality not in read]
    if missing:
        raise UserError(
            f"Task '{task}' needs a backbone that reads {' and '.join(modalities)}; "
            f"{type(backbone).__name__} reads no {' and no '.join(missing)}."
        )
    return last


def own_stream(backbone: Backbone, task: str, modality: str) -> str:
    """Return the first stream that reads one modality alone.

    Args:
        backbone: the model.
        task: the task's name, for messages.
        modality: ``image`` or ``text``.

    Raises:
        UserError: there is none.
    """
    for spec in backbone.specs:
        if spec.modality == modality and not spec.sources:
            return spec.name
    raise UserError(
        f"Task '{task}' needs a backbone with a stream of its own for {modality}s; "
        f"{type(backbone).__name__} has {', '.join(spec.name for spec in backbone.specs)}."
    )


def mean_token(state: StreamState) -> Tensor:
    """Return the mean [B, D] of a state's real tokens."""
    tokens = state.output[:, state.content]
    if state.mask is None:
        return tokens.mean(1)
    real = state.mask[:, state.content, None].to(tokens.dtype)  # [B, N, 1]
    return (tokens * real).sum(1) / real.sum(1)
