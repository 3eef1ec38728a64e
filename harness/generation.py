"""Writing text token by token with an adapted model."""

from collections.abc import Callable

import torch
from torch import Tensor

from harness.backbones.base import Backbone, Inputs, StreamState
from methods.base import Method, States
from methods.cache import TokenCache


class Cache:
    """The earlier tokens' states, the backbone's beside the method's.

    Args:
        backbone: makes its own part.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone.new_cache()
        self.side = TokenCache()
        self.states: dict[str, StreamState] = {}

    def reorder(self, rows: Tensor) -> None:
        """Keep the rows at ``rows`` ([B'] long), as beam search does."""
        self.backbone.reorder_cache(rows)
        self.side.reorder(rows)
        self.states = {name: state.rows(rows) for name, state in self.states.items()}


@torch.no_grad()
def step(method: Method, inputs: Inputs, tokens: Tensor, cache: Cache) -> States:
    """Return the adapted states of the new tokens.

    Args:
        method: the adapted model, in evaluation mode.
        inputs: the batch, without the tokens that are written.
        tokens: [B, n] long, the new tokens.
        cache: what came before; empty at the first call.
    """
    for spec in method.specs:
        if spec.causal:
            own = {method.backbone.tokens_of(spec.name): tokens}
            state = method.encode(spec.name, own, cache.states, cache.backbone)
        elif spec.name in cache.states:
            continue
        else:
            state = method.encode(spec.name, inputs, cache.states)
        cache.states[spec.name] = state
    return method.adapt(cache.states, cache.side)


@torch.no_grad()
def generate(
    method: Method,
    inputs: Inputs,
    score: Callable[[Tensor], Tensor],
    start: int,
    length: int,
    *,
    cached: bool = True,
) -> Tensor:
    """Write ``length`` tokens a row, the most probable one each time.

    Args:
        method: the adapted model, in evaluation mode; its last stream writes.
        inputs: the batch, without the tokens that are written.
        score: maps states [B, N, D] of the last stream to scores [B, N, V].
        start: id of the token before the first.
        length: number of tokens.
        cached: whether earlier tokens' states are kept, or computed again for every token.

    Returns:
        [B, length] long, without the start token.

    Raises:
        UserError: the backbone writes no text.
    """
    stream = method.specs[-1].name
    name = method.backbone.tokens_of(stream)
    rows = len(next(iter(inputs.values())))
    device = next(method.parameters()).device
    written = torch.full((rows, 1), start, dtype=torch.long, device=device)
    cache = Cache(method.backbone) if cached else None
    for _ in range(length):
        if cache is None:
            states = method({**inputs, name: written})
        else:
            states = step(method, inputs, written[:, -1:], cache)
        scores = score(states[stream].output[:, -1:])  # [B, 1, V]
        written = torch.cat([written, scores.argmax(-1)], dim=1)
    return written[:, 1:]
